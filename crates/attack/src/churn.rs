//! Pods made, edited and deleted while processes die, and a ledger of what was acknowledged.
//!
//! In:    a node that comes and goes
//! Out:   the ledger
//! Calls: kills
//! Holds: one request at a time; a request without an answer may have happened, and is written down as that
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rig::clock;
use rig::http::{Body, Http, Secure};
use serde_json::{Value, json};

use crate::target::{LASTING, PODS, asked, pod, text};

/// Pods alive at one time.
const ALIVE: usize = 20;
pub(crate) const COUNTER: &str = "/api/v1/namespaces/default/configmaps/counter";

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Never,
    Unknown,
    Acknowledged,
}

/// A pod of the churn.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Empty while nobody said it.
    pub(crate) uid: String,
    pub(crate) made: Write,
    pub(crate) deleted: Write,
    /// Whether the churn may edit and delete it.
    pub(crate) touched: bool,
    /// How its container is to end; nothing for one that lasts.
    pub(crate) code: Option<i64>,
    /// The last number that was acknowledged as its label, and the last that was tried.
    pub(crate) label: u64,
    pub(crate) tried: u64,
}

/// All that was asked.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) pods: BTreeMap<String, Entry>,
    pub(crate) counter: u64,
    pub(crate) counter_tried: u64,
    pub(crate) acknowledged: usize,
    pub(crate) unanswered: usize,
}

/// The churn, shared with its thread.
#[derive(Debug)]
pub(crate) struct Churn {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    image: String,
}

/// Numbers that look like chance and repeat.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

impl Churn {
    pub(crate) fn new(image: &str, first: Ledger) -> Self {
        Self {
            ledger: Mutex::new(first),
            stop: AtomicBool::new(false),
            image: image.to_owned(),
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the stop.
    pub(crate) fn run(&self, port: u16, admin: &Secure, seed: u64) {
        let mut chance = Chance::new(seed);
        let mut number = 0_u64;
        let open = || Http::secure(port, admin.clone()).patient(Duration::from_secs(3));
        let mut http = open();
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let answered = match chance.below(10) {
                0..=3 => self.create(&mut http, number, &mut chance),
                4 => self.edit(&mut http, number, &mut chance),
                5..=8 => self.delete(&mut http, &mut chance),
                _ => self.count(&mut http),
            };
            if !answered {
                http = open();
                clock::pause_ms(50);
            }
            clock::pause_ms(5 + chance.below(20));
        }
    }

    fn heard(&self, answer: &anyhow::Result<(u16, Vec<u8>)>) -> bool {
        let mut ledger = self.ledger();
        match answer {
            Ok((200..=202, _)) => ledger.acknowledged += 1,
            Ok(_) => {}
            Err(_) => ledger.unanswered += 1,
        }
        answer.is_ok()
    }

    fn create(&self, http: &mut Http, number: u64, chance: &mut Chance) -> bool {
        let alive = |entry: &&Entry| entry.deleted == Write::Never && entry.touched;
        if self.ledger().pods.values().filter(alive).count() >= ALIVE {
            return self.delete(http, chance);
        }
        let name = format!("churn-{number}");
        let code = [None, Some(0), Some(3), Some(7)][chance.below(4) as usize];
        let tenths = chance.below(12);
        let (restart, script) = match code {
            None => ("Always", LASTING.to_owned()),
            Some(code) => (
                "Never",
                format!("sleep {}.{}; exit {code}", tenths / 10, tenths % 10),
            ),
        };
        let body = pod(&self.image, &name, restart, &script).to_string();
        let entry = Entry {
            uid: String::new(),
            made: Write::Unknown,
            deleted: Write::Never,
            touched: true,
            code,
            label: 0,
            tried: 0,
        };
        self.ledger().pods.insert(name.clone(), entry);
        let answer = http.ask(
            "POST",
            PODS,
            Some(crate::target::json_body(body.as_bytes())),
        );
        if let Some(entry) = self.ledger().pods.get_mut(&name)
            && let Ok((status, said)) = &answer
        {
            if *status == 201 {
                let made: Value = serde_json::from_slice(said).unwrap_or_default();
                entry.made = Write::Acknowledged;
                text(&made, "/metadata/uid").clone_into(&mut entry.uid);
            } else if (400..500).contains(status) {
                entry.made = Write::Never;
                entry.deleted = Write::Acknowledged;
            }
        }
        self.heard(&answer)
    }

    fn pick(&self, chance: &mut Chance) -> Option<String> {
        let ledger = self.ledger();
        let usable = |(_, entry): &(&String, &Entry)| {
            entry.made == Write::Acknowledged && entry.deleted == Write::Never && entry.touched
        };
        let names: Vec<&String> = ledger
            .pods
            .iter()
            .filter(usable)
            .map(|(name, _)| name)
            .collect();
        let at = chance.below(names.len() as u64) as usize;
        names.get(at).map(|name| (*name).clone())
    }

    fn edit(&self, http: &mut Http, number: u64, chance: &mut Chance) -> bool {
        let Some(name) = self.pick(chance) else {
            return true;
        };
        if let Some(entry) = self.ledger().pods.get_mut(&name) {
            entry.tried = number;
        }
        let patch = json!({"metadata": {"labels": {"churn": number.to_string()}}}).to_string();
        let body = Body {
            kind: "application/merge-patch+json",
            bytes: patch.as_bytes(),
        };
        let answer = http.ask("PATCH", &format!("{PODS}/{name}"), Some(body));
        if let Some(entry) = self.ledger().pods.get_mut(&name)
            && matches!(answer, Ok((200, _)))
        {
            entry.label = number;
        }
        self.heard(&answer)
    }

    fn delete(&self, http: &mut Http, chance: &mut Chance) -> bool {
        let Some(name) = self.pick(chance) else {
            return true;
        };
        if let Some(entry) = self.ledger().pods.get_mut(&name) {
            entry.deleted = Write::Unknown;
        }
        let body = json!({"gracePeriodSeconds": chance.below(3) + 1}).to_string();
        let answer = http.ask(
            "DELETE",
            &format!("{PODS}/{name}"),
            Some(crate::target::json_body(body.as_bytes())),
        );
        if let Some(entry) = self.ledger().pods.get_mut(&name) {
            match &answer {
                Ok((200 | 202, _)) => entry.deleted = Write::Acknowledged,
                // Refused: nothing happened.
                Ok(_) => entry.deleted = Write::Never,
                Err(_) => {}
            }
        }
        self.heard(&answer)
    }

    fn count(&self, http: &mut Http) -> bool {
        let number = {
            let mut ledger = self.ledger();
            ledger.counter_tried += 1;
            ledger.counter_tried
        };
        let patch = json!({"data": {"count": number.to_string()}}).to_string();
        let body = Body {
            kind: "application/merge-patch+json",
            bytes: patch.as_bytes(),
        };
        let answer = http.ask("PATCH", COUNTER, Some(body));
        if matches!(answer, Ok((200, _))) {
            self.ledger().counter = number;
        }
        self.heard(&answer)
    }
}

/// The config map that is counted in.
pub(crate) fn counter(http: &mut Http) -> anyhow::Result<()> {
    let object = json!({"metadata": {"name": "counter"}, "data": {"count": "0"}});
    asked(
        http,
        "POST",
        "/api/v1/namespaces/default/configmaps",
        Some(&object),
    )
    .map(drop)
}

//! Whole requests, too many of them or too large.
//!
//! In:    the ports, credentials of every weight
//! Out:   answers by status
//! Calls: floods
//! Holds: 64 threads at most, each with one request at a time
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rig::http::{Credential, Http, Secure, Wire};
use rig::node::NODE_NAME;
use serde_json::json;

use crate::flood::Span;
use crate::identities::of_node;
use crate::target::{PODS, Target, VIEWER, json_body};

type Answers = Mutex<BTreeMap<String, usize>>;

fn count(answers: &Answers, answer: anyhow::Result<(u16, Vec<u8>)>) {
    let answer = match answer {
        Ok((status, _)) => status.to_string(),
        Err(_) => "none".to_owned(),
    };
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    *answers.entry(answer).or_default() += 1;
}

fn said(answers: Answers) -> String {
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<String> = answers
        .iter()
        .map(|(answer, count)| format!("{answer}: {count}"))
        .collect();
    format!("answers {}", words.join(", "))
}

/// So many threads, each with its number, until the end.
fn threads(span: &Span, count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..count {
            let work = &work;
            scope.spawn(move || {
                while span.goes_on() {
                    work(number);
                }
            });
        }
    });
}

/// Tokens that nobody issued, each another one, by clients that do not wait for their answer.
pub(super) fn junk_tokens(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let (answers, next) = (Answers::default(), AtomicUsize::new(0));
    let port = target.ports.main;
    let nobody = Secure::client(&Credential::Nobody, &[])?;
    threads(span, 64, |_| {
        let mut http = Http::secure(port, nobody.clone()).patient(Duration::from_millis(300));
        while span.goes_on() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            http.set_headers(&format!("Authorization: Bearer junk.{number}.token\r\n"));
            let asked = http.ask("GET", "/pods", None);
            let lost = asked.is_err();
            count(&answers, asked);
            if lost {
                break;
            }
        }
    });
    Ok(said(answers))
}

/// Events of the future.
pub(super) fn events(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let answers = Answers::default();
    let secure = Secure::client(&of_node(target)?, &[])?;
    let port = target.ports.api;
    let far = "2099-01-01T00:00:00Z";
    let event = json!({
        "metadata": {"generateName": "far-", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "x"},
        "reason": "Attack", "message": "m".repeat(1000), "type": "Normal",
        "firstTimestamp": far, "lastTimestamp": far, "count": 1,
    })
    .to_string();
    threads(span, 4, |_| {
        let mut http = Http::secure(port, secure.clone()).patient(Duration::from_secs(5));
        while span.goes_on() {
            let asked = http.ask(
                "POST",
                "/api/v1/namespaces/default/events",
                Some(json_body(event.as_bytes())),
            );
            let lost = asked.is_err();
            count(&answers, asked);
            if lost {
                break;
            }
        }
    });
    Ok(said(answers))
}

/// Numbers that do not fit into a clock.
pub(super) fn timeouts(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let secure = Secure::client(&of_node(target)?, &[])?;
    let own = format!("fieldSelector=spec.nodeName%3D{NODE_NAME}");
    let numbers = [
        "timeoutSeconds=9223372036854775807",
        "timeoutSeconds=-9223372036854775808",
        "timeoutSeconds=9223372036854775808",
        "limit=9223372036854775807",
        "limit=-1",
        "resourceVersion=18446744073709551615",
        "continue=AAAA",
    ];
    let (mut words, mut lost) = (Vec::new(), Vec::new());
    for number in numbers {
        for watch in ["", "&watch=true"] {
            let path = format!("/api/v1/pods?{own}&{number}{watch}");
            let mut http =
                Http::secure(target.ports.api, secure.clone()).patient(Duration::from_secs(3));
            let answer = if watch.is_empty() {
                let answer = http.ask("GET", &path, None);
                answer.map(|(status, _)| status.to_string())
            } else {
                // A watch that is granted goes on.
                http.watch(&path).map(|_| "granted".to_owned())
            };
            match answer {
                Ok(answer) => words.push(format!("{number}{watch} {answer}")),
                // Refused, with a status.
                Err(error) if error.to_string().starts_with(&path) => {
                    words.push(format!("{number}{watch} refused"));
                }
                Err(error) => lost.push(format!("{number}{watch}: {error}")),
            }
        }
    }
    let far = i64::MAX;
    let delete = format!("{PODS}/absent?gracePeriodSeconds={far}");
    let logs = format!(
        "/containerLogs/default/absent/c?sinceSeconds={far}&tailLines={far}&limitBytes={far}"
    );
    let admin = Credential::Token(crate::target::ADMIN.to_owned());
    for (port, method, path) in [
        (target.ports.api, "DELETE", delete),
        (target.ports.main, "GET", logs),
    ] {
        match Target::as_somebody(port, &admin)?.ask(method, &path, None) {
            Ok((status, _)) => words.push(format!("{path} {status}")),
            Err(error) => lost.push(format!("{path}: {error}")),
        }
    }
    span.sit_out();
    if !lost.is_empty() {
        anyhow::bail!("no answer to {}", lost.join("; "));
    }
    Ok(words.join("; "))
}

/// A thousand heads of almost a megabyte, at three ports.
pub(super) fn huge_headers(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    use std::io::{Read as _, Write as _};
    let (answers, next) = (Answers::default(), AtomicUsize::new(0));
    let secure = Secure::client(&Credential::Nobody, &[])?;
    let ports = target.ports;
    let field = "a".repeat(60_000);
    let mut head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    for number in 0..16 {
        head.push_str(&format!("X-{number}: {field}\r\n"));
    }
    head.push_str("\r\n");
    threads(span, 16, |thread| {
        if next.fetch_add(1, Ordering::Relaxed) >= 1000 {
            rig::clock::pause_ms(20);
            return;
        }
        let (port, secure) = match thread % 3 {
            0 => (ports.read_only, None),
            1 => (ports.api, Some(&secure)),
            _ => (ports.main, Some(&secure)),
        };
        let asked = Wire::open(port, secure, Duration::from_secs(2)).and_then(|mut wire| {
            // It may be refused before it is all written.
            let _cut = wire.write_all(head.as_bytes());
            let mut line = [0; 12];
            wire.read_exact(&mut line)?;
            let status = String::from_utf8_lossy(&line[9..]).parse()?;
            Ok((status, Vec::new()))
        });
        count(&answers, asked);
    });
    Ok(said(answers))
}

/// As many requests at once as connections can be had, by somebody without rights.
pub(super) fn in_flight(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let answers = Answers::default();
    let secure = Secure::client(&Credential::Token(VIEWER.to_owned()), &[])?;
    let port = target.ports.api;
    threads(span, 64, |_| {
        let mut http = Http::secure(port, secure.clone()).patient(Duration::from_secs(2));
        while span.goes_on() {
            let asked = http.ask("GET", "/openapi/v2", None);
            let lost = asked.is_err();
            count(&answers, asked);
            if lost {
                break;
            }
        }
    });
    Ok(said(answers))
}

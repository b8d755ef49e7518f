//! Keeps the kubelet's iptables chains: created at start, and again if somebody flushed the tables.
//!
//! In:    `decide/node/iptables_chains`; whether the canary is there
//! Out:   calls of `iptables` and `ip6tables`
//! Calls: wiring, with `makeIPTablesUtilChains`; one reconciler
//! Holds: each call waits for the xtables lock and has a deadline; a missing address family is logged once; nothing is removed
//! Upstream: pkg/kubelet/kubelet_network_linux.go (initNetworkUtil), pkg/util/iptables/iptables.go (EnsureChain, EnsureRule,
//!           Monitor), 1.36; differences: a family that comes later is found

use std::collections::BTreeSet;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_decide::node::iptables_chains::{
    CANARY, CANARY_TABLES, ChainStep, Family, RulePlace, chain_steps,
};

use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};

/// Between two looks at the canary.
const PERIOD: Duration = Duration::from_secs(60);
/// One call, its wait for the lock included.
const CALL: Duration = Duration::from_secs(30);
/// Seconds to wait for the lock. (Upstream says the interval of its looks, too; newer programs know no such thing.)
const WAIT: [&str; 2] = ["-w", "5"];
/// Of what a program complains this much is kept.
const COMPLAINT: usize = 500;

/// How a call of the program ended.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    /// Exit code 1: it is not there; or, of a chain to make, it is there already.
    No,
}

/// The reconciler.
#[derive(Clone, Debug)]
pub struct IptablesChains {
    /// Words before the program's name; none but in a namespace.
    prefix: Vec<String>,
    made: BTreeSet<Family>,
    absent: BTreeSet<Family>,
}

/// How a family was found.
#[derive(Debug)]
pub enum Found {
    /// The canary lives, and everything was made by this process.
    Intact,
    /// To be made; whether it was there before.
    ToMake,
    /// The node does not have it, and why.
    Absent(String),
}

/// What to make.
#[derive(Debug, Default)]
pub struct ChainPlan {
    make: Vec<Family>,
    flushed: bool,
    absent: Vec<(Family, String)>,
}

impl fmt::Display for ChainPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.make.is_empty() {
            let families: Vec<&str> = self.make.iter().map(|family| family.as_str()).collect();
            let why = if self.flushed {
                " (the tables were flushed)"
            } else {
                ""
            };
            write!(f, "make chains of {}{why}", families.join(", "))?;
        }
        Ok(())
    }
}

impl IptablesChains {
    /// Nothing was made yet.
    pub fn new() -> Self {
        Self::behind(Vec::new())
    }

    /// With words before the program's name, such as `ip netns exec NAME`.
    fn behind(prefix: Vec<String>) -> Self {
        Self {
            prefix,
            made: BTreeSet::new(),
            absent: BTreeSet::new(),
        }
    }

    /// How often it looks.
    pub fn pace() -> Pace {
        Pace::every(PERIOD)
    }

    async fn call(&self, family: Family, words: &[&str]) -> Result<Answer, RoundError> {
        let program = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let mut line: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        line.push(program);
        line.extend(WAIT);
        line.extend(words);
        let (first, rest) = line.split_first().unwrap_or((&program, &[]));
        let mut command = tokio::process::Command::new(first);
        command
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let failed = |why: String| RoundError(format!("{program} {}: {why}", words.join(" ")));
        let output = tokio::time::timeout(CALL, command.output())
            .await
            .map_err(|_| failed("no end within 30 s".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        match output.status.code() {
            Some(0) => Ok(Answer::Yes),
            Some(1) => Ok(Answer::No),
            _ => {
                let text = String::from_utf8_lossy(&output.stderr);
                let text: String = text.trim().chars().take(COMPLAINT).collect();
                Err(failed(format!("{}: {text}", output.status)))
            }
        }
    }

    async fn find(&self, family: Family) -> Result<Found, RoundError> {
        let present = self
            .call(family, &["-S", "INPUT", "-t", "filter"])
            .await
            .and_then(|answer| match answer {
                Answer::Yes => Ok(()),
                Answer::No => Err(RoundError("there is no filter table".to_owned())),
            });
        if let Err(why) = present {
            return Ok(Found::Absent(why.0));
        }
        let [first, ..] = CANARY_TABLES;
        let canary = self.call(family, &["-S", CANARY, "-t", first]).await?;
        Ok(if canary == Answer::Yes && self.made.contains(&family) {
            Found::Intact
        } else {
            Found::ToMake
        })
    }

    async fn perform(&self, family: Family, step: ChainStep) -> Result<(), RoundError> {
        match step {
            // `No`: it is there already.
            ChainStep::Chain { table, chain } => {
                self.call(family, &["-N", chain, "-t", table]).await?;
            }
            ChainStep::Rule {
                place,
                table,
                chain,
                rule,
            } => {
                let words = |operation| {
                    let mut words = vec![operation, chain, "-t", table];
                    words.extend(rule);
                    words
                };
                if self.call(family, &words("-C")).await? == Answer::Yes {
                    return Ok(());
                }
                let add = match place {
                    RulePlace::Begin => "-I",
                    RulePlace::End => "-A",
                };
                if self.call(family, &words(add)).await? == Answer::No {
                    return Err(RoundError(format!("rule of {table} {chain} is refused")));
                }
            }
        }
        Ok(())
    }
}

impl Default for IptablesChains {
    fn default() -> Self {
        Self::new()
    }
}

impl Reconciler for IptablesChains {
    const NAME: &'static str = "iptables_chains";
    type Seen = Vec<(Family, Found)>;
    type Plan = ChainPlan;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        let mut seen = Vec::new();
        for family in [Family::V4, Family::V6] {
            seen.push((family, self.find(family).await?));
        }
        Ok(seen)
    }

    fn decide(&self, seen: Self::Seen, _now: Timestamp) -> ChainPlan {
        let mut plan = ChainPlan::default();
        for (family, found) in seen {
            match found {
                Found::Intact => {}
                Found::ToMake => {
                    plan.flushed |= self.made.contains(&family);
                    plan.make.push(family);
                }
                Found::Absent(why) => plan.absent.push((family, why)),
            }
        }
        plan
    }

    async fn act(&mut self, plan: ChainPlan) -> Result<(), RoundError> {
        for (family, why) in &plan.absent {
            if self.absent.insert(*family) {
                tracing::info!(
                    protocol = family.as_str(),
                    why,
                    "No iptables support on this system; not creating the KUBE-IPTABLES-HINT chain"
                );
            }
        }
        for family in &plan.make {
            self.absent.remove(family);
            for step in chain_steps(*family) {
                self.perform(*family, step).await.inspect_err(|_| {
                    tracing::info!(
                        protocol = family.as_str(),
                        "Failed to initialize iptables rules; some functionality may be missing."
                    );
                })?;
            }
            if self.made.insert(*family) {
                tracing::info!(protocol = family.as_str(), "Initialized iptables rules.");
            } else {
                tracing::info!(
                    protocol = family.as_str(),
                    "Iptables canary chain is missing; rules are installed again"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_family_that_is_missing_is_no_reason_to_make_anything() {
        let mut chains = IptablesChains::new();
        let seen = |v4| {
            vec![
                (Family::V4, v4),
                (Family::V6, Found::Absent("no program".to_owned())),
            ]
        };
        let plan = chains.decide(seen(Found::ToMake), Timestamp::UNIX_EPOCH);
        assert_eq!(plan.to_string(), "make chains of IPv4");
        chains.made.insert(Family::V4);
        let plan = chains.decide(seen(Found::Intact), Timestamp::UNIX_EPOCH);
        assert_eq!(plan.to_string(), "");
        let plan = chains.decide(seen(Found::ToMake), Timestamp::UNIX_EPOCH);
        assert_eq!(
            plan.to_string(),
            "make chains of IPv4 (the tables were flushed)"
        );
    }

    #[tokio::test]
    async fn without_the_programs_nothing_fails() {
        let mut chains = IptablesChains::behind(vec!["/nonexistent/program".to_owned()]);
        let seen = chains.observe(WakeReason::Start).await.unwrap();
        let plan = chains.decide(seen, Timestamp::UNIX_EPOCH);
        assert_eq!((plan.make.len(), plan.absent.len()), (0, 2));
        chains.act(plan).await.unwrap();
        assert_eq!(chains.absent.len(), 2, "said, and not again");
    }

    /// A network namespace that goes with the test.
    struct Namespace(String);

    impl Namespace {
        fn run(words: &[&str]) -> String {
            let (program, words) = words.split_first().unwrap();
            let output = Command::new(program).args(words).output().unwrap();
            assert!(output.status.success(), "{program} {words:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        }

        fn new() -> Self {
            let name = format!("hyperkube-test-{}", std::process::id());
            Self::run(&["ip", "netns", "add", &name]);
            Self(name)
        }

        fn table(&self, program: &str, table: &str) -> String {
            Self::run(&["ip", "netns", "exec", &self.0, program, "-S", "-t", table])
        }
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            Self::run(&["ip", "netns", "delete", &self.0]);
        }
    }

    async fn round(chains: &mut IptablesChains) -> String {
        let seen = chains.observe(WakeReason::Clock).await.unwrap();
        let plan = chains.decide(seen, Timestamp::UNIX_EPOCH);
        let text = plan.to_string();
        chains.act(plan).await.unwrap();
        text
    }

    #[tokio::test]
    async fn chains_are_made_once_and_anew_after_a_flush() {
        let owner = std::fs::metadata("/proc/self").unwrap();
        if std::os::unix::fs::MetadataExt::uid(&owner) != 0 {
            eprintln!("skipped: it makes a network namespace of its own, which takes root");
            return;
        }
        let namespace = Namespace::new();
        let prefix = ["ip", "netns", "exec", &namespace.0].map(str::to_owned);
        let mut chains = IptablesChains::behind(prefix.to_vec());
        assert!(round(&mut chains).await.starts_with("make chains of IPv4"));
        let filter = namespace.table("iptables", "filter");
        for line in [
            "-N KUBE-FIREWALL",
            "-N KUBE-KUBELET-CANARY",
            "-A INPUT -j KUBE-FIREWALL",
            "-A OUTPUT -j KUBE-FIREWALL",
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        ] {
            assert!(filter.lines().any(|l| l == line), "{line}\n{filter}");
        }
        let mangle = namespace.table("iptables", "mangle");
        assert!(
            mangle.contains("-N KUBE-IPTABLES-HINT") && mangle.contains("-N KUBE-KUBELET-CANARY")
        );
        assert_eq!(round(&mut chains).await, "", "the canary lives");
        let mut restarted = IptablesChains::behind(prefix.to_vec());
        round(&mut restarted).await;
        assert_eq!(
            namespace.table("iptables", "filter"),
            filter,
            "nothing is doubled"
        );
        let exec = |words: &[&str]| {
            let mut line = vec!["ip", "netns", "exec", &namespace.0];
            line.extend(words);
            Namespace::run(&line);
        };
        for table in ["mangle", "filter", "nat"] {
            exec(&["iptables", "-t", table, "-F"]);
            exec(&["iptables", "-t", table, "-X"]);
        }
        let text = round(&mut chains).await;
        assert!(text.ends_with("(the tables were flushed)"), "{text}");
        assert_eq!(namespace.table("iptables", "filter"), filter);
    }
}

//! The iptables chains by which other components find the kubelet, and the rule that keeps other hosts from the node's loopback
//! addresses.
//!
//! In:    the family of addresses
//! Out:   `ChainStep`s in the order in which they are made, each harmless when it is there already; the canaries
//! Calls: act/node/iptables_chains
//! Holds: rules of others are never changed or removed; names and comments are upstream's, because others search for them
//! Upstream: pkg/kubelet/kubelet_network_linux.go (syncIPTablesRules, initNetworkUtil), 1.36

/// Family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Family {
    /// As upstream logs it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// One thing to make sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainStep {
    /// A chain.
    Chain {
        /// Its table.
        table: &'static str,
        /// Its name.
        chain: &'static str,
    },
    /// A rule in a chain.
    Rule {
        /// At the begin of the chain, or at its end.
        place: RulePlace,
        /// Its table.
        table: &'static str,
        /// Its chain.
        chain: &'static str,
        /// What it says.
        rule: &'static [&'static str],
    },
}

/// Where a rule goes that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulePlace {
    /// Before all others.
    Begin,
    /// After them.
    End,
}

/// Its existence tells whether the system uses the legacy or the nftables variant.
const HINT: &str = "KUBE-IPTABLES-HINT";
const FIREWALL: &str = "KUBE-FIREWALL";
/// It is gone when somebody has flushed the tables.
pub const CANARY: &str = "KUBE-KUBELET-CANARY";
/// Tables with a canary; the first is looked at.
pub const CANARY_TABLES: [&str; 3] = ["mangle", "nat", "filter"];

/// What to make sure of, the canaries last: while one is missing everything is made anew.
pub fn chain_steps(family: Family) -> Vec<ChainStep> {
    let hint = ChainStep::Chain {
        table: "mangle",
        chain: HINT,
    };
    let jump = |chain| ChainStep::Rule {
        place: RulePlace::Begin,
        table: "filter",
        chain,
        rule: &["-j", FIREWALL],
    };
    let firewall = [
        ChainStep::Chain {
            table: "filter",
            chain: FIREWALL,
        },
        jump("OUTPUT"),
        jump("INPUT"),
        // Routing of local addresses, as kube-proxy may switch it on, lets neighbours reach what listens on them.
        ChainStep::Rule {
            place: RulePlace::End,
            table: "filter",
            chain: FIREWALL,
            rule: &[
                "-m",
                "comment",
                "--comment",
                "block incoming localnet connections",
                "--dst",
                "127.0.0.0/8",
                "!",
                "--src",
                "127.0.0.0/8",
                "-m",
                "conntrack",
                "!",
                "--ctstate",
                "RELATED,ESTABLISHED,DNAT",
                "-j",
                "DROP",
            ],
        },
    ];
    // The other family has no such problem.
    let firewall = firewall.into_iter().filter(|_| family == Family::V4);
    let canaries = CANARY_TABLES.into_iter().map(|table| ChainStep::Chain {
        table,
        chain: CANARY,
    });
    [hint].into_iter().chain(firewall).chain(canaries).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(family: Family) -> Vec<String> {
        let line = |step: &ChainStep| match step {
            ChainStep::Chain { table, chain } => format!("{table} :{chain}"),
            ChainStep::Rule {
                place,
                table,
                chain,
                rule,
            } => format!("{table} {place:?} {chain} {}", rule.join(" ")),
        };
        chain_steps(family).iter().map(line).collect()
    }

    #[test]
    fn both_families_have_hint_and_canaries_and_the_old_one_the_firewall() {
        let canaries = [
            "mangle :KUBE-KUBELET-CANARY",
            "nat :KUBE-KUBELET-CANARY",
            "filter :KUBE-KUBELET-CANARY",
        ];
        let mut wanted = vec!["mangle :KUBE-IPTABLES-HINT"];
        wanted.extend(canaries);
        assert_eq!(text(Family::V6), wanted);
        let mut wanted = vec![
            "mangle :KUBE-IPTABLES-HINT",
            "filter :KUBE-FIREWALL",
            "filter Begin OUTPUT -j KUBE-FIREWALL",
            "filter Begin INPUT -j KUBE-FIREWALL",
            "filter End KUBE-FIREWALL -m comment --comment block incoming localnet connections --dst 127.0.0.0/8 \
             ! --src 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        ];
        wanted.extend(canaries);
        assert_eq!(text(Family::V4), wanted);
    }
}

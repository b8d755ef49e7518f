//! Checks of names, label values and of the flags that hold them.
//!
//! In:    texts; the pure flags
//! Out:   what is wrong with them, in upstream's words
//! Calls: `validate`, hyperkube/config_files.rs
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/validate/content/kube.go, cmd/kubelet/app/options/options.go
//!           (ValidateKubeletFlags), staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go

use super::FieldProblem;
use kubelet_model::config::Flags;

const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

const NAME_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Everything that is wrong with the flags that are not in the configuration.
pub fn flags(flags: &Flags) -> Vec<FieldProblem> {
    let foreign: Vec<&str> = flags
        .node_labels
        .keys()
        .map(String::as_str)
        .filter(|key| is_kubernetes(key) && !is_own(key))
        .collect();
    let mut problems = Vec::new();
    if !foreign.is_empty() {
        let words = format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]\n--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix ({}) or be in the specifically allowed set ({})",
            foreign.join(" "),
            OWN_NAMESPACES.join(", "),
            OWN_LABELS.join(", ")
        );
        problems.push(FieldProblem::new("--node-labels", words));
    }
    let mut bad = Vec::new();
    for (key, value) in &flags.node_labels {
        for (text, words) in [
            (key, qualified_name_problems(key)),
            (value, label_value_problems(value)),
        ] {
            if !words.is_empty() {
                bad.push(format!("'{text}' - {}", words.join(", ")));
            }
        }
    }
    if !bad.is_empty() {
        let words = format!("invalid node labels: {}", bad.join("; "));
        problems.push(FieldProblem::new("--node-labels", words));
    }
    problems
}

fn namespace(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

fn is_within(namespace: &str, domain: &str) -> bool {
    let rest = namespace.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_kubernetes(key: &str) -> bool {
    ["kubernetes.io", "k8s.io"]
        .iter()
        .any(|domain| is_within(namespace(key), domain))
}

fn is_own(key: &str) -> bool {
    OWN_LABELS.contains(&key)
        || OWN_NAMESPACES
            .iter()
            .any(|domain| is_within(namespace(key), domain))
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    })
}

/// What is wrong with `prefix/name`; empty when nothing is.
pub(super) fn qualified_name_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut parts = text.split('/');
    let (name, prefix) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (name, None),
        (Some(prefix), Some(name), None) => (name, Some(prefix)),
        _ => {
            return vec![format!(
                "a qualified name {NAME_WORDS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            problems.push("prefix part must be non-empty".to_owned());
        } else if prefix.len() > 253 {
            problems.push("prefix part must be no more than 253 bytes".to_owned());
        } else if !is_subdomain(prefix) {
            problems.push(format!("prefix part {PREFIX_WORDS}"));
        }
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME_WORDS}"));
    }
    problems
}

/// What is wrong with a label's value; empty when nothing is.
pub(super) fn label_value_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 63 {
        problems.push("must be no more than 63 bytes".to_owned());
    }
    if !text.is_empty() && !is_name(text) {
        problems.push(VALUE_WORDS.to_owned());
    }
    problems
}

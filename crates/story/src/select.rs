//! Which pod a name means.
//!
//! In:    a name, a namespace and name, or a UID, as people write them; all pods
//! Out:   that pod, or an error that names candidates
//! Calls: `run`
//! Holds: pure; never a guess among several: a static pod may be called by its manifest's name where that fits one pod alone
//! Upstream: kubectl's arguments

use crate::client::Told;

/// Candidates that an error names.
const CANDIDATES: usize = 8;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: Option<&'a str>,
}

/// No pod, or several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectError {
    #[error("no pod {name:?} on this node{}{}", in_namespace(namespace.as_deref()), near(candidates))]
    NoPod {
        name: String,
        namespace: Option<String>,
        candidates: Vec<String>,
    },
    #[error("{name:?} is the name of {} pods; name one by namespace/name or by its UID: {}", pods.len(), pods.join(", "))]
    Several { name: String, pods: Vec<String> },
}

fn in_namespace(namespace: Option<&str>) -> String {
    namespace.map_or_else(String::new, |namespace| {
        format!(" in namespace {namespace:?}")
    })
}

fn near(candidates: &[String]) -> String {
    if candidates.is_empty() {
        return "; there is none at all".to_owned();
    }
    format!("; there is {}", candidates.join(", "))
}

/// The pods of a namespace, or all.
pub(crate) fn of_namespace<'a>(
    all: &'a [Told],
    namespace: Option<&str>,
) -> impl Iterator<Item = &'a Told> {
    all.iter()
        .filter(move |told| namespace.is_none_or(|wanted| told.namespace() == wanted))
}

/// The pod that is meant.
pub(crate) fn select<'a>(all: &'a [Told], wanted: Wanted<'_>) -> Result<&'a Told, SelectError> {
    let name = ["pod/", "pods/", "po/"]
        .iter()
        .find_map(|prefix| wanted.name.strip_prefix(prefix))
        .unwrap_or(wanted.name);
    let (namespace, short) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (wanted.namespace, name),
    };
    let ways: [&dyn Fn(&Told) -> bool; 3] = [
        &|told| told.uid() == name,
        &|told| told.name() == short,
        &|told| manifest_name(told) == Some(short),
    ];
    for way in ways {
        let found: Vec<&Told> = of_namespace(all, namespace)
            .filter(|told| way(told))
            .collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => {
                let names = several.iter().map(|told| with_uid(told));
                return Err(SelectError::Several {
                    name: name.to_owned(),
                    pods: names.collect(),
                });
            }
        }
    }
    Err(SelectError::NoPod {
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        candidates: candidates(all, short),
    })
}

fn with_uid(told: &Told) -> String {
    format!("{} ({})", told.full_name(), told.uid())
}

/// The name of a static pod in its manifest: without the node's name.
fn manifest_name(told: &Told) -> Option<&str> {
    let node = told.pod.spec.as_ref()?.node_name.as_deref()?;
    let is_static = crate::row::source(&told.pod) != "api";
    let name = told.name().strip_suffix(node)?.strip_suffix('-')?;
    is_static.then_some(name)
}

/// Pods whose names look alike, else the first ones.
fn candidates(all: &[Told], short: &str) -> Vec<String> {
    let looks_alike = |told: &&Told| told.name().contains(short) || short.contains(told.name());
    let alike: Vec<String> = all
        .iter()
        .filter(looks_alike)
        .map(Told::full_name)
        .collect();
    let names = if alike.is_empty() {
        all.iter().map(Told::full_name).collect()
    } else {
        alike
    };
    let more = names.len().saturating_sub(CANDIDATES);
    let shown = names.into_iter().take(CANDIDATES);
    let rest = (more > 0).then(|| format!("{more} more"));
    shown.chain(rest).collect()
}

//! `/metrics`, under upstream's names.
//!
//! In:    requests as they end
//! Out:   the Prometheus text format
//! Calls: `http`
//! Holds: label values come from the table of kinds and from fixed words, so their number is limited whatever clients send
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/metrics (1.36); differences: few families, no histograms

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::kinds::resources::RESOURCES;
use crate::request::path::Target;
use crate::store::Store;

/// The labels of one counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    resource: &'static str,
    group: &'static str,
    subresource: &'static str,
    scope: &'static str,
    code: u16,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<BTreeMap<Labels, u64>>);

impl Figures {
    /// Counts a finished request.
    pub(crate) fn count(&self, target: &Target, verb: &'static str, code: u16) {
        let scope = match (target.name.is_empty(), target.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let labels = Labels {
            verb: word(verb),
            resource: target.resource.plural,
            group: target.resource.group,
            subresource: target.subresource.map_or("", |sub| sub.name),
            scope,
            code,
        };
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.entry(labels).or_default() += 1;
    }

    /// The whole page.
    pub(crate) fn text(&self, store: &Store, (reading, changing): (usize, usize)) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            let written = writeln!(out, "{text}");
            debug_assert!(written.is_ok(), "a string takes everything");
        };
        let name = "apiserver_current_inflight_requests";
        line(&format!(
            "# HELP {name} [STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second."
        ));
        line(&format!("# TYPE {name} gauge"));
        line(&format!("{name}{{request_kind=\"mutating\"}} {changing}"));
        line(&format!("{name}{{request_kind=\"readOnly\"}} {reading}"));
        let name = "apiserver_request_total";
        line(&format!(
            "# HELP {name} [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code."
        ));
        line(&format!("# TYPE {name} counter"));
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (of, count) in counted.iter() {
            let Labels {
                verb,
                resource,
                group,
                subresource,
                scope,
                code,
            } = of;
            line(&format!(
                "{name}{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"v1\"}} {count}"
            ));
        }
        drop(counted);
        let name = "apiserver_resource_objects";
        line(&format!(
            "# HELP {name} [ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1."
        ));
        line(&format!("# TYPE {name} gauge"));
        let kept = RESOURCES.iter().filter(|row| !row.is_virtual());
        // Two rows with one storage show the same objects.
        let kept = kept.filter(|row| row.group != "events.k8s.io");
        for row in kept {
            let count = store.list(&row.prefix(None)).objects.len();
            let (group, resource) = (row.group, row.plural);
            line(&format!(
                "{name}{{group=\"{group}\",resource=\"{resource}\"}} {count}"
            ));
        }
        out
    }
}

/// Upstream's label for a verb.
fn word(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

//! The target of a request, from its method, path and query.
//!
//! In:    method, path, query
//! Out:   [`Route`]: an object, a collection, discovery, health; the verb for the authorizer
//! Calls: `http`, once per request
//! Holds: pure
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go (1.36); differences: no `/watch/` paths
//!           (deprecated since 1.11)

use kubelet_ports::escapes;

use crate::kinds::resources::{self, NameRule, Resource, Subresource};

/// The parameters of a query, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Self(pairs.map(pair).collect())
    }

    /// The first value of a parameter; an empty value counts as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let found = pairs.find(|(n, _)| n == name).map(|(_, value)| &**value);
        found.filter(|value| !value.is_empty())
    }

    /// The first value of a parameter, even if it is empty.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find(|(n, _)| n == name).map(|(_, value)| &**value)
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(n, _)| n == name);
        named.map(|(_, value)| &**value)
    }

    /// Upstream's boolean parameter: true if it is present and its first value is neither `0` nor `false`; true without a
    /// value.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        let first = self.all(name).next();
        first.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}

/// Decodes `%41` and `+`.
fn decode(text: &str) -> String {
    escapes::decoded_leniently(&text.replace('+', " "))
}

/// A kind that is not served but that `kubectl cluster-info dump` always lists. Its list is empty; no other request is served.
#[derive(Debug)]
pub(crate) struct Absent {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
}

const fn absent(group: &'static str, plural: &'static str, kind: &'static str) -> Absent {
    Absent {
        group,
        plural,
        kind,
    }
}

static ABSENT: [Absent; 4] = [
    absent("", "replicationcontrollers", "ReplicationController"),
    absent("apps", "daemonsets", "DaemonSet"),
    absent("apps", "deployments", "Deployment"),
    absent("apps", "replicasets", "ReplicaSet"),
];

fn absent_of(group: &str, rest: &[&str]) -> Option<Route> {
    let (namespace, plural) = match rest {
        ["namespaces", namespace, plural] => (*namespace, plural),
        [plural] => ("", plural),
        _ => return None,
    };
    let found = ABSENT
        .iter()
        .find(|one| one.group == group && one.plural == *plural);
    found.map(|one| Route::Absent(one, namespace.to_owned()))
}

/// The route of a request.
#[derive(Debug)]
pub(crate) enum Route {
    /// `/healthz` and the like, with sub-paths.
    Health,
    /// `/version`.
    Version,
    /// `/`.
    Index,
    /// `/metrics`.
    Metrics,
    /// The collection of a kind in [`ABSENT`], and its namespace.
    Absent(&'static Absent, String),
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`.
    Resources(String, String),
    /// `/openapi/v3`.
    OpenApi,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/<group>/<version>`.
    OpenApiOf(String, String),
    /// An object or a collection.
    Target(Target),
    /// No such path.
    Unknown,
}

/// An object or a collection.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    /// Empty: cluster-scoped, or all namespaces.
    pub(crate) namespace: String,
    /// Empty: a collection.
    pub(crate) name: String,
    pub(crate) subresource: Option<&'static Subresource>,
    /// The rest of the path after a `proxy` subresource, as it was sent.
    pub(crate) rest: String,
    /// The number of segments of that rest, as far as they were parsed.
    after: usize,
}

/// One path segment, decoded; `None` if its escapes are invalid.
pub(crate) fn decode_segment(text: &str) -> Option<String> {
    String::from_utf8(escapes::decoded(text)?.into_owned()).ok()
}

/// The segments of a path up to the first one that cannot be a name, decoded, each with its end position; and whether these are
/// all.
fn segments(path: &str) -> (Vec<(String, usize)>, bool) {
    let (mut parts, mut start) = (Vec::new(), 0);
    for raw in path.split('/') {
        let end = start + raw.len();
        start = end + 1;
        if raw.is_empty() {
            continue;
        }
        // A segment that contains a slash once decoded would be two segments to a reader that decodes first.
        let word = decode_segment(raw);
        match word.filter(|word| NameRule::PathSegment.check(word).is_empty()) {
            Some(word) => parts.push((word, end)),
            None => return (parts, false),
        }
    }
    (parts, true)
}

/// The route of a path.
pub(crate) fn route(path: &str) -> Route {
    let (parts, whole) = segments(path);
    let words: Vec<&str> = parts.iter().map(|(word, _)| &**word).collect();
    let found = match words.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Route::Health,
        ["version"] => Route::Version,
        [] | ["index.html"] => Route::Index,
        ["metrics"] => Route::Metrics,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["openapi", "v3"] => Route::OpenApi,
        ["openapi", "v3", "api", version] => Route::OpenApiOf(String::new(), (*version).to_owned()),
        ["openapi", "v3", "apis", group, version] => {
            Route::OpenApiOf((*group).to_owned(), (*version).to_owned())
        }
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::Resources(String::new(), (*version).to_owned()),
        ["apis", group, version] => Route::Resources((*group).to_owned(), (*version).to_owned()),
        ["api", "v1", rest @ ..] => absent_of("", rest).unwrap_or_else(|| target("", "v1", rest)),
        ["apis", "apps", "v1", rest @ ..] => absent_of("apps", rest).unwrap_or(Route::Unknown),
        ["api", version, rest @ ..] => target("", version, rest),
        ["apis", group, version, rest @ ..] => target(group, version, rest),
        _ => Route::Unknown,
    };
    match found {
        Route::Target(target) if target.is_proxy() => {
            let at = words.len() - target.after;
            let end = parts.get(at - 1).map_or(path.len(), |(_, end)| *end);
            let rest = path.get(end..).unwrap_or_default();
            let rest = rest.strip_prefix('/').unwrap_or(rest).to_owned();
            Route::Target(Target { rest, ..target })
        }
        found if whole => found,
        _ => Route::Unknown,
    }
}

fn target(group: &str, version: &str, rest: &[&str]) -> Route {
    let (namespace, rest) = match rest {
        // `namespaces/x` and the subresources of a namespace are not inside that namespace.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let [plural, rest @ ..] = rest else {
        return Route::Unknown;
    };
    let Some(resource) = resources::find(group, version, plural) else {
        return Route::Unknown;
    };
    let (name, subresource, after) = match rest {
        [] => ("", None, 0),
        [name] => (*name, None, 0),
        [name, sub, after @ ..] => {
            let sub = resource.subresource(sub);
            let follows = sub.is_some_and(|sub| sub.name == "proxy");
            if sub.is_none() || (!after.is_empty() && !follows) {
                return Route::Unknown;
            }
            (*name, sub, after.len())
        }
    };
    // A namespaced object without a namespace does not exist; the collection does.
    let misplaced = resource.namespaced && namespace.is_empty() && !name.is_empty();
    if misplaced || (!resource.namespaced && !namespace.is_empty()) {
        return Route::Unknown;
    }
    Route::Target(Target {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource,
        rest: String::new(),
        after,
    })
}

impl Target {
    fn is_proxy(&self) -> bool {
        self.subresource.is_some_and(|sub| sub.name == "proxy")
    }

    /// The authorizer's verb for a method.
    pub(crate) fn verb(&self, method: &str, query: &Query) -> &'static str {
        match (method, self.name.is_empty()) {
            ("GET" | "HEAD", true) if query.is_set("watch") => "watch",
            ("GET" | "HEAD", true) => "list",
            ("GET" | "HEAD", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => "",
        }
    }

    /// The resource with its subresource: `pods`, or `pods/log`.
    pub(crate) fn written(&self) -> String {
        match self.subresource {
            Some(sub) => format!("{}/{}", self.resource.plural, sub.name),
            None => self.resource.plural.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) -> String {
        match route(path) {
            Route::Target(t) => {
                let sub = t.subresource.map_or("", |sub| sub.name);
                format!(
                    "{} {:?} {:?} {sub:?} {:?}",
                    t.resource.qualified(),
                    t.namespace,
                    t.name,
                    t.rest
                )
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        for (path, read) in [
            ("/api/v1/pods", r#"pods "" "" "" """#),
            ("/api/v1/namespaces/a/pods/", r#"pods "a" "" "" """#),
            (
                "/api/v1/namespaces/a/pods/b/status",
                r#"pods "a" "b" "status" """#,
            ),
            ("/api/v1/namespaces/a", r#"namespaces "" "a" "" """#),
            (
                "/api/v1/namespaces/a/finalize",
                r#"namespaces "" "a" "finalize" """#,
            ),
            (
                "/api/v1/nodes/n/proxy/pods/x",
                r#"nodes "" "n" "proxy" "pods/x""#,
            ),
            (
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/n",
                r#"leases.coordination.k8s.io "a" "n" "" """#,
            ),
            (
                "/api/v1//nodes/n/proxy//a%2Fb/../%zz/",
                r#"nodes "" "n" "proxy" "/a%2Fb/../%zz/""#,
            ),
            ("/api/v1/nodes/n/proxy", r#"nodes "" "n" "proxy" """#),
            ("/api/v1/nodes/n/proxy/", r#"nodes "" "n" "proxy" """#),
            (
                "/api/v1/nodes/system%3Anode%3an",
                r#"nodes "" "system:node:n" "" """#,
            ),
            ("/api/v1/pods/b", "Unknown"),
            ("/api/v1/namespaces/a%2Fpods", "Unknown"),
            ("/api/v1/namespaces/a/secrets/b%2fc", "Unknown"),
            ("/api/v1/namespaces/a/secrets/%2e%2e", "Unknown"),
            ("/api/v1/namespaces/../pods", "Unknown"),
            ("/api/v1/namespaces/a/pods/b%2", "Unknown"),
            ("/api/v1/namespaces/a/pods/b%FF", "Unknown"),
            ("/healthz/%2F", "Unknown"),
            ("/api/v1/namespaces/a/nodes", "Unknown"),
            ("/api/v1/namespaces/a/pods/b/other", "Unknown"),
            ("/api/v2/pods", "Unknown"),
            (
                "/apis/coordination.k8s.io/v1",
                r#"Resources("coordination.k8s.io", "v1")"#,
            ),
            ("/healthz/ping", "Health"),
            ("/apis", "Groups"),
        ] {
            assert_eq!(check(path), read, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(
            "labelSelector=app%3Dweb%2Cx+in+%28a%29&watch=1&limit=5&command=a&command=b&e=",
        );
        assert_eq!(query.get("labelSelector"), Some("app=web,x in (a)"));
        assert!(query.is_set("watch"));
        for (query, is_set) in [
            ("watch", true),
            ("watch=", true),
            ("watch=1", true),
            ("watch=yes", true),
            ("watch=0", false),
            ("watch=False", false),
            ("watch=false&watch=true", false),
            ("watch=&watch=0", true),
            ("watched=1", false),
        ] {
            assert_eq!(Query::parse(query).is_set("watch"), is_set, "{query}");
        }
        assert_eq!(query.get("limit"), Some("5"));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("e"), None);
    }
}

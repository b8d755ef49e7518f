//! The table of endpoints: which path is served on which port, by which methods, and which permission it needs.
//!
//! In:    port, method, path
//! Out:   [`Route`], the subresources to authorize, the metric labels
//! Calls: `lib` for each request, before anything else
//! Holds: a path that is not in the table is 404 for everybody; every path in the table needs authentication on the main port
//! Upstream: pkg/kubelet/server/{server.go,auth.go} (1.36); differences: `/spec/` is served (upstream dropped it),
//!           `/debug/{tasks,sources,timeline}` are new, endpoints that are not built yet answer 501

use crate::{DebugTopic, Disabled, Port};

/// The three kinds of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    Exec,
    Attach,
    PortForward,
}

/// The endpoint of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// All checks, or the named one.
    Health(Option<&'static str>),
    /// `v1.PodList` of all known pods.
    Pods,
    /// `v1.PodList` of the running pods, as the runtime reports them.
    RunningPods,
    /// The machine information.
    Spec,
    /// The metrics registry.
    Metrics,
    /// Metrics of health checks only.
    HealthMetrics,
    /// `/metrics/probes`.
    ProbeMetrics,
    /// The effective configuration.
    Configz,
    /// The state of a component, for debugging.
    Debug(DebugTopic),
    /// The log verbosity.
    Verbosity,
    /// A container's log.
    ContainerLogs,
    /// Exec, attach or port-forward.
    Streams(Streams),
    /// A command without streams.
    Run,
    /// A container's checkpoint.
    Checkpoint,
    /// The node's `/var/log`.
    SystemLogs,
    /// pprof, as far as it exists here.
    Profiles,
    /// Exists upstream, not built here yet.
    NotBuilt,
}

/// The route of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// To an endpoint.
    Serve(Endpoint),
    /// 405 with this text.
    Disabled(&'static str),
    /// A path below a known one: 404 in the words of upstream's framework.
    NotFoundBelow,
    /// A known path with another method: 405 with the allowed method.
    WrongMethod(&'static str),
    /// 404 without authentication.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Any,
    /// The value of the `Allow` header.
    Only(&'static str),
}

struct Row {
    path: &'static str,
    endpoint: Endpoint,
    method: Method,
    port: Served,
    /// Whether every path below belongs to the same endpoint.
    subtree: bool,
    /// The allowed numbers of segments after the path; empty means any number.
    segments: &'static [usize],
    /// The setting that disables it, besides the one for all debug endpoints.
    switch: Option<Disabled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// Served on the read-only and the main port.
    Both,
    /// Served on the main port. It does not exist on the read-only port, or if debug handlers are disabled.
    Main,
    /// Served on the main port. 405 on the read-only port, or if debug handlers are disabled.
    MainOrDisabled,
}

const GET: Method = Method::Only("GET");

const fn row(path: &'static str, endpoint: Endpoint, method: Method, port: Served) -> Row {
    Row {
        path,
        endpoint,
        method,
        port,
        subtree: false,
        segments: &[],
        switch: None,
    }
}

const fn tree(
    path: &'static str,
    endpoint: Endpoint,
    methods: &'static str,
    segments: &'static [usize],
    switch: Option<Disabled>,
) -> Row {
    Row {
        path,
        endpoint,
        method: Method::Only(methods),
        port: Served::MainOrDisabled,
        subtree: true,
        segments,
        switch,
    }
}

static TABLE: [Row; 29] = [
    row(
        "/healthz",
        Endpoint::Health(None),
        Method::Any,
        Served::Both,
    ),
    row(
        "/healthz/ping",
        Endpoint::Health(Some("ping")),
        Method::Any,
        Served::Both,
    ),
    row(
        "/healthz/log",
        Endpoint::Health(Some("log")),
        Method::Any,
        Served::Both,
    ),
    row(
        "/healthz/syncloop",
        Endpoint::Health(Some("syncloop")),
        Method::Any,
        Served::Both,
    ),
    row("/pods", Endpoint::Pods, GET, Served::Both),
    row("/spec", Endpoint::Spec, GET, Served::Both),
    row("/stats", Endpoint::NotBuilt, GET, Served::Both),
    row("/stats/summary", Endpoint::NotBuilt, GET, Served::Both),
    row("/metrics", Endpoint::Metrics, Method::Any, Served::Both),
    row(
        "/metrics/slis",
        Endpoint::HealthMetrics,
        Method::Any,
        Served::Both,
    ),
    row(
        "/metrics/cadvisor",
        Endpoint::NotBuilt,
        Method::Any,
        Served::Both,
    ),
    row(
        "/metrics/probes",
        Endpoint::ProbeMetrics,
        Method::Any,
        Served::Both,
    ),
    row(
        "/metrics/resource",
        Endpoint::NotBuilt,
        Method::Any,
        Served::Both,
    ),
    row("/configz", Endpoint::Configz, Method::Any, Served::Main),
    row(
        "/debug/tasks",
        Endpoint::Debug(DebugTopic::Tasks),
        GET,
        Served::Main,
    ),
    row(
        "/debug/sources",
        Endpoint::Debug(DebugTopic::Sources),
        GET,
        Served::Main,
    ),
    row(
        "/debug/timeline",
        Endpoint::Debug(DebugTopic::Timeline),
        GET,
        Served::Main,
    ),
    Row {
        switch: Some(Disabled::Flags),
        ..row(
            "/debug/flags/v",
            Endpoint::Verbosity,
            Method::Any,
            Served::Main,
        )
    },
    row(
        "/runningpods",
        Endpoint::RunningPods,
        GET,
        Served::MainOrDisabled,
    ),
    tree("/run", Endpoint::Run, "POST", &[3, 4], None),
    tree(
        "/exec",
        Endpoint::Streams(Streams::Exec),
        "GET, POST",
        &[3, 4],
        None,
    ),
    tree(
        "/attach",
        Endpoint::Streams(Streams::Attach),
        "GET, POST",
        &[3, 4],
        None,
    ),
    tree(
        "/portForward",
        Endpoint::Streams(Streams::PortForward),
        "GET, POST",
        &[2, 3],
        None,
    ),
    tree("/containerLogs", Endpoint::ContainerLogs, "GET", &[3], None),
    tree(
        "/debug/pprof",
        Endpoint::Profiles,
        "GET",
        &[],
        Some(Disabled::Profiling),
    ),
    tree(
        "/logs",
        Endpoint::SystemLogs,
        "GET",
        &[],
        Some(Disabled::SystemLogs),
    ),
    Row {
        port: Served::Main,
        ..tree(
            "/checkpoint",
            Endpoint::Checkpoint,
            "POST",
            &[3],
            Some(Disabled::Checkpoints),
        )
    },
    row("/flagz", Endpoint::NotBuilt, Method::Any, Served::Main),
    row("/statusz", Endpoint::NotBuilt, Method::Any, Served::Main),
];

const DEBUG_DISABLED: &str = "Debug endpoints are disabled.";

/// The route of a method and path on a port.
///
/// `disabled` lists what the configuration disables on the main port.
pub(crate) fn route(port: Port, disabled: &[Disabled], method: &str, path: &str) -> Route {
    if port == Port::Healthz {
        return match path {
            "/healthz" => Route::Serve(Endpoint::Health(None)),
            "/healthz/ping" => Route::Serve(Endpoint::Health(Some("ping"))),
            _ => Route::Unknown,
        };
    }
    let exact = |row: &&Row| {
        path == row.path
            || (row.method != Method::Any || row.subtree)
                && path.strip_suffix('/') == Some(row.path)
    };
    let below = |row: &&Row| {
        path.strip_prefix(row.path)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    let found = TABLE
        .iter()
        .find(exact)
        .or_else(|| TABLE.iter().find(|row| row.subtree && below(row)));
    let Some(row) = found else {
        // In upstream's framework a path that is served by method owns all paths below it.
        let owned = TABLE
            .iter()
            .any(|row| row.method != Method::Any && row.port == Served::Both && below(&row));
        return if owned {
            Route::NotFoundBelow
        } else {
            Route::Unknown
        };
    };
    let debug = port == Port::Main && !disabled.contains(&Disabled::AllDebug);
    match (
        row.port,
        row.switch.filter(|switch| disabled.contains(switch)),
    ) {
        (Served::Main, _) if !debug => return Route::Unknown,
        (Served::MainOrDisabled, _) if !debug => return Route::Disabled(DEBUG_DISABLED),
        (_, Some(Disabled::Profiling)) => {
            return Route::Disabled("profiling endpoint is disabled.");
        }
        (_, Some(Disabled::SystemLogs)) => return Route::Disabled("logs endpoint is disabled."),
        (_, Some(Disabled::Flags)) => return Route::Disabled("flags endpoint is disabled."),
        // Upstream does not register the path then.
        (_, Some(Disabled::Checkpoints)) => return Route::Unknown,
        _ => {}
    }
    if !row.segments.is_empty() && !row.segments.contains(&segments(row.path, path).count()) {
        return Route::NotFoundBelow;
    }
    match row.method {
        Method::Only(allowed) if !allowed.split(", ").any(|one| one == method) => {
            Route::WrongMethod(allowed)
        }
        _ => Route::Serve(row.endpoint),
    }
}

/// The segments after the endpoint's own path, without an empty last one.
pub(crate) fn segments<'a>(of: &str, path: &'a str) -> impl Iterator<Item = &'a str> {
    let rest = path.strip_prefix(of).unwrap_or_default();
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    rest.split('/').filter(move |_| !rest.is_empty())
}

/// Permissions by path, first match wins: the fine-grained subresource if there is one, and the general one.
const PERMISSIONS: [(&str, &[&str]); 10] = [
    ("/pods", &["pods", "proxy"]),
    ("/healthz", &["healthz", "proxy"]),
    ("/configz", &["configz", "proxy"]),
    ("/runningpods", &["pods", "proxy"]),
    ("/stats", &["stats"]),
    ("/metrics", &["metrics"]),
    ("/logs", &["log"]),
    ("/checkpoint", &["checkpoint"]),
    ("/statusz", &["statusz"]),
    ("/flagz", &["configz"]),
];

/// The subresources of `nodes` to authorize, in order; any one of them suffices.
pub fn subresources(path: &str) -> &'static [&'static str] {
    PERMISSIONS
        .iter()
        .find(|(prefix, _)| is_subpath(path, prefix))
        .map_or(&["proxy"], |(_, subresources)| subresources)
}

/// The verb to authorize; other methods have an empty verb, which no rule allows.
pub fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

fn is_subpath(path: &str, of: &str) -> bool {
    let of = of.strip_suffix('/').unwrap_or(of);
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The metric label of a path: its first segment (two for metrics) if the port serves it, else `other`.
pub(crate) fn path_bucket(port: Port, path: &str) -> &'static str {
    const BOTH: [&str; 8] = [
        "healthz",
        "pods",
        "stats",
        "spec",
        "metrics/cadvisor",
        "metrics/probes",
        "metrics/resource",
        "metrics",
    ];
    const DEBUG: [&str; 7] = [
        "run",
        "exec",
        "attach",
        "portForward",
        "containerLogs",
        "runningpods",
        "logs",
    ];
    const MAIN: [&str; 3] = ["configz", "debug", "checkpoint"];
    let mut segments = path.strip_prefix('/').unwrap_or(path).splitn(3, '/');
    let (first, second) = (segments.next().unwrap_or_default(), segments.next());
    let is = |bucket: &str| match (first, second) {
        ("metrics", Some(second)) => bucket.strip_prefix("metrics/") == Some(second),
        _ => bucket == first,
    };
    let extra: &[&str] = if port == Port::Main {
        &MAIN
    } else {
        &["pprof"]
    };
    BOTH.iter()
        .chain(&DEBUG)
        .chain(extra)
        .find(|bucket| is(bucket))
        .copied()
        .unwrap_or("other")
}

/// The metric label of a method.
pub(crate) fn method_bucket(method: &str) -> &'static str {
    const KNOWN: [&str; 8] = [
        "OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT",
    ];
    KNOWN
        .iter()
        .find(|known| **known == method)
        .copied()
        .unwrap_or("other")
}

/// The metric label `long_running` of a path's bucket. Quirk: `portForward` is not in upstream's list, `portforward` is.
pub(crate) fn long_running(bucket: &str) -> &'static str {
    if ["exec", "attach", "portforward", "debug"].contains(&bucket) {
        "true"
    } else {
        "false"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_another_only_at_a_slash() {
        let is = [
            ("", ""),
            ("/foo", "/foo"),
            ("/foo/", "/foo/"),
            ("/foo", "/"),
            ("/foo/bar", "/"),
            ("/foo/bar", "/foo"),
            ("/foo/", "/foo"),
        ];
        let is_not = [("/foo", "/bar"), ("/foo", "/foobar"), ("/foobar", "/foo")];
        assert!(
            is.iter().all(|(path, of)| is_subpath(path, of))
                && !is_not.iter().any(|(path, of)| is_subpath(path, of))
        );
    }

    #[test]
    fn paths_go_where_upstream_sends_them() {
        use Route::{Disabled as Off, NotFoundBelow, Serve, Unknown, WrongMethod};
        let main = |method, path| route(Port::Main, &[], method, path);
        let read_only = |path| route(Port::ReadOnly, &[], "GET", path);
        assert_eq!(
            ["/pods", "/pods/"].map(|p| main("GET", p)),
            [Serve(Endpoint::Pods); 2]
        );
        assert_eq!(
            ["/spec", "/spec/"].map(read_only),
            [Serve(Endpoint::Spec); 2]
        );
        assert_eq!(main("POST", "/pods"), WrongMethod("GET"));
        assert_eq!(main("GET", "/pods/x"), NotFoundBelow);
        assert_eq!(
            ["/", "/x", "/podsy", "/healthz/x", "/metrics/", "/debug"].map(|p| main("GET", p)),
            [Unknown; 6]
        );
        assert_eq!(
            ["/flagz", "/statusz", "/stats/summary"].map(|p| main("GET", p)),
            [Serve(Endpoint::NotBuilt); 3]
        );
        for (path, endpoint) in [
            ("/exec/a/b/c", Endpoint::Streams(Streams::Exec)),
            ("/exec/a/b/u/c", Endpoint::Streams(Streams::Exec)),
            ("/attach/a/b/u/c", Endpoint::Streams(Streams::Attach)),
            ("/portForward/a/b", Endpoint::Streams(Streams::PortForward)),
            (
                "/portForward/a/b/u",
                Endpoint::Streams(Streams::PortForward),
            ),
            ("/containerLogs/a/b/c", Endpoint::ContainerLogs),
            ("/containerLogs/a/b/c/", Endpoint::ContainerLogs),
            ("/logs/", Endpoint::SystemLogs),
            ("/logs/a/b/c/d/e", Endpoint::SystemLogs),
            ("/debug/pprof/heap", Endpoint::Profiles),
        ] {
            assert_eq!(main("GET", path), Serve(endpoint), "{path}");
        }
        for path in [
            "/exec",
            "/exec/a/b",
            "/exec/a/b/c/d/e",
            "/portForward/a",
            "/containerLogs/a/b/u/c",
            "/run/a/b",
            "/checkpoint/a",
        ] {
            assert_eq!(main("GET", path), NotFoundBelow, "{path}");
        }
        assert_eq!(
            main("POST", "/exec/a/b/c"),
            Serve(Endpoint::Streams(Streams::Exec))
        );
        assert_eq!(main("POST", "/run/a/b/c"), Serve(Endpoint::Run));
        assert_eq!(
            main("POST", "/checkpoint/a/b/c"),
            Serve(Endpoint::Checkpoint)
        );
        assert_eq!(main("PUT", "/exec/a/b/c"), WrongMethod("GET, POST"));
        assert_eq!(main("GET", "/run/a/b/c"), WrongMethod("POST"));
        assert_eq!(main("HEAD", "/logs/"), WrongMethod("GET"));
        assert_eq!(
            route(
                Port::Main,
                &[Disabled::Checkpoints],
                "POST",
                "/checkpoint/a/b/c"
            ),
            Unknown
        );
        let off = [
            "/run/",
            "/exec/a/b/c",
            "/attach/x",
            "/portForward/",
            "/containerLogs/a",
            "/runningpods/",
            "/debug/pprof/",
            "/logs/x",
        ];
        assert_eq!(off.map(read_only), [Off(DEBUG_DISABLED); 8]);
        assert_eq!(
            [
                "/configz",
                "/debug/tasks",
                "/debug/flags/v",
                "/checkpoint/a"
            ]
            .map(read_only),
            [Unknown; 4]
        );
        let switched = |switch, path| route(Port::Main, &[switch], "GET", path);
        assert_eq!(switched(Disabled::AllDebug, "/exec/a"), Off(DEBUG_DISABLED));
        assert_eq!(switched(Disabled::AllDebug, "/configz"), Unknown);
        assert_eq!(
            switched(Disabled::Profiling, "/debug/pprof/heap"),
            Off("profiling endpoint is disabled.")
        );
        assert_eq!(
            switched(Disabled::SystemLogs, "/logs/"),
            Off("logs endpoint is disabled.")
        );
        assert_eq!(
            switched(Disabled::Flags, "/debug/flags/v"),
            Off("flags endpoint is disabled.")
        );
        assert_eq!(
            ["/pods", "/healthz/log", "/"].map(|p| route(Port::Healthz, &[], "GET", p)),
            [Unknown; 3]
        );
    }

    #[test]
    fn metric_labels_are_upstreams_buckets() {
        let main = |path| path_bucket(Port::Main, path);
        assert_eq!(main("/metrics/cadvisor/x"), "metrics/cadvisor");
        assert_eq!(
            [
                "/metrics",
                "/metrics/slis",
                "/debug/pprof/x",
                "/healthz/ping",
                "/x",
                ""
            ]
            .map(main),
            ["metrics", "other", "debug", "healthz", "other", "other"]
        );
        assert_eq!(path_bucket(Port::ReadOnly, "/configz"), "other");
        assert_eq!(
            ["exec", "debug", "portForward", "pods"].map(long_running),
            ["true", "true", "false", "false"]
        );
        assert_eq!(["GET", "PATCH"].map(method_bucket), ["GET", "other"]);
    }
}

//! Validates probes, lifecycle hooks and restart rules of a container.
//!
//! In:    a container with its defaults
//! Out:   problems
//! Calls: containers, and init containers that are sidecars
//! Holds: a probe and a hook have exactly one handler
//! Upstream: pkg/apis/core/validation/validation.go (validateProbe, validateHandler, validateLifecycle,
//!           validateContainerRestartPolicy)

use super::{Problems, names, text};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, PodOS, Probe,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Linux signals, in upstream's order.
const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

/// The probes and hooks of a container.
pub(super) fn validate_probes(
    path: &str,
    container: &Container,
    grace: Option<i64>,
    os: Option<&PodOS>,
    problems: &mut Problems,
) {
    if let Some(lifecycle) = &container.lifecycle {
        let at = format!("{path}.lifecycle");
        for (field, hook) in [
            ("postStart", &lifecycle.post_start),
            ("preStop", &lifecycle.pre_stop),
        ] {
            if let Some(hook) = hook {
                validate_hook(&format!("{at}.{field}"), hook, grace, problems);
            }
        }
        if let Some(signal) = &lifecycle.stop_signal {
            check_stop_signal(&format!("{at}.stopSignal"), signal, os, problems);
        }
    }
    for (field, probe, restarts) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        let Some(probe) = probe else { continue };
        let at = format!("{path}.{field}");
        validate_probe(&at, probe, problems);
        if restarts && probe.success_threshold != Some(1) {
            let count = probe.success_threshold.unwrap_or_default();
            problems.invalid(format!("{at}.successThreshold"), count, "must be 1");
        }
        if !restarts && let Some(seconds) = probe.termination_grace_period_seconds {
            let detail = "must not be set for readinessProbes";
            problems.invalid(
                format!("{at}.terminationGracePeriodSeconds"),
                seconds,
                detail,
            );
        }
    }
}

fn check_stop_signal(at: &str, signal: &str, os: Option<&PodOS>, problems: &mut Problems) {
    match os.map(|os| os.name.as_str()) {
        None => {
            let detail = "may not be set for containers with empty `spec.os.name`";
            problems.forbidden(at, detail);
        }
        Some("windows") => problems.known(at, Some(signal), &["SIGKILL", "SIGTERM"]),
        Some("linux") => problems.known(at, Some(signal), &SIGNALS),
        Some(_) => {}
    }
}

fn validate_probe(path: &str, probe: &Probe, problems: &mut Problems) {
    let mut handlers = Handlers::new(path, problems);
    handlers.exec(probe.exec.as_ref());
    handlers.http_get(probe.http_get.as_ref());
    handlers.port("tcpSocket", probe.tcp_socket.as_ref().map(|tcp| &tcp.port));
    let grpc = probe.grpc.as_ref().map(|grpc| IntOrString::Int(grpc.port));
    handlers.port("grpc", grpc.as_ref());
    handlers.finish();
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            let detail = "must be greater than or equal to 0";
            problems.invalid(format!("{path}.{field}"), value, detail);
        }
    }
    if let Some(seconds) = probe
        .termination_grace_period_seconds
        .filter(|seconds| *seconds <= 0)
    {
        let at = format!("{path}.terminationGracePeriodSeconds");
        problems.invalid(at, seconds, "must be greater than 0");
    }
}

fn validate_hook(path: &str, hook: &LifecycleHandler, grace: Option<i64>, problems: &mut Problems) {
    let mut handlers = Handlers::new(path, problems);
    handlers.exec(hook.exec.as_ref());
    handlers.http_get(hook.http_get.as_ref());
    handlers.port("tcpSocket", hook.tcp_socket.as_ref().map(|tcp| &tcp.port));
    if let Some(sleep) = &hook.sleep
        && let Some(at) = handlers.only("sleep")
        && let Some(grace) = grace
        && !(0..=grace).contains(&sleep.seconds)
    {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        handlers.problems.invalid(at, sleep.seconds, &detail);
    }
    handlers.finish();
}

/// Counts handlers: the first one is validated, every further one is reported.
struct Handlers<'a> {
    path: &'a str,
    problems: &'a mut Problems,
    count: usize,
}

impl<'a> Handlers<'a> {
    fn new(path: &'a str, problems: &'a mut Problems) -> Self {
        Self {
            path,
            problems,
            count: 0,
        }
    }

    fn only(&mut self, field: &str) -> Option<String> {
        let at = format!("{}.{field}", self.path);
        self.count += 1;
        if self.count == 1 {
            return Some(at);
        }
        self.problems
            .forbidden(at, "may not specify more than 1 handler type");
        None
    }

    fn exec(&mut self, action: Option<&ExecAction>) {
        if let Some(action) = action
            && let Some(at) = self.only("exec")
            && action.command.as_ref().is_none_or(Vec::is_empty)
        {
            self.problems.required(format!("{at}.command"), "");
        }
    }

    fn http_get(&mut self, action: Option<&HTTPGetAction>) {
        let Some(action) = action else { return };
        let Some(at) = self.only("httpGet") else {
            return;
        };
        if text(&action.path).is_none() {
            self.problems.required(format!("{at}.path"), "");
        }
        check_port(&at, &action.port, self.problems);
        let scheme = action.scheme.as_deref().unwrap_or_default();
        if !matches!(scheme, "HTTP" | "HTTPS") {
            self.problems
                .unsupported(format!("{at}.scheme"), scheme, &["HTTP", "HTTPS"]);
        }
        for header in action.http_headers.iter().flatten() {
            let reasons = names::header_name(&header.name);
            self.problems
                .reasons(format!("{at}.httpHeaders"), &header.name, reasons);
        }
    }

    fn port(&mut self, field: &str, port: Option<&IntOrString>) {
        if let Some(port) = port
            && let Some(at) = self.only(field)
        {
            check_port(&at, port, self.problems);
        }
    }

    fn finish(self) {
        if self.count == 0 {
            self.problems
                .required(self.path, "must specify a handler type");
        }
    }
}

fn check_port(path: &str, port: &IntOrString, problems: &mut Problems) {
    let at = format!("{path}.port");
    match port {
        IntOrString::Int(number) => {
            problems.reasons(at, number, names::port_number(*number));
        }
        IntOrString::String(name) => problems.reasons(at, name, names::port_name(name)),
    }
}

/// The container's own restart policy and its restart rules.
pub(super) fn validate_restart_rules(path: &str, container: &Container, problems: &mut Problems) {
    let rules = container
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    let at = format!("{path}.restartPolicy");
    match container.restart_policy.as_deref() {
        None if !rules.is_empty() => {
            problems.required(at, "must specify restartPolicy when restart rules are used");
        }
        None => {}
        Some(policy) if !matches!(policy, "Always" | "Never" | "OnFailure") => {
            problems.unsupported(at, policy, &["Always", "Never", "OnFailure"]);
        }
        Some(_) => {}
    }
    let at = format!("{path}.restartPolicyRules");
    if rules.len() > MAX_RULES {
        problems.too_many(at.as_str(), rules.len(), MAX_RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if !matches!(rule.action.as_str(), "Restart" | "RestartAllContainers") {
            let known = ["Restart", "RestartAllContainers"];
            problems.unsupported(format!("{at}.action"), &rule.action, &known);
        }
        let Some(codes) = &rule.exit_codes else {
            problems.required(format!("{at}.exitCodes"), "must be specified");
            continue;
        };
        if !matches!(codes.operator.as_str(), "In" | "NotIn") {
            let operator = format!("{at}.exitCodes.operator");
            problems.unsupported(operator, &codes.operator, &["In", "NotIn"]);
        }
        let count = codes.values.as_ref().map_or(0, Vec::len);
        if count > MAX_EXIT_CODES {
            problems.too_many(format!("{at}.exitCodes.values"), count, MAX_EXIT_CODES);
        }
    }
}

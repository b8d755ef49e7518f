//! Whether an exited container is restarted, and after which back-off.
//!
//! In:    restart policies and rules of container and pod, newest instance, back-off as data, now
//! Out:   whether a container is wanted running; the back-off to keep before it is started again
//! Calls: pod_plan, init containers, phase
//! Holds: gaps between restarts are 0, 10, 20, 40, 80, 160, 300 s (0, 1, 2, 4, 8, 16, 32, 60 s where they are reduced); a run of 2 × the
//!        cap resets them, and so does another image or other resources of the container
//! Upstream: pkg/api/v1/pod/util.go (ContainerShouldRestart, FindMatchingContainerRestartRule), client-go/util/flowcontrol/backoff.go

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::observed::{ContainerState, ObservedContainer};
use kubelet_model::pod::{Pod, RestartPolicy, is_sidecar};

use crate::shapes::plan::{Action, PodPlan};
use crate::shapes::record::BackOff;

/// Bounds of a back-off, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gaps {
    /// The first.
    pub first: i64,
    /// The longest.
    pub cap: i64,
}

impl Gaps {
    /// Between pulls of an image.
    pub const IMAGES: Self = Self {
        first: 10,
        cap: 300,
    };

    /// Between starts of a container, on this node.
    pub fn of_starts(node: &NodeView) -> Self {
        Self {
            first: node.first_backoff_seconds.min(node.max_backoff_seconds),
            cap: node.max_backoff_seconds,
        }
    }
}

impl BackOff {
    /// The back-off to keep when a start is made at `now` after a failure at `failed_at`: doubled, or the first again when the
    /// container had run for twice the cap.
    pub fn next(
        previous: Option<&Self>,
        key: &str,
        failed_at: Timestamp,
        now: Timestamp,
        gaps: Gaps,
    ) -> Self {
        let seconds = match previous {
            Some(old) if old.key == key && !old.is_stale(failed_at, gaps.cap) => {
                old.seconds.saturating_mul(2).min(gaps.cap)
            }
            Some(_) | None => gaps.first,
        };
        Self {
            key: key.to_owned(),
            seconds,
            updated: now,
        }
    }

    /// When the next start may be made after a failure at `failed_at`; `None` is now.
    pub fn until(
        &self,
        key: &str,
        failed_at: Timestamp,
        now: Timestamp,
        cap_seconds: i64,
    ) -> Option<Timestamp> {
        if self.key != key || self.is_stale(failed_at, cap_seconds) {
            return None;
        }
        // A clock set back must not stretch the wait beyond the gap itself.
        let from = failed_at.min(now);
        let until = from
            .saturating_add(SignedDuration::from_secs(self.seconds))
            .unwrap_or(now);
        (until > now).then_some(until)
    }

    /// When a pull that failed is tried again; `None` is now.
    pub fn pull_until(&self, now: Timestamp) -> Option<Timestamp> {
        let gap = SignedDuration::from_secs(self.seconds);
        let until = self.updated.saturating_add(gap).unwrap_or(now);
        (until > now).then_some(until)
    }

    fn is_stale(&self, failed_at: Timestamp, cap_seconds: i64) -> bool {
        failed_at.duration_since(self.updated)
            > SignedDuration::from_secs(cap_seconds.saturating_mul(2))
    }
}

/// What a crash-loop back-off is about: another image or other resources start anew.
pub fn back_off_key(container: &v1::Container) -> String {
    let image = container.image.clone().unwrap_or_default();
    let resources = container.resources.as_ref();
    let says = |of: &&v1::ResourceRequirements| {
        let amounts = [&of.limits, &of.requests].into_iter().flatten();
        amounts.flatten().next().is_some() || of.claims.iter().flatten().next().is_some()
    };
    let resources = resources.filter(says);
    match resources.and_then(|of| serde_json::to_string(of).ok()) {
        Some(resources) => format!("{image} {resources}"),
        None => image,
    }
}

/// Lengthens the back-off of every container that a plan starts again. Before the start, as upstream does: what fails after it, the
/// creation or the start itself, waits no less than what ran and ended.
pub fn lengthen(
    back_offs: &mut BTreeMap<String, BackOff>,
    pod: &Pod,
    plan: &PodPlan,
    now: Timestamp,
    gaps: Gaps,
) {
    for step in &plan.steps {
        let Action::StartContainer(start) = &step.action else {
            continue;
        };
        let spec = pod.container(&start.name);
        if let (Some(failed_at), Some(spec)) = (start.after_failure, spec) {
            let old = back_offs.get(&start.name);
            let next = BackOff::next(old, &back_off_key(spec), failed_at, now, gaps);
            back_offs.insert(start.name.clone(), next);
        }
    }
}

/// The restart policy of a container: its own, else its pod's. An ephemeral container is never restarted.
pub fn policy_of(pod: &Pod, container: &v1::Container) -> RestartPolicy {
    if is_ephemeral(pod, &container.name) {
        return RestartPolicy::Never;
    }
    let own = container.restart_policy.as_deref();
    match own.filter(|_| pod.gates.restart_rules || is_sidecar_of(pod, container)) {
        Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        Some(_) | None => pod.restart_policy(),
    }
}

/// Whether it is an ephemeral container of the pod.
pub fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    pod.ephemeral_containers().iter().any(|c| c.name == name)
}

/// What a container's `restartPolicyRules` say of an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSays {
    /// Start it again.
    Restart,
    /// Start all containers of the pod again, from the first init container on.
    RestartAll,
}

/// Whether it is one of the pod's sidecars.
fn is_sidecar_of(pod: &Pod, container: &v1::Container) -> bool {
    let mut init = pod.init_containers().iter();
    is_sidecar(container) && init.any(|init| init.name == container.name)
}

/// The first rule that the exit code matches; none where no rule does, or its action is not known or not enabled.
pub fn rule_of(pod: &Pod, container: &v1::Container, exit_code: i32) -> Option<RuleSays> {
    if !pod.gates.restart_rules {
        return None;
    }
    let matches = |rule: &&v1::ContainerRestartRule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let is_listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            match codes.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                _ => false,
            }
        })
    };
    let mut rules = container.restart_policy_rules.iter().flatten();
    match rules.find(matches)?.action.as_str() {
        "Restart" => Some(RuleSays::Restart),
        "RestartAllContainers" if pod.gates.restart_all => Some(RuleSays::RestartAll),
        _ => None,
    }
}

/// Whether a container is started again after this exit code: by its rules, else by its policy.
pub fn restarts_after(pod: &Pod, container: &v1::Container, exit_code: i32) -> bool {
    let rule = container
        .restart_policy
        .as_ref()
        .and_then(|_| rule_of(pod, container, exit_code));
    if rule.is_some() {
        return true;
    }
    match policy_of(pod, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether a regular container is wanted running, given its newest instance.
pub fn should_start(
    pod: &Pod,
    container: &v1::Container,
    newest: Option<&ObservedContainer>,
) -> bool {
    match newest.map(|c| &c.state) {
        None | Some(ContainerState::Created | ContainerState::Unknown) => true,
        Some(ContainerState::Running { .. }) => false,
        Some(ContainerState::Exited(exit)) => restarts_after(pod, container, exit.code),
    }
}

/// Go's way to print a gap of whole seconds: `1m20s`, `5m0s`, `10s`.
pub fn gap_text(seconds: i64) -> String {
    let (minutes, rest) = (seconds / 60, seconds % 60);
    let (hours, minutes_rest) = (minutes / 60, minutes % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        (_, _) => format!("{hours}h{minutes_rest}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use kubelet_model::pod::PodGates;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    /// The gaps before the first starts of a container that fails at once.
    fn waited(gaps: Gaps) -> Vec<i64> {
        let mut waited = Vec::new();
        let mut back_off: Option<BackOff> = None;
        let mut now = at(0);
        for _ in 0..8 {
            let failed_at = now;
            let until = back_off
                .as_ref()
                .and_then(|b| b.until("k", failed_at, now, gaps.cap))
                .unwrap_or(now);
            waited.push(until.duration_since(failed_at).as_secs());
            now = until;
            back_off = Some(BackOff::next(back_off.as_ref(), "k", failed_at, now, gaps));
        }
        waited
    }

    #[test]
    fn gaps_double_to_the_cap() {
        assert_eq!(waited(Gaps::IMAGES), [0, 10, 20, 40, 80, 160, 300, 300]);
        let mut node = crate::testing::node();
        (node.first_backoff_seconds, node.max_backoff_seconds) = (1, 60);
        let reduced = Gaps::of_starts(&node);
        assert_eq!(waited(reduced), [0, 1, 2, 4, 8, 16, 32, 60]);
        // A longest gap below the first is the first.
        (node.first_backoff_seconds, node.max_backoff_seconds) = (10, 3);
        assert_eq!(waited(Gaps::of_starts(&node))[1..4], [3, 3, 3]);
    }

    #[test]
    fn another_image_or_other_resources_are_another_matter() {
        let key = |spec: &str| {
            let pod = crate::testing::pod_of(&format!("{{containers: [{spec}]}}"));
            back_off_key(&pod.containers()[0])
        };
        let plain = key("{name: a, image: i}");
        assert_eq!(plain, "i");
        assert_eq!(plain, key("{name: a, image: i, resources: {}}"));
        let small = key("{name: a, image: i, resources: {limits: {memory: 1Mi}}}");
        let large = key("{name: a, image: i, resources: {limits: {memory: 2Mi}}}");
        assert!(small != plain && small != large);
    }

    /// Upstream's TestContainerShouldRestart and TestFindMatchingContainerRestartRule.
    #[test]
    fn rules_come_before_the_containers_policy_and_that_before_the_pods() {
        let rule = |action: &str, operator: &str, codes: &str| {
            format!(
                "restartPolicyRules: [{{action: {action}, exitCodes: {{operator: {operator}, values: [{codes}]}}}}]"
            )
        };
        let never = |rest: &str| format!("restartPolicy: Never, {rest}");
        /// Policy of the pod, the container's own, whether it is restarted after each code.
        type Row<'a> = (&'a str, String, &'a [(i32, bool)]);
        let rows: &[Row<'_>] = &[
            ("Always", String::new(), &[(0, true), (1, true)]),
            ("OnFailure", String::new(), &[(0, false), (1, true)]),
            ("Never", String::new(), &[(0, false), (1, false)]),
            (
                "Never",
                "restartPolicy: Always".into(),
                &[(0, true), (1, true)],
            ),
            (
                "Never",
                "restartPolicy: OnFailure".into(),
                &[(0, false), (1, true)],
            ),
            (
                "Always",
                "restartPolicy: Never".into(),
                &[(0, false), (1, false)],
            ),
            (
                "Always",
                never(&rule("Restart", "In", "42, 43")),
                &[(42, true), (43, true), (1, false), (0, false)],
            ),
            (
                "Always",
                never(&rule("Restart", "NotIn", "0, 42")),
                &[(42, false), (0, false), (1, true)],
            ),
            (
                "Never",
                format!("restartPolicy: OnFailure, {}", rule("Restart", "In", "0")),
                &[(0, true), (1, true)],
            ),
            (
                "Never",
                never(&rule("RestartAllContainers", "In", "42")),
                &[(42, true), (1, false)],
            ),
            ("Never", never(&rule("Odd", "In", "42")), &[(42, false)]),
            // Rules count only beside a policy of the container's own.
            ("Never", rule("Restart", "In", "42"), &[(42, false)]),
        ];
        for (policy, rest, expected) in rows {
            let pod = crate::testing::pod_of(&format!(
                "{{restartPolicy: {policy}, containers: [{{name: a, image: i, {rest}}}]}}"
            ));
            for (code, is_restarted) in *expected {
                let says = restarts_after(&pod, &pod.containers()[0], *code);
                assert_eq!(says, *is_restarted, "{policy} {rest} {code}");
            }
        }
    }

    #[test]
    fn policies_and_rules_of_containers_act_behind_their_gates() {
        use crate::pod::restart_all::may_restart_all;
        let rules = |action: &str| {
            format!(
                "restartPolicy: Never, restartPolicyRules: [{{action: {action}, exitCodes: {{operator: In, values: [3]}}}}]"
            )
        };
        let gates = |restart_rules, restart_all| PodGates {
            restart_rules,
            restart_all,
            ..PodGates::default()
        };
        for (gates, action, on_3, on_1, all) in [
            (gates(true, true), "Restart", true, false, false),
            (gates(true, true), "RestartAllContainers", true, false, true),
            (
                gates(true, false),
                "RestartAllContainers",
                false,
                false,
                false,
            ),
            // The pod's policy alone.
            (gates(false, true), "Restart", true, true, false),
            (
                gates(false, true),
                "RestartAllContainers",
                true,
                true,
                false,
            ),
        ] {
            let pod = crate::testing::pod_of(&format!(
                "{{restartPolicy: Always, initContainers: [{{name: s, restartPolicy: Always}}], containers: [{{name: a, {}}}]}}",
                rules(action)
            ))
            .under(gates);
            let after = |code| restarts_after(&pod, &pod.containers()[0], code);
            assert_eq!((after(3), after(1)), (on_3, on_1), "{gates:?} {action}");
            assert_eq!(may_restart_all(&pod), all, "{gates:?} {action}");
            // A sidecar is one whatever they say.
            let sidecar = &pod.init_containers()[0];
            assert_eq!(policy_of(&pod, sidecar), RestartPolicy::Always);
        }
        let never = "{restartPolicy: Never, containers: [{name: a, restartPolicy: Always}]}";
        let never = crate::testing::pod_of(never).under(gates(false, false));
        let policy = policy_of(&never, &never.containers()[0]);
        assert_eq!(policy, RestartPolicy::Never);
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let pod = crate::testing::pod_of(
            "{containers: [{name: a, restartPolicy: Never, restartPolicyRules: [
                {action: RestartAllContainers, exitCodes: {operator: In, values: [3]}},
                {action: Restart, exitCodes: {operator: NotIn, values: [0]}}]}]}",
        );
        let says = |code| rule_of(&pod, &pod.containers()[0], code);
        assert_eq!(says(3), Some(RuleSays::RestartAll));
        assert_eq!(says(4), Some(RuleSays::Restart));
        assert_eq!(says(0), None);
    }

    #[test]
    fn a_long_run_or_another_image_starts_anew() {
        let old = BackOff {
            key: "k".into(),
            seconds: 160,
            updated: at(0),
        };
        assert_eq!(old.until("k", at(601), at(601), 300), None);
        assert_eq!(
            BackOff::next(Some(&old), "k", at(601), at(601), Gaps::IMAGES).seconds,
            10
        );
        assert_eq!(old.until("other", at(1), at(1), 300), None);
        assert_eq!(
            BackOff::next(Some(&old), "other", at(1), at(1), Gaps::IMAGES).seconds,
            10
        );
    }

    #[test]
    fn a_clock_set_back_does_not_stretch_the_wait() {
        let old = BackOff {
            key: "k".into(),
            seconds: 10,
            updated: at(0),
        };
        let until = old.until("k", at(5000).min(at(100)), at(50), 300).unwrap();
        assert_eq!(until.duration_since(at(50)).as_secs(), 10);
    }

    #[test]
    fn gaps_print_as_go_prints_them() {
        let rows = [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")];
        for (seconds, text) in rows {
            assert_eq!(gap_text(seconds), text);
        }
    }
}

//! Whether one container starts now, later or never, and by which step.
//!
//! In:    rows of what a worker remembers of the container, and what the runtime holds of it
//! Out:   –
//! Calls: cargo test
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager_test.go (TestDoBackOff), images/image_manager_test.go (back-off), 1.36

use expect_test::expect;

use super::*;
use crate::shapes::record::BackOff;
use crate::shapes::record::ImageBackOff;
use crate::testing::held::{second, seen};
use crate::testing::seen::Seen;

fn tell(seen: &mut Seen) -> String {
    seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
    let readiness = seen.see(|view| {
        let sandbox = view.observed.sandboxes.first().unwrap();
        container_start(view, sandbox, &view.pod.containers()[0])
    });
    let waits = |w: &Waiting| format!("{} {}", w.reason, w.message);
    match readiness {
        Readiness::Now(action, why) => format!("now: {action} ({why})"),
        Readiness::Later(at, waiting) => {
            let left = at.duration_since(seen.now.steady).as_secs();
            format!("in {left} s: {}", waits(&waiting))
        }
        Readiness::Never(waiting) => format!("never: {}", waits(&waiting)),
    }
}

fn backs_off(seen: &mut Seen, key: &str, seconds: i64) {
    let back_off = BackOff {
        key: key.to_owned(),
        seconds,
        updated: second(5),
    };
    seen.memory
        .record
        .restart_back_off
        .insert("a".to_owned(), back_off);
}

fn image_held(seen: &mut Seen, image: &str, looked: i64) {
    let back_off = BackOff {
        key: image.to_owned(),
        seconds: 40,
        updated: second(95),
    };
    let entry = ImageBackOff {
        image: image.to_owned(),
        back_off,
        message: "pull access denied".to_owned(),
        looked_at: second(looked),
    };
    seen.memory.attempts.clear();
    seen.memory
        .record
        .image_back_off
        .insert(image.to_owned(), entry);
}

fn failed(seen: &mut Seen, reason: Reason, until: i64) {
    let attempt = seen.memory.attempts.entry("a".to_owned()).or_default();
    attempt.held_until = Some(second(until));
    attempt.waiting = Some(Waiting {
        reason,
        message: "why".to_owned(),
    });
}

#[test]
fn one_container_starts_now_later_or_never() {
    let spec = "{containers: [{name: a, image: i}]}";
    let keyed = "{containers: [{name: a, image: i, env: [{name: K, valueFrom: {configMapKeyRef: {name: m, key: k}}}]}]}";
    let mut out = String::new();
    let mut row = |what: &str, spec: &str, held: &str, change: fn(&mut Seen)| {
        let mut seen = seen(spec, &format!("sandbox[0]:ready {held}"));
        change(&mut seen);
        out += &format!("{what}\n    {}\n", tell(&mut seen));
    };
    row("its image is known", spec, "", |_| {});
    row("its image is not", spec, "", |seen| {
        seen.memory.attempts.clear()
    });
    row("its image is another now", spec, "", |seen| {
        let attempt = seen.memory.attempts.get_mut("a").unwrap();
        attempt.image.as_mut().unwrap().wanted = "other".to_owned();
    });
    row("created in this sandbox", spec, "a[0]:created", |_| {});
    row("created in another", spec, "a[0]:created@7", |_| {});
    row(
        "created, and its start failed",
        spec,
        "a[0]:created",
        |seen| {
            failed(seen, Reason::RunContainerError, 90);
            seen.memory.attempts.get_mut("a").unwrap().refused = Some(0);
        },
    );
    row(
        "created, and nobody knows of its start",
        spec,
        "a[0]:created",
        |seen| {
            failed(seen, Reason::RunContainerError, 90);
        },
    );
    row("its last try failed a moment ago", spec, "", |seen| {
        failed(seen, Reason::CreateContainerError, 104);
    });
    row("its last try failed a while ago", spec, "", |seen| {
        failed(seen, Reason::CreateContainerError, 100);
    });
    row("ended for the first time", spec, "a[0]:exited(1)", |_| {});
    row("ended, and backs off", spec, "a[3]:exited(1)", |seen| {
        backs_off(seen, "i", 160)
    });
    row(
        "ended, and backed off for long enough",
        spec,
        "a[3]:exited(1)",
        |seen| backs_off(seen, "i", 80),
    );
    row(
        "ended, and another image backed off",
        spec,
        "a[3]:exited(1)",
        |seen| backs_off(seen, "j", 160),
    );
    row("its image is held back", spec, "", |seen| {
        image_held(seen, "i", 99)
    });
    row(
        "its image is held back, and may have been loaded",
        spec,
        "",
        |seen| image_held(seen, "i", 10),
    );
    row("another image is held back", spec, "", |seen| {
        image_held(seen, "j", 99)
    });
    row("no API server", keyed, "", |_| {});
    row("named the highest ever", spec, "", |seen| {
        seen.memory.record.restart_counts.insert("a".to_owned(), 8);
    });
    expect![[r#"
        its image is known
            now: start a[0] (not started yet)
        its image is not
            now: image a (its image comes first)
        its image is another now
            now: image a (its image comes first)
        created in this sandbox
            now: start created a (created and never started)
        created in another
            now: start a[1] (not started yet)
        created, and its start failed
            now: start a[1] (not started yet)
        created, and nobody knows of its start
            now: start created a (created and never started)
        its last try failed a moment ago
            in 4 s: CreateContainerError why
        its last try failed a while ago
            now: start a[0] (not started yet)
        ended for the first time
            now: start a[1] (it ended)
        ended, and backs off
            in 80 s: CrashLoopBackOff back-off 2m40s restarting failed container=a pod=web_default(u1)
        ended, and backed off for long enough
            now: start a[4] (it ended)
        ended, and another image backed off
            now: start a[4] (it ended)
        its image is held back
            in 9 s: ImagePullBackOff Back-off pulling image "i": ErrImagePull: pull access denied
        its image is held back, and may have been loaded
            now: image a (its image comes first)
        another image is held back
            now: image a (its image comes first)
        no API server
            never: CreateContainerConfigError couldn't get configMap default/m, no kubeClient defined
        named the highest ever
            now: start a[9] (not started yet)
    "#]].assert_eq(&out);
}

/// A start that nobody was there to hear of, of an instance that an earlier call had made, after the runtime had refused a second such
/// call: the instance was seen before it was known that its start was cut off.
#[test]
fn an_instance_that_was_only_made_makes_the_next_one_no_restart() {
    let spec = "{restartPolicy: Always, containers: [{name: a, image: i}]}";
    let mut seen = seen(spec, "sandbox[0]:ready a[0]:created");
    assert_eq!(
        tell(&mut seen),
        "now: start created a (created and never started)"
    );
    seen.hold("sandbox[0]:ready");
    assert_eq!(tell(&mut seen), "now: start a[0] (not started yet)");
    assert!(seen.memory.record.restart_counts.is_empty());
}

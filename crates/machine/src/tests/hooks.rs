//! Lifecycle hooks of real containers, and a kubelet that is killed inside them.
//!
//! Upstream: test/e2e/common/node/lifecycle_hook.go

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, condition, container, is_ready, pod, shell};
use crate::node::{pause, until};

/// A container of which all that happens to it is written to a file of the host, one word a line.
fn told(name: &str, line: &str, lifecycle: &Value) -> Value {
    let mut told = shell(name, line);
    told["lifecycle"] = lifecycle.clone();
    told["volumeMounts"] = json!([{"name": "told", "mountPath": "/told"}]);
    told
}

fn say(word: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", format!("echo {word} >> /told/all")]}})
}

/// Says when it is asked to end, and then does.
fn polite(name: &str) -> String {
    format!(
        "trap 'echo {name}-term >> /told/all; exit 0' TERM; echo {name} >> /told/all; while :; do sleep 0.1; done"
    )
}

struct Told(PathBuf);

impl Told {
    fn new(kubelet: &Kubelet, name: &str) -> Self {
        let dir = kubelet.base.join("told").join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn words(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("all")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn wait(&self, word: &str) {
        until(word, SOON, || {
            self.words().contains(&word.to_owned()).then_some(())
        });
    }

    fn count(&self, word: &str) -> usize {
        self.words().iter().filter(|said| *said == word).count()
    }

    fn mount(&self, pod: &mut Value) {
        pod["spec"]["volumes"] = json!([{"name": "told", "hostPath": {"path": self.0}}]);
    }
}

#[test]
fn hooks_run_in_their_order_and_hold_back_what_upstream_holds_back() {
    let mut kubelet = Kubelet::running("hooks");
    let all = Told::new(&kubelet, "all");
    let slow = json!({"exec": {"command": ["sh", "-c", "echo post >> /told/all; while [ ! -e /told/go ]; do sleep 0.1; done; echo posted >> /told/all"]}});
    let first = told(
        "a",
        &polite("a"),
        &json!({"postStart": slow, "preStop": say("pre")}),
    );
    let second = told("b", &polite("b"), &json!({}));
    let mut both = pod("both", &[first, second]);
    both["spec"]["terminationGracePeriodSeconds"] = json!(20);
    all.mount(&mut both);
    kubelet.put("both.yaml", &both);
    all.wait("post");
    // It runs, and does not show before its hook has ended; what comes after it waits.
    let shown = kubelet.wait("both", "waits for its hook", SOON, |pod| {
        container(pod, "a")["state"]["waiting"]["reason"] == "ContainerCreating"
    });
    assert_eq!(shown["status"]["phase"], "Pending");
    assert!(!all.words().contains(&"b".to_owned()));
    fs::write(all.0.join("go"), "").unwrap();
    kubelet.wait_ready("both");
    kubelet.take("both.yaml");
    kubelet.wait_gone("both");
    let words = all.words();
    let at = |word: &str| {
        words
            .iter()
            .position(|said| said == word)
            .unwrap_or_else(|| panic!("{word}: {words:?}"))
    };
    assert!(at("posted") < at("b"), "{words:?}");
    assert!(at("pre") < at("a-term"), "{words:?}");
}

#[test]
fn a_post_start_hook_that_fails_ends_its_container_with_upstreams_reason() {
    let mut kubelet = Kubelet::running("failing");
    let fails = json!({"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 3"]}}});
    let mut c = shell("c", "trap 'exit 5' TERM; while :; do sleep 0.1; done");
    c["lifecycle"] = fails;
    kubelet.put("fails.yaml", &pod("fails", &[c]));
    let seen = kubelet.wait("fails", "its hook failed", SOON, |pod| {
        container(pod, "c")["state"]["waiting"]["reason"] == "PostStartHookError"
            && container(pod, "c")["lastState"]["terminated"]["exitCode"] == 5
    });
    let uid = seen["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        container(&seen, "c")["state"]["waiting"]["message"],
        format!(
            "Exec lifecycle hook ([sh -c echo no; exit 3]) for Container \"c\" in Pod \"fails-n1_default({uid})\" failed - error: command 'sh -c echo no; exit 3' exited with 3: , message: \"no\\n\""
        )
    );
    assert_eq!(condition(&seen, "Ready"), "False");
    kubelet.wait_log("PostStartHook failed");
    kubelet.wait("fails", "crash loop", SOON, |pod| {
        container(pod, "c")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
}

/// A kubelet that is killed inside hooks: what was done is not done again, what was cut short is, and the grace is given once.
#[test]
fn a_kubelet_that_is_killed_inside_hooks_goes_on_with_them() {
    let mut kubelet = Kubelet::running("killed");
    let all = Told::new(&kubelet, "all");
    // Its hook ends; then it takes its time to end.
    let done = told(
        "done",
        "trap 'echo done-term >> /told/all; sleep 4; exit 0' TERM; while :; do sleep 0.1; done",
        &json!({"preStop": say("done-pre")}),
    );
    // Its hook takes longer than there is time.
    let long = told(
        "long",
        &polite("long"),
        &json!({"preStop": {"exec": {"command": ["sh", "-c", "echo long-pre >> /told/all; sleep 100"]}}}),
    );
    let sleeps = told(
        "sleeps",
        &polite("sleeps"),
        &json!({"preStop": {"sleep": {"seconds": 5}}}),
    );
    let started = told(
        "started",
        &polite("started"),
        &json!({"postStart": say("post")}),
    );
    let mut four = pod("four", &[done, long, sleeps, started]);
    four["spec"]["terminationGracePeriodSeconds"] = json!(8);
    all.mount(&mut four);
    kubelet.put("four.yaml", &four);
    kubelet.wait_ready("four");
    kubelet.kill();
    kubelet.start();
    kubelet.wait("four", "shown", SOON, is_ready);
    assert_eq!(all.count("post"), 1, "{:?}", all.words());
    kubelet.take("four.yaml");
    let began = Instant::now();
    all.wait("done-term");
    all.wait("long-pre");
    kubelet.kill();
    pause(Duration::from_secs(1));
    kubelet.start();
    // Nobody names it any more, so nothing is shown of it.
    until("its end", SOON, || {
        kubelet.runtime.sandboxes().is_empty().then_some(())
    });
    let took = began.elapsed();
    let words = all.words();
    assert_eq!(all.count("done-pre"), 1, "{words:?}");
    // Cut short with the kubelet, and begun anew.
    assert_eq!(all.count("long-pre"), 2, "{words:?}");
    assert!(words.contains(&"sleeps-term".to_owned()), "{words:?}");
    // The grace and the least that a container gets.
    assert!(took < Duration::from_secs(8 + 2 + 4), "{took:?} {words:?}");
}

/// A hook that never ends holds up nobody's deletion for longer than its grace; one after a start does not either.
#[test]
fn hooks_that_hang_end_with_their_pod() {
    let mut kubelet = Kubelet::running("hang-hooks");
    let hang = json!({"exec": {"command": ["sleep", "1000"]}});
    let mut stuck = shell("c", "sleep 1000");
    stuck["lifecycle"] = json!({"postStart": hang});
    kubelet.put("stuck.yaml", &pod("stuck", &[stuck]));
    let mut slow = shell("c", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    slow["lifecycle"] = json!({"preStop": hang});
    kubelet.put("slow.yaml", &pod("slow", &[slow]));
    kubelet.wait_ready("slow");
    kubelet.wait("stuck", "made", SOON, |pod| {
        !container(pod, "c")["state"]["waiting"].is_null()
    });
    until("the stuck one runs", SOON, || {
        let running = kubelet.runtime.running();
        (running.len() == 2).then_some(())
    });
    let began = Instant::now();
    kubelet.take("stuck.yaml");
    kubelet.take("slow.yaml");
    kubelet.wait_gone("stuck");
    kubelet.wait_gone("slow");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

//! Nothing that runs is touched when the kubelet, containerd or both end at any instant; what changed meanwhile is made good.
//!
//! Upstream: test/e2e_node/restart_test.go, and none for most

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use kubelet_api::runtime::v1 as cri;
use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, container, idle, is_ready, pod, shell};
use crate::node::pause;

const FAULT_POINTS: [&str; 12] = [
    "SourceRead",
    "Merged",
    "Admitted",
    "Viewed",
    "Stepped",
    "Planned",
    "BeforeStep",
    "BetweenCreateAndStart",
    "AfterStep",
    "Observed",
    "StatusMade",
    "BeforeReport",
];

/// Pod name → container id and restart count, as `/pods` shows them.
fn shown(kubelet: &mut Kubelet) -> BTreeMap<String, (String, u64)> {
    let of = |pod: &Value| {
        let status = container(pod, "c");
        let id = status["containerID"].as_str().unwrap_or_default();
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        (
            name,
            (id.to_owned(), status["restartCount"].as_u64().unwrap_or(0)),
        )
    };
    kubelet.pods().iter().map(of).collect()
}

/// Looks at `/pods` for a while: whoever is shown is Ready, with the container it had.
fn nothing_flips(kubelet: &mut Kubelet, before: &BTreeMap<String, (String, u64)>, time: Duration) {
    let began = Instant::now();
    let (mut looks, mut first_full) = (0, None);
    while began.elapsed() < time || first_full.is_none() {
        assert!(began.elapsed() < SOON, "not all pods are shown again");
        let pods = kubelet.pods();
        for pod in &pods {
            let name = pod["metadata"]["name"].as_str().unwrap();
            assert!(
                is_ready(pod),
                "{name} is not Ready after {:?}: {:#}",
                began.elapsed(),
                pod["status"]
            );
            let status = container(pod, "c");
            let (id, restarts) = &before[name];
            assert_eq!(status["containerID"], *id, "{name}");
            assert_eq!(status["restartCount"], *restarts, "{name}");
        }
        if pods.len() == before.len() && first_full.is_none() {
            first_full = Some(began.elapsed());
        }
        looks += 1;
        pause(Duration::from_millis(5));
    }
    eprint!(
        "[all shown after {:.0?}, {looks} looks] ",
        first_full.unwrap()
    );
}

#[test]
fn thirty_pods_do_not_notice_the_end_of_kubelet_or_containerd() {
    let mut kubelet = Kubelet::running("thirty");
    let began = Instant::now();
    for n in 0..30 {
        kubelet.put(&format!("{n}.yaml"), &idle(&format!("pod-{n}")));
    }
    for n in 0..30 {
        kubelet.wait(
            &format!("pod-{n}"),
            "Ready",
            Duration::from_secs(60),
            is_ready,
        );
    }
    eprint!("[30 pods in {:.1?}] ", began.elapsed());
    let before = shown(&mut kubelet);
    let held = kubelet.runtime.containers();
    assert_eq!((before.len(), held.len()), (30, 30));
    let sandboxes: BTreeSet<String> = kubelet
        .runtime
        .sandboxes()
        .into_iter()
        .map(|s| s.id)
        .collect();

    let look = Duration::from_millis(2500);
    eprint!("\n  kubelet: ");
    kubelet.kill();
    kubelet.start();
    nothing_flips(&mut kubelet, &before, look);
    eprint!("\n  containerd: ");
    kubelet.node.kill_containerd();
    nothing_flips(&mut kubelet, &before, Duration::from_secs(1));
    kubelet.node.start_containerd();
    nothing_flips(&mut kubelet, &before, look);
    eprint!("\n  both: ");
    kubelet.node.kill_containerd();
    kubelet.kill();
    // Without a runtime it ends with an error, as upstream; the supervisor of the machine starts it again.
    let node = kubelet.node.clone();
    let starter = std::thread::spawn(move || node.start_containerd());
    let ends = kubelet.supervise();
    starter.join().unwrap();
    eprint!("[{ends} starts without a runtime] ");
    nothing_flips(&mut kubelet, &before, look);

    assert_eq!(kubelet.runtime.containers(), held);
    let after: BTreeSet<String> = kubelet
        .runtime
        .sandboxes()
        .into_iter()
        .map(|s| s.id)
        .collect();
    assert_eq!(after, sandboxes);
    // And an exit right after is still noticed.
    let id = held
        .values()
        .find(|c| c.pod == "pod-7-n1")
        .unwrap()
        .id
        .clone();
    kubelet.runtime.stop_container(&id);
    kubelet.wait("pod-7", "restarted", SOON, |pod| {
        container(pod, "c")["restartCount"] == 1 && is_ready(pod)
    });
}

/// Manifests and what must come of them.
struct Herd {
    kubelet: Kubelet,
    /// Pod name → number of its edit.
    wanted: BTreeMap<String, u64>,
    /// Pod name → number of its edit when it was last seen to run, and its container.
    ran: BTreeMap<String, (u64, String)>,
    edits: u64,
    /// Ends of the kubelet before it converges next: each may cut one start of a container off.
    ends: u32,
}

impl Herd {
    fn new(name: &str) -> Self {
        Self {
            kubelet: Kubelet::new(name),
            wanted: BTreeMap::new(),
            ran: BTreeMap::new(),
            edits: 0,
            ends: 1,
        }
    }

    /// Adds a pod or edits it.
    fn put(&mut self, name: &str) {
        self.edits += 1;
        let mut manifest = idle(name);
        manifest["spec"]["containers"][0]["env"] =
            json!([{"name": "EDIT", "value": self.edits.to_string()}]);
        self.kubelet.put(&format!("{name}.yaml"), &manifest);
        self.wanted.insert(name.to_owned(), self.edits);
    }

    fn take(&mut self, name: &str) {
        if self.wanted.remove(name).is_some() {
            self.kubelet.take(&format!("{name}.yaml"));
        }
    }

    /// Why the node is not as wanted yet. Sandboxes that are `left` do not count.
    fn missing(&mut self, left: &BTreeSet<String>) -> Option<String> {
        let pods = self.kubelet.pods();
        let names: BTreeSet<&str> = pods
            .iter()
            .filter_map(|p| p["metadata"]["name"].as_str())
            .collect();
        let wanted: BTreeSet<String> = self
            .wanted
            .keys()
            .map(|name| format!("{name}-n1"))
            .collect();
        if !names.iter().copied().eq(wanted.iter().map(String::as_str)) {
            return Some(format!("{names:?} are shown, {wanted:?} wanted"));
        }
        for pod in &pods {
            let name = pod["metadata"]["name"].as_str()?;
            let edit = self.wanted[name.trim_end_matches("-n1")].to_string();
            if !is_ready(pod) || pod["spec"]["containers"][0]["env"][0]["value"] != *edit {
                return Some(format!("{name}: {:#}", pod["status"]));
            }
        }
        let mut sandboxes = self.kubelet.runtime.sandboxes();
        sandboxes.retain(|sandbox| !left.contains(&sandbox.id));
        let running = self.kubelet.runtime.running();
        if sandboxes.len() != wanted.len() || running.len() != wanted.len() {
            return Some(format!("{} sandboxes, {running:?} run", sandboxes.len()));
        }
        None
    }

    /// Sandboxes that do not run and that containerd cannot remove before its next start.
    fn refused(&self) -> BTreeSet<String> {
        let runtime = &self.kubelet.runtime;
        let all = runtime.sandboxes().into_iter();
        all.filter(|s| s.state() == cri::PodSandboxState::SandboxNotready)
            .map(|s| s.id)
            .filter(|id| runtime.refuses_to_remove(id))
            .collect()
    }

    /// Waits until the node is as wanted; what was not edited has not been touched, and nothing was ever there twice.
    fn converges(&mut self, after: &str) {
        let began = Instant::now();
        let mut left = BTreeSet::new();
        while let Some(missing) = self.missing(&left) {
            if left.is_empty() && began.elapsed() > SOON / 2 {
                left = self.refused();
                eprint!("[{} sandboxes are not removed by containerd] ", left.len());
            }
            for (name, ids) in self.kubelet.runtime.running() {
                assert_eq!(ids.len(), 1, "after {after}: {name:?} runs more than once");
            }
            assert!(began.elapsed() < SOON, "after {after}: {missing}");
            pause(Duration::from_millis(10));
        }
        let held = self.kubelet.runtime.containers().into_values();
        for held in held.filter(|held| held.running) {
            let name = held.pod.trim_end_matches("-n1").to_owned();
            let edit = self.wanted[&name];
            match self.ran.get(&name) {
                Some((before, id)) if *before == edit => {
                    assert_eq!(*id, held.id, "after {after}: {name} was restarted");
                }
                // A start that lost its caller is ended by containerd itself: the next try has the next number.
                _ => assert!(
                    held.attempt <= self.ends,
                    "after {after}: {name} has attempt {}",
                    held.attempt
                ),
            }
            self.ran.insert(name, (edit, held.id));
        }
        self.ran.retain(|name, _| self.wanted.contains_key(name));
    }
}

#[test]
fn an_end_at_every_fault_point_loses_nothing() {
    let mut herd = Herd::new("fault-points");
    herd.put("untouched");
    herd.put("steady");
    herd.kubelet.start();
    herd.converges("the start");
    let (mut reached, mut runs) = (0, 0);
    for point in FAULT_POINTS {
        for (nth, change) in ["unchanged", "edited", "added", "removed"]
            .into_iter()
            .enumerate()
        {
            herd.kubelet.kill();
            herd.take("other");
            herd.put("changing");
            // Something ends, too.
            herd.put("steady");
            // Later passes are only there when the start goes far enough; the first always is.
            let nth = [1, 2, 4, 3][nth];
            herd.kubelet.env = vec![("HYPERKUBE_FAULT".to_owned(), format!("{point}:{nth}"))];
            herd.kubelet.launch();
            let limit = if nth == 1 {
                SOON
            } else {
                Duration::from_millis(1500)
            };
            let ended = herd.kubelet.ended(limit);
            assert!(ended.is_some() || nth != 1, "{point} was not reached");
            if ended.is_none() {
                herd.kubelet.kill();
            }
            reached += usize::from(ended.is_some());
            runs += 1;
            match change {
                "edited" => herd.put("changing"),
                "added" => herd.put("other"),
                "removed" => herd.take("changing"),
                _ => {}
            }
            herd.kubelet.env.clear();
            herd.kubelet.start();
            herd.converges(&format!("{point}:{nth}, {change}"));
        }
    }
    eprint!("[{runs} ends, {reached} at their point] ");
}

#[test]
fn fifty_ends_at_random_instants_lose_nothing() {
    let seed = std::env::var("HYPERKUBE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut state: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) | 1 << 40);
    eprint!("[HYPERKUBE_SEED={state}] ");
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut herd = Herd::new("random-ends");
    herd.put("untouched");
    herd.kubelet.start();
    herd.converges("the start");
    for round in 0..50 {
        let change = |herd: &mut Herd, random: &mut dyn FnMut(u64) -> u64| {
            let name = format!("p{}", random(5));
            match random(4) {
                0 => herd.take(&name),
                1 => {}
                _ => herd.put(&name),
            }
        };
        change(&mut herd, &mut random);
        pause(Duration::from_millis(random(500)));
        herd.kubelet.kill();
        change(&mut herd, &mut random);
        herd.ends = 1;
        if random(3) == 0 {
            // Once more, before it is done with the above.
            herd.ends = 2;
            herd.kubelet.launch();
            pause(Duration::from_millis(random(300)));
            herd.kubelet.kill();
            change(&mut herd, &mut random);
        }
        herd.kubelet.start();
        herd.converges(&format!("random end {round}"));
    }
}

#[test]
fn pods_whose_manifest_went_while_it_was_down_end_gracefully_and_others_sandboxes_stay() {
    let mut kubelet = Kubelet::running("orphans");
    let mut leaving = shell(
        "c",
        "trap 'echo bye > /out/farewell; exit 0' TERM; while :; do sleep 0.05; done",
    );
    leaving["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let mut manifest = pod("orphan", &[leaving]);
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(10);
    manifest["spec"]["volumes"] = json!([{"name": "out", "hostPath": {"path": kubelet.base}}]);
    kubelet.put("orphan.yaml", &manifest);
    kubelet.put("stays.yaml", &idle("stays"));
    kubelet.wait_ready("orphan");
    kubelet.wait_ready("stays");
    let stays = kubelet.runtime.running()[&("stays-n1".to_owned(), "c".to_owned())].clone();
    let foreign = kubelet.runtime.run_sandbox(&cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: "somebody's".to_owned(),
            uid: "5a5a".to_owned(),
            namespace: "else".to_owned(),
            attempt: 0,
        }),
        labels: [("owner".to_owned(), "somebody".to_owned())].into(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/somebody", kubelet.node.cgroup_root),
            ..Default::default()
        }),
        ..Default::default()
    });
    kubelet.kill();
    kubelet.take("orphan.yaml");
    kubelet.start();
    crate::node::until("the orphan's end", SOON, || {
        let ids: Vec<String> = kubelet
            .runtime
            .sandboxes()
            .into_iter()
            .map(|s| s.id)
            .collect();
        (ids.len() == 2 && ids.contains(&foreign)).then_some(())
    });
    assert_eq!(
        fs::read_to_string(kubelet.base.join("farewell")).unwrap(),
        "bye\n"
    );
    crate::node::until("the orphan's directory to go", SOON, || {
        (fs::read_dir(kubelet.root.join("pods")).unwrap().count() == 1).then_some(())
    });
    // Two looks of the slow kind later the other one is still there.
    pause(Duration::from_secs(3));
    let (status, _) = kubelet.runtime.sandbox(&foreign);
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    assert_eq!(
        kubelet.runtime.running()[&("stays-n1".to_owned(), "c".to_owned())],
        stays
    );
    kubelet.runtime.stop_sandbox(&foreign);
}

/// After a start whose client went at the wrong instant, containerd 1.6 takes the container for ended while its process is there,
/// and neither stops nor removes it before its own restart. Here the process is started behind the back of its CRI part, which has
/// the same effect. It ends with its pod, and keeps nobody waiting.
#[test]
fn what_the_runtime_refuses_to_remove_holds_nothing_up() {
    let mut kubelet = Kubelet::new("contradiction");
    let uid = "5a5a0000-0000-4000-8000-000000000001";
    let labels = [
        ("io.kubernetes.pod.name", "behind-n1"),
        ("io.kubernetes.pod.namespace", "default"),
        ("io.kubernetes.pod.uid", uid),
        ("io.kubernetes.container.name", "c"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let pod = cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: "behind-n1".to_owned(),
            uid: uid.to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        labels: labels.iter().take(3).cloned().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/kubepods/besteffort/pod{uid}", kubelet.node.cgroup_root),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sandbox = kubelet.runtime.run_sandbox(&pod);
    let container = cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: "c".to_owned(),
            attempt: 0,
        }),
        image: Some(cri::ImageSpec {
            image: "registry.k8s.io/pause:3.10.2".to_owned(),
            ..Default::default()
        }),
        labels: labels.into(),
        ..Default::default()
    };
    let id = kubelet.runtime.create_container(&sandbox, &pod, &container);
    kubelet.node.start_task(&id);
    kubelet.runtime.stop_container(&id);
    assert!(!kubelet.runtime.containers()[&id].running);
    kubelet.put("behind.yaml", &idle("behind"));
    kubelet.start();
    kubelet.wait_ready("behind");
    let of_root = kubelet.node.cgroup_root.trim_start_matches('/');
    let cgroup = format!("/sys/fs/cgroup/memory/{of_root}/kubepods/besteffort/pod{uid}");
    assert!(!std::path::Path::new(&cgroup).exists());
    let is_left = |kubelet: &Kubelet| {
        let ids = kubelet.runtime.sandboxes().into_iter().map(|s| s.id);
        ids.into_iter().any(|id| id == sandbox)
    };
    assert!(is_left(&kubelet), "this runtime removes it by itself");
    kubelet.kill();
    kubelet.node.kill_containerd();
    kubelet.node.start_containerd();
    kubelet.start();
    crate::node::until("the sandbox to go", SOON, || {
        (!is_left(&kubelet)).then_some(())
    });
}

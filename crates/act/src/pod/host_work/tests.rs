//! The host side of a recorded pod on this machine's own mounts, held against what the Go kubelet was seen to leave on disk.
//!
//! Upstream: none

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_decide::shapes::memory::PodMemory;
use kubelet_decide::shapes::paths::volumes;
use kubelet_decide::shapes::view::{Desire, NetworkState, Now, Order, PodInputs, PodView};
use kubelet_decide::shapes::work::Leaving;
use kubelet_decide::volumes::{pod_work, release_work, sub_path_target, update_work, volume_work};
use kubelet_model::disk::PodDirs;
use kubelet_model::node::{CgroupView, DnsView, NodeView};
use kubelet_model::objects::{ApiAccess, ObjectState, PodObjects, TokenRef};
use kubelet_model::observed::{Moment, ObservedPod};
use kubelet_model::pod::{Pod, SourceKind};
use serde_json::json;

use super::*;
use crate::testing::Scratch;

/// What `find -printf '%M %U:%G %y %p'` said of the recorded pod's directory, without what containers have there.
const RECORDED: &str = include_str!("../../../../../parity/files-of-a-pod.txt");

fn node(root_dir: &Path) -> NodeView {
    NodeView {
        name: "node".into(),
        hostname: "node".into(),
        ips: Vec::new(),
        capacity_milli_cpu: 2000,
        capacity_memory_bytes: 8 << 30,
        allocatable: [("memory".to_owned(), 64 << 20)].into(),
        hugepage_sizes: Vec::new(),
        root_dir: root_dir.join("kubelet").display().to_string(),
        pod_logs_dir: root_dir.join("logs").display().to_string(),
        cgroups: CgroupView {
            root: "/".into(),
            per_qos: false,
            v2: false,
            oom_group: true,
            has_swap: false,
            cfs_quota: true,
            cfs_period_us: 100_000,
            pod_pids_limit: None,
        },
        dns: DnsView::default(),
        seccomp_default: false,
        extra_masked_paths: Vec::new(),
        max_backoff_seconds: 300,
        first_backoff_seconds: 10,
        env_files: true,
        selinux_enabled: false,
        runtime_name: "containerd".into(),
    }
}

fn recorded_pod() -> Pod {
    let object = json!({
        "metadata": {"name": "burstable", "namespace": "default", "uid": "u", "annotations": {"note": "x"}},
        "spec": {
            "securityContext": {"fsGroup": 2000, "runAsUser": 1000},
            "containers": [{"name": "main"}],
            "volumes": [
                {"name": "cm", "configMap": {"name": "cm", "defaultMode": 0o440}},
                {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o644}},
                {"name": "e", "emptyDir": {}},
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
                {"name": "p", "projected": {"defaultMode": 0o644, "sources": [
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.annotations"}}]}},
                    {"configMap": {"name": "cm"}},
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                ]}},
            ],
        },
    });
    let object: v1::Pod = serde_json::from_value(object).unwrap();
    Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap()
}

fn known<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> ObjectState<T> {
    ObjectState::Known(Arc::new(serde_json::from_value(json).unwrap()))
}

fn objects(config_map: serde_json::Value) -> PodObjects {
    let token = TokenRef {
        audience: String::new(),
        expiration_seconds: 3600,
    };
    PodObjects {
        access: ApiAccess::Cluster,
        config_maps: [("cm".to_owned(), known(json!({"data": config_map})))].into(),
        secrets: [(
            "sec".to_owned(),
            known(json!({"data": {"password": "czNjcmV0"}})),
        )]
        .into(),
        tokens: [(token, known(json!("t0ken")))].into(),
        ..PodObjects::default()
    }
}

fn see<T>(
    pod: &Pod,
    node: &NodeView,
    objects: &PodObjects,
    of: impl FnOnce(&PodView<'_>) -> T,
) -> T {
    let now = Now {
        steady: Timestamp::from_second(1_795_423_443).unwrap(),
        wall: Timestamp::from_second(1_795_423_443).unwrap(),
    };
    let order = Order {
        pod: Arc::new(pod.clone()),
        desire: Desire::Run,
    };
    of(&PodView {
        pod,
        desire: &order.desire,
        observed: &ObservedPod::absent(pod.uid.clone(), Moment::default()),
        memory: &PodMemory::taken_over(&order, None, now, |_| None),
        inputs: &PodInputs {
            objects: objects.clone(),
            handlers: None,
            network: NetworkState::Ready,
            probes: Arc::default(),
        },
        node,
        now,
    })
}

/// `find`'s words for everything at and below a directory, with the times in names left out.
fn layout(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let found = path.symlink_metadata().unwrap();
        let kind = if found.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            'd'
        } else if found.is_symlink() {
            'l'
        } else if found.file_type().is_socket() {
            's'
        } else {
            'f'
        };
        let below = path.strip_prefix(top).unwrap().display().to_string();
        let name = if below.is_empty() {
            ".".to_owned()
        } else {
            format!("./{below}")
        };
        let to =
            std::fs::read_link(&path).map_or(String::new(), |to| format!(" -> {}", to.display()));
        let permissions = words(found.mode(), kind);
        lines.push(without_times(&format!(
            "{permissions} {}:{} {kind} {name}{to}",
            found.uid(),
            found.gid()
        )));
    }
    lines.sort_by(|one, two| one.split(' ').nth(3).cmp(&two.split(' ').nth(3)));
    lines
}

/// `rwxr-sr-t` and its like, with the kind before it.
fn words(mode: u32, kind: char) -> String {
    let mut text = if kind == 'f' {
        "-".to_owned()
    } else {
        kind.to_string()
    };
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

fn without_times(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("..2") {
        let end = after.find(['/', ' ']).unwrap_or(after.len());
        text += &format!("{before}..TIME");
        rest = &after[end..];
    }
    text + rest
}

fn mounts_below(path: &Path) -> usize {
    mounts::mounts_at_or_below(&HostRoot::real(), path)
        .unwrap()
        .len()
}

#[test]
fn a_recorded_pod_leaves_the_recorded_files_and_goes_without_a_trace() {
    if Path::new("/proc/self").metadata().unwrap().uid() != 0 {
        return;
    }
    let scratch = Scratch::new();
    let (pod, node) = (recorded_pod(), node(scratch.path()));
    let host = Host {
        root: HostRoot::real(),
        blocking: Blocking::threads(1),
        cgroups: None,
        container_logs_dir: scratch.path().join("container-logs"),
        kept: kept(
            &HostRoot::real(),
            &node,
            &scratch.path().join("container-logs"),
        ),
    };
    let carry_out = |work: &[HostWork]| {
        for one in work {
            host.one(one).unwrap();
        }
    };
    let given = objects(json!({"a.txt": "hello", "B": "bee"}));
    let prepare = see(&pod, &node, &given, |view| {
        let mut work = pod_work(view.pod, view.node);
        for volume in volumes(view.pod) {
            let of_volume = volume_work(view, volume).unwrap();
            work.extend(of_volume.into_iter().flat_map(|volume| volume.work));
        }
        work
    });
    let sub_path = HostWork::SubPath {
        volume: "e".into(),
        container: "main".into(),
        volume_path: format!("{}/pods/u/volumes/kubernetes.io~empty-dir/e", node.root_dir),
        part: "x/y".into(),
        target: sub_path_target(&pod, &node, "main", 5, "e"),
    };
    let pod_dir = Path::new(&node.root_dir).join("pods/u");
    // Twice, as after a restart of the kubelet.
    for _ in 0..2 {
        carry_out(&prepare);
        host.one(&sub_path).unwrap();
        let mut recorded: Vec<_> = RECORDED.lines().map(str::to_owned).collect();
        recorded.sort_by(|one, two| one.split(' ').nth(3).cmp(&two.split(' ').nth(3)));
        assert_eq!(layout(&pod_dir), recorded);
        assert_eq!(mounts_below(&pod_dir), 4);
    }
    let path = |name: &str| pod_dir.join("volumes").join(name);
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert_eq!(read("kubernetes.io~projected/p/labels"), "note=\"x\"");
    assert_eq!(read("kubernetes.io~projected/p/token"), "t0ken");
    assert_eq!(read("kubernetes.io~secret/sec/password"), "s3cret");
    // An object changes while containers have the volume mounted: the same directory shows the new files.
    let changed = objects(json!({"a.txt": "again"}));
    carry_out(&see(&pod, &node, &changed, |view| {
        let updates = volumes(view.pod).iter();
        let updates = updates.filter_map(|volume| update_work(view, volume));
        updates.flat_map(|volume| volume.work).collect::<Vec<_>>()
    }));
    assert_eq!(read("kubernetes.io~configmap/cm/a.txt"), "again");
    assert!(!path("kubernetes.io~configmap/cm/B").exists());
    assert_eq!(
        std::fs::read_dir(path("kubernetes.io~configmap/cm"))
            .unwrap()
            .count(),
        3
    );
    for leaving in [Leaving::No, Leaving::Yes] {
        let dirs = PodDirs {
            pod: remove::identity(&pod_dir).unwrap(),
            logs: None,
        };
        for work in release_work(&pod, &node, leaving, &dirs) {
            host.one(&work).unwrap();
        }
        assert_eq!(mounts_below(&pod_dir), 0);
        assert!(!pod_dir.join("volume-subpaths").exists());
    }
    assert!(!pod_dir.exists());
}

#[test]
fn a_volume_that_can_not_be_written_is_named() {
    let scratch = Scratch::new();
    let host = Host {
        root: HostRoot::at(scratch.path()),
        blocking: Blocking::threads(1),
        cgroups: None,
        container_logs_dir: PathBuf::from("/logs"),
        kept: Kept::default(),
    };
    let file = kubelet_model::objects::PayloadFile {
        data: Vec::new(),
        mode: 0o644,
        owner: None,
    };
    scratch.write("/v/x", "");
    let work = HostWork::WritePayload(PayloadWork {
        volume: "v".into(),
        path: "/v".into(),
        payload: [("../x".to_owned(), file)].into(),
        group: None,
        nested: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
    });
    let error = host.one(&work).unwrap_err();
    assert_eq!(error.reason, Reason::FailedMount);
    assert_eq!(
        error.message,
        "MountVolume.SetUp failed for volume \"v\" : invalid path: must not contain '..': ../x"
    );
    // What cannot be made is told with the kernel's reason.
    let work = HostWork::HostPath {
        volume: "v".into(),
        path: "/v/none/file".into(),
        kind: "FileOrCreate".into(),
    };
    let error = host.one(&work).unwrap_err();
    let at = scratch.path().join("v/none/file");
    assert_eq!(
        error.message,
        format!(
            "MountVolume.SetUp failed for volume \"v\" : cannot create {}: No such file or directory (os error 2)",
            at.display()
        )
    );
    let work = HostWork::SubPath {
        volume: "v".into(),
        container: "c".into(),
        volume_path: "/v".into(),
        part: "x/below".into(),
        target: "/target".into(),
    };
    let error = host.one(&work).unwrap_err();
    assert_eq!(error.reason, Reason::CreateContainerConfigError);
    assert_eq!(
        error.message,
        "failed to prepare subPath for volumeMount \"v\" of container \"c\""
    );
}

#[tokio::test]
async fn variables_are_read_from_files_below_their_volume() {
    let scratch = Scratch::new();
    let host = Host {
        root: HostRoot::at(scratch.path()),
        blocking: Blocking::Inline,
        cgroups: None,
        container_logs_dir: PathBuf::from("/logs"),
        kept: Kept::default(),
    };
    scratch.write("/v/env", "A='1'\n");
    scratch.write("/other/env", "A='secret'\n");
    std::os::unix::fs::symlink("../other/env", scratch.path().join("v/link")).unwrap();
    let read = |path: &str| EnvFileRead {
        index: 3,
        volume_path: "/v".to_owned(),
        path: path.to_owned(),
        key: "A".to_owned(),
        optional: false,
    };
    let mut expected = EnvFileValues::default();
    expected.insert(3, Some(b"1".to_vec()));
    let values = host
        .read_env_files(&recorded_pod(), vec![read("env")])
        .await;
    assert_eq!(values, Ok(expected));
    for path in ["link", "none"] {
        let problem = host
            .read_env_files(&recorded_pod(), vec![read(path)])
            .await
            .unwrap_err();
        assert_eq!(problem.message, "couldn't parse env file", "{path}");
    }
}

/// A large tree that is slow to remove must neither count as a call that hangs nor keep other pods from the lane.
#[tokio::test]
async fn a_removal_gives_its_thread_to_others_before_it_is_done() {
    let scratch = Scratch::new();
    let host = Host {
        root: HostRoot::at(scratch.path()),
        blocking: Blocking::threads(1),
        cgroups: None,
        container_logs_dir: PathBuf::from("/logs"),
        kept: Kept::default(),
    };
    for name in 0..50 {
        scratch.write(&format!("/pods/u/volumes/{name}"), "x");
    }
    let tree = scratch.path().join("pods/u");
    let top = kubelet_model::disk::SeenDir {
        path: "/pods/u".into(),
        id: remove::identity(&tree).unwrap().unwrap(),
    };
    let made = HostWork::MakeDir {
        path: "/after".into(),
        mode: 0o755,
    };
    let below = String::new();
    let work = vec![HostWork::RemoveTree { top, below }, made];
    let pod = recorded_pod();
    let other = async {
        let lane = host.blocking.lane(Lane::Removals);
        let look = {
            let tree = tree.clone();
            move || tree.exists()
        };
        lane.run(DEADLINE, "look", look).await.unwrap()
    };
    let removal = host.own_work(&pod, Lane::Removals, work, Duration::ZERO);
    let (removed, was_there) = tokio::join!(biased; removal, other);
    removed.unwrap();
    assert!(was_there, "it had its turn while the removal went on");
    assert!(!tree.exists() && scratch.path().join("after").is_dir());
    assert_eq!(host.blocking.lane(Lane::Removals).counts().abandoned, 0);
}

/// What a container mounted in its volume may be dead: it is entered in the lane of host paths alone, whose threads may hang.
#[tokio::test]
async fn a_part_on_another_file_system_is_entered_among_host_paths_alone() {
    if Path::new("/proc/self").metadata().unwrap().uid() != 0 {
        return;
    }
    let scratch = Scratch::new();
    let host = Host {
        root: HostRoot::real(),
        blocking: Blocking::threads(1),
        cgroups: None,
        container_logs_dir: PathBuf::from("/logs"),
        kept: Kept::default(),
    };
    let (pod, at) = (recorded_pod(), scratch.path().display().to_string());
    scratch.write("/pods/u/volumes/v/own/file", "");
    scratch.write("/pods/u/volumes/v/mounted/file", "");
    let mounted = scratch.path().join("pods/u/volumes/v/mounted");
    mounts::bind(&host.root, &mounted, &mounted).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let full = host.blocking.lane(Lane::HostPaths);
    let held = Arc::new(std::sync::Mutex::new(held));
    // On a busy machine the first may be given up before its thread takes it.
    while full.counts().abandoned == 0 {
        let held = Arc::clone(&held);
        let hang = move || held.lock().unwrap().recv().is_ok();
        let hung = full.run(Duration::from_millis(20), "hang", hang).await;
        assert!(hung.is_err());
    }
    let part = |part: &str| HostWork::SubPath {
        volume: "v".into(),
        container: "c".into(),
        volume_path: format!("{at}/pods/u/volumes/v"),
        part: part.to_owned(),
        target: format!("{at}/pods/u/volume-subpaths/v/c/{}", part.len()),
    };
    let work = |one: &str| host.work(&pod, Lane::Pods, vec![part(one)]);
    work("own").await.unwrap();
    let error = work("mounted").await.unwrap_err().message;
    assert!(error.contains("found no free thread"), "{error}");
    drop(release);
    while full.counts().abandoned > 0 {
        tokio::task::yield_now().await;
    }
    work("mounted").await.unwrap();
    let pod_dir = scratch.path().join("pods/u");
    sub_path::unmount_parts(&host.root, &pod_dir).unwrap();
    mounts::unmount(&host.root, &mounted, mounts::Unmount::Plain).unwrap();
}

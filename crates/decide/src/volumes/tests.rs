//! What is laid out on disk for a recorded pod, sizes and nested mounts as upstream has them, and content that changes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kubelet_model::objects::{ApiAccess, ObjectState, PodObjects};

use super::*;
use crate::pod::memory::Begun;
use crate::pod::pod_plan::pod_plan;
use crate::report::pod_status::shown_waits;
use crate::shapes::memory::Prepared;
use crate::shapes::outcome::{Effect, Failure, Outcome, Subject};
use crate::shapes::paths::log_dir;
use crate::shapes::plan::{Action, OnFailure, PodPlan};
use crate::shapes::work::Leaving;
use crate::testing::seen::{DIRS, Seen};
use crate::testing::{node, pod_of, recorded};

impl Seen {
    fn plan(&self) -> PodPlan {
        self.see(pod_plan)
    }

    /// Takes over what a plan's writing leaves behind.
    fn wrote(&mut self, plan: PodPlan) {
        for step in plan.steps {
            match step.action {
                Action::Prepare(_) => self.memory.prepared = Prepared::Yes,
                Action::SetUpVolume(work) => {
                    let set_up = Effect::VolumeSetUp(work.volume, work.makes);
                    self.comes_to(Outcome::Done(set_up));
                }
                _ => {}
            }
        }
    }

    fn comes_to(&mut self, outcome: Outcome) {
        let now = self.now;
        self.memory.remember(vec![outcome], &Begun::default(), now);
    }

    fn fails(&mut self, volume: &str) {
        let of = Subject::Volume(volume.to_owned());
        let why = format!("no {volume}");
        self.comes_to(Outcome::Failed(Failure::new(of, Reason::FailedMount, why)));
    }

    fn wait(&mut self, seconds: i64) {
        let steady = &mut self.now.steady;
        *steady = steady
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap();
    }
}

fn line(work: &HostWork) -> Option<String> {
    let below = |path: &str| path.replace("/var/lib/kubelet/pods/u", "");
    Some(match work {
        HostWork::EmptyDir {
            path,
            marker,
            medium,
            group,
        } => {
            let medium = match medium {
                Medium::Disk => "disk".to_owned(),
                Medium::Memory(size) => format!("memory {}", size.unwrap_or(0)),
            };
            let group = group.map_or(String::new(), |group| format!(" {group}"));
            format!("dir {} {} {medium}{group}", below(path), below(marker))
        }
        HostWork::WritePayload(work) => {
            let files: Vec<_> = work.payload.keys().map(String::as_str).collect();
            format!("files {} {}", below(&work.path), files.join(" "))
        }
        HostWork::HostPath { path, kind, .. } => format!("host {path} {kind}"),
        HostWork::SubPath { part, target, .. } => format!("part {part} {}", below(target)),
        HostWork::RemoveTree { top, below: part } => {
            format!("remove {}/{part}", below(&top.path))
        }
        HostWork::UnmountVolumes { .. } => "unmount".to_owned(),
        _ => return None,
    })
}

fn lines(work: &[HostWork]) -> Vec<String> {
    work.iter().filter_map(line).collect()
}

#[test]
fn the_recorded_pod_gets_the_recorded_directories() {
    let seen = Seen::new(
        recorded::pod("burstable", "u", &serde_json::json!({})),
        recorded::objects(),
    );
    let work: Vec<VolumeWork> = volumes(&seen.pod)
        .iter()
        .filter_map(|volume| seen.see(|view| volume_work(view, volume)).unwrap())
        .collect();
    let expected = [
        "dir /volumes/kubernetes.io~configmap/cm /plugins/kubernetes.io~empty-dir/wrapped_cm disk 2000",
        "files /volumes/kubernetes.io~configmap/cm B a.txt",
        "dir /volumes/kubernetes.io~secret/sec /plugins/kubernetes.io~empty-dir/wrapped_sec memory 25171652608 2000",
        "files /volumes/kubernetes.io~secret/sec password",
        "dir /volumes/kubernetes.io~empty-dir/e /plugins/kubernetes.io~empty-dir/e disk 2000",
        "dir /volumes/kubernetes.io~empty-dir/m /plugins/kubernetes.io~empty-dir/m memory 8388608 2000",
        "host /srv/demo/hp DirectoryOrCreate",
        "dir /volumes/kubernetes.io~projected/p /plugins/kubernetes.io~empty-dir/wrapped_p memory 25171652608 2000",
        "files /volumes/kubernetes.io~projected/p B a.txt labels token",
    ];
    let all: Vec<_> = work.iter().flat_map(|volume| volume.work.clone()).collect();
    assert_eq!(lines(&all), expected);
    let has_files = |work: &&VolumeWork| matches!(work.makes, SetUp::Files(_));
    let with_files = work.iter().filter(has_files);
    let with_files: Vec<_> = with_files.map(|work| work.volume.as_str()).collect();
    assert_eq!(with_files, ["cm", "sec", "p"]);
    assert!(!format!("{work:?}").contains("t0ken"));
    let release = release_work(&seen.pod, &node(), Leaving::No, &DIRS);
    assert_eq!(
        lines(&release)[..4],
        [
            "unmount",
            "remove /volume-subpaths",
            "remove /volumes/kubernetes.io~configmap/cm",
            "remove /plugins/kubernetes.io~empty-dir/wrapped_cm",
        ]
    );
}

#[test]
fn a_volume_in_memory_is_as_large_as_the_smallest_limit() {
    let limited = "resources: {limits: {memory: 1Gi}}";
    for (container, limit, expected) in [
        ("", None, 25_171_652_608),
        ("", Some(4096), 4096),
        ("", Some(0), 25_171_652_608),
        ("", Some(50_000_000_000), 25_171_652_608),
        (limited, None, 1 << 30),
        (limited, Some(1 << 31), 1 << 30),
        (limited, Some(1 << 20), 1 << 20),
    ] {
        let pod = pod_of(&format!("{{containers: [{{name: c, {container}}}]}}"));
        assert_eq!(memory_size(&pod, &node(), limit), Some(expected));
    }
}

#[test]
fn mount_points_of_other_volumes_are_found_as_in_upstreams_table() {
    for (mounts, expected) in [
        ("{name: vol, mountPath: /dir}", vec![]),
        (
            "{name: vol, mountPath: /dir}, {name: other, mountPath: /dir/nested}",
            vec!["nested"],
        ),
        (
            "{name: vol, mountPath: /dir}, {name: other, mountPath: /dir/nested/deep/}, {name: b, mountPath: /dir2/x}",
            vec!["nested/deep"],
        ),
        (
            "{name: other, mountPath: /dir/nested/other}, {name: c, mountPath: /dir/nested}, {name: vol, mountPath: /dir},
             {name: d, mountPath: /dir/nested-vol}, {name: e, mountPath: /dir/nested.vol}",
            vec!["nested", "nested-vol", "nested.vol"],
        ),
        (
            "{name: vol, mountPath: dir/a}, {name: vol, mountPath: /dir/b}, {name: o, mountPath: /dir/a/x}, {name: p, mountPath: /dir/b/y}",
            vec!["x", "y"],
        ),
        ("{name: vol, mountPath: ../../dir}, {name: o, mountPath: /dir/../../x}", vec![]),
    ] {
        let pod = pod_of(&format!("{{containers: [{{name: c, volumeMounts: [{mounts}]}}]}}"));
        assert_eq!(nested_mount_points(&pod, "vol"), expected, "{mounts}");
    }
}

fn config_map(value: &str) -> ObjectState<v1::ConfigMap> {
    let data = Some([("k".to_owned(), value.to_owned())].into());
    ObjectState::Known(Arc::new(v1::ConfigMap {
        data,
        ..v1::ConfigMap::default()
    }))
}

fn pod_with_config_map(objects: ObjectState<v1::ConfigMap>) -> Seen {
    let pod = pod_of(
        "{containers: [{name: c, image: i}], volumes: [{name: v, configMap: {name: cm, defaultMode: 420}}]}",
    );
    let objects = PodObjects {
        access: ApiAccess::Cluster,
        config_maps: [("cm".to_owned(), objects)].into(),
        ..PodObjects::default()
    };
    Seen::new(pod, objects)
}

#[test]
fn changed_content_is_written_and_nothing_is_restarted() {
    let mut seen = pod_with_config_map(config_map("one"));
    let first = seen.plan();
    assert_eq!(
        first.to_string(),
        "prepare (first start); set up v (first start); run sandbox[0] (no sandbox)"
    );
    seen.wrote(first);
    let mut seen = seen.running();
    assert_eq!(seen.plan().to_string(), "nothing to do");
    seen.inputs
        .objects
        .config_maps
        .insert("cm".to_owned(), config_map("two"));
    let update = seen.plan();
    assert_eq!(update.to_string(), "set up v (its content changed)");
    seen.wrote(update);
    assert_eq!(seen.plan().to_string(), "nothing to do");
    // An object that is gone or out of reach leaves the files; the same content again is no change.
    let at = Timestamp::UNIX_EPOCH;
    for state in [ObjectState::Absent { at }, config_map("two")] {
        seen.inputs
            .objects
            .config_maps
            .insert("cm".to_owned(), state);
        assert_eq!(seen.plan().to_string(), "nothing to do");
    }
    // After a restart of the kubelet nobody remembers: it is looked at once, beside the running container.
    seen.memory.prepared = Prepared::No;
    seen.memory.volumes.clear();
    let again = seen.plan();
    assert_eq!(again.to_string(), "set up v (its content changed)");
    seen.wrote(again);
    assert_eq!(seen.plan().to_string(), "nothing to do");
}

#[test]
fn a_pod_waits_for_its_objects_and_says_so() {
    let why = "failed to sync configmap cache: timed out waiting for the condition";
    let unknown = ObjectState::Unknown {
        why: why.to_owned(),
    };
    let mut seen = pod_with_config_map(unknown);
    let plan = seen.plan();
    assert_eq!(
        plan.to_string(),
        "prepare (first start); volume v waits: FailedMount"
    );
    assert!(plan.wake_at.is_some());
    let text = format!("MountVolume.SetUp failed for volume \"v\" : {why}");
    let expected = Waiting {
        reason: Reason::FailedMount,
        message: text,
    };
    assert_eq!(plan.volumes_waiting, [("v".to_owned(), expected)]);
    seen.inputs
        .objects
        .config_maps
        .insert("cm".to_owned(), config_map("one"));
    assert_eq!(
        seen.plan().to_string(),
        "prepare (first start); set up v (first start); run sandbox[0] (no sandbox)"
    );
}

#[test]
fn a_volume_that_cannot_be_had_holds_back_itself_and_what_starts() {
    let pod = pod_of(
        "{containers: [{name: c, image: i}],
          volumes: [{name: a, emptyDir: {}}, {name: b, hostPath: {path: /srv/b}}, {name: v, configMap: {name: cm, defaultMode: 420}}, {name: d, emptyDir: {}}]}",
    );
    let missing = ObjectState::Unknown {
        why: "no answer".to_owned(),
    };
    let objects = PodObjects {
        access: ApiAccess::Cluster,
        config_maps: [("cm".to_owned(), missing)].into(),
        ..PodObjects::default()
    };
    let mut seen = Seen::new(pod, objects);
    let first = seen.plan();
    assert_eq!(
        first.to_string(),
        "prepare (first start); set up a (first start); set up b (first start); set up d (first start); volume v waits: FailedMount"
    );
    let ends: Vec<_> = first.steps.iter().map(|step| step.on_failure).collect();
    let volume = OnFailure::EndAfterVolumes;
    assert_eq!(ends, [OnFailure::EndPlan, volume, volume, volume]);
    seen.wrote(first);
    // The host path fails, once and again: its pause grows, and it alone is tried again.
    seen.memory.volumes.remove("b");
    seen.fails("b");
    let held = seen.plan();
    assert_eq!(
        held.to_string(),
        "nothing to do; volume b waits: FailedMount; volume v waits: FailedMount"
    );
    assert_eq!(
        seen.see(|view| shown_waits(view, &held))
            .pod
            .unwrap()
            .message,
        "no b"
    );
    seen.inputs
        .objects
        .config_maps
        .insert("cm".to_owned(), config_map("one"));
    let plan = seen.plan();
    assert_eq!(
        plan.to_string(),
        "set up v (first start); volume b waits: FailedMount"
    );
    seen.wrote(plan);
    seen.wait(1);
    let again = seen.plan();
    assert_eq!(
        again.to_string(),
        "set up b (first start); run sandbox[0] (no sandbox)"
    );
    // While it is tried again, status still says what is in the way.
    assert_eq!(
        seen.see(|view| shown_waits(view, &again))
            .pod
            .unwrap()
            .message,
        "no b"
    );
    seen.fails("b");
    seen.wait(1);
    assert_eq!(
        seen.plan().to_string(),
        "nothing to do; volume b waits: FailedMount"
    );
    seen.wait(1);
    seen.wrote(seen.plan());
    assert_eq!(seen.plan().to_string(), "run sandbox[0] (no sandbox)");
}

#[test]
fn files_that_cannot_be_written_hold_back_nothing_that_runs() {
    let mut seen = pod_with_config_map(config_map("one"));
    seen.wrote(seen.plan());
    let mut seen = seen.running();
    seen.inputs
        .objects
        .config_maps
        .insert("cm".to_owned(), config_map("two"));
    seen.fails("v");
    let plan = seen.plan();
    assert_eq!(plan.to_string(), "nothing to do");
    assert!(plan.wake_at.is_some());
    // The container ends and is started again, on the files that are there.
    seen.observed.containers.clear();
    assert_eq!(seen.plan().to_string(), "image c (its image comes first)");
    seen.wait(1);
    assert_eq!(
        seen.plan().to_string(),
        "set up v (its content changed); image c (its image comes first)"
    );
}

#[test]
fn an_empty_dir_in_memory_goes_with_its_containers_and_one_on_disk_with_the_pod() {
    let pod = pod_of(
        "{containers: [{name: c, image: i}], volumes: [{name: m, emptyDir: {medium: Memory}}, {name: d, emptyDir: {}}]}",
    );
    let work = release_work(&pod, &node(), Leaving::No, &DIRS);
    let removed = work.iter().filter_map(|work| match work {
        HostWork::RemoveTree { top, below } => {
            assert_eq!(top.path, "/var/lib/kubelet/pods/u1");
            assert_eq!(Some(top.id), DIRS.pod);
            Some(below.as_str())
        }
        _ => None,
    });
    assert_eq!(
        removed.collect::<Vec<_>>(),
        [
            "volume-subpaths",
            "volumes/kubernetes.io~empty-dir/m",
            "plugins/kubernetes.io~empty-dir/m"
        ]
    );
    let at = |is: fn(&HostWork) -> bool| work.iter().position(is);
    let ended = at(|work| matches!(work, HostWork::RemoveCgroup { .. }));
    let unmounted = at(|work| matches!(work, HostWork::UnmountVolumes { .. }));
    let removed = at(|work| matches!(work, HostWork::RemoveTree { .. }));
    assert!(ended < unmounted && unmounted < removed, "{work:?}");
}

#[test]
fn only_what_was_seen_is_removed_and_it_is_named_by_what_it_was() {
    let pod = pod_of("{containers: [{name: c, image: i}], volumes: [{name: d, emptyDir: {}}]}");
    let removed = |dirs: PodDirs| {
        let work = release_work(&pod, &node(), Leaving::Yes, &dirs);
        let tops = work.into_iter().filter_map(|work| match work {
            HostWork::RemoveTree { top, below } if below.is_empty() => Some((top.path, top.id)),
            _ => None,
        });
        tops.collect::<Vec<_>>()
    };
    let (logs, own) = (
        log_dir(&pod, &node()),
        "/var/lib/kubelet/pods/u1".to_owned(),
    );
    let (of_logs, of_own) = (DIRS.logs.unwrap(), DIRS.pod.unwrap());
    assert_eq!(removed(DIRS), [(own, of_own), (logs.clone(), of_logs)]);
    assert_eq!(removed(PodDirs { pod: None, ..DIRS }), [(logs, of_logs)]);
    assert_eq!(removed(PodDirs::default()), []);
}

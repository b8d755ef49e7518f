//! How a pod is counted, and what its start and its ends come to.
//!
//! Upstream: pkg/kubelet/util/pod_startup_latency_tracker_test.go

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubelet_decide::shapes::life::Terminating;
use kubelet_model::pod::SourceKind;
use prometheus::{Registry, TextEncoder};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// A pod with one container, first seen at second 0.
fn pod(change: impl FnOnce(&mut v1::Pod)) -> Arc<Pod> {
    let mut object = v1::Pod::default();
    object.metadata.name = Some("a".to_owned());
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.annotations =
        Some([(CONFIG_SEEN_ANNOTATION.to_owned(), at(0).to_string())].into());
    object.spec = Some(v1::PodSpec {
        containers: vec![v1::Container {
            name: "main".to_owned(),
            ..v1::Container::default()
        }],
        ..v1::PodSpec::default()
    });
    change(&mut object);
    Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap())
}

fn container(name: &str, state: v1::ContainerState) -> v1::ContainerStatus {
    v1::ContainerStatus {
        name: name.to_owned(),
        state: Some(state),
        ..v1::ContainerStatus::default()
    }
}

fn ran(from: i64, to: i64, exit_code: i32) -> v1::ContainerState {
    v1::ContainerState {
        terminated: Some(v1::ContainerStateTerminated {
            started_at: Some(Time(at(from))),
            finished_at: Some(Time(at(to))),
            exit_code,
            reason: Some("Error".to_owned()),
            ..v1::ContainerStateTerminated::default()
        }),
        ..v1::ContainerState::default()
    }
}

fn runs(from: i64) -> v1::ContainerState {
    v1::ContainerState {
        running: Some(v1::ContainerStateRunning {
            started_at: Some(Time(at(from))),
        }),
        ..v1::ContainerState::default()
    }
}

fn status(phase: &str, init: &[v1::ContainerState], main: &[v1::ContainerState]) -> v1::PodStatus {
    let list = |name: &str, states: &[v1::ContainerState]| {
        states.iter().map(|s| container(name, s.clone())).collect()
    };
    v1::PodStatus {
        phase: Some(phase.to_owned()),
        init_container_statuses: Some(list("init", init)),
        container_statuses: Some(list("main", main)),
        ..v1::PodStatus::default()
    }
}

/// Shows the statuses in order at their seconds; what `/metrics` says afterwards.
fn shown(pod: &Pod, is_new: bool, statuses: &[(i64, v1::PodStatus)], pulling: u64) -> String {
    let registry = Registry::new();
    let metrics = WorkerMetrics::new(&registry).unwrap();
    let mut figures = PodFigures::new(metrics);
    figures.begins(pod, &Desire::Run, is_new, at(1));
    let mut before: Option<&v1::PodStatus> = None;
    for (second, after) in statuses {
        let pulled = || Duration::from_secs(pulling);
        figures.shows(pod, before, after, at(*second), pulled);
        before = Some(after);
    }
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap()
}

fn sum(text: &str, family: &str) -> Option<String> {
    let prefix = format!("kubelet_{family}_sum ");
    let sum = text.lines().find_map(|line| line.strip_prefix(&prefix));
    let count = format!("kubelet_{family}_count 0");
    (!text.contains(&count)).then(|| sum.unwrap().to_owned())
}

#[test]
fn a_start_is_measured_once_without_pulls_and_init_containers() {
    let starts = [
        (2, status("Pending", &[ran(1, 3, 1)], &[])),
        (4, status("Pending", &[ran(1, 3, 1)], &[])),
        (9, status("Pending", &[ran(5, 8, 0)], &[])),
        (20, status("Running", &[ran(5, 8, 0)], &[runs(19)])),
        (30, status("Running", &[ran(5, 8, 0)], &[runs(29)])),
    ];
    let host_path = |object: &mut v1::Pod| {
        object.spec.as_mut().unwrap().volumes = Some(vec![v1::Volume {
            name: "v".to_owned(),
            host_path: Some(v1::HostPathVolumeSource::default()),
            ..v1::Volume::default()
        }]);
    };
    let created = |object: &mut v1::Pod| {
        object.metadata.creation_timestamp = Some(Time(at(-10)));
    };
    type Row = (Arc<Pod>, bool, [Option<&'static str>; 3]);
    let rows: [Row; 4] = [
        (pod(|_| {}), true, [Some("20"), Some("20"), Some("11")]),
        (pod(created), true, [Some("20"), Some("30"), Some("21")]),
        // A volume from elsewhere: no promise is made for it.
        (pod(host_path), true, [Some("20"), Some("20"), None]),
        // An earlier process began it.
        (pod(|_| {}), false, [Some("20"), None, None]),
    ];
    for (pod, is_new, expected) in rows {
        let text = shown(&pod, is_new, &starts, 4);
        let sums = [
            "pod_start_duration_seconds",
            "pod_start_total_duration_seconds",
            "pod_start_sli_duration_seconds",
        ]
        .map(|family| sum(&text, family));
        assert_eq!(
            sums,
            expected.map(|s| s.map(str::to_owned)),
            "{pod:?} {is_new}"
        );
        // The first pod with a network of its own tells how long that takes.
        let first = format!(
            "kubelet_first_network_pod_start_sli_duration_seconds {}",
            expected[2].unwrap_or("0")
        );
        assert!(text.lines().any(|line| line == first), "{first}: {text}");
    }
}

#[test]
fn an_end_is_counted_once_for_each_run_that_was_seen() {
    let over = status("Running", &[], &[ran(1, 2, 7)]);
    let statuses = [
        (2, over.clone()),
        (3, over.clone()),
        (4, status("Running", &[], &[runs(4)])),
        (5, over),
    ];
    let text = shown(&pod(|_| {}), true, &statuses, 0);
    let line = "kubelet_terminated_containers_total{container_type=\"container\",exit_code=\"7\",reason=\"Error\"} 2";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_pod_stands_in_one_place_and_leaves_it() {
    let ending = |cause| {
        Lifecycle::Terminating(Terminating {
            cause,
            since: at(0),
            grace_seconds: 30,
        })
    };
    let stop = |cause| Desire::Stop {
        cause,
        grace_seconds: None,
    };
    let deleted = pod(|object| object.metadata.deletion_timestamp = Some(Time(at(0))));
    let plain = pod(|_| {});
    use TerminationCause::{Ended, Orphaned, Removed};
    let rows = [
        (
            &plain,
            Desire::Run,
            Lifecycle::Syncing,
            "desired sync true",
            0,
        ),
        (
            &plain,
            Desire::Run,
            ending(Ended),
            "desired terminating true",
            1,
        ),
        (
            &plain,
            stop(Removed),
            ending(Removed),
            "orphan terminating true",
            0,
        ),
        (
            &deleted,
            stop(Removed),
            ending(Removed),
            "desired terminating true",
            0,
        ),
        (
            &plain,
            stop(Orphaned),
            ending(Orphaned),
            "runtime_only terminating unknown",
            0,
        ),
        (
            &plain,
            stop(Removed),
            Lifecycle::Terminated { cause: Removed },
            "orphan terminated true",
            0,
        ),
    ];
    let metrics = WorkerMetrics::new(&Registry::new()).unwrap();
    let mut figures = PodFigures::new(metrics.clone());
    for (pod, desire, life, place, ended) in rows {
        figures.stands(pod, &desire, &life);
        let [config, word, is_static]: [&str; 3] =
            place.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let labels = [word, config, is_static];
        assert_eq!(
            metrics.working.with_label_values(&labels).get(),
            1,
            "{place}"
        );
        assert_eq!(metrics.ended().0, ended, "{place}");
    }
    drop(figures);
    let left: i64 = ["sync", "terminating", "terminated"]
        .into_iter()
        .flat_map(|life| super::super::worker_metrics::WORKING.map(|(c, s)| [life, c, s]))
        .map(|labels| metrics.working.with_label_values(&labels).get())
        .sum();
    assert_eq!((left, metrics.ended()), (0, (0, 0)));
}

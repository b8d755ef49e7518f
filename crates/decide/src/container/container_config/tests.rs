//! Container messages against recorded ones, and what the recordings do not show.

use serde_json::{Value, json};

use kubelet_model::pod::PodGates;

use super::*;
use crate::testing::json as message;
use crate::testing::{node, pod_of, recorded};

/// Where the mounts of a recorded container were: its volumes by the names of the manifest, its files as recorded.
fn recorded_mounts(uid: &str, sent: &Value) -> ResolvedMounts {
    let host_path_of = |container_path: &str| {
        let mounts = sent["mounts"].as_array().unwrap().iter();
        let mut found = mounts.filter(|mount| mount["container_path"] == container_path);
        found
            .next()
            .map(|mount| mount["host_path"].as_str().unwrap().to_owned())
    };
    let below = |kind: &str, name: &str| {
        format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~{kind}/{name}")
    };
    let volumes = [
        ("cm", below("configmap", "cm")),
        ("sec", below("secret", "sec")),
        ("e", below("empty-dir", "e")),
        ("m", below("empty-dir", "m")),
        ("p", below("projected", "p")),
        ("h", "/srv/demo/hp".to_owned()),
    ];
    ResolvedMounts {
        volumes: volumes.map(|(name, path)| (name.to_owned(), path)).into(),
        sub_paths: [(
            5,
            format!("/var/lib/kubelet/pods/{uid}/volume-subpaths/e/main/5"),
        )]
        .into(),
        hosts_path: host_path_of("/etc/hosts"),
        termination_message_path: host_path_of("/dev/termination-log"),
    }
}

/// Upstream's order of variables is random.
fn comparable(mut config: Value) -> Value {
    let mut envs = config["envs"].as_array().cloned().unwrap_or_default();
    envs.sort_by_key(|env| env["key"].to_string());
    config["envs"] = Value::Array(envs);
    config
}

#[test]
fn containers_of_recorded_pods_equal_what_was_sent() {
    let mut compared = Vec::new();
    let objects = recorded::objects();
    for name in recorded::NAMES {
        for sent in message::recorded("CreateContainer", name) {
            let uid = sent["labels"]["io.kubernetes.pod.uid"].as_str().unwrap();
            let pod = recorded::pod(name, uid, &json!({}));
            let container_name = sent["metadata"]["name"].as_str().unwrap();
            let container = pod
                .all_containers()
                .find(|c| c.name == container_name)
                .unwrap();
            let config = container_config(&ContainerSpecView {
                pod: &pod,
                container,
                node: &node(),
                restart_count: 0,
                attempt: 0,
                hash: sent["annotations"]["io.kubernetes.container.hash"]
                    .as_str()
                    .unwrap(),
                image_id: sent["image"]["image"].as_str().unwrap(),
                image_user: ImageUser::of_image(None, ""),
                pod_ips: &["10.244.0.7".to_owned()],
                objects: &objects,
                env_files: None,
                recursive_read_only: RecursiveReadOnly::Unsupported,
                mounts: &recorded_mounts(uid, &sent),
                swap: SwapController::Available,
            });
            assert_eq!(
                comparable(message::container(&config.unwrap())),
                comparable(sent.clone()),
                "{name}"
            );
            compared.push(container_name.to_owned());
        }
    }
    assert_eq!(compared, ["g", "b", "c", "web", "init1", "side", "main"]);
}

fn check(spec: &str, mounts: &ResolvedMounts) -> Result<ContainerConfig, String> {
    let pod = pod_of(spec);
    container_config(&ContainerSpecView {
        pod: &pod,
        container: &pod.containers()[0],
        node: &node(),
        restart_count: 2,
        attempt: 2,
        hash: "abc",
        image_id: "sha256:1",
        image_user: ImageUser::of_image(Some(7), ""),
        pod_ips: &["10.244.0.7".to_owned()],
        objects: &PodObjects::default(),
        env_files: None,
        recursive_read_only: RecursiveReadOnly::Unsupported,
        mounts,
        swap: SwapController::Missing,
    })
    .map_err(|problem| {
        assert_eq!(problem.reason.as_str(), "CreateContainerConfigError");
        problem.message
    })
}

#[test]
fn command_and_arguments_see_the_environment() {
    let config = check(
        "{containers: [{name: c, env: [{name: A, value: x}, {name: B, value: $(A)y}],
          command: ['$(B)', $$(B)], args: [$(NONE), '-$(A)-'], workingDir: /w, tty: true, stdin: true, stdinOnce: true}]}",
        &ResolvedMounts::default(),
    )
    .unwrap();
    assert_eq!(config.command, ["xy", "$(B)"]);
    assert_eq!(config.args, ["$(NONE)", "-x-"]);
    assert_eq!(
        (config.working_dir.as_str(), config.log_path.as_str()),
        ("/w", "c/2.log")
    );
    assert!(config.tty && config.stdin && config.stdin_once);
    assert_eq!(config.metadata.unwrap().attempt, 2);
    let user = config
        .linux
        .unwrap()
        .security_context
        .unwrap()
        .run_as_user
        .unwrap();
    assert_eq!(user.value, 7);
}

#[test]
fn a_mount_of_the_containers_own_hides_the_hosts_file() {
    let mounts = ResolvedMounts {
        volumes: [("v".to_owned(), "/host/v".to_owned())].into(),
        hosts_path: Some("/pods/u1/etc-hosts".into()),
        ..Default::default()
    };
    let config = check(
        "{containers: [{name: c, volumeMounts: [{name: v, mountPath: /etc/hosts}]}]}",
        &mounts,
    );
    let config = config.unwrap();
    let paths: Vec<_> = config
        .mounts
        .iter()
        .map(|mount| mount.host_path.as_str())
        .collect();
    assert_eq!(paths, ["/host/v"]);
    let config = check(
        "{containers: [{name: c, volumeMounts: [{name: v, mountPath: rel}]}]}",
        &mounts,
    )
    .unwrap();
    let paths: Vec<_> = config
        .mounts
        .iter()
        .map(|mount| mount.container_path.as_str())
        .collect();
    assert_eq!(paths, ["/rel", "/etc/hosts"]);
}

#[test]
fn mounts_that_can_not_be_had_are_refused_in_upstreams_words() {
    let mounts = ResolvedMounts {
        volumes: [("v".to_owned(), "/host/v".to_owned())].into(),
        ..Default::default()
    };
    for (mount, expected) in [
        (
            "name: x",
            "cannot find volume \"x\" to mount into container \"c\"",
        ),
        (
            "name: v, subPath: a",
            "failed to prepare subPath for volumeMount \"v\" of container \"c\"",
        ),
        (
            "name: v, subPath: /a",
            "error SubPath `/a` must not be an absolute path",
        ),
        (
            "name: v, subPath: a/../b",
            "unable to provision SubPath `a/../b`: must not contain '..'",
        ),
        (
            "name: v, subPathExpr: $(X)/$(EMPTY)/$(A)",
            "missing value for EMPTY, X",
        ),
        (
            "name: v, mountPropagation: Odd",
            "invalid MountPropagation mode: \"Odd\"",
        ),
        (
            "name: v, recursiveReadOnly: Enabled",
            "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not \
             read-only",
        ),
        (
            "name: v, readOnly: true, recursiveReadOnly: Enabled",
            "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not \
             supported by the runtime",
        ),
    ] {
        let spec = format!(
            "{{containers: [{{name: c, env: [{{name: A, value: a}}, {{name: EMPTY}}],
              volumeMounts: [{{mountPath: /m, {mount}}}]}}]}}"
        );
        assert_eq!(check(&spec, &mounts).unwrap_err(), expected);
    }
    let spec = "{containers: [{name: c, volumeMounts: [{name: v, mountPath: /m, readOnly: true,
        mountPropagation: None, recursiveReadOnly: IfPossible}]}]}";
    assert!(check(spec, &mounts).unwrap().mounts[0].readonly);
}

#[test]
fn only_volumes_of_the_pods_own_are_relabeled() {
    let pod = pod_of(
        "{containers: [{name: c, volumeMounts: [{name: e, mountPath: /e}, {name: h, mountPath: /h}]}],
          volumes: [{name: e, emptyDir: {}}, {name: h, hostPath: {path: /h}}]}",
    );
    let mut node = node();
    node.selinux_enabled = true;
    let volumes = ["e", "h"].map(|name| (name.to_owned(), format!("/{name}")));
    let config = container_config(&ContainerSpecView {
        pod: &pod,
        container: &pod.containers()[0],
        node: &node,
        restart_count: 0,
        attempt: 0,
        hash: "abc",
        image_id: "sha256:1",
        image_user: ImageUser::of_image(None, ""),
        pod_ips: &["10.244.0.7".to_owned()],
        objects: &PodObjects::default(),
        env_files: None,
        recursive_read_only: RecursiveReadOnly::Unsupported,
        mounts: &ResolvedMounts {
            volumes: volumes.into(),
            hosts_path: Some("/hosts".into()),
            ..Default::default()
        },
        swap: SwapController::Missing,
    })
    .unwrap();
    let relabeled = config
        .mounts
        .iter()
        .map(|mount| (mount.host_path.as_str(), mount.selinux_relabel));
    let expected = [("/e", true), ("/h", false), ("/hosts", true)];
    assert_eq!(relabeled.collect::<Vec<_>>(), expected);
}

#[test]
fn a_mount_is_read_only_with_all_below_it_where_the_runtime_can() {
    let mount = |mode: &str| v1::VolumeMount {
        name: "v".to_owned(),
        read_only: Some(true),
        recursive_read_only: Some(mode.to_owned()),
        ..v1::VolumeMount::default()
    };
    for (mode, runtime, expected) in [
        ("Disabled", RecursiveReadOnly::Supported, Ok(false)),
        ("IfPossible", RecursiveReadOnly::Supported, Ok(true)),
        ("IfPossible", RecursiveReadOnly::Unsupported, Ok(false)),
        ("Enabled", RecursiveReadOnly::Supported, Ok(true)),
        (
            "Enabled",
            RecursiveReadOnly::Unsupported,
            Err(
                "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not \
                 supported by the runtime",
            ),
        ),
    ] {
        let found = is_recursive_read_only(&mount(mode), runtime);
        let expected = expected.map_err(ConfigProblem::container);
        assert_eq!(found, expected, "{mode}");
    }
}

#[test]
fn a_stop_signal_is_asked_for_behind_its_gate() {
    let signal = |spec: &str, stop_signals| {
        let gates = PodGates {
            stop_signals,
            ..PodGates::default()
        };
        let spec = format!("{{containers: [{{name: c, image: i, {spec}}}]}}");
        let pod = pod_of(&spec).under(gates);
        stop_signal(&pod, &pod.containers()[0]).as_str_name()
    };
    let usr1 = "lifecycle: {stopSignal: SIGUSR1}";
    assert_eq!(signal(usr1, true), "SIGUSR1");
    assert_eq!(signal(usr1, false), "RUNTIME_DEFAULT");
    let real_time = "lifecycle: {stopSignal: SIGRTMIN+3}";
    assert_eq!(signal(real_time, true), "SIGRTMINPLUS3");
    assert_eq!(
        signal("lifecycle: {stopSignal: SIGODD}", true),
        "RUNTIME_DEFAULT"
    );
    assert_eq!(signal("lifecycle: {}", true), "RUNTIME_DEFAULT");
}

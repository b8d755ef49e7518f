//! The pods of a world: made from its seed, with containers whose commands say how they behave.
//!
//! In:    random numbers
//! Out:   pods as a source would deliver them; behaviours and pulls for the stand-in runtime
//! Calls: script, run
//! Holds: a command means the same at every start, so a behaviour needs no table
//! Upstream: none

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kubelet_model::pod::{CONFIG_HASH_ANNOTATION, CONFIG_SOURCE_ANNOTATION, Pod, SourceKind};
use testkit::cri::behaviour::{Behaviour, ContainerCall, ExecOutcome, PullOutcome};
use testkit::prng::Prng;
use tonic::Code;

/// An image that is on the node from the begin.
pub const PRESENT: [&str; 2] = ["img/here:1", "img/here:2"];
/// An image that can be pulled.
const PULLABLE: [&str; 2] = ["img/slow:1", "img/flaky:1"];
/// An image that nobody has.
pub const MISSING: &str = "img/missing:1";
/// A name that no image can have.
const INVALID: &str = "img/BAD";

/// How a container ends up if it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs on, after some failed runs perhaps.
    Serves,
    /// It exits with this code, again and again.
    Exits(i32),
    /// It can never start.
    Blocked,
}

/// What becomes of a container of this spec in the end.
pub fn fate(spec: &v1::Container) -> Fate {
    let image = spec.image.as_deref().unwrap_or_default();
    if image == MISSING || image == INVALID {
        return Fate::Blocked;
    }
    let command = spec.command.clone().unwrap_or_default();
    match command.first().map(String::as_str) {
        Some("serve" | "start-fails" | "create-fails") => Fate::Serves,
        _ => {
            let behaviour = Behaviour::of_command(&command);
            match behaviour.exits_after {
                Some(_) => Fate::Exits(behaviour.exit_code),
                None => Fate::Serves,
            }
        }
    }
}

/// How a container behaves that the stand-in runtime is about to make.
pub fn behaviour(call: ContainerCall<'_>) -> Behaviour {
    let words: Vec<&str> = call.container.command.iter().map(String::as_str).collect();
    let attempt = call.container.metadata.as_ref().map_or(0, |m| m.attempt);
    let fails = |n: &str| n.parse().is_ok_and(|n: u32| attempt < n);
    match words.as_slice() {
        ["serve"] => Behaviour::default(),
        ["serve", "stubborn"] => Behaviour {
            ignores_term: true,
            ..Behaviour::default()
        },
        ["serve", "slowly-ending"] => Behaviour {
            term_delay: Duration::from_secs(3),
            term_exit_code: 0,
            ..Behaviour::default()
        },
        ["serve", "stuck-in-kernel"] => Behaviour {
            ignores_term: true,
            kill_delay: Duration::from_secs(40),
            ..Behaviour::default()
        },
        ["serve", "after", n] if fails(n) => Behaviour::exits(Duration::from_secs(1), 7),
        ["start-fails", n] if fails(n) => Behaviour {
            start_error: Some("no such file".to_owned()),
            ..Behaviour::default()
        },
        _ => Behaviour::of_command(&call.container.command),
    }
}

/// How the `nth` pull of an image goes.
pub fn pull(image: &str, nth: u64) -> PullOutcome {
    let missing = (Code::NotFound, format!("{image}: not found"));
    let busy = (Code::Unknown, "registry is busy".to_owned());
    let (seconds, failure) = match image {
        MISSING => (1, Some(missing)),
        "img/flaky:1" if nth <= 2 => (3, Some(busy)),
        "img/slow:1" => (25, None),
        _ => (2, None),
    };
    PullOutcome {
        latency: Duration::from_secs(seconds),
        failure,
        ..PullOutcome::default()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn regular_command(random: &mut Prng) -> Vec<String> {
    match random.below(16) {
        0..=5 => words("serve"),
        6 => words("serve stubborn"),
        7 => words("serve slowly-ending"),
        8 => words("serve stuck-in-kernel"),
        9 => vec![
            "serve".to_owned(),
            "after".to_owned(),
            (1 + random.below(4)).to_string(),
        ],
        10 => words("start-fails 2"),
        11 => script(&format!("sleep {}; exit 0", random.below(90))),
        12 => script(&format!("sleep {}; exit 3", random.below(30))),
        13 => script("exit 1"),
        14 => script(&format!(
            "trap '' TERM; sleep {}; exit 0",
            20 + random.below(90)
        )),
        _ => script(&format!("sleep {}; exit 5", 60 + random.below(900))),
    }
}

fn script(text: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()]
}

fn init_command(random: &mut Prng) -> Vec<String> {
    match random.below(8) {
        0..=5 => script(&format!("sleep {}; exit 0", random.below(8))),
        6 => script("sleep 1; exit 2"),
        _ => words("start-fails 1"),
    }
}

/// Any image, most often one that is there.
pub fn image(random: &mut Prng) -> &'static str {
    match random.below(20) {
        0..=9 => PRESENT[0],
        10..=14 => PRESENT[1],
        15 => PULLABLE[0],
        16..=17 => PULLABLE[1],
        18 => MISSING,
        _ => INVALID,
    }
}

fn container(name: String, command: Vec<String>, random: &mut Prng) -> v1::Container {
    let policy = if random.chance(1_500) {
        "Always"
    } else {
        "IfNotPresent"
    };
    let mounts = [("scratch", "/scratch"), ("host", "/host")];
    v1::Container {
        name,
        image: Some(image(random).to_owned()),
        image_pull_policy: Some(policy.to_owned()),
        command: Some(command),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(
            mounts
                .into_iter()
                .map(|(name, path)| v1::VolumeMount {
                    name: name.to_owned(),
                    mount_path: path.to_owned(),
                    ..v1::VolumeMount::default()
                })
                .collect(),
        ),
        ..v1::Container::default()
    }
}

/// A pod of this name and UID, from this source.
pub fn pod(source: SourceKind, number: usize, uid: &str, random: &mut Prng) -> Arc<Pod> {
    let policy = match random.below(4) {
        0 | 1 => "Always",
        2 => "OnFailure",
        _ => "Never",
    };
    let inits = if random.chance(3_000) {
        1 + random.below(2)
    } else {
        0
    };
    let init_containers: Vec<_> = (0..inits)
        .map(|n| {
            let command = init_command(random);
            container(format!("init{n}"), command, random)
        })
        .collect();
    let mut containers: Vec<_> = (0..1 + random.below(3))
        .map(|n| {
            let command = regular_command(random);
            container(format!("c{n}"), command, random)
        })
        .collect();
    add_probes(uid, policy, &mut containers);
    let host_path = v1::HostPathVolumeSource {
        path: format!("/data/{number}"),
        type_: Some("DirectoryOrCreate".to_owned()),
    };
    let spec = v1::PodSpec {
        restart_policy: Some(policy.to_owned()),
        init_containers: Some(init_containers).filter(|list| !list.is_empty()),
        containers,
        enable_service_links: Some(true),
        host_network: random.chance(2_000).then_some(true),
        termination_grace_period_seconds: Some([0, 1, 5, 30, 90][at(random, 5)]),
        volumes: Some(vec![
            v1::Volume {
                name: "scratch".to_owned(),
                empty_dir: Some(v1::EmptyDirVolumeSource::default()),
                ..v1::Volume::default()
            },
            v1::Volume {
                name: "host".to_owned(),
                host_path: Some(host_path),
                ..v1::Volume::default()
            },
        ]),
        ..v1::PodSpec::default()
    };
    let mut spec = spec;
    crate::lifecycles::add(uid, &mut spec);
    let unbuilt = if random.chance(300) {
        vec!["spec.hostUsers".to_owned()]
    } else {
        Vec::new()
    };
    let spec = v1::PodSpec {
        active_deadline_seconds: deadline_of(uid).filter(|_| unbuilt.is_empty()),
        ..spec
    };
    Arc::new(made(source, number, uid, spec, unbuilt))
}

/// One pod in four has probes. As its deadline, that follows from the UID alone.
fn add_probes(uid: &str, policy: &str, containers: &mut [v1::Container]) {
    let Some(number) = number_of_probed(uid) else {
        return;
    };
    let exec = |word: &str, failures: i32| v1::Probe {
        exec: Some(v1::ExecAction {
            command: Some(vec!["probe".to_owned(), word.to_owned()]),
        }),
        period_seconds: Some(5),
        timeout_seconds: Some(2),
        // A runtime that hangs must not look like a container that is not well.
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        initial_delay_seconds: Some(0),
        ..v1::Probe::default()
    };
    for (place, container) in containers.iter_mut().enumerate() {
        container.readiness_probe = Some(exec("well", 1000));
        match (number / 4 + place) % 3 {
            0 => container.startup_probe = Some(exec("well", 1000)),
            // One that ends well and is then started again would be an end that nobody asked for under any other policy.
            1 if policy == "Always" => container.liveness_probe = Some(exec(ILL_AT_FIRST, 2)),
            _ => container.liveness_probe = Some(exec("slow", 1000)),
        }
    }
}

/// The number of a pod that has probes.
fn number_of_probed(uid: &str) -> Option<usize> {
    let number: usize = uid.trim_start_matches("uid").parse().ok()?;
    (number % 4 == 3).then_some(number)
}

/// Whether the pod of this UID has probes: what they said is known to the record alone.
pub fn is_probed(uid: &str) -> bool {
    number_of_probed(uid).is_some()
}

/// So many instances of a container fail such a probe.
const ILL: u32 = 3;
/// The word of a probe that the first instances of a container fail.
const ILL_AT_FIRST: &str = "ill-at-first";

/// Whether this instance fails its liveness probe.
pub fn is_ill(spec: &v1::Container, attempt: u32) -> bool {
    let probe = spec.liveness_probe.as_ref();
    let exec = probe.and_then(|probe| probe.exec.as_ref());
    let mut words = exec.and_then(|exec| exec.command.as_ref()).into_iter();
    attempt < ILL && words.any(|words| words.iter().any(|word| word == ILL_AT_FIRST))
}

/// How a probe's command goes.
pub fn exec(call: ContainerCall<'_>, command: &[String]) -> ExecOutcome {
    let attempt = call.container.metadata.as_ref().map_or(0, |m| m.attempt);
    if let Some((milliseconds, exit_code)) = crate::lifecycles::hook(command, attempt) {
        return ExecOutcome {
            exit_code,
            latency: Duration::from_millis(milliseconds),
            ..ExecOutcome::default()
        };
    }
    let word = command.last().map_or("", String::as_str);
    let slow = Duration::from_millis(1500);
    ExecOutcome {
        exit_code: i32::from(word == ILL_AT_FIRST && attempt < ILL),
        latency: if word == "slow" { slow } else { Duration::ZERO },
        ..ExecOutcome::default()
    }
}

/// One pod in six may be active for so many seconds only, from ten on. It follows from the UID alone, so that a world is the
/// same as without it but for these pods.
fn deadline_of(uid: &str) -> Option<i64> {
    let number: i64 = uid.trim_start_matches("uid").parse().ok()?;
    (number % 6 == 5).then_some(10 + number * 61 % 90)
}

/// A number below `limit`, for an index.
pub fn at(random: &mut Prng, limit: usize) -> usize {
    let drawn = random.below(u64::try_from(limit).unwrap_or(u64::MAX));
    usize::try_from(drawn).unwrap_or(0)
}

fn made(
    source: SourceKind,
    number: usize,
    uid: &str,
    spec: v1::PodSpec,
    unbuilt: Vec<String>,
) -> Pod {
    let mut object = v1::Pod::default();
    object.metadata.name = Some(format!("p{number}-node"));
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.uid = Some(uid.to_owned());
    object.metadata.annotations = Some(
        [
            (CONFIG_HASH_ANNOTATION.to_owned(), uid.to_owned()),
            (
                CONFIG_SOURCE_ANNOTATION.to_owned(),
                source.as_str().to_owned(),
            ),
        ]
        .into(),
    );
    object.spec = Some(spec);
    Pod::new(Arc::new(object), source, unbuilt).expect("name, namespace and UID were just set")
}

/// The same pod with another image in one container.
pub fn with_image(pod: &Pod, container: usize, image: &str) -> Arc<Pod> {
    let mut object = (*pod.object).clone();
    if let Some(spec) = &mut object.spec
        && let Some(spec) = spec.containers.get_mut(container)
    {
        spec.image = Some(image.to_owned());
    }
    let mut other = Pod::clone(pod);
    other.object = Arc::new(object);
    Arc::new(other)
}

/// The same pod as another source names it.
pub fn from_source(pod: &Pod, source: SourceKind) -> Arc<Pod> {
    let mut object = (*pod.object).clone();
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(
        CONFIG_SOURCE_ANNOTATION.to_owned(),
        source.as_str().to_owned(),
    );
    let mut other = Pod::clone(pod);
    other.source = source;
    other.object = Arc::new(object);
    Arc::new(other)
}

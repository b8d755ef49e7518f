//! What is fuzzed: each reader of what comes from outside.
//!
//! In:    any bytes
//! Out:   nothing; a panic where a promise does not hold
//! Calls: `run`
//! Holds: a target calls what the product calls, in the product's order
//! Upstream: none

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_api::config::KubeletConfiguration;
use kubelet_api::runtime::v1 as cri;
use kubelet_cluster::Kubeconfig;
use kubelet_decide::config::defaults::{defaults, eviction_hard};
use kubelet_decide::config::effective::effective;
use kubelet_decide::config::validate::{HostFacts, validate};
use kubelet_decide::container::labels;
use kubelet_decide::images::pull_credentials::{DockerConfigForm, Keyring};
use kubelet_decide::pod::admission;
use kubelet_decide::resources;
use kubelet_decide::sources::manifest::{
    StaticSource, apply_v1_defaults, decode_manifest, identify_static_pod, locate_field,
    unbuilt_fields, validate_static_pod,
};
use kubelet_host::journal::record::{self, Body, Operation};
use kubelet_model::config::Flags;
use kubelet_model::gates::Gates;
use kubelet_model::pod::{Pod, SourceKind};
use kubelet_tls::{Certificate, SigningRequest};
use prost::Message as _;
use serde_json::Value;

/// One reader.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Pieces that mean something to it.
    pub(crate) words: &'static [&'static str],
    pub(crate) run: fn(&[u8]),
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "manifest",
        words: &[
            "apiVersion: v1\n",
            "kind: Pod\n",
            "spec:\n",
            "  containers:\n",
            "  - name: c\n",
            "terminationGracePeriodSeconds: ",
            "resources: {requests: {cpu: ",
            "ports: [{containerPort: ",
            "kind: PodList\n",
            "items:\n",
        ],
        run: manifest,
    },
    Target {
        name: "configuration",
        words: &[
            "\n---\n",
            "kind: KubeletConfiguration\n",
            "apiVersion: kubelet.config.k8s.io/v1beta1\n",
            "syncFrequency: ",
            "evictionHard: {memory.available: ",
            "kubeReserved: {cpu: ",
            "reservedMemory: [{numaNode: ",
            "featureGates: {",
        ],
        run: configuration,
    },
    Target {
        name: "kubeconfig",
        words: &[
            "clusters:\n",
            "users:\n",
            "contexts:\n",
            "current-context: ",
            "server: https://[::1]:6443",
            "certificate-authority-data: ",
            "token: ",
            "exec: {command: ",
        ],
        run: |bytes| drop(Kubeconfig::parse(bytes, Path::new("/kubeconfig"))),
    },
    Target {
        name: "json-patch",
        words: PATCH_WORDS,
        run: kubelet_apiserver::fuzzing::json_patch,
    },
    Target {
        name: "merge-patch",
        words: PATCH_WORDS,
        run: kubelet_apiserver::fuzzing::merge_patch,
    },
    Target {
        name: "strategic-patch",
        words: PATCH_WORDS,
        run: kubelet_apiserver::fuzzing::strategic_patch,
    },
    Target {
        name: "selectors",
        words: &[
            "app",
            "spec.nodeName=",
            "metadata.name!=",
            "?watch=1&limit=",
            "/api/v1/namespaces/default/pods",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            ">",
            "<",
            "!",
        ],
        run: kubelet_apiserver::fuzzing::selectors,
    },
    Target {
        name: "protobuf",
        words: &[
            "k8s\0",
            "\x0a",
            "\x12",
            "\x0a\x02v1\x12\x06Secret",
            "\u{7f}",
        ],
        run: kubelet_apiserver::fuzzing::protobuf_body,
    },
    Target {
        name: "journal",
        words: &["\u{1}", "\0\0\0\0"],
        run: journal,
    },
    Target {
        name: "log-lines",
        words: &[
            "tailLines=",
            "sinceSeconds=",
            "limitBytes=",
            "sinceTime=",
            "timestamps=true",
            "stream=Stdout",
            "2026-01-01T00:00:00.000000001Z stdout F ",
            " stderr P ",
            ":",
        ],
        run: kubelet_server::fuzzing::log_lines,
    },
    Target {
        name: "upgrade-head",
        words: &[
            "GET /exec/default/p/c?command=",
            "Connection: upgrade, keep-alive\r\n",
            "Upgrade: SPDY/3.1\r\n",
            "Upgrade: websocket\r\n",
            "X-Stream-Protocol-Version: ",
            "%2e%2e/",
            "/containerLogs/",
            "?sinceTime=",
        ],
        run: kubelet_server::fuzzing::upgrade_head,
    },
    Target {
        name: "docker-config",
        words: &[
            "{\"auths\":{",
            "\"auth\":\"",
            "\"username\":",
            "dTpw",
            "https://",
            "*.example.com",
            "*a*a*a*a*a*a*a*a",
            "****************",
            "[a-",
            ":5000/",
        ],
        run: docker_config,
    },
    Target {
        name: "cri-reply",
        words: &[
            "io.kubernetes.container.restartCount",
            "io.kubernetes.pod.terminationGracePeriod",
            "{\"sandboxID\":\"",
            "\"pid\":",
            "info",
        ],
        run: cri_reply,
    },
    Target {
        name: "certificate",
        words: &[
            "-----BEGIN CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE REQUEST-----\n",
            "\u{6}\u{3}U\u{4}\u{3}",
            "\u{6}\u{3}U\u{4}\n",
            "\u{c}\u{5}admin",
            "\u{6}\u{3}U\u{1d}\u{11}",
        ],
        run: certificate,
    },
];

/// Readers with a fault of each kind, which the harness must find: no part of `all`.
pub(crate) const PLANTED: &[Target] = &[
    planted("planted-panic", |input| {
        assert!(!holds_fault(input), "planted");
    }),
    planted("planted-stack", |input| {
        let depth = if holds_fault(input) { usize::MAX } else { 1 };
        std::hint::black_box(descend(depth));
    }),
    planted("planted-late", |input| {
        while holds_fault(input) {
            std::hint::spin_loop();
        }
    }),
    planted("planted-large", |input| {
        let bytes = if holds_fault(input) { 300 << 20 } else { 1 };
        drop(std::hint::black_box(vec![1_u8; bytes]));
    }),
];

const FAULT: &str = "fault";

const fn planted(name: &'static str, run: fn(&[u8])) -> Target {
    Target {
        name,
        words: &[FAULT],
        run,
    }
}

fn holds_fault(input: &[u8]) -> bool {
    input
        .windows(FAULT.len())
        .any(|part| part == FAULT.as_bytes())
}

/// As deep as it is told, with a frame that no optimization takes away.
fn descend(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 64]);
    match depth {
        0 => 0,
        _ => descend(depth - 1) + frame[depth % 64],
    }
}

const PATCH_WORDS: &[&str] = &[
    "{\"op\":\"copy\",\"from\":\"\",\"path\":\"/metadata/x\"},",
    "{\"op\":\"copy\",\"from\":\"/spec\",\"path\":\"/spec/x\"},",
    "{\"op\":\"move\",\"from\":\"/spec/containers/0\",\"path\":\"/spec/containers/-\"},",
    "{\"op\":\"add\",\"path\":\"/spec/containers/0\",\"value\":[]},",
    "{\"op\":\"remove\",\"path\":\"/metadata\"},",
    "{\"op\":\"test\",\"path\":\"\",\"value\":null},",
    "\"patch\":",
    "\"object\":",
    "\"spec\":{\"containers\":[{\"name\":\"c\"}]},",
    "{\"$patch\":\"replace\"},",
    "{\"$patch\":\"delete\",\"name\":\"c\"},",
];

fn manifest(bytes: &[u8]) {
    let Ok(pods) = decode_manifest(bytes, StaticSource::File) else {
        return;
    };
    for mut pod in pods {
        apply_v1_defaults(&mut pod);
        let pod = identify_static_pod(
            pod,
            "1234",
            "node",
            StaticSource::File,
            Timestamp::UNIX_EPOCH,
        );
        for problem in validate_static_pod(&pod) {
            assert_ne!(locate_field(bytes, &problem.path), Some((0, 0)));
        }
        let unbuilt = unbuilt_fields(&pod);
        let Ok(pod) = Pod::new(Arc::new(pod), SourceKind::File, unbuilt) else {
            continue;
        };
        // What the planner computes with amounts that nobody has.
        let class = resources::qos_class(&pod);
        drop((
            admission::allocation(&pod),
            labels::sandbox_labels(&pod),
            class,
        ));
        for container in pod.all_containers() {
            let score = resources::oom_score_adj(&pod, container, 1 << 34);
            assert!((-1000..=1000).contains(&score), "{score}");
            drop(labels::container_labels(&pod, container));
        }
    }
}

/// The file, then drop-ins after lines of `---`.
fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut merged: Option<Value> = None;
    for part in text.split("\n---\n").take(8) {
        let Some((value, config)) = crate::files::read(part) else {
            continue;
        };
        match &mut merged {
            None => merged = serde_json::to_value(config).ok(),
            Some(merged) => overlay(merged, value),
        }
    }
    let config = merged.map(serde_json::from_value::<KubeletConfiguration>);
    let Some(Ok(config)) = config else {
        return;
    };
    let gates = Gates::with(&config.feature_gates.clone().unwrap_or_default());
    let gates = gates.unwrap_or_default();
    let config = eviction_hard(defaults(config, &gates));
    let facts = HostFacts { cgroup_v2: true };
    let problems = validate(&config, &gates, facts);
    if let Ok(effective) = effective(&config, &Flags::default(), &gates) {
        drop((problems, format!("{effective:?}")));
    }
}

/// As drop-ins go over a file.
fn overlay(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                overlay(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

/// An image's name on a line, then a pull secret in both of its forms.
fn docker_config(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (name, text) = bytes.split_at(end.unwrap_or(0));
    let mut keyring = Keyring::default();
    let forms = [DockerConfigForm::Json, DockerConfigForm::Legacy];
    let read = forms.map(|form| keyring.add(text, form).is_ok());
    let found = keyring.for_image(&String::from_utf8_lossy(name));
    assert!(found.is_empty() || read.contains(&true));
}

/// The bytes as they are; then whole records between them, which are all found again.
fn journal(bytes: &[u8]) {
    let loaded = record::load(bytes);
    assert!(loaded.end <= bytes.len() as u64);
    let (mut file, mut written) = (Vec::new(), BTreeMap::new());
    for (index, part) in bytes.split(|byte| *byte == 0).take(64).enumerate() {
        if index % 3 == 2 {
            file.extend_from_slice(part);
            continue;
        }
        let (begin, value) = part.split_at(part.len().min(8));
        let mut sequence = [0xff; 8];
        sequence[..begin.len()].copy_from_slice(begin);
        let key = format!("key{}", value.len() % 5);
        let operation = if index % 7 == 3 {
            written.remove(&key);
            Operation::Remove { key: &key }
        } else {
            written.insert(key.clone(), value.to_vec());
            Operation::Put { key: &key, value }
        };
        let sequence = u64::from_le_bytes(sequence);
        record::encode(
            &Body {
                sequence,
                operation,
            },
            &mut file,
        );
    }
    let loaded = record::load(&file);
    assert!(loaded.end <= file.len() as u64);
    // What lies between may be records itself.
    if !bytes.windows(RECORD.len()).any(|part| part == RECORD) {
        assert_eq!(loaded.map, written);
    }
}

/// How a record begins.
const RECORD: [u8; 4] = [0xff, 0x48, 0x4b, 0xfe];

/// A container's or a sandbox's status as it comes over the wire, its verbose information after a zero byte.
fn cri_reply(bytes: &[u8]) {
    let (status, info) = match bytes.iter().position(|byte| *byte == 0xff) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let info = String::from_utf8_lossy(info).into_owned();
    let info: BTreeMap<String, String> = [("info".to_owned(), info)].into();
    if let Ok(reply) = cri::ContainerStatusResponse::decode(status) {
        let status = reply.status.unwrap_or_default();
        drop(kubelet_cri::container_of_status(&status, &info, None));
        drop(kubelet_cri::container_of_status(
            &status,
            &reply.info.into_iter().collect(),
            None,
        ));
    }
    if let Ok(reply) = cri::PodSandboxStatusResponse::decode(status) {
        drop(kubelet_cri::sandbox_of_status(
            &reply.status.unwrap_or_default(),
        ));
    }
}

/// What names a client holds no more than the bytes that were read; the same bytes, the same answer.
fn certificate(bytes: &[u8]) {
    if let Ok(read) = Certificate::from_der(bytes) {
        let last = read.subject.common_names().last();
        assert_eq!(read.subject.common_name(), last.unwrap_or_default());
        // Each byte of Latin-1 can become two of UTF-8.
        assert!(read.subject.to_string().len() <= 2 * bytes.len());
        assert_eq!(Certificate::from_der(bytes).as_ref(), Ok(&read));
        assert!(!read.to_string().is_empty());
    }
    drop(Certificate::from_pem(bytes));
    drop(SigningRequest::from_pem(bytes));
}

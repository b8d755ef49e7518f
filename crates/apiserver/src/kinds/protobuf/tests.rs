//! Protobuf bodies as a Go client encodes them: by hand from the published field numbers, and a round trip of every kind.
//!
//! In:    bytes, and objects with every field set
//! Out:   –
//! Calls: cargo test
//! Upstream: staging/src/k8s.io/api/*/generated.proto (field numbers)

use serde_json::json;

use super::*;

/// A tag and a value: field numbers beyond 15 take two bytes.
fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
    out
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value.cast_unsigned())].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    let length = u64::try_from(content.len()).unwrap();
    [varint(field << 3 | 2), varint(length), content.to_vec()].concat()
}

fn word(field: u64, content: &str) -> Vec<u8> {
    bytes(field, content.as_bytes())
}

fn message(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(field, &parts.concat())
}

fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = message(1, &[word(1, version), word(2, kind)]);
    // Upstream's encoder writes both of its last fields, empty.
    [
        MAGIC.to_vec(),
        meta,
        bytes(2, raw),
        word(3, ""),
        word(4, ""),
    ]
    .concat()
}

#[test]
fn an_object_is_read_and_no_cut_body_is() {
    let raw = [
        message(1, &[word(1, "n")]),
        message(2, &[word(1, "k"), word(2, "v")]),
        number(4, 1),
        word(15, "unknown"),
    ]
    .concat();
    let whole = envelope("v1", "ConfigMap", &raw);
    assert_eq!(
        decode(&whole),
        Ok(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"k": "v"}, "immutable": true,
        }))
    );
    // The last two fields are empty, and the object before them is a nested field.
    let fields = [
        whole.len() - 2,
        whole.len() - 4,
        whole.len() - 6 - raw.len(),
    ];
    for cut in 0..whole.len() {
        let read = decode(&whole[..cut]);
        assert!(read.is_err() || fields.contains(&cut), "{cut} {read:?}");
    }
    let unknown = decode(&envelope("v1", "PodStatusResult", &raw)).unwrap_err();
    assert!(unknown.contains("JSON only"), "{unknown}");
}

/// The pod of `kubectl debug node/n`, field by field as k8s.io/api/core/v1/generated.proto numbers them.
#[test]
fn the_pod_of_kubectl_debug_is_read() {
    let metadata = message(
        1,
        &[
            word(1, "node-debugger-n-x2v5c"),
            word(2, ""),
            word(3, "default"),
            word(4, ""),
            word(5, ""),
            word(6, ""),
            number(7, 0),
            bytes(8, &[]),
        ],
    );
    let container = message(
        2,
        &[
            word(1, "debugger"),
            word(2, "busybox"),
            word(3, "sh"),
            word(3, "-c"),
            word(5, ""),
            message(7, &[word(1, "A"), word(2, "")]),
            bytes(8, &[]),
            message(
                9,
                &[
                    word(1, "host-root"),
                    number(2, 0),
                    word(3, "/host"),
                    word(4, ""),
                ],
            ),
            // An HTTP probe of port 80, and one of a named port.
            message(
                10,
                &[
                    message(
                        1,
                        &[message(
                            2,
                            &[
                                word(1, "/"),
                                message(2, &[number(1, 0), number(2, 80), word(3, "")]),
                                word(3, ""),
                                word(4, "HTTP"),
                            ],
                        )],
                    ),
                    number(2, 0),
                    number(3, 5),
                ],
            ),
            message(
                22,
                &[message(
                    1,
                    &[message(
                        3,
                        &[message(1, &[number(1, 1), number(2, 0), word(3, "web")])],
                    )],
                )],
            ),
            word(13, ""),
            word(14, "IfNotPresent"),
            message(15, &[number(2, 1), number(4, -1)]),
            number(16, 1),
            number(18, 1),
            word(20, "File"),
        ],
    );
    let spec = message(
        2,
        &[
            message(
                1,
                &[
                    word(1, "host-root"),
                    message(2, &[message(1, &[word(1, "/"), word(2, "")])]),
                ],
            ),
            message(1, &[word(1, "scratch"), message(2, &[bytes(2, &[])])]),
            container,
            word(3, "Never"),
            number(4, 30),
            word(6, ""),
            word(10, "n"),
            number(11, 1),
            number(12, 1),
            number(13, 0),
            message(
                22,
                &[word(1, ""), word(2, "Exists"), word(3, ""), word(4, "")],
            ),
            // An overhead and a long tolerance.
            message(32, &[word(1, "memory"), message(2, &[word(1, "64Mi")])]),
            message(
                22,
                &[
                    word(1, "k"),
                    word(2, "Exists"),
                    word(3, ""),
                    word(4, "NoExecute"),
                    number(5, 300),
                ],
            ),
        ],
    );
    let started = message(3, &[message(7, &[number(1, 1_795_608_000), number(2, 0)])]);
    let raw = [metadata, spec, started].concat();
    assert_eq!(
        decode(&envelope("v1", "Pod", &raw)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "node-debugger-n-x2v5c", "namespace": "default"},
            "spec": {
                "volumes": [
                    {"name": "host-root", "hostPath": {"path": "/", "type": ""}},
                    {"name": "scratch", "emptyDir": {}},
                ],
                "containers": [{
                    "name": "debugger", "image": "busybox", "command": ["sh", "-c"], "env": [{"name": "A"}],
                    "volumeMounts": [{"name": "host-root", "mountPath": "/host"}],
                    "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 5},
                    "startupProbe": {"tcpSocket": {"port": "web"}},
                    "imagePullPolicy": "IfNotPresent", "securityContext": {"privileged": true, "runAsUser": -1},
                    "stdin": true, "tty": true, "terminationMessagePolicy": "File",
                }],
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "nodeName": "n",
                "hostNetwork": true, "hostPID": true, "overhead": {"memory": "64Mi"},
                "tolerations": [
                    {"operator": "Exists"},
                    {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                ],
            },
            "status": {"startTime": "2026-11-25T12:00:00Z"},
        })
    );
}

/// A value for every field; recursive types end at a depth that no kind reaches.
fn sample(kind: &Kind) -> Value {
    match kind {
        Kind::Text => "text".into(),
        Kind::Bytes => base64(b"bytes").into(),
        Kind::Int32 => (-7).into(),
        Kind::Int64 => 5_000_000_000_i64.into(),
        Kind::Bool => true.into(),
        Kind::Time => "2026-11-25T12:00:00Z".into(),
        Kind::MicroTime => "2026-11-25T12:00:00.123456Z".into(),
        Kind::Quantity => "1500m".into(),
        Kind::IntOrText => "web".into(),
        Kind::Words => json!(["a", "b"]),
        Kind::Message(name) => {
            let mut map = Map::new();
            fields_of(schema::message(name).unwrap(), &mut map);
            Value::Object(map)
        }
        Kind::List(inner) => json!([sample(inner), sample(inner)]),
        Kind::Map(inner) => json!({"k": sample(inner)}),
    }
}

fn fields_of(message: &'static Message, map: &mut Map<String, Value>) {
    for field in message.fields() {
        match (&field.kind, field.name) {
            (Kind::Message(inner), "") => fields_of(schema::message(inner).unwrap(), map),
            (kind, name) => drop(map.insert(name.to_owned(), sample(kind))),
        }
    }
}

fn written(field: u64, kind: &Kind, value: &Value) -> Vec<u8> {
    let time = |value: &Value| {
        let at: Timestamp = value.as_str().unwrap().parse().unwrap();
        message(
            field,
            &[
                number(1, at.as_second()),
                number(2, at.subsec_nanosecond().into()),
            ],
        )
    };
    match kind {
        Kind::Text => word(field, value.as_str().unwrap()),
        Kind::Bytes => bytes(
            field,
            &crate::base::encoding::from_base64(value.as_str().unwrap()).unwrap(),
        ),
        Kind::Int32 | Kind::Int64 => number(field, value.as_i64().unwrap()),
        Kind::Bool => number(field, value.as_bool().unwrap().into()),
        Kind::Time | Kind::MicroTime => time(value),
        Kind::Quantity => message(field, &[word(1, value.as_str().unwrap())]),
        Kind::IntOrText => message(field, &[number(1, 1), word(3, value.as_str().unwrap())]),
        Kind::Words => {
            let words = value.as_array().unwrap().iter();
            let words: Vec<_> = words.map(|one| word(1, one.as_str().unwrap())).collect();
            message(field, &words)
        }
        Kind::Message(name) => bytes(field, &encode(schema::message(name).unwrap(), value)),
        Kind::List(inner) => {
            let items = value.as_array().unwrap().iter();
            items.flat_map(|item| written(field, inner, item)).collect()
        }
        Kind::Map(inner) => {
            let items = value.as_object().unwrap().iter();
            let entry = |(key, item): (&String, &Value)| {
                message(field, &[word(1, key), written(2, inner, item)])
            };
            items.flat_map(entry).collect()
        }
    }
}

/// Encodes JSON as a Go client does.
pub(crate) fn encode(message: &'static Message, value: &Value) -> Vec<u8> {
    let field = |field: &Field| match field.name {
        "" => written(field.number, &field.kind, value),
        name => match value.get(name) {
            Some(value) => written(field.number, &field.kind, value),
            None => Vec::new(),
        },
    };
    message.fields().iter().flat_map(field).collect()
}

/// The body of an object of this kind.
pub(crate) fn body(version: &str, kind: &str, value: &Value) -> Vec<u8> {
    let message = schema::of_kind(version, kind).unwrap();
    envelope(version, kind, &encode(message, value))
}

/// The fields that the other one lacks.
fn lost(whole: &Value, known: &Value, path: &str) -> Vec<String> {
    match (whole, known) {
        (Value::Object(whole), Value::Object(known)) => {
            let below = |(name, value): (&String, &Value)| {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(known) => lost(value, known, &path),
                    None => vec![path],
                }
            };
            whole.iter().flat_map(below).collect()
        }
        (Value::Array(whole), Value::Array(known)) => {
            let pairs = whole.iter().zip(known);
            pairs
                .flat_map(|(one, other)| lost(one, other, path))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_field_of_every_kind_comes_back_and_the_kinds_types_know_it() {
    for row in crate::kinds::resources::RESOURCES {
        let (version, kind) = (row.api_version(), row.kind);
        let message = schema::of_kind(&version, kind).unwrap();
        let mut map = Map::new();
        fields_of(message, &mut map);
        map.insert("apiVersion".to_owned(), version.clone().into());
        map.insert("kind".to_owned(), kind.into());
        let whole = Value::Object(map);
        assert_eq!(
            decode(&body(&version, kind, &whole)).as_ref(),
            Ok(&whole),
            "{kind}"
        );
        assert_eq!(schema::mismatch(message, &whole), None, "{kind}");
        let known = (row.check)(&whole).unwrap_or_else(|why| panic!("{kind}: {why}"));
        let lost = lost(&whole, &known, kind);
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn small_messages_pay_for_the_maps_that_they_make() {
    // Owner references with one letter: about 150 MB of memory from 1 MB.
    let owners = message(13, &[word(1, "a")]).repeat(200_000);
    let body = envelope("v1", "ConfigMap", &bytes(1, &owners));
    assert_eq!(
        decode(&body),
        Err("the object has too many values".to_owned())
    );
}

#[test]
fn what_stands_in_itself_is_read_to_a_depth() {
    // No kind contains itself, so a truncated or repeated message is only skipped or refused.
    let spec = message(2, &[message(2, &[message(2, &[bytes(2, &[0xff])])])]);
    assert!(decode(&envelope("v1", "Pod", &spec)).is_err());
}

/// What Go's `Pod.Marshal` writes: every field that is no pointer, by number.
#[test]
fn a_pod_is_written_as_go_writes_it() {
    let pod = json!({
        "metadata": {"name": "n", "uid": "u", "labels": {"b": "2", "a": "1"}},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "terminationGracePeriodSeconds": 0},
        "status": {"phase": "Running", "startTime": "2026-11-25T12:00:00Z"},
    });
    let no_resources = || message(8, &[]);
    let port = message(
        6,
        &[
            word(1, ""),
            number(2, 0),
            number(3, 80),
            word(4, ""),
            word(5, ""),
        ],
    );
    let container = message(
        2,
        &[
            word(1, "c"),
            word(2, ""),
            word(5, ""),
            port,
            no_resources(),
            word(13, ""),
            word(14, ""),
            number(16, 0),
            number(17, 0),
            number(18, 0),
            word(20, ""),
        ],
    );
    let written = super::encode("v1", "Pod", &pod).unwrap();
    let metadata = message(
        1,
        &[
            word(1, "n"),
            word(2, ""),
            word(3, ""),
            word(4, ""),
            word(5, "u"),
            word(6, ""),
            number(7, 0),
            bytes(8, &[]),
            message(11, &[word(1, "a"), word(2, "1")]),
            message(11, &[word(1, "b"), word(2, "2")]),
        ],
    );
    assert!(written.starts_with(&metadata));
    let has = |part: &[u8]| written.windows(part.len()).any(|window| window == part);
    assert!(has(&container), "{written:x?}");
    assert!(has(&message(7, &[number(1, 1_795_608_000), number(2, 0)])));
    assert!(has(&number(4, 0)), "a pointer to zero is written");
    let mut back = decode(&envelope("v1", "Pod", &written)).unwrap();
    for added in ["apiVersion", "kind"] {
        back.as_object_mut().unwrap().remove(added);
    }
    assert_eq!(back["metadata"], pod["metadata"]);
    assert_eq!(back["spec"]["terminationGracePeriodSeconds"], 0);
    assert_eq!(back["status"]["startTime"], "2026-11-25T12:00:00Z");
    assert_eq!(super::encode("v1", "Pod", &json!({"spec": 1})), None);
    assert_eq!(super::encode("v1", "Nothing", &pod), None);
}

#[test]
fn every_field_of_every_kind_is_written_and_read_again() {
    for row in crate::kinds::resources::RESOURCES {
        let (version, kind) = (row.api_version(), row.kind);
        let mut map = Map::new();
        fields_of(schema::of_kind(&version, kind).unwrap(), &mut map);
        let mut whole = Value::Object(map);
        let written = super::encode(&version, kind, &whole).unwrap();
        whole["apiVersion"] = version.clone().into();
        whole["kind"] = kind.into();
        assert_eq!(
            decode(&envelope(&version, kind, &written)),
            Ok(whole),
            "{kind}"
        );
    }
}

//! Warnings for clients, and bodies that are not JSON.
//!
//! In:    requests
//! Out:   `Warning` headers; refusals that name the field; objects read from protobuf
//! Upstream: test/integration/apiserver/field_validation_test.go

use super::*;
use crate::kinds::protobuf::tests::body as protobuf;

/// Code, warnings, response body.
async fn told(
    world: &World,
    line: &str,
    (kind, body): (&str, Vec<u8>),
) -> (u16, Vec<String>, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("https://server{path}"))
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let mut service = world.server.service_as(User::admin());
    let response = service.call(request).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|w| w.to_str().unwrap().replace("\\\"", "'"));
    let warnings = warnings.map(|w| w.replace("299 - \"", "").replace('"', ""));
    let warnings = warnings.collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (
        code,
        warnings,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::test]
async fn fields_that_are_unknown_or_stand_twice_are_told_of_as_the_client_wants() {
    let world = World::new().await;
    let body = |name: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"kind":"Pod","kind":"Pod","spec":{{"colour":"red",
            "containers":[{{"name":"c","image":"i","image":"j","imagee":"k"}}]}}}}"#
        )
    };
    let expected = [
        "unknown field 'spec.colour'",
        "unknown field 'spec.containers[0].imagee'",
        "duplicate field 'kind'",
        "duplicate field 'spec.containers[0].image'",
    ];
    for (name, query) in [("a", ""), ("b", "?fieldValidation=Warn")] {
        let line = format!("POST {PODS}{query}");
        let (code, warnings, made) = told(&world, &line, (JSON, body(name).into())).await;
        assert_eq!((code, &*warnings), (201, &expected.map(str::to_owned)[..]));
        assert_eq!(made["spec"]["containers"][0]["image"], "j");
    }
    let line = format!("POST {PODS}?fieldValidation=Ignore");
    let (code, warnings, _) = told(&world, &line, (JSON, body("c").into())).await;
    assert_eq!((code, warnings.len()), (201, 0));
    let line = format!("POST {PODS}?fieldValidation=Strict");
    let (code, warnings, refused) = told(&world, &line, (JSON, body("d").into())).await;
    let message = format!(
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: {}",
        expected.join(", ").replace('\'', "\"")
    );
    assert_eq!((code, warnings.len()), (400, 0));
    assert_eq!(refused["message"], message);
    // Patches of every type, too.
    let merge = "application/merge-patch+json";
    let patch = br#"{"metadata":{"lables":{},"labels":{"a":"b","a":"c"}}}"#.to_vec();
    let line = format!("PATCH {PODS}/a");
    let (code, warnings, _) = told(&world, &line, (merge, patch)).await;
    let expected = [
        "unknown field 'metadata.lables'",
        "duplicate field 'metadata.labels.a'",
    ];
    assert_eq!((code, &*warnings), (200, &expected.map(str::to_owned)[..]));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_its_field() {
    let world = World::new().await;
    let deletion = "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64";
    let containers = "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container";
    world.do_it(&format!("POST {PODS}"), pod_on("a", "n")).await;
    for (line, body, message) in [
        (
            format!("POST {PODS}"),
            json!({"spec": {"containers": {}}}),
            containers,
        ),
        (
            format!("PUT {PODS}/a"),
            json!({"spec": {"containers": {}}}),
            containers,
        ),
        (
            format!("PATCH:merge {PODS}/a"),
            json!({"spec": {"containers": {}}}),
            containers,
        ),
        (
            format!("PATCH {PODS}/a"),
            json!({"spec": {"priority": "high"}}),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            format!("DELETE {PODS}/a"),
            json!({"gracePeriodSeconds": "x"}),
            deletion,
        ),
        (
            format!("POST {PODS}/a/eviction"),
            json!({"deleteOptions": {"gracePeriodSeconds": "x"}}),
            "Eviction in version \"v1\" cannot be handled as a Eviction: json: cannot unmarshal string into Go struct field DeleteOptions.deleteOptions.gracePeriodSeconds of type int64",
        ),
        (
            format!("POST {PODS}/a/binding"),
            json!({"target": "n"}),
            "Binding in version \"v1\" cannot be handled as a Binding: json: cannot unmarshal string into Go struct field Binding.target of type v1.ObjectReference",
        ),
        (
            "POST /apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
            json!({"spec": {"token": 1}}),
            "TokenReview in version \"v1\" cannot be handled as a TokenReview: json: cannot unmarshal number into Go struct field TokenReviewSpec.spec.token of type string",
        ),
    ] {
        let (code, answer) = world.ask(&line, body).await;
        assert_eq!((code, &answer["message"]), (400, &json!(message)), "{line}");
    }
}

#[tokio::test]
async fn odd_objects_and_old_kinds_are_told_of() {
    let world = World::new().await;
    let mut odd = pod("a");
    odd["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    let line = format!("POST {PODS}");
    let sent = || (JSON, serde_json::to_vec(&odd).unwrap());
    let expected = "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use 'kubernetes.io/os' instead";
    let (code, warnings, _) = told(&world, &line, sent()).await;
    assert_eq!((code, &*warnings), (201, &[expected.to_owned()][..]));
    // A change of labels does not change the spec.
    let patch = br#"{"metadata":{"labels":{"a":"b"}}}"#.to_vec();
    let patch = ("application/merge-patch+json", patch);
    let (code, warnings, _) = told(&world, &format!("PATCH {PODS}/a"), patch).await;
    assert_eq!((code, warnings.len()), (200, 0));
    let headless = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "externalIPs": ["10.1.1.1"]}});
    let headless = (JSON, serde_json::to_vec(&headless).unwrap());
    let services = "POST /api/v1/namespaces/default/services";
    let (code, warnings, _) = told(&world, services, headless).await;
    let expected = "spec.externalIPs is ignored for headless services";
    assert_eq!((code, &*warnings), (201, &[expected.to_owned()][..]));
    let (code, warnings, _) = told(&world, "GET /api/v1/endpoints", (JSON, Vec::new())).await;
    let expected = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert_eq!((code, &*warnings), (200, &[expected.to_owned()][..]));
}

#[tokio::test]
async fn a_pod_that_is_sent_as_protobuf_is_the_pod_that_json_would_make() {
    let world = World::new().await;
    let mut one = pod_on("debugger", "n");
    one["spec"]["hostPID"] = true.into();
    one["spec"]["volumes"] = json!([{"name": "host", "hostPath": {"path": "/", "type": ""}}, {"name": "e", "emptyDir": {}}]);
    one["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "host", "mountPath": "/host"}]);
    one["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    let line = format!("POST {PODS}");
    let (code, _, made) = told(&world, &line, (PROTOBUF, protobuf("v1", "Pod", &one))).await;
    assert_eq!(code, 201, "{made}");
    one["metadata"]["name"] = "plain".into();
    let plain = world.do_it(&line, one).await;
    // The token's volume has a generated name.
    let spec = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["/volumes", "/containers/0/volumeMounts"] {
            drop(
                spec.pointer_mut(list)
                    .unwrap()
                    .as_array_mut()
                    .unwrap()
                    .pop(),
            );
        }
        spec
    };
    assert_eq!(spec(&made), spec(&plain));
    // A whole object, changed and sent back.
    let mut changed = made.clone();
    changed["metadata"]["labels"] = json!({"a": "b"});
    let line = format!("PUT {PODS}/debugger");
    let (code, _, put) = told(&world, &line, (PROTOBUF, protobuf("v1", "Pod", &changed))).await;
    assert_eq!(
        (code, &put["metadata"]["labels"]["a"]),
        (200, &json!("b")),
        "{put}"
    );
    assert_eq!(put["metadata"]["generation"], 1);
    let options = protobuf("v1", "DeleteOptions", &json!({"gracePeriodSeconds": 0}));
    let line = format!("DELETE {PODS}/debugger");
    let (code, ..) = told(&world, &line, (PROTOBUF, options)).await;
    assert_eq!(code, 200);
}

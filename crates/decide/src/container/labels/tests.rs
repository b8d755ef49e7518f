//! Labels and annotations there and back.

use super::*;
use crate::testing::{pod, pod_of};

#[test]
fn labels_tell_whose_sandbox_or_container_it_is() {
    let pod = pod(
        "{metadata: {labels: {app: x}, annotations: {note: y}}, spec: {containers: [{name: c}]}}",
    );
    let labels = sandbox_labels(&pod);
    let parsed = parse_sandbox_labels(&labels).unwrap();
    assert_eq!((&parsed.uid, &parsed.full_name), (&pod.uid, &pod.full_name));
    assert_eq!(parsed.pod_labels, Map::from([("app".into(), "x".into())]));
    assert_eq!(
        sandbox_annotations(&pod),
        Map::from([("note".into(), "y".into())])
    );
    let labels = container_labels(&pod, &pod.containers()[0]);
    assert_eq!(labels.len(), 4, "no labels of the pod's own");
    let parsed = parse_container_labels(&labels).unwrap();
    assert_eq!(
        (parsed.uid, parsed.full_name, parsed.name.as_str()),
        (pod.uid, pod.full_name, "c")
    );
}

#[test]
fn what_is_not_a_pods_is_not_taken_for_one() {
    assert_eq!(parse_sandbox_labels(&Map::new()), None);
    let pod = pod_of("{containers: [{name: c}]}");
    assert_eq!(parse_container_labels(&sandbox_labels(&pod)), None);
}

#[test]
fn annotations_of_a_container_come_back_as_they_went() {
    let pod = pod(
        r#"{metadata: {deletionGracePeriodSeconds: 7}, spec: {terminationGracePeriodSeconds: 9, containers: [{name: c,
          terminationMessagePath: /m, terminationMessagePolicy: FallbackToLogsOnError,
          ports: [{name: p, containerPort: 80, hostPort: 8080, hostIP: 1.2.3.4, protocol: UDP}],
          lifecycle: {preStop: {httpGet: {port: web, path: "/a?<b>&c", httpHeaders: [{name: n, value: v}], scheme: HTTP}}}
          }]}}"#,
    );
    let container = &pod.containers()[0];
    let annotations = container_annotations(&pod, container, 4, "a785d335");
    assert_eq!(
        annotations["io.kubernetes.container.ports"],
        r#"[{"name":"p","hostPort":8080,"containerPort":80,"protocol":"UDP","hostIP":"1.2.3.4"}]"#
    );
    assert_eq!(
        annotations["io.kubernetes.container.preStopHandler"],
        "{\"httpGet\":{\"path\":\"/a?\\u003cb\\u003e\\u0026c\",\"port\":\"web\",\"scheme\":\"HTTP\",\
         \"httpHeaders\":[{\"name\":\"n\",\"value\":\"v\"}]}}"
    );
    let expected = ContainerAnnotations {
        hash: 0xa785_d335,
        restart_count: 4,
        deletion_grace_seconds: Some(7),
        termination_grace_seconds: Some(9),
        termination_message_path: "/m".into(),
        termination_message_policy: "FallbackToLogsOnError".into(),
        pre_stop: container.lifecycle.as_ref().unwrap().pre_stop.clone(),
        ports: container.ports.clone().unwrap(),
    };
    assert_eq!(parse_container_annotations(&annotations), expected);
}

#[test]
fn annotations_that_do_not_parse_read_as_nothing() {
    let broken = [
        HASH,
        RESTART_COUNT,
        DELETION_GRACE,
        TERMINATION_GRACE,
        PRE_STOP,
        PORTS,
    ]
    .map(|key| (key.to_owned(), "zz{".into()));
    assert_eq!(
        parse_container_annotations(&Map::from(broken)),
        ContainerAnnotations::default()
    );
}

//! Invalid request options: endpoint, option and value; upstream's code, reason and message.
//!
//! In:    requests
//! Out:   `Status` objects
//! Upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation_test.go, pkg/apis/core/validation
//!           TestValidatePodLogOptions

use super::*;

const LISTS: &str = "ListOptions.meta.k8s.io \"\" is invalid: ";
const INTEGER: &str = "strconv.ParseInt: parsing";

/// Method and path; query; code, reason, message.
type Row = (
    &'static str,
    &'static str,
    (u16, &'static str),
    &'static str,
);

const LIST: &str = "GET /api/v1/namespaces/default/configmaps";
const MANY: &str = "DELETE /api/v1/namespaces/default/configmaps";

const OF_LISTS: [Row; 14] = [
    (
        LIST,
        "limit=",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"\": invalid syntax",
    ),
    (
        LIST,
        "limit=many",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"many\": invalid syntax",
    ),
    (
        LIST,
        "timeoutSeconds=9223372036854775808",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
    ),
    (
        LIST,
        "resourceVersionMatch=Exact",
        (422, "Invalid"),
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
    ),
    (
        LIST,
        "resourceVersionMatch=Exact&resourceVersion=0",
        (422, "Invalid"),
        "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
    ),
    (
        LIST,
        "resourceVersionMatch=exact&resourceVersion=1",
        (422, "Invalid"),
        "resourceVersionMatch: Unsupported value: \"exact\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
    ),
    (
        LIST,
        "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
        (422, "Invalid"),
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
    ),
    (
        LIST,
        "sendInitialEvents=false",
        (422, "Invalid"),
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
    ),
    (
        LIST,
        "watch=1&sendInitialEvents=true",
        (422, "Invalid"),
        "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    ),
    (
        LIST,
        "watch=1&resourceVersionMatch=NotOlderThan",
        (422, "Invalid"),
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    ),
    (
        LIST,
        "watch=1&sendInitialEvents=1&resourceVersionMatch=Exact",
        (422, "Invalid"),
        "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
    ),
    (
        MANY,
        "resourceVersionMatch=NotOlderThan",
        (422, "Invalid"),
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
    ),
    (
        MANY,
        "limit=x",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"x\": invalid syntax",
    ),
    (
        MANY,
        "sendInitialEvents=",
        (422, "Invalid"),
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
    ),
];

const POST: &str = "POST /api/v1/namespaces/default/configmaps";
const PUT: &str = "PUT /api/v1/namespaces/default/configmaps/a";
const PATCH: &str = "PATCH /api/v1/namespaces/default/configmaps/a";
const DELETE: &str = "DELETE /api/v1/namespaces/default/configmaps/a";
const GET: &str = "GET /api/v1/namespaces/default/configmaps/a";
const BIND: &str = "POST /api/v1/namespaces/default/pods/p/binding";
const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";

const OF_OBJECTS: [Row; 20] = [
    (
        POST,
        "dryRun=Some",
        (422, "Invalid"),
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
    ),
    (
        POST,
        "dryRun=",
        (422, "Invalid"),
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"\"]: supported values: \"All\"",
    ),
    (
        POST,
        "fieldValidation=Maybe",
        (422, "Invalid"),
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
    ),
    (
        POST,
        "fieldManager=a%07b",
        (422, "Invalid"),
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\u0007b\": invalid character U+0007 (at position 1)",
    ),
    (
        PUT,
        "dryRun=All&dryRun=None",
        (422, "Invalid"),
        "UpdateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"All\",\"None\"]: supported values: \"All\"",
    ),
    (
        PATCH,
        "force=true",
        (422, "Invalid"),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
    ),
    (
        PATCH,
        "fieldValidation=strict",
        (422, "Invalid"),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"strict\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
    ),
    (
        BIND,
        "dryRun=1",
        (422, "Invalid"),
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"1\"]: supported values: \"All\"",
    ),
    (
        REVIEW,
        "dryRun=1",
        (422, "Invalid"),
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"1\"]: supported values: \"All\"",
    ),
    (
        DELETE,
        "gracePeriodSeconds=soon",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"soon\": invalid syntax",
    ),
    (
        DELETE,
        "propagationPolicy=background",
        (422, "Invalid"),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"background\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
    ),
    (
        DELETE,
        "propagationPolicy=Orphan&orphanDependents=false",
        (422, "Invalid"),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
    ),
    (
        DELETE,
        "dryRun=x",
        (422, "Invalid"),
        "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
    ),
    (DELETE, "resourceVersion=1", (409, "Conflict"), ""),
    (
        MANY,
        "dryRun=x",
        (422, "Invalid"),
        "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
    ),
    (
        GET,
        "export=true",
        (400, "BadRequest"),
        "the export parameter, deprecated since v1.14, is no longer supported",
    ),
    (
        GET,
        "resourceVersion=x",
        (400, "BadRequest"),
        "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
    ),
    (GET, "resourceVersion=999999", (504, "Timeout"), ""),
    (
        GET,
        "timeout=5",
        (400, "BadRequest"),
        "invalid timeout specified in the request URL - time: missing unit in duration \"5\"",
    ),
    (
        POST,
        "timeout=x",
        (400, "BadRequest"),
        "invalid timeout specified in the request URL - time: invalid duration \"x\"",
    ),
];

const LOG: &str = "GET /api/v1/namespaces/default/pods/p/log";
const FORWARD: &str = "POST /api/v1/namespaces/default/pods/p/portforward";
const EXEC: &str = "POST /api/v1/namespaces/default/pods/p/exec";

const OF_STREAMS: [Row; 13] = [
    (
        LOG,
        "tailLines=-1",
        (422, "Invalid"),
        "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        LOG,
        "limitBytes=0",
        (422, "Invalid"),
        "PodLogOptions \"p\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
    ),
    (
        LOG,
        "sinceSeconds=0",
        (422, "Invalid"),
        "PodLogOptions \"p\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        LOG,
        "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        (422, "Invalid"),
        "PodLogOptions \"p\" is invalid: : Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
    ),
    (
        LOG,
        "stream=Stdout",
        (422, "Invalid"),
        "PodLogOptions \"p\" is invalid: stream: Forbidden: may not be specified",
    ),
    (
        LOG,
        "tailLines=",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"\": invalid syntax",
    ),
    (
        LOG,
        "tailLines=all",
        (400, "BadRequest"),
        "strconv.ParseInt: parsing \"all\": invalid syntax",
    ),
    (
        LOG,
        "sinceTime=yesterday",
        (400, "BadRequest"),
        "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
    ),
    (
        LOG,
        "container=x",
        (400, "BadRequest"),
        "container x is not valid for pod p",
    ),
    (
        FORWARD,
        "ports=80,x",
        (400, "BadRequest"),
        "cannot convert to []int32: strconv.ParseUint: parsing \"x\": invalid syntax",
    ),
    (
        FORWARD,
        "ports=65536",
        (400, "BadRequest"),
        "cannot convert to []int32: strconv.ParseUint: parsing \"65536\": value out of range",
    ),
    (
        FORWARD,
        "ports=80",
        (400, "BadRequest"),
        "Upgrade request required",
    ),
    (
        EXEC,
        "command=ls",
        (400, "BadRequest"),
        "Upgrade request required",
    ),
];

async fn check(world: &World, rows: &[Row]) {
    for (line, query, (code, reason), message) in rows {
        // With a body, a deletion ignores the query.
        let body = match line.starts_with("DELETE") {
            true => Value::Null,
            false => json!({}),
        };
        let (got, answer) = world.ask(&format!("{line}?{query}"), body).await;
        let what = format!("{line}?{query}: {answer}");
        assert_eq!((got, &answer["kind"]), (*code, &json!("Status")), "{what}");
        assert_eq!(answer["reason"].as_str(), Some(*reason), "{what}");
        let shown = answer["message"].as_str().unwrap_or_default();
        let expected = match *code {
            422 if message.contains("is invalid") => (*message).to_owned(),
            422 => format!("{LISTS}{message}"),
            _ => (*message).to_owned(),
        };
        assert!(
            message.is_empty() || shown == expected,
            "{what}\n{expected}"
        );
        if *code == 422 {
            assert!(
                answer["details"]["causes"][0]["field"].is_string(),
                "{what}"
            );
        }
        assert!(!shown.contains(INTEGER) || *code == 400, "{what}");
    }
}

#[tokio::test]
async fn every_bad_option_has_upstreams_status() {
    let world = World::new().await;
    world.do_it(POST, json!({"metadata": {"name": "a"}})).await;
    let mut node = ready_node("n");
    node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 1}});
    world.do_it("POST /api/v1/nodes", node).await;
    world.do_it(&format!("POST {PODS}"), pod_on("p", "n")).await;
    check(&world, &OF_LISTS).await;
    check(&world, &OF_OBJECTS).await;
    check(&world, &OF_STREAMS).await;
    // None of them changed anything.
    assert_eq!(
        world.get(&format!("{CONFIG_MAPS}/a")).await["metadata"]["name"],
        "a"
    );
}

#[tokio::test]
async fn options_of_a_deletion_come_from_its_body_or_from_its_query() {
    let world = World::new().await;
    let path = format!("{PODS}/p");
    world.do_it(&format!("POST {PODS}"), pod_on("p", "n")).await;
    for (body, message) in [
        (
            json!({"propagationPolicy": "x"}),
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"x\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            json!({"kind": "Pod"}),
            "decoded object cannot be converted to DeleteOptions",
        ),
        (json!({"preconditions": {"uid": "u"}}), ""),
    ] {
        let (code, answer) = world.ask(&format!("DELETE {path}"), body).await;
        assert!((400..423).contains(&code), "{code} {answer}");
        let shown = answer["message"].as_str().unwrap();
        assert!(shown == message || message.is_empty() && shown.starts_with("Operation cannot be fulfilled on Pod \"p\": the UID in the precondition (u) does not match the UID in record ("), "{shown}");
    }
    // If there is a body, only the body counts; a negative grace period is one second.
    let line = format!("DELETE {path}?gracePeriodSeconds=20&dryRun=All");
    let marked = world.do_it(&line, json!({"gracePeriodSeconds": -7})).await;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
    let kept = world.get(&path).await;
    assert_eq!(kept["metadata"]["deletionGracePeriodSeconds"], 1);
}

#[tokio::test]
async fn a_table_shows_what_there_is_of_an_object_or_says_what_it_cannot() {
    let world = World::new().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let line = format!("{LIST}?includeObject=All");
    let (code, body) = world
        .send(&User::admin(), &line, &Value::Null, accept)
        .await;
    let answer = body.collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(code, 400);
    assert_eq!(
        answer["message"],
        "Unable to convert to Table as requested: includeObject: Invalid value: \"All\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

//! What a node's credential must not get by detours, and what a certificate is worth after its end.
//!
//! In:    a running node, its own certificate
//! Out:   every detour that led somewhere
//! Calls: main
//! Holds: each kind of detour has a control that must work, so that a refusal means something
//! Upstream: plugin/pkg/admission/noderestriction, pkg/apis/certificates/v1/helpers.go, pkg/controller/certificates/approver,
//!           staging/src/k8s.io/apiserver/pkg/endpoints/filters/impersonation (1.36)

use anyhow::{Context as _, bail};
use base64::Engine as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rig::clock;
use rig::http::{Body, Credential, Http};
use rig::node::NODE_NAME;
use serde_json::{Value, json};

use crate::identities::{Signer, Validity, of_node};
use crate::machine::Machine;
use crate::matrix::objects;
use crate::report::Report;
use crate::target::{ADMIN, PODS, Target, asked, is_ready, json_body, text};

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// What was found, in words.
type Found = Vec<String>;

fn status_of(
    http: &mut Http,
    method: &str,
    path: &str,
    body: &Value,
) -> anyhow::Result<(u16, Value)> {
    let bytes = body.to_string();
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = Body {
        kind,
        bytes: bytes.as_bytes(),
    };
    let (status, answer) = http.ask(method, path, Some(body))?;
    Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
}

/// All detours.
pub(crate) fn run(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    let target = Target::running(machine, "auth-escalation")?;
    objects(&target)?;
    let node = || Target::as_somebody(target.ports.api, &of_node(&target)?);
    report.none(
        "mirror pods that refer to what a node may not read",
        &mirrors(&target, &mut node()?)?,
    );
    report.none(
        "tokens that a node should not get",
        &tokens(&target, &mut node()?)?,
    );
    report.none(
        "certificates that a node should not get",
        &certificates(&target, &mut node()?)?,
    );
    report.none(
        "words of a node beside a status",
        &statuses(&target, &mut node()?)?,
    );
    report.none("impersonations", &impersonations(&target)?);
    Ok(())
}

/// A mirror pod of this node, as its kubelet would make it.
fn mirror(name: &str, node_uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default",
            "annotations": {
                "kubernetes.io/config.mirror": "0123456789abcdef", "kubernetes.io/config.hash": "0123456789abcdef",
                "kubernetes.io/config.source": "file",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": NODE_NAME, "uid": node_uid, "controller": true}],
        },
        "spec": {"nodeName": NODE_NAME, "containers": [{"name": "c", "image": "hyperkube.invalid/none:1"}]},
    })
}

/// What is put where in a mirror pod.
#[expect(
    clippy::too_many_lines,
    reason = "a table of requests, each with its answer"
)]
fn references() -> Vec<(&'static str, &'static str, Value)> {
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = json!("v");
        json!([volume])
    };
    let env = |from: Value| json!([{"name": "E", "valueFrom": from}]);
    let init = |fields: Value| {
        let mut container = fields;
        container["name"] = json!("i");
        container["image"] = json!("hyperkube.invalid/none:1");
        json!([container])
    };
    vec![
        (
            "env",
            "/spec/containers/0/env",
            env(json!({"secretKeyRef": {"name": "unused", "key": "k"}})),
        ),
        (
            "env of a config map",
            "/spec/containers/0/env",
            env(json!({"configMapKeyRef": {"name": "unused", "key": "k"}})),
        ),
        (
            "envFrom",
            "/spec/containers/0/envFrom",
            json!([{"secretRef": {"name": "unused"}}]),
        ),
        (
            "envFrom of a config map",
            "/spec/containers/0/envFrom",
            json!([{"configMapRef": {"name": "unused"}}]),
        ),
        (
            "env of an init container",
            "/spec/initContainers",
            init(json!({"env": env(json!({"secretKeyRef": {"name": "unused", "key": "k"}}))})),
        ),
        (
            "envFrom of an init container",
            "/spec/initContainers",
            init(json!({"envFrom": [{"secretRef": {"name": "unused"}}]})),
        ),
        (
            "imagePullSecrets",
            "/spec/imagePullSecrets",
            json!([{"name": "unused"}]),
        ),
        (
            "volume secret",
            "/spec/volumes",
            volume(json!({"secret": {"secretName": "unused"}})),
        ),
        (
            "volume configMap",
            "/spec/volumes",
            volume(json!({"configMap": {"name": "unused"}})),
        ),
        (
            "volume projected secret",
            "/spec/volumes",
            volume(json!({"projected": {"sources": [{"secret": {"name": "unused"}}]}})),
        ),
        (
            "volume projected configMap",
            "/spec/volumes",
            volume(json!({"projected": {"sources": [{"configMap": {"name": "unused"}}]}})),
        ),
        (
            "volume projected token",
            "/spec/volumes",
            volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
        ),
        (
            "volume claim",
            "/spec/volumes",
            volume(json!({"persistentVolumeClaim": {"claimName": "unused"}})),
        ),
        (
            "volume csi",
            "/spec/volumes",
            volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "unused"}}})),
        ),
        (
            "volume azureFile",
            "/spec/volumes",
            volume(json!({"azureFile": {"secretName": "unused", "shareName": "s"}})),
        ),
        (
            "volume cephfs",
            "/spec/volumes",
            volume(json!({"cephfs": {"monitors": ["m"], "secretRef": {"name": "unused"}}})),
        ),
        (
            "volume rbd",
            "/spec/volumes",
            volume(
                json!({"rbd": {"monitors": ["m"], "image": "i", "secretRef": {"name": "unused"}}}),
            ),
        ),
        (
            "volume iscsi",
            "/spec/volumes",
            volume(
                json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:a", "lun": 0, "secretRef": {"name": "unused"}}}),
            ),
        ),
        (
            "volume flexVolume",
            "/spec/volumes",
            volume(json!({"flexVolume": {"driver": "a/d", "secretRef": {"name": "unused"}}})),
        ),
        (
            "service account",
            "/spec/serviceAccountName",
            json!("default"),
        ),
        (
            "resource claims",
            "/spec/resourceClaims",
            json!([{"name": "r", "resourceClaimName": "unused"}]),
        ),
        ("another node", "/spec/nodeName", json!("elsewhere")),
        ("no owner", "/metadata/ownerReferences", json!([])),
    ]
}

/// Puts a value where the parent exists.
fn put(object: &mut Value, pointer: &str, value: Value) -> anyhow::Result<()> {
    let (parent, key) = pointer.rsplit_once('/').context("a pointer")?;
    let parent = object.pointer_mut(parent).context("a parent")?;
    parent[key] = value;
    Ok(())
}

fn mirrors(target: &Target<'_>, node: &mut Http) -> anyhow::Result<Found> {
    let path = format!("/api/v1/nodes/{NODE_NAME}");
    let own = asked(&mut target.api(), "GET", &path, None)?;
    let uid = text(&own, "/metadata/uid");
    let (status, said) = status_of(node, "POST", PODS, &mirror("control", uid))?;
    let mut found = Found::new();
    if status != 201 {
        found.push(format!(
            "the control, a plain mirror pod, is refused: {status} {}",
            text(&said, "/message")
        ));
    }
    for (number, (what, pointer, value)) in references().into_iter().enumerate() {
        let name = format!("mirror-{number}");
        let mut pod = mirror(&name, uid);
        put(&mut pod, pointer, value)?;
        let (status, _) = status_of(node, "POST", PODS, &pod)?;
        if status < 400 {
            let path = "/api/v1/namespaces/default/secrets/unused";
            let read = node.ask("GET", path, None)?.0;
            found.push(format!("{what}: {status} (the secret then: {read})"));
            let now = json!({"gracePeriodSeconds": 0});
            // The kubelet may have been faster: it knows no such static pod.
            status_of(&mut target.api(), "DELETE", &format!("{PODS}/{name}"), &now)?;
        }
    }
    Ok(found)
}

fn tokens(target: &Target<'_>, node: &mut Http) -> anyhow::Result<Found> {
    let pod = asked(&mut target.api(), "GET", &format!("{PODS}/user"), None)?;
    let uid = text(&pod, "/metadata/uid").to_owned();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = |kind: &str, name: &str, uid: &str| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid});
    let mut ask = |spec: Value| {
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        status_of(node, "POST", path, &request)
    };
    let mut found = Found::new();
    let (status, _) =
        ask(json!({"boundObjectRef": bound("Pod", "user", &uid), "expirationSeconds": 3607}))?;
    if status != 201 {
        found.push(format!(
            "the control, a token of the node's own pod, is refused: {status}"
        ));
    }
    let secret = asked(
        &mut target.api(),
        "GET",
        "/api/v1/namespaces/default/secrets/used",
        None,
    )?;
    let secret = text(&secret, "/metadata/uid").to_owned();
    let refused = [
        ("bound to nothing", json!({})),
        (
            "bound to a pod without its UID",
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "user"}}),
        ),
        (
            "bound to a pod with another UID",
            json!({"boundObjectRef": bound("Pod", "user", "00000000-0000-0000-0000-000000000000")}),
        ),
        (
            "bound to a secret",
            json!({"boundObjectRef": bound("Secret", "used", &secret)}),
        ),
        (
            "bound to the node",
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME}}),
        ),
        (
            "for an audience that the pod does not ask for",
            json!({"boundObjectRef": bound("Pod", "user", &uid), "audiences": ["vault"]}),
        ),
        (
            "of five minutes",
            json!({"boundObjectRef": bound("Pod", "user", &uid), "expirationSeconds": 300}),
        ),
        (
            "of more than 2^32 s",
            json!({"boundObjectRef": bound("Pod", "user", &uid), "expirationSeconds": 4_294_967_297_i64}),
        ),
    ];
    for (what, spec) in refused {
        let (status, _) = ask(spec)?;
        if status < 400 {
            found.push(format!("{what}: {status}"));
        }
    }
    let century = json!({"boundObjectRef": bound("Pod", "user", &uid), "expirationSeconds": 3_153_600_000_i64});
    let (status, answer) = ask(century)?;
    let granted = answer
        .pointer("/spec/expirationSeconds")
        .and_then(Value::as_i64);
    if status < 400 && granted.is_none_or(|seconds| seconds > 366 * 86_400) {
        found.push(format!(
            "of a hundred years: {status}, {granted:?} s granted"
        ));
    }
    Ok(found)
}

/// A signing request.
struct Wish<'a> {
    name: &'a str,
    organizations: &'a [&'a str],
    others: Vec<SanType>,
    signer: &'a str,
    usages: &'a [&'a str],
}

const SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVER_USE: [&str; 2] = ["digital signature", "server auth"];
const CLIENT_USE: [&str; 2] = ["digital signature", "client auth"];

impl Wish<'_> {
    fn object(&self) -> anyhow::Result<Value> {
        let key = KeyPair::generate()?;
        let mut wanted = CertificateParams::new(Vec::new())?;
        wanted.distinguished_name = DistinguishedName::new();
        for organization in self.organizations {
            wanted
                .distinguished_name
                .push(DnType::OrganizationName, *organization);
        }
        wanted
            .distinguished_name
            .push(DnType::CommonName, self.name);
        wanted.subject_alt_names.clone_from(&self.others);
        let pem = wanted.serialize_request(&key)?.pem()?;
        Ok(json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "attack-"},
            "spec": {
                "request": base64::engine::general_purpose::STANDARD.encode(pem),
                "signerName": self.signer, "usages": self.usages,
            },
        }))
    }
}

/// The status of the creation, and whether a certificate came within `limit` seconds.
fn wish(
    target: &Target<'_>,
    who: &mut Http,
    wish: &Wish<'_>,
    limit: f64,
) -> anyhow::Result<(u16, bool)> {
    let (status, made) = status_of(who, "POST", CSRS, &wish.object()?)?;
    if status != 201 {
        return Ok((status, false));
    }
    let path = format!("{CSRS}/{}", text(&made, "/metadata/name"));
    let signed = clock::poll("a certificate", 100, limit, || {
        let now = asked(&mut target.api(), "GET", &path, None)?;
        Ok((!text(&now, "/status/certificate").is_empty()).then_some(()))
    });
    Ok((status, signed.is_ok()))
}

#[expect(
    clippy::too_many_lines,
    reason = "a table of requests, each with its answer"
)]
fn certificates(target: &Target<'_>, node: &mut Http) -> anyhow::Result<Found> {
    let own = format!("system:node:{NODE_NAME}");
    let nodes: &[&str] = &["system:nodes"];
    let dns = |name: &str| -> anyhow::Result<Vec<SanType>> {
        Ok(vec![SanType::DnsName(name.to_owned().try_into()?)])
    };
    let serving = |others: Vec<SanType>| Wish {
        name: &own,
        organizations: nodes,
        others,
        signer: SERVING,
        usages: &SERVER_USE,
    };
    let client = |name, organizations, usages| Wish {
        name,
        organizations,
        others: Vec::new(),
        signer: CLIENT,
        usages,
    };
    let mut found = Found::new();
    let object = asked(
        &mut target.api(),
        "GET",
        &format!("/api/v1/nodes/{NODE_NAME}"),
        None,
    )?;
    let addresses = object
        .pointer("/status/addresses")
        .and_then(Value::as_array);
    let address = addresses
        .into_iter()
        .flatten()
        .find_map(|one| text(one, "/address").parse().ok())
        .context("the node has an address")?;
    let control = wish(
        target,
        node,
        &serving(vec![SanType::IpAddress(address)]),
        10.0,
    )?;
    if !control.1 {
        found.push(format!(
            "the control, a serving certificate for {address}, was not signed: {}",
            control.0
        ));
    }
    let mut wishes = Vec::new();
    for name in [
        "kubernetes",
        "kubernetes.default.svc",
        "localhost",
        "google.com",
        "elsewhere",
    ] {
        wishes.push((format!("serving {name}"), serving(dns(name)?)));
    }
    wishes.push((
        "serving 127.0.0.53".to_owned(),
        serving(vec![SanType::IpAddress([127, 0, 0, 53].into())]),
    ));
    wishes.push((
        "serving a mail address".to_owned(),
        serving(vec![SanType::Rfc822Name("a@b.c".to_owned().try_into()?)]),
    ));
    wishes.push((
        "serving a URI".to_owned(),
        serving(vec![SanType::URI("https://a/b".to_owned().try_into()?)]),
    ));
    wishes.push((
        "serving with client auth".to_owned(),
        Wish {
            usages: &["digital signature", "server auth", "client auth"],
            ..serving(vec![SanType::IpAddress(address)])
        },
    ));
    wishes.push((
        "serving, two organizations".to_owned(),
        Wish {
            organizations: &["system:nodes", "system:masters"],
            ..serving(vec![SanType::IpAddress(address)])
        },
    ));
    wishes.push((
        "client, two organizations".to_owned(),
        client(&own, &["system:nodes", "system:masters"], &CLIENT_USE),
    ));
    wishes.push((
        "client of masters".to_owned(),
        client(&own, &["system:masters"], &CLIENT_USE),
    ));
    wishes.push((
        "client, another node".to_owned(),
        client("system:node:elsewhere", nodes, &CLIENT_USE),
    ));
    wishes.push((
        "client with server auth".to_owned(),
        client(
            &own,
            nodes,
            &["digital signature", "client auth", "server auth"],
        ),
    ));
    wishes.push((
        "client for signing".to_owned(),
        client(
            &own,
            nodes,
            &["digital signature", "client auth", "cert sign"],
        ),
    ));
    for (what, one) in &wishes {
        let (status, signed) = wish(target, node, one, 2.0)?;
        if signed {
            found.push(format!("{what}: {status}, signed"));
        }
    }
    Ok(found)
}

/// What a patch of a status must not change.
fn statuses(target: &Target<'_>, node: &mut Http) -> anyhow::Result<Found> {
    let path = format!("{PODS}/user");
    let mut found = Found::new();
    let tries = [
        (
            "a label",
            "/metadata/labels",
            json!({"metadata": {"labels": {"attack": "was here"}}}),
        ),
        (
            "an owner",
            "/metadata/ownerReferences",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": NODE_NAME, "uid": "1"}]}}),
        ),
        (
            "the node's name",
            "/spec/nodeName",
            json!({"spec": {"nodeName": "elsewhere"}}),
        ),
        (
            "an image",
            "/spec/containers/0/image",
            json!({"spec": {"containers": [{"name": "main", "image": "hyperkube.invalid/none:1"}]}}),
        ),
        (
            "a resource claim",
            "/status/resourceClaimStatuses",
            json!({"status": {"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "c"}]}}),
        ),
        (
            "a deletion",
            "/metadata/deletionTimestamp",
            json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}),
        ),
        (
            "an annotation of mirrors",
            "/metadata/annotations",
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}),
        ),
    ];
    for (what, pointer, patch) in tries {
        let before = asked(&mut target.api(), "GET", &path, None)?;
        let (status, _) = status_of(node, "PATCH", &format!("{path}/status"), &patch)?;
        // A deletion, or a mirror without its static pod, that was taken for true ends the pod within a second or two.
        let ends = ["/metadata/deletionTimestamp", "/metadata/annotations"].contains(&pointer);
        clock::pause_ms(if ends { 4000 } else { 0 });
        let Ok(after) = asked(&mut target.api(), "GET", &path, None) else {
            found.push(format!("{what}: {status}, the pod is gone"));
            return Ok(found);
        };
        if before.pointer(pointer) != after.pointer(pointer) {
            found.push(format!(
                "{what}: {status}, {:?} became {:?}",
                before.pointer(pointer),
                after.pointer(pointer)
            ));
        }
    }
    let now = asked(&mut target.api(), "GET", &path, None)?;
    if !is_ready(&now) {
        found.push("the pod is not Ready any more".to_owned());
    }
    Ok(found)
}

/// Headers, the status expected, and what the answer must and must not say.
struct Mask {
    what: &'static str,
    headers: &'static str,
    right: &'static [u16],
    says: &'static [&'static str],
    never: &'static [&'static str],
}

const MASKS: [Mask; 7] = [
    Mask {
        what: "a UID without a user",
        headers: "Impersonate-Uid: 1\r\n",
        right: &[400, 403, 500],
        says: &[],
        never: &[],
    },
    Mask {
        what: "groups without a user",
        headers: "Impersonate-Group: system:masters\r\n",
        right: &[400, 403, 500],
        says: &[],
        never: &[],
    },
    Mask {
        what: "a user, a UID, extra",
        headers: "Impersonate-User: jane\r\nImpersonate-Uid: u-1\r\nImpersonate-Extra-Scopes: view\r\nImpersonate-Group: devs\r\n",
        right: &[201],
        says: &[
            "\"jane\"",
            "\"u-1\"",
            "\"scopes\"",
            "\"view\"",
            "\"devs\"",
            "system:authenticated",
        ],
        never: &["system:masters"],
    },
    Mask {
        what: "extra, escaped",
        headers: "Impersonate-User: jane\r\nImpersonate-Extra-Example.com%2fScope: view\r\n",
        right: &[201],
        says: &["example.com/scope"],
        never: &[],
    },
    Mask {
        what: "a service account",
        headers: "Impersonate-User: system:serviceaccount:default:default\r\n",
        right: &[201],
        says: &[
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated",
        ],
        never: &[],
    },
    Mask {
        what: "nobody",
        headers: "Impersonate-User: system:anonymous\r\n",
        // Who is not authenticated may not ask who he is; if he may, he is told so.
        right: &[201, 401, 403],
        says: &[],
        never: &["system:authenticated"],
    },
    Mask {
        what: "nobody, with a group",
        headers: "Impersonate-User: system:anonymous\r\nImpersonate-Group: system:unauthenticated\r\n",
        right: &[201, 401, 403],
        says: &[],
        never: &["system:authenticated"],
    },
];

fn impersonations(target: &Target<'_>) -> anyhow::Result<Found> {
    let mut found = Found::new();
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let admin = Credential::Token(ADMIN.to_owned());
    for mask in MASKS {
        let mut http = Target::as_somebody(target.ports.api, &admin)?.with(mask.headers);
        let (status, answer) = http.ask("POST", REVIEW, Some(json_body(review.as_bytes())))?;
        let answer = String::from_utf8_lossy(&answer);
        if !mask.right.contains(&status) {
            found.push(format!(
                "{}: {status}, expected {:?}",
                mask.what, mask.right
            ));
        }
        if status == 201 {
            let missing = mask.says.iter().filter(|word| !answer.contains(**word));
            found.extend(missing.map(|word| format!("{}: the answer lacks {word}", mask.what)));
            let extra = mask.never.iter().filter(|word| answer.contains(**word));
            found.extend(extra.map(|word| format!("{}: the answer has {word}", mask.what)));
        }
    }
    // Nobody but an administrator may be somebody else.
    let node = of_node(target)?;
    for headers in [
        "Impersonate-User: kubernetes-admin\r\n",
        "Impersonate-User: jane\r\nImpersonate-Group: system:masters\r\n",
    ] {
        let mut http = Target::as_somebody(target.ports.api, &node)?.with(headers);
        let (status, _) = http.ask("GET", "/api/v1/nodes", None)?;
        if status != 403 {
            found.push(format!("a node with {headers:?}: {status}, expected 403"));
        }
    }
    // Whoever is nobody, or bound to less, reads no secrets.
    for user in [
        "system:anonymous",
        "system:serviceaccount:default:default",
        "system:node:elsewhere",
    ] {
        let headers = format!("Impersonate-User: {user}\r\n");
        let mut http = Target::as_somebody(target.ports.api, &admin)?.with(&headers);
        let (status, _) = http.ask("GET", "/api/v1/secrets", None)?;
        if ![401, 403].contains(&status) {
            found.push(format!("{user} reads secrets: {status}"));
        }
    }
    Ok(found)
}

/// A certificate that ends while its connection lives.
pub(crate) fn expiry(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    let target = Target::running(machine, "auth-expiry")?;
    let soon = Validity {
        from: -60.0,
        until: 6.0,
    };
    let until = clock::now() + soon.until;
    let who = Signer::own(&target)?.client("kubernetes-admin", &["system:masters"], soon)?;
    let mut found = Found::new();
    let mut open = Vec::new();
    for (port, path) in [
        (target.ports.api, "/api/v1/nodes"),
        (target.ports.main, "/pods"),
    ] {
        let mut http = Target::as_somebody(port, &who)?;
        let (status, _) = http.ask("GET", path, None)?;
        if status != 200 {
            bail!("the control: {path} is {status} while the certificate is good");
        }
        open.push((http, path));
    }
    // A certificate's dates are whole seconds.
    let rest = (until + 2.0 - clock::now()).max(0.0);
    clock::pause_ms((rest * 1000.0) as u64);
    for (mut http, path) in open {
        // A connection that was ended is right, too.
        match http.ask("GET", path, None) {
            Ok((401, _)) | Err(_) => {}
            Ok((status, _)) => found.push(format!("{path} on the old connection: {status}")),
        }
    }
    report.none(
        "requests of an expired certificate that were served",
        &found,
    );
    Ok(())
}

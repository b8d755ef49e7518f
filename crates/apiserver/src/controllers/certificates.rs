//! Signing requests of the node: approved when they are what a kubelet may ask, and signed.
//!
//! In:    signing requests
//! Out:   an `Approved` condition; the certificate; `Failed` with the reason for one that cannot be signed
//! Calls: `controllers`
//! Holds: nothing is approved but a kubelet's own client and serving certificates; what somebody else approved is signed if it is
//!        of a signer that we are, and well formed
//! Upstream: pkg/controller/certificates/{approver,signer}, pkg/apis/certificates/v1/helpers.go (1.36); differences: serving
//!           certificates are approved too (upstream leaves them to the administrator)

use serde_json::{Value, json};

use super::namespaces::change;
use crate::authority::{LEAF_SECONDS, Request};
use crate::encoding::{base64, from_base64};
use crate::failure::Failure;
use crate::object::{self, list, map_mut, number, text};
use crate::registry::{Place, Through};
use crate::resources::by_storage;
use crate::server::Inner;
use crate::user::User;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const STORAGE: &str = "certificatesigningrequests.certificates.k8s.io";
/// The shortest life that a request may ask for.
const SHORTEST: i64 = 600;

pub(super) async fn run(server: &Inner) -> Result<(), Failure> {
    let Some(resource) = by_storage(STORAGE) else {
        return Ok(());
    };
    for request in server.registry.store.list(&resource.prefix(None)).objects {
        let value = request.value();
        let conditions = list(&value, "/status/conditions");
        let has = |kind: &str| conditions.iter().any(|c| text(c, "/type") == kind);
        let signer = text(&value, "/spec/signerName");
        let done =
            !text(&value, "/status/certificate").is_empty() || has("Denied") || has("Failed");
        if done || ![CLIENT, SERVING].contains(&signer) {
            continue;
        }
        let place = Place {
            resource,
            namespace: "",
            name: object::name(&value),
        };
        let parsed =
            parse(&value).and_then(|parsed| well_formed(signer, &parsed, &value).map(|()| parsed));
        let now = object::time(server.registry.now());
        match parsed {
            Err(why) if has("Approved") => {
                fail(server, place, &why, &now).await?;
            }
            Err(why) => tracing::debug!(
                request = place.name,
                why,
                "A signing request is left to the administrator"
            ),
            Ok(parsed) if has("Approved") => sign(server, place, &parsed, &value).await?,
            Ok(parsed) => {
                if is_the_nodes_own(&value, &parsed) {
                    approve(server, place, &now).await?;
                    sign(server, place, &parsed, &value).await?;
                }
            }
        }
    }
    Ok(())
}

fn parse(value: &Value) -> Result<Request, String> {
    let pem = from_base64(text(value, "/spec/request")).ok_or("spec.request is not base64")?;
    let usages = list(value, "/spec/usages")
        .iter()
        .filter_map(|u| u.as_str().map(str::to_owned));
    Request::parse(&pem, usages.collect())
}

/// What the signer demands of every request.
fn well_formed(signer: &str, request: &Request, value: &Value) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    if request.organizations != ["system:nodes"] {
        return refuse("subject organization is not system:nodes");
    }
    if !request.common_name.starts_with("system:node:") {
        return refuse("subject common name does not begin with system:node:");
    }
    if request.other_names > 0 {
        return refuse("URI or email subjectAltNames are not allowed");
    }
    let (purpose, forbidden) = match signer {
        SERVING => ("server auth", "client auth"),
        _ => ("client auth", "server auth"),
    };
    let allowed = ["key encipherment", "digital signature", purpose];
    let usages = &request.usages;
    if !usages.iter().all(|usage| allowed.contains(&usage.as_str()))
        || !usages.iter().any(|usage| usage == purpose)
        || usages.iter().any(|usage| usage == forbidden)
    {
        return Err(format!("usages did not match {allowed:?}"));
    }
    match signer {
        SERVING if request.dns_or_ip == 0 => refuse("DNS or IP subjectAltName is required"),
        SERVING if text(value, "/spec/username") != request.common_name => {
            refuse("subject common name is not the requester's name")
        }
        CLIENT if request.dns_or_ip > 0 => refuse("DNS and IP subjectAltNames are not allowed"),
        _ => Ok(()),
    }
}

/// Asked by the node itself, or for a client certificate by somebody with a bootstrap credential.
fn is_the_nodes_own(value: &Value, request: &Request) -> bool {
    let groups = list(value, "/spec/groups").iter().filter_map(Value::as_str);
    let groups: Vec<&str> = groups.collect();
    let asker = User::new(text(value, "/spec/username"), &groups);
    let own = asker.node_name().is_some() && asker.name == request.common_name;
    let bootstraps = asker.is_in("system:bootstrappers") || asker.is_in("system:masters");
    own || (bootstraps && text(value, "/spec/signerName") == CLIENT)
}

fn with_condition(old: &Value, condition: &Value) -> Value {
    let mut new = old.clone();
    let mut conditions = list(old, "/status/conditions").to_vec();
    conditions.push(condition.clone());
    map_mut(&mut new, "status").insert("conditions".to_owned(), conditions.into());
    new
}

async fn approve(server: &Inner, place: Place<'_>, now: &str) -> Result<(), Failure> {
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "AutoApproved",
        "message": "Auto approving kubelet client certificate after SubjectAccessReview.",
        "lastUpdateTime": now, "lastTransitionTime": now,
    });
    change(&server.registry, place, Through::Sub, |old| {
        Ok(with_condition(old, &condition))
    })
    .await
}

async fn fail(server: &Inner, place: Place<'_>, why: &str, now: &str) -> Result<(), Failure> {
    let condition = json!({
        "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
        "lastUpdateTime": now, "lastTransitionTime": now,
    });
    change(&server.registry, place, Through::Sub, |old| {
        Ok(with_condition(old, &condition))
    })
    .await
}

async fn sign(
    server: &Inner,
    place: Place<'_>,
    request: &Request,
    value: &Value,
) -> Result<(), Failure> {
    let seconds = number(value, "/spec/expirationSeconds").unwrap_or(LEAF_SECONDS);
    let seconds = seconds.clamp(SHORTEST, LEAF_SECONDS);
    let registry = &server.registry;
    let signed = server
        .authority
        .sign(request, seconds, &registry.chance, registry.now());
    let certificate = base64(signed.map_err(Failure::internal)?.as_bytes());
    let set = |old: &Value| {
        let mut new = old.clone();
        map_mut(&mut new, "status").insert("certificate".to_owned(), certificate.clone().into());
        Ok(new)
    };
    change(registry, place, Through::Sub, set).await
}

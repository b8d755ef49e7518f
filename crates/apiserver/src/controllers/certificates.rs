//! Approves and signs the kubelets' certificate signing requests (CSRs).
//!
//! In:    CSRs
//! Out:   an `Approved` condition; the certificate; a `Failed` condition with the reason if the CSR cannot be signed; CSRs that
//!        have expired are deleted
//! Calls: `controllers`
//! Holds: only a kubelet's own client and serving certificates are approved. A serving certificate is approved only for
//!        addresses that the Node has, that no other Node has, and that are not the API server's. A CSR that somebody else
//!        approved is signed if it is well formed and names one of our signers
//! Upstream: pkg/controller/certificates/{approver,signer}, pkg/apis/certificates/v1/helpers.go (1.36); differences: serving
//!           certificates are approved too (upstream leaves them to the administrator)

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::namespaces::change;
use crate::base::encoding::{base64, from_base64};
use crate::base::failure::Failure;
use crate::base::object::{self, list, map_mut, number, text};
use crate::base::user::User;
use crate::identity::authority::{LEAF_SECONDS, Request};
use crate::kinds::resources::{NameRule, by_storage};
use crate::registry::{DeleteOptions, ObjectPath, Registry, Through};
use crate::verbs::state::Inner;

mod cleaner;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const STORAGE: &str = "certificatesigningrequests.certificates.k8s.io";
/// The shortest duration that a CSR may request, in seconds.
const SHORTEST: i64 = 600;

/// CSRs that were checked and left alone, each with the facts that the verdict depends on. While those are unchanged, the CSR
/// is not verified again.
#[derive(Debug, Default)]
pub(super) struct Verdicts(BTreeMap<String, Grounds>);

/// The version of the CSR, and what the Nodes say about the addresses of its requester.
type Grounds = (u64, Arc<str>);

/// The result of a check.
enum Verdict {
    Answered,
    /// Left alone: only a new version of the CSR or changed Node addresses can alter that.
    Left,
}

/// Every CSR is handled, even if another one fails; the first error is returned.
pub(super) async fn run(server: &Inner, verdicts: &mut Verdicts) -> Result<(), Failure> {
    let Some(resource) = by_storage(STORAGE) else {
        return Ok(());
    };
    let addresses = Addresses::of(&server.registry);
    let mut grounds: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let mut before = std::mem::take(&mut verdicts.0);
    let mut done = Ok(());
    for request in server.registry.store.list(&resource.prefix(None)).objects {
        let value = request.value();
        let place = ObjectPath {
            resource,
            namespace: "",
            name: object::name(&value),
        };
        if cleaner::is_over(&value, server.registry.now()) {
            done = done.and(remove(server, place).await);
            continue;
        }
        if !waits(&value) {
            continue;
        }
        let asker = text(&value, "/spec/username");
        let node = asker.strip_prefix("system:node:").unwrap_or_default();
        let said = grounds
            .entry(node.to_owned())
            .or_insert_with(|| addresses.grounds(node).into());
        let hangs_on = (request.version, Arc::clone(said));
        if before.remove(&*request.key).as_ref() != Some(&hangs_on) {
            // Verifying a signature takes CPU time; requests go first.
            tokio::task::yield_now().await;
            match look(server, &addresses, place, &value).await {
                Ok(Verdict::Left) => {}
                Ok(Verdict::Answered) => continue,
                Err(failure) => {
                    done = done.and(Err(failure));
                    continue;
                }
            }
        }
        verdicts.0.insert(request.key.to_string(), hangs_on);
    }
    done
}

/// Whether the CSR has one of our signers and is neither signed, denied nor failed.
fn waits(value: &Value) -> bool {
    let is_ours = [CLIENT, SERVING].contains(&text(value, "/spec/signerName"));
    let is_answered = !text(value, "/status/certificate").is_empty();
    is_ours && !is_answered && !has(value, "Denied") && !has(value, "Failed")
}

fn has(value: &Value, kind: &str) -> bool {
    let conditions = list(value, "/status/conditions");
    conditions.iter().any(|c| text(c, "/type") == kind)
}

async fn look(
    server: &Inner,
    addresses: &Addresses,
    place: ObjectPath<'_>,
    value: &Value,
) -> Result<Verdict, Failure> {
    let signer = text(value, "/spec/signerName");
    let parsed =
        parse(value).and_then(|parsed| well_formed(signer, &parsed, value).map(|()| parsed));
    let now = object::time(server.registry.now());
    let is_approved = has(value, "Approved");
    match parsed {
        Err(why) if is_approved => fail(server, place, &why, &now).await?,
        Err(why) => {
            tracing::debug!(
                request = place.name,
                why,
                "The CSR is not approved automatically"
            );
            return Ok(Verdict::Left);
        }
        Ok(parsed) => {
            if !is_approved {
                let Some(message) = approval(server, addresses, value, &parsed) else {
                    return Ok(Verdict::Left);
                };
                approve(server, place, message, &now).await?;
            }
            sign(server, place, &parsed, value).await?;
        }
    }
    Ok(Verdict::Answered)
}

async fn remove(server: &Inner, place: ObjectPath<'_>) -> Result<(), Failure> {
    let options = DeleteOptions::default();
    match server.registry.delete(place, &options).await {
        Err(failure) if failure.code != 404 => Err(failure),
        _ => Ok(()),
    }
}

fn parse(value: &Value) -> Result<Request, String> {
    let pem = from_base64(text(value, "/spec/request")).ok_or("spec.request is not base64")?;
    let usages = list(value, "/spec/usages")
        .iter()
        .filter_map(|u| u.as_str().map(str::to_owned));
    Request::parse(&pem, usages.collect())
}

/// The signer's requirements for every CSR, in upstream's order and words.
fn well_formed(signer: &str, request: &Request, value: &Value) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    let serving = signer == SERVING;
    if request.organizations != ["system:nodes"] {
        return refuse("subject organization is not system:nodes");
    }
    if serving && request.dns.is_empty() && request.ips.is_empty() {
        return refuse("DNS or IP subjectAltName is required");
    }
    if !serving && !request.dns.is_empty() {
        return refuse("DNS subjectAltNames are not allowed");
    }
    if request.emails > 0 {
        return refuse("Email subjectAltNames are not allowed");
    }
    if !serving && !request.ips.is_empty() {
        return refuse("IP subjectAltNames are not allowed");
    }
    if request.uris > 0 {
        return refuse("URI subjectAltNames are not allowed");
    }
    if !request.common_name.starts_with("system:node:") {
        return refuse("subject common name does not begin with system:node:");
    }
    let purpose = if serving {
        "server auth"
    } else {
        "client auth"
    };
    let mut wanted: Vec<&str> = request.usages.iter().map(String::as_str).collect();
    wanted.retain(|usage| *usage != "key encipherment");
    let mut required = ["digital signature", purpose];
    required.sort_unstable();
    if wanted != required {
        let mut all = ["digital signature", "key encipherment", purpose];
        all.sort_unstable();
        return Err(format!("usages did not match [{}]", all.join(" ")));
    }
    if serving && text(value, "/spec/username") != request.common_name {
        return refuse("subject common name is not the requester's name");
    }
    Ok(())
}

/// The message of an automatic approval: the requester is the node itself or, for a client certificate, somebody with a
/// bootstrap credential.
fn approval(
    server: &Inner,
    addresses: &Addresses,
    value: &Value,
    request: &Request,
) -> Option<&'static str> {
    let groups = list(value, "/spec/groups").iter().filter_map(Value::as_str);
    let groups: Vec<&str> = groups.collect();
    let asker = User::new(text(value, "/spec/username"), &groups);
    let own = asker.name == request.common_name;
    let own = asker.node_name().filter(|_| own);
    let bootstraps = asker.is_in("system:bootstrappers") || asker.is_in("system:masters");
    match (text(value, "/spec/signerName"), own) {
        (SERVING, Some(node)) => match refusal(server, addresses, node, request) {
            None => Some("Auto approving kubelet serving certificate for addresses of the node."),
            Some(why) => {
                let name = object::name(value);
                tracing::warn!(
                    request = name,
                    node,
                    why,
                    "The CSR for a kubelet's serving certificate is not approved automatically"
                );
                None
            }
        },
        (CLIENT, Some(_)) => {
            Some("Auto approving self kubelet client certificate after SubjectAccessReview.")
        }
        (CLIENT, None) if bootstraps => {
            Some("Auto approving kubelet client certificate after SubjectAccessReview.")
        }
        _ => None,
    }
}

/// Why a serving certificate is refused: each name and address must belong to this Node and to no other.
fn refusal(server: &Inner, addresses: &Addresses, node: &str, request: &Request) -> Option<String> {
    let dns = request.dns.iter().map(|name| name.to_lowercase());
    let strange = dns.clone().find(|name| !may_be_a_nodes(name));
    let ips = request.ips.iter().map(IpAddr::to_canonical);
    let strange_ip = ips.clone().find(|ip| !may_be_a_nodes_address(*ip));
    if let Some(name) = strange.or(strange_ip.map(|ip| ip.to_string())) {
        return Some(format!("{name} may not belong to a Node"));
    }
    let mut all = dns.chain(ips.map(|ip| ip.to_string()));
    all.find_map(|name| {
        if node != server.own_names.node
            && server.own_names.names.iter().any(|own| plain(own) == name)
        {
            return Some(format!("{name} belongs to the API server"));
        }
        addresses.refusal(node, &name)
    })
}

/// An address in canonical form, or a name in lower case, for comparisons.
fn plain(text: &str) -> String {
    let ip = text.parse::<IpAddr>();
    ip.map_or_else(|_| text.to_lowercase(), |ip| ip.to_canonical().to_string())
}

/// The names and addresses of all Nodes.
#[derive(Default)]
struct Addresses {
    /// Addresses by Node.
    of: BTreeMap<String, BTreeSet<String>>,
    /// Nodes by address and by name.
    holders: BTreeMap<String, BTreeSet<String>>,
}

impl Addresses {
    fn of(registry: &Registry) -> Self {
        let mut all = Self::default();
        for node in &registry.store.list("nodes/").objects {
            let value = node.value();
            let name = object::name(&value).to_owned();
            let addresses = list(&value, "/status/addresses").iter();
            let addresses: BTreeSet<String> =
                addresses.map(|one| plain(text(one, "/address"))).collect();
            for held in addresses.iter().chain([&name]) {
                let holders = all.holders.entry(held.clone()).or_default();
                holders.insert(name.clone());
            }
            all.of.insert(name, addresses);
        }
        all
    }

    /// Another Node that has the same address or name.
    fn other(&self, node: &str, name: &str) -> Option<&str> {
        let holders = self.holders.get(name).into_iter().flatten();
        holders.map(String::as_str).find(|holder| *holder != node)
    }

    /// All that the verdict about a Node's CSR depends on: its addresses, and which other Nodes have them.
    fn grounds(&self, node: &str) -> String {
        let own = self.of.get(node).into_iter().flatten();
        let lines =
            own.map(|name| format!("{name} {}\n", self.other(node, name).unwrap_or_default()));
        lines.collect()
    }

    fn refusal(&self, node: &str, name: &str) -> Option<String> {
        if !self.of.get(node).is_some_and(|own| own.contains(name)) {
            return Some(format!("{name} is not among the addresses of the Node"));
        }
        let other = self.other(node, name)?;
        Some(format!("{name} also belongs to Node {other}"))
    }
}

/// Whether a kubelet may get a certificate for this name. A kubelet writes its Node's addresses itself, and the API server's
/// certificate has the same CA; so names by which clients reach the API server or a Service are refused.
fn may_be_a_nodes(name: &str) -> bool {
    let is_servers = ["kubernetes", "kubernetes.default", "localhost"].contains(&name)
        || name.starts_with("kubernetes.default.");
    let ends = [".svc", ".cluster.local", ".localhost"];
    let is_clusters = is_servers || ends.iter().any(|end| name.ends_with(end));
    NameRule::Subdomain.check(name).is_empty() && !is_clusters
}

/// The same for addresses: loopback addresses and Service addresses are refused.
fn may_be_a_nodes_address(ip: IpAddr) -> bool {
    let of_services = matches!(ip, IpAddr::V4(four) if four.octets().starts_with(&[10, 96]));
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || of_services)
}

fn with_condition(old: &Value, condition: &Value) -> Value {
    let mut new = old.clone();
    let mut conditions = list(old, "/status/conditions").to_vec();
    conditions.push(condition.clone());
    map_mut(&mut new, "status").insert("conditions".to_owned(), conditions.into());
    new
}

async fn approve(
    server: &Inner,
    place: ObjectPath<'_>,
    message: &str,
    now: &str,
) -> Result<(), Failure> {
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now,
    });
    change(&server.registry, place, Through::Sub, |old| {
        Ok(with_condition(old, &condition))
    })
    .await
}

async fn fail(server: &Inner, place: ObjectPath<'_>, why: &str, now: &str) -> Result<(), Failure> {
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
    place: ObjectPath<'_>,
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

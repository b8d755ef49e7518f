//! The API objects that a pod or a volume refers to.
//!
//! In:    a pod, a persistent volume
//! Out:   names of secrets, config maps and claims; the references between a node and them; why a pod may not be a mirror pod
//! Calls: `store` (ties, by which `authz` knows what a kubelet may read), `admission` (what a kubelet may create)
//! Holds: both use this module, so neither misses a reference that the other sees; all sources of a volume count, although a
//!        valid volume has only one
//! Upstream: pkg/api/pod/util.go, pkg/api/v1/pod/util.go, pkg/api/v1/persistentvolume/util.go (1.36); differences: none known

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::object::{self, list, text};
use crate::base::pod::{CONTAINER_LISTS, is_mirror};
use crate::store::{Thing, Tie};

/// Volume sources with a secret under `secretRef`.
const WITH_SECRET_REF: [&str; 7] = [
    "cephfs",
    "cinder",
    "flexVolume",
    "iscsi",
    "rbd",
    "scaleIO",
    "storageos",
];

/// Volume sources that need no API object.
const WITHOUT_REFERENCE: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Volume sources that are or need an API object, and upstream's name for that object.
const WITH_REFERENCE: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    (
        "ephemeral",
        "persistentvolumeclaims (via ephemeral volumes)",
    ),
    ("azureFile", "secrets (via azureFile volumes)"),
];

/// The same for projected sources.
const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    (
        "serviceAccountToken",
        "serviceaccounts (via projected volumes)",
    ),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    CONTAINER_LISTS
        .into_iter()
        .flat_map(move |which| list(pod, &format!("/spec/{which}")))
}

pub(crate) fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/spec/volumes").iter()
}

/// The references of one kind in the containers' environment.
fn env_names<'a>(
    pod: &'a Value,
    key: &'static str,
    source: &'static str,
) -> impl Iterator<Item = &'a str> {
    containers(pod).flat_map(move |container| {
        let single = list(container, "/env")
            .iter()
            .map(move |variable| text(variable, key));
        let whole = list(container, "/envFrom")
            .iter()
            .map(move |from| text(from, source));
        single.chain(whole)
    })
}

/// The service account of a pod, from the current or the deprecated field.
pub(crate) fn service_account(pod: &Value) -> &str {
    match text(pod, "/spec/serviceAccountName") {
        "" => text(pod, "/spec/serviceAccount"),
        name => name,
    }
}

/// Secrets that the pod names. Secrets of the volumes behind its claims are not included.
pub(crate) fn secret_names(pod: &Value) -> impl Iterator<Item = &str> {
    let pulls = list(pod, "/spec/imagePullSecrets")
        .iter()
        .map(|s| text(s, "/name"));
    let mounted = volumes(pod).flat_map(|volume| {
        let of_driver = WITH_SECRET_REF
            .into_iter()
            .map(|d| text(&volume[d], "/secretRef/name"));
        let projected = list(volume, "/projected/sources")
            .iter()
            .map(|s| text(s, "/secret/name"));
        [
            text(volume, "/secret/secretName"),
            text(volume, "/csi/nodePublishSecretRef/name"),
            text(volume, "/azureFile/secretName"),
        ]
        .into_iter()
        .chain(of_driver)
        .chain(projected)
    });
    let env = env_names(pod, "/valueFrom/secretKeyRef/name", "/secretRef/name");
    let all = pulls.chain(mounted).chain(env);
    all.filter(|name| !name.is_empty())
}

/// Config maps that a pod names.
pub(crate) fn config_map_names(pod: &Value) -> impl Iterator<Item = &str> {
    let mounted = volumes(pod).flat_map(|volume| {
        let projected = list(volume, "/projected/sources")
            .iter()
            .map(|s| text(s, "/configMap/name"));
        [text(volume, "/configMap/name")]
            .into_iter()
            .chain(projected)
    });
    let env = env_names(pod, "/valueFrom/configMapKeyRef/name", "/configMapRef/name");
    mounted.chain(env).filter(|name| !name.is_empty())
}

/// The claim of a volume: the named one, or the one that is created for an ephemeral volume.
pub(crate) fn claim_name(pod: &Value, volume: &Value) -> Option<String> {
    if has(volume, "ephemeral") {
        return Some(format!("{}-{}", object::name(pod), text(volume, "/name")));
    }
    let claimed = text(volume, "/persistentVolumeClaim/claimName");
    (!claimed.is_empty()).then(|| claimed.to_owned())
}

/// Claims that a pod names, and claims that are created for it.
pub(crate) fn claim_names(pod: &Value) -> impl Iterator<Item = String> {
    volumes(pod).filter_map(|volume| claim_name(pod, volume))
}

/// Whether a field is present and not null.
pub(crate) fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|found| !found.is_null())
}

/// Secrets that a kubelet needs for a persistent volume: namespace and name. Secrets for controllers only are not included.
pub(crate) fn volume_secrets(volume: &Value) -> Vec<(String, String)> {
    let claimed_in = text(volume, "/spec/claimRef/namespace");
    let mut found = Vec::new();
    let mut note = |namespace: &str, fallback: &str, name: &str| {
        let namespace = if namespace.is_empty() {
            fallback
        } else {
            namespace
        };
        if !name.is_empty() {
            found.push((namespace.to_owned(), name.to_owned()));
        }
    };
    note(
        text(volume, "/spec/azureFile/secretNamespace"),
        claimed_in,
        text(volume, "/spec/azureFile/secretName"),
    );
    for driver in WITH_SECRET_REF {
        let reference = &volume["spec"][driver]["secretRef"];
        // Upstream has no fallback for these two.
        let fallback = match driver {
            "cinder" | "storageos" => "",
            _ => claimed_in,
        };
        note(
            text(reference, "/namespace"),
            fallback,
            text(reference, "/name"),
        );
    }
    for field in [
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = &volume["spec"]["csi"][field];
        note(text(reference, "/namespace"), "", text(reference, "/name"));
    }
    found
}

/// A mirror pod, as an end of a tie. Every pod, mirror or not, is also `pods`.
pub(crate) const MIRROR: &str = "mirrors";
const CLAIMS: &str = "persistentvolumeclaims";

/// The storage of CSRs, and their kind as an end of a tie.
pub(crate) const SIGNING_REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";

/// A user, as the start of ties.
pub(crate) fn user(name: &str) -> Thing {
    Thing::new("users", "", name)
}

/// A node, as the start of ties.
pub(crate) fn node(name: &str) -> Thing {
    Thing::new("nodes", "", name)
}

/// The ties that an object creates: from a node to its pods, to what these refer to, and to its attachments; from a volume, and
/// from its secrets, to its claim; from a user to its CSRs. A mirror pod creates none, since the kubelet itself creates it.
pub(crate) fn ties(storage: &str, object: &Value) -> Vec<Tie> {
    match storage {
        "pods" => pod_ties(object),
        "persistentvolumes" => volume_ties(object),
        "volumeattachments.storage.k8s.io" => {
            let to = Thing::new("volumeattachments", "", object::name(object));
            let node_name = text(object, "/spec/nodeName");
            let tie = Tie {
                from: node(node_name),
                to,
            };
            Vec::from_iter((!node_name.is_empty()).then_some(tie))
        }
        SIGNING_REQUESTS => {
            let from = user(text(object, "/spec/username"));
            let to = Thing::new(SIGNING_REQUESTS, "", object::name(object));
            vec![Tie { from, to }]
        }
        _ => Vec::new(),
    }
}

fn pod_ties(pod: &Value) -> Vec<Tie> {
    let node_name = text(pod, "/spec/nodeName");
    if node_name.is_empty() {
        return Vec::new();
    }
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let mut ends = BTreeSet::from([Thing::new("pods", namespace, name)]);
    if is_mirror(pod) {
        ends.insert(Thing::new(MIRROR, namespace, name));
    } else {
        let account = Some(service_account(pod)).filter(|account| !account.is_empty());
        let of = |kind| move |name: &str| Thing::new(kind, namespace, name);
        ends.extend(account.map(of("serviceaccounts")));
        ends.extend(secret_names(pod).map(of("secrets")));
        ends.extend(config_map_names(pod).map(of("configmaps")));
        ends.extend(claim_names(pod).map(|claim| of(CLAIMS)(&claim)));
    }
    let from = node(node_name);
    let tie = |to| Tie {
        from: from.clone(),
        to,
    };
    ends.into_iter().map(tie).collect()
}

/// The volume names its claim. A claim alone could name any volume.
fn volume_ties(volume: &Value) -> Vec<Tie> {
    let claim = &volume["spec"]["claimRef"];
    let (namespace, name) = (text(claim, "/namespace"), text(claim, "/name"));
    if namespace.is_empty() || name.is_empty() {
        return Vec::new();
    }
    let secrets = volume_secrets(volume).into_iter();
    let mut from: BTreeSet<Thing> = secrets
        .map(|(namespace, secret)| Thing::new("secrets", &namespace, &secret))
        .collect();
    from.insert(Thing::new("persistentvolumes", "", object::name(volume)));
    let to = Thing::new(CLAIMS, namespace, name);
    let tie = |from| Tie {
        from,
        to: to.clone(),
    };
    from.into_iter().map(tie).collect()
}

/// The API object that a pod needs, in upstream's words. A kubelet may not create such a mirror pod.
///
/// # Errors
/// A volume or a source of one has an unknown type.
pub(crate) fn api_object(pod: &Value) -> Result<Option<&'static str>, String> {
    if !service_account(pod).is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if secret_names(pod).next().is_some() {
        return Ok(Some("secrets"));
    }
    if config_map_names(pod).next().is_some() {
        return Ok(Some("configmaps"));
    }
    if !list(pod, "/spec/resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in volumes(pod) {
        if let Some(what) = of_volume(volume)? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn of_volume(volume: &Value) -> Result<Option<&'static str>, String> {
    let unknown = || {
        let name = text(volume, "/name");
        format!("unknown volume type for volume  {name:?}")
    };
    let fields = volume.as_object().ok_or_else(unknown)?;
    for (field, _) in fields
        .iter()
        .filter(|(field, source)| *field != "name" && !source.is_null())
    {
        let word = WITH_REFERENCE.iter().find(|(kind, _)| kind == field);
        if let Some((_, what)) = word {
            return Ok(Some(what));
        }
        if field == "projected" {
            for source in list(volume, "/projected/sources") {
                if let Some(what) = of_projection(text(volume, "/name"), source)? {
                    return Ok(Some(what));
                }
            }
        } else if !WITHOUT_REFERENCE.contains(&field.as_str()) {
            return Err(unknown());
        }
    }
    Ok(None)
}

fn of_projection(volume: &str, source: &Value) -> Result<Option<&'static str>, String> {
    for (field, what) in PROJECTED {
        if has(source, field) {
            return Ok(Some(what));
        }
    }
    let fields = source.as_object().into_iter().flatten();
    let mut given = fields
        .filter(|(_, value)| !value.is_null())
        .map(|(field, _)| &**field);
    match (given.next(), given.next()) {
        (Some("downwardAPI"), None) => Ok(None),
        _ => Err(format!("unknown source for projected volume {volume:?}")),
    }
}

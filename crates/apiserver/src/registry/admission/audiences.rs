//! The token audiences that a kubelet may request: those that the pod's volumes name.
//!
//! In:    a token request, the pod that it is bound to; claims, volumes and CSI drivers
//! Out:   nothing, or a refusal in upstream's words
//! Calls: `node_restriction`
//! Holds: no audience and the empty audience both mean the API server itself, if a volume requests its token
//! Upstream: plugin/pkg/admission/noderestriction/admission.go validateNodeServiceAccountAudience (1.36); differences: of
//!           in-tree volumes only the driver's name is used

use serde_json::Value;

use super::Change;
use crate::access::authz::{self, Asked, Decision};
use crate::base::object::{self, list, text};
use crate::kinds::resources::by_storage;
use crate::registry::Registry;
use crate::store::references::{claim_name, has, volumes};

/// In-tree volume sources, and the CSI driver that replaces each.
const DRIVERS: [(&str, &str); 7] = [
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
];

pub(super) fn check(registry: &Registry, change: &Change<'_>, pod: &Value) -> Result<(), String> {
    let wanted = match list(change.new, "/spec/audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let found = names(registry, pod, wanted);
    if found.map_err(|why| format!("error validating audience {wanted:?}: {why}"))? {
        return Ok(());
    }
    let asked = Asked {
        verb: "request-serviceaccounts-token-audience".to_owned(),
        resource: wanted.to_owned(),
        namespace: change.place.namespace.to_owned(),
        name: change.place.name.to_owned(),
        ..Asked::default()
    };
    match authz::decide(&registry.store, change.who, &asked) {
        Decision::Allowed(_) => Ok(()),
        Decision::Refused(_) => Err(format!(
            "audience {wanted:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            change.who.name
        )),
    }
}

/// Whether a volume of the pod names the audience. A failed lookup is returned only if no other volume does.
fn names(registry: &Registry, pod: &Value, wanted: &str) -> Result<bool, String> {
    let mut missing = Vec::new();
    for volume in volumes(pod) {
        let projected = list(volume, "/projected/sources").iter();
        let mut tokens = projected.filter_map(|source| source.get("serviceAccountToken"));
        if tokens.any(|token| text(token, "/audience") == wanted) {
            return Ok(true);
        }
        match driver_names(registry, pod, volume, wanted) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => missing.push(why),
        }
    }
    match missing.as_slice() {
        [] => Ok(false),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn driver_names(
    registry: &Registry,
    pod: &Value,
    volume: &Value,
    wanted: &str,
) -> Result<bool, String> {
    let driver = match claim_name(pod, volume) {
        Some(claim) => behind_claim(registry, object::namespace(pod), &claim)?,
        None => driver_of(volume),
    };
    if driver.is_empty() {
        return Ok(false);
    }
    let driver = look_up(registry, "csidrivers.storage.k8s.io", "", &driver)?;
    let requests = list(&driver, "/spec/tokenRequests");
    Ok(requests.iter().any(|one| text(one, "/audience") == wanted))
}

fn behind_claim(registry: &Registry, namespace: &str, claim: &str) -> Result<String, String> {
    let claim = look_up(registry, "persistentvolumeclaims", namespace, claim)?;
    let volume = text(&claim, "/spec/volumeName");
    let volume = look_up(registry, "persistentvolumes", "", volume)?;
    Ok(driver_of(&volume["spec"]))
}

/// The driver of a volume source; empty if there is none.
fn driver_of(source: &Value) -> String {
    let named = text(source, "/csi/driver");
    if !named.is_empty() {
        return named.to_owned();
    }
    let stands_for = DRIVERS.iter().find(|(kind, _)| has(source, kind));
    stands_for.map_or_else(String::new, |(_, driver)| (*driver).to_owned())
}

fn look_up(
    registry: &Registry,
    storage: &str,
    namespace: &str,
    name: &str,
) -> Result<Value, String> {
    // Upstream reads its caches here, whose errors name kinds in the singular.
    let missing = || {
        let words = by_storage(storage).map(|row| match row.group {
            "" => format!("{} {name:?} not found", row.singular),
            group => format!("{}.{group} {name:?} not found", row.singular),
        });
        words.unwrap_or_default()
    };
    registry.value(storage, namespace, name).ok_or_else(missing)
}

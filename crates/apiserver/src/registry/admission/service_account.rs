//! The service account of a pod: its name, its token volume and its pull secrets.
//!
//! In:    a new pod, the service accounts of its namespace
//! Out:   the pod with the `kube-api-access-…` volume mounted into every container
//! Calls: `admission`
//! Holds: a mirror pod gets no token and may not name an account
//! Upstream: plugin/pkg/admission/serviceaccount/admission.go (1.36); differences: none known

use serde_json::{Value, json};

use crate::base::failure::Failure;
use crate::base::object::{as_map, list, list_mut, map_mut, name, text};
use crate::base::pod::is_mirror;
use crate::kinds::resources::Resource;
use crate::registry::Registry;
use crate::store::references;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and seven seconds, by which upstream recognizes these tokens.
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn admit(
    registry: &Registry,
    resource: &Resource,
    namespace: &str,
    object: &mut Value,
) -> Result<(), Failure> {
    let called = name(object).to_owned();
    let refuse = |why: &str| Err(Failure::forbidden(resource, &called, why));
    let given = references::service_account(object);
    if is_mirror(object) {
        if !given.is_empty() {
            return refuse("a mirror pod may not reference service accounts");
        }
        if references::secret_names(object).next().is_some() {
            return refuse("a mirror pod may not reference secrets");
        }
        let has_token = |volume: &Value| {
            let sources = list(volume, "/projected/sources");
            sources
                .iter()
                .any(|source| references::has(source, "serviceAccountToken"))
        };
        if references::volumes(object).any(has_token) {
            return refuse("a mirror pod may not use ServiceAccountToken volume projections");
        }
        return Ok(());
    }
    let account_name = if given.is_empty() { "default" } else { given }.to_owned();
    let spec = map_mut(object, "spec");
    spec.insert("serviceAccountName".to_owned(), account_name.clone().into());
    spec.insert("serviceAccount".to_owned(), account_name.clone().into());
    let Some(account) = registry.value("serviceaccounts", namespace, &account_name) else {
        return refuse(&format!(
            "error looking up service account {namespace}/{account_name}: serviceaccount {account_name:?} not found"
        ));
    };
    let asked = object.pointer("/spec/automountServiceAccountToken");
    let asked = asked.or_else(|| account.get("automountServiceAccountToken"));
    if asked != Some(&Value::Bool(false)) {
        mount(
            object,
            &format!("kube-api-access-{}", registry.chance.suffix()),
        );
    }
    let secrets = list(&account, "/imagePullSecrets");
    if list(object, "/spec/imagePullSecrets").is_empty() && !secrets.is_empty() {
        map_mut(object, "spec").insert("imagePullSecrets".to_owned(), secrets.into());
    }
    Ok(())
}

/// Mounts the token into each container that has no mount at its path.
fn mount(object: &mut Value, fresh: &str) {
    let known = list(object, "/spec/volumes")
        .iter()
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with("kube-api-access-"));
    let (volume, is_new) = match known {
        Some(known) => (known.to_owned(), false),
        None => (fresh.to_owned(), true),
    };
    let mut used = false;
    for which in ["initContainers", "containers"] {
        for container in list_mut(object, &format!("/spec/{which}")) {
            let mounts = list(container, "/volumeMounts");
            if mounts
                .iter()
                .any(|one| text(one, "/mountPath") == MOUNT_PATH)
            {
                continue;
            }
            used = true;
            let mounts = as_map(container)
                .entry("volumeMounts")
                .or_insert_with(|| json!([]));
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            }
        }
    }
    if !used || !is_new {
        return;
    }
    let volumes = map_mut(object, "spec")
        .entry("volumes")
        .or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

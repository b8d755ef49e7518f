//! The files of volumes that the kubelet writes: configMap, secret, downwardAPI, projected.
//!
//! In:    a volume, its pod, the node, the objects it refers to
//! Out:   `Payload`: content, mode and owner by path; or upstream's error, all of a projected volume's together
//! Calls: volumes.rs
//! Holds: the same objects give the same files; of two sources with one path the later one counts; paths are checked by the writer
//! Upstream: pkg/volume/{configmap,secret,downwardapi,projected} (MakePayload, CollectData, collectData); differences: a projected
//!           volume of downward API items alone needs no API server

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::objects::{ApiAccess, ObjectState, Payload, PayloadFile, PodObjects};
use kubelet_model::pod::Pod;

use crate::container::config_problem::object_text;
use crate::container::downward::{metadata_field, volume_resource};
use crate::container::security::effective_security_context;
use crate::volumes::references::{token_ref, trust_bundle_ref};

#[cfg(test)]
mod tests;

const NO_MODE: &str = "no defaultMode used, not even the default value for it";
/// Mode of what only the pod's own user or group may read.
const PRIVATE: u32 = 0o600;

/// What payloads are made from.
#[derive(Clone, Copy, Debug)]
pub struct PayloadView<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The node.
    pub node: &'a NodeView,
    /// What the pod refers to.
    pub objects: &'a PodObjects,
}

/// The files of a volume; `None` for a kind whose files are not ours.
pub fn volume_payload(
    view: &PayloadView<'_>,
    volume: &v1::Volume,
) -> Option<Result<Payload, String>> {
    if let Some(source) = &volume.config_map {
        let items = Items::of(&source.items, source.default_mode, source.optional);
        return Some(config_map(view, &source.name, &items));
    }
    if let Some(source) = &volume.secret {
        let items = Items::of(&source.items, source.default_mode, source.optional);
        let name = source.secret_name.as_deref().unwrap_or_default();
        return Some(secret(view, name, &items));
    }
    if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        return Some(downward(view, items, source.default_mode));
    }
    volume
        .projected
        .as_ref()
        .map(|source| projected(view, source))
}

/// Which keys become files.
struct Items<'a> {
    items: &'a [v1::KeyToPath],
    default_mode: Option<i32>,
    optional: bool,
}

impl<'a> Items<'a> {
    fn of(
        items: &'a Option<Vec<v1::KeyToPath>>,
        default_mode: Option<i32>,
        optional: Option<bool>,
    ) -> Self {
        Self {
            items: items.as_deref().unwrap_or_default(),
            default_mode,
            optional: optional.unwrap_or(false),
        }
    }
}

fn mode_bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0) & 0o777
}

fn file(data: Vec<u8>, mode: i32) -> PayloadFile {
    PayloadFile {
        data,
        mode: mode_bits(mode),
        owner: None,
    }
}

/// The object; `None` when it is optional and there is none.
fn found<'a, T>(
    view: &PayloadView<'_>,
    kind: &str,
    name: &str,
    objects: &'a BTreeMap<String, ObjectState<T>>,
    optional: bool,
) -> Result<Option<&'a T>, String> {
    if view.objects.access == ApiAccess::Standalone {
        return Err("not supported due to running kubelet in standalone mode".to_owned());
    }
    match objects.get(name) {
        Some(ObjectState::Known(object)) => Ok(Some(object)),
        Some(ObjectState::Absent { .. }) if optional => Ok(None),
        state => Err(object_text(
            kind,
            &view.pod.full_name.namespace,
            name,
            state,
        )),
    }
}

fn config_map(view: &PayloadView<'_>, name: &str, items: &Items<'_>) -> Result<Payload, String> {
    let objects = &view.objects.config_maps;
    let object = found(view, "configmap", name, objects, items.optional)?;
    let (data, binary) = match object {
        Some(object) => (object.data.as_ref(), object.binary_data.as_ref()),
        None => (None, None),
    };
    let texts = data.into_iter().flatten();
    let mut values: BTreeMap<&str, &[u8]> = texts
        .map(|(key, text)| (key.as_str(), text.as_bytes()))
        .collect();
    for (key, bytes) in binary.into_iter().flatten() {
        // The API server lets no key be in both; upstream takes the text for an item.
        values.entry(key).or_insert(&bytes.0);
    }
    chosen(
        &values,
        items,
        "configmap references non-existent config key",
    )
}

fn secret(view: &PayloadView<'_>, name: &str, items: &Items<'_>) -> Result<Payload, String> {
    let object = found(view, "secret", name, &view.objects.secrets, items.optional)?;
    let data = object.and_then(|object| object.data.as_ref());
    let values: BTreeMap<&str, &[u8]> = data
        .into_iter()
        .flatten()
        .map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))
        .collect();
    chosen(&values, items, "references non-existent secret key")
}

/// All values, or those of the items at their paths.
fn chosen(
    values: &BTreeMap<&str, &[u8]>,
    items: &Items<'_>,
    missing: &str,
) -> Result<Payload, String> {
    let default_mode = items.default_mode.ok_or(NO_MODE)?;
    if items.items.is_empty() {
        let all = values
            .iter()
            .map(|(key, data)| ((*key).to_owned(), file(data.to_vec(), default_mode)));
        return Ok(all.collect());
    }
    let mut payload = Payload::new();
    for item in items.items {
        match values.get(item.key.as_str()) {
            Some(data) => {
                let mode = item.mode.unwrap_or(default_mode);
                payload.insert(item.path.clone(), file(data.to_vec(), mode));
            }
            None if items.optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(payload)
}

fn downward(
    view: &PayloadView<'_>,
    items: &[v1::DownwardAPIVolumeFile],
    default_mode: Option<i32>,
) -> Result<Payload, String> {
    let default_mode = default_mode.ok_or(NO_MODE)?;
    let mut payload = Payload::new();
    let mut problems = Vec::new();
    for item in items {
        let value = if let Some(field) = &item.field_ref {
            metadata_field(view.pod, &field.field_path)
        } else if let Some(resource) = &item.resource_field_ref {
            volume_resource(view.pod, view.node, resource)
        } else {
            Ok(String::new())
        };
        match value {
            Ok(value) => {
                let mode = item.mode.unwrap_or(default_mode);
                payload.insert(item.path.clone(), file(value.into_bytes(), mode));
            }
            Err(problem) => problems.push(problem),
        }
    }
    all_or(payload, problems)
}

/// The payload, or every problem in one text, each once.
fn all_or(payload: Payload, problems: Vec<String>) -> Result<Payload, String> {
    let mut seen = BTreeSet::new();
    let mut once = problems;
    once.retain(|problem| seen.insert(problem.clone()));
    match once.as_slice() {
        [] => Ok(payload),
        [one] => Err(one.clone()),
        more => Err(format!("[{}]", more.join(", "))),
    }
}

fn projected(
    view: &PayloadView<'_>,
    volume: &v1::ProjectedVolumeSource,
) -> Result<Payload, String> {
    let default_mode = volume.default_mode.ok_or(NO_MODE)?;
    let mut payload = Payload::new();
    let mut problems = Vec::new();
    for source in volume.sources.iter().flatten() {
        match projection(view, source, default_mode) {
            Ok(files) => payload.extend(files),
            Err(problem) => problems.push(problem),
        }
    }
    all_or(payload, problems)
}

fn projection(
    view: &PayloadView<'_>,
    source: &v1::VolumeProjection,
    default_mode: i32,
) -> Result<Payload, String> {
    if let Some(source) = &source.secret {
        let items = Items::of(&source.items, Some(default_mode), source.optional);
        secret(view, &source.name, &items)
    } else if let Some(source) = &source.config_map {
        let items = Items::of(&source.items, Some(default_mode), source.optional);
        config_map(view, &source.name, &items)
    } else if let Some(source) = &source.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        downward(view, items, Some(default_mode))
    } else if let Some(source) = &source.service_account_token {
        let data = token(view, source)?;
        Ok([(source.path.clone(), private(view, data, default_mode))].into())
    } else if let Some(source) = &source.cluster_trust_bundle {
        let data = trust_anchors(view, source)?;
        Ok([(source.path.clone(), private(view, data, default_mode))].into())
    } else if source.pod_certificate.is_some() {
        Err("podCertificate projections are not supported".to_owned())
    } else {
        Ok(Payload::new())
    }
}

fn token(
    view: &PayloadView<'_>,
    source: &v1::ServiceAccountTokenProjection,
) -> Result<Vec<u8>, String> {
    if view.objects.access == ApiAccess::Standalone {
        return Err("cannot use TokenManager when kubelet is in standalone mode".to_owned());
    }
    let account = view.pod.spec().service_account_name.as_deref();
    match view.objects.tokens.get(&token_ref(source)) {
        Some(ObjectState::Known(token)) => Ok(token.as_bytes().to_vec()),
        Some(ObjectState::Absent { .. }) => Err(format!(
            "failed to fetch token: serviceaccounts \"{}\" not found",
            account.unwrap_or_default()
        )),
        Some(ObjectState::Asked { why } | ObjectState::Unknown { why }) => {
            Err(format!("failed to fetch token: {why}"))
        }
        None => Err("failed to fetch token: not asked for yet".to_owned()),
    }
}

fn trust_anchors(
    view: &PayloadView<'_>,
    source: &v1::ClusterTrustBundleProjection,
) -> Result<Vec<u8>, String> {
    if view.objects.access == ApiAccess::Standalone {
        let text = "ClusterTrustBundle projection is not supported in static kubelet mode";
        return Err(text.to_owned());
    }
    let Some(wanted) = trust_bundle_ref(source) else {
        let text = "ClusterTrustBundle projection requires either name or signerName to be set";
        return Err(text.to_owned());
    };
    match view.objects.trust_bundles.get(&wanted) {
        Some(ObjectState::Known(anchors)) => Ok(anchors.as_bytes().to_vec()),
        Some(ObjectState::Absent { .. }) if source.optional.unwrap_or(false) => Ok(Vec::new()),
        Some(ObjectState::Absent { .. }) => Err(match source.name.as_deref() {
            Some(name) => format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{name}\" not found"
            ),
            None => "combination of signerName and labelSelector matched zero ClusterTrustBundles"
                .to_owned(),
        }),
        Some(ObjectState::Asked { why } | ObjectState::Unknown { why }) => Err(why.clone()),
        None => Err("ClusterTrustBundle informer has not yet synced".to_owned()),
    }
}

/// A file for the pod's user, when all containers run as one, or for its group; else one with the volume's mode.
fn private(view: &PayloadView<'_>, data: Vec<u8>, default_mode: i32) -> PayloadFile {
    let context = view.pod.spec().security_context.as_ref();
    let has_group = context.is_some_and(|context| context.fs_group.is_some());
    let owner = one_user(view.pod);
    PayloadFile {
        data,
        mode: if owner.is_some() || has_group {
            PRIVATE
        } else {
            mode_bits(default_mode)
        },
        owner,
    }
}

/// The user that every container runs as, when all say the same.
fn one_user(pod: &Pod) -> Option<u32> {
    let mut users = pod
        .all_containers()
        .map(|container| effective_security_context(pod, container).run_as_user);
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then_some(first)
        .and_then(|user| u32::try_from(user).ok())
}

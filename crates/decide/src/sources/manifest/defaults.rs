//! What the API fills in when it decodes a v1 Pod.
//!
//! In:    a pod as its author wrote it
//! Out:   the same pod with every default of v1, and the small repairs of the conversion to the internal type
//! Calls: the static pod sources, before the UID is computed
//! Holds: idempotent; requests follow limits before amounts are rounded to thousandths
//! Gap:   pod-level resources (`spec.resources`) take no defaults yet
//! Upstream: pkg/apis/core/v1/defaults.go, zz_generated.defaults.go, conversion.go

use super::image_name::is_latest;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EphemeralContainer, HTTPGetAction, ObjectFieldSelector, Pod,
    PodSpec, Probe, ResourceFieldSelector, ResourceRequirements, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kubelet_model::quantity::Quantity as Amount;
use std::collections::BTreeMap;

const FILE_MODE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;
const GRACE_SECONDS: i64 = 30;

/// Annotations of a form of init containers that is long gone; the conversion drops them.
const DROPPED_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// Applies the defaults of v1 to a pod. A pod without a spec gets an empty one.
pub fn apply_v1_defaults(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        for name in DROPPED_ANNOTATIONS {
            annotations.remove(name);
        }
    }
    let spec = pod.spec.get_or_insert_default();
    default_pod_spec(spec);
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
    let host_network = spec.host_network == Some(true);
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        default_container(container, host_network);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        default_ephemeral(container);
    }
}

/// Validation refuses them in a manifest, and says nothing of what is only left out.
fn default_ephemeral(container: &mut EphemeralContainer) {
    let policy = pull_policy(container.image.as_deref());
    default_text(&mut container.image_pull_policy, policy);
    default_text(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    default_text(&mut container.termination_message_policy, "File");
}

/// Puts every amount into the canonical text in which Go prints it, rounded up to thousandths where Go rounds.
///
/// Comes after the UID: the hash is over amounts as the manifest spells them, `1000m` and `1` are two pods.
pub fn canonical_amounts(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    round_amounts(&mut spec.overhead);
    if let Some(resources) = &mut spec.resources {
        round_resources(resources);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(limit) = volume
            .empty_dir
            .as_mut()
            .and_then(|source| source.size_limit.as_mut())
        {
            canonical(limit);
        }
        let projected = volume
            .projected
            .iter_mut()
            .flat_map(|p| p.sources.iter_mut().flatten());
        let in_projected = projected
            .filter_map(|source| source.downward_api.as_mut())
            .flat_map(|d| d.items.iter_mut().flatten());
        let plain = volume
            .downward_api
            .iter_mut()
            .flat_map(|d| d.items.iter_mut().flatten());
        for item in plain.chain(in_projected) {
            default_divisor(item.resource_field_ref.as_mut());
        }
    }
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        if let Some(resources) = &mut container.resources {
            round_resources(resources);
        }
        for env in container.env.iter_mut().flatten() {
            default_divisor(
                env.value_from
                    .as_mut()
                    .and_then(|from| from.resource_field_ref.as_mut()),
            );
        }
    }
}

fn round_resources(resources: &mut ResourceRequirements) {
    round_amounts(&mut resources.limits);
    round_amounts(&mut resources.requests);
}

fn default_pod_spec(spec: &mut PodSpec) {
    spec.enable_service_links.get_or_insert(true);
    default_text(&mut spec.dns_policy, "ClusterFirst");
    default_text(&mut spec.restart_policy, "Always");
    default_text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    let grace = spec
        .termination_grace_period_seconds
        .get_or_insert(GRACE_SECONDS);
    if *grace < 0 {
        *grace = 1;
    }
    // The old name is an alias: the new one wins, and both are shown.
    if is_blank(spec.service_account_name.as_deref()) {
        spec.service_account_name = spec.service_account.take().filter(|name| !name.is_empty());
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

/// A moving tag is always pulled.
fn pull_policy(image: Option<&str>) -> &'static str {
    if is_latest(image.unwrap_or_default()) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn default_container(container: &mut Container, host_network: bool) {
    let policy = pull_policy(container.image.as_deref());
    default_text(&mut container.image_pull_policy, policy);
    default_text(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    default_text(&mut container.termination_message_policy, "File");
    default_resources(container.resources.get_or_insert_default());
    for port in container.ports.iter_mut().flatten() {
        default_text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or_default() == 0 && port.container_port != 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for source in container
        .env
        .iter_mut()
        .flatten()
        .filter_map(|variable| variable.value_from.as_mut())
    {
        default_field_ref(source.field_ref.as_mut());
        if let Some(file) = &mut source.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
    for probe in [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ]
    .into_iter()
    .flatten()
    {
        default_probe(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        for hook in [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
            .into_iter()
            .flatten()
        {
            default_http_get(hook.http_get.as_mut());
        }
    }
}

/// A limit without a request becomes the request.
fn default_resources(resources: &mut ResourceRequirements) {
    if let Some(limits) = resources
        .limits
        .as_ref()
        .filter(|limits| !limits.is_empty())
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

/// Canonical text, rounded up to thousandths. What is no amount stays for validation to name.
fn round_amounts(amounts: &mut Option<BTreeMap<String, Quantity>>) {
    for amount in amounts.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Ok(parsed) = amount.0.parse::<Amount>() {
            amount.0 = parsed.rounded_to_milli().to_string();
        }
    }
}

fn default_probe(probe: &mut Probe) {
    for (slot, seconds) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if slot.unwrap_or_default() == 0 {
            *slot = Some(seconds);
        }
    }
    default_http_get(probe.http_get.as_mut());
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_http_get(action: Option<&mut HTTPGetAction>) {
    if let Some(action) = action {
        default_text(&mut action.path, "/");
        default_text(&mut action.scheme, "HTTP");
    }
}

fn default_field_ref(selector: Option<&mut ObjectFieldSelector>) {
    if let Some(selector) = selector {
        default_text(&mut selector.api_version, "v1");
    }
}

/// Go prints an amount that is not set as zero.
fn default_divisor(selector: Option<&mut ResourceFieldSelector>) {
    if let Some(selector) = selector {
        let zero = || Quantity("0".to_owned());
        canonical(selector.divisor.get_or_insert_with(zero));
    }
}

/// The canonical text of an amount, which is how Go prints whatever it has read.
fn canonical(amount: &mut Quantity) {
    if let Ok(parsed) = amount.0.parse::<Amount>() {
        amount.0 = parsed.to_string();
    }
}

fn default_volume(volume: &mut Volume) {
    let bare = Volume {
        name: volume.name.clone(),
        ..Volume::default()
    };
    if *volume == bare {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(image) = &mut volume.image {
        let latest = is_latest(image.reference.as_deref().unwrap_or_default());
        let policy = if latest { "Always" } else { "IfNotPresent" };
        default_text(&mut image.pull_policy, policy);
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        for item in downward.items.iter_mut().flatten() {
            default_field_ref(item.field_ref.as_mut());
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        projected
            .sources
            .iter_mut()
            .flatten()
            .for_each(default_projection);
    }
    default_disks(volume);
}

fn default_projection(source: &mut VolumeProjection) {
    let items = source
        .downward_api
        .iter_mut()
        .flat_map(|downward| downward.items.iter_mut().flatten());
    for item in items {
        default_field_ref(item.field_ref.as_mut());
    }
    if let Some(token) = &mut source.service_account_token {
        token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
    }
}

/// Kinds of volumes that only networks and clouds have.
fn default_disks(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        default_text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        default_text(&mut rbd.pool, "rbd");
        default_text(&mut rbd.user, "admin");
        default_text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        // Pointers upstream: an empty text is a value.
        disk.caching_mode.get_or_insert("ReadWrite".to_owned());
        disk.fs_type.get_or_insert("ext4".to_owned());
        disk.read_only.get_or_insert(false);
        disk.kind.get_or_insert("Shared".to_owned());
    }
    if let Some(scale_io) = &mut volume.scale_io {
        default_text(&mut scale_io.storage_mode, "ThinProvisioned");
        default_text(&mut scale_io.fs_type, "xfs");
    }
}

fn is_blank(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

fn default_text(slot: &mut Option<String>, text: &str) {
    if is_blank(slot.as_deref()) {
        *slot = Some(text.to_owned());
    }
}

//! Objects of the API that a static pod may not refer to.
//!
//! In:    the spec of a static pod
//! Out:   one problem for each reference, with its field (upstream names the first kind only)
//! Calls: validation
//! Holds: a static pod starts without an API server, so whatever needs one is refused, not waited for
//! Upstream: pkg/api/pod/util.go (HasAPIObjectReference, VisitPodSecretNames, VisitPodConfigmapNames)

use k8s_openapi::api::core::v1::{Container, PodSpec, ProjectedVolumeSource, Volume};
use kubelet_validate::{FieldProblem, Problems, containers_of};
use serde_json::Value;

/// A problem for each reference to an API object.
pub(super) fn found_in(spec: &PodSpec) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    refuse_api_references(spec, &mut problems);
    problems.found()
}

fn refuse_api_references(spec: &PodSpec, problems: &mut Problems) {
    let mut refuse = |path: String, what: &str| {
        problems.forbidden(path, &format!("static pods may not reference {what}"));
    };
    for (field, name) in [
        ("serviceAccountName", &spec.service_account_name),
        ("serviceAccount", &spec.service_account),
    ] {
        if name.as_deref().is_some_and(|name| !name.is_empty()) {
            refuse(format!("spec.{field}"), "serviceaccounts");
            break; // the two are aliases
        }
    }
    for index in 0..spec.image_pull_secrets.as_ref().map_or(0, Vec::len) {
        refuse(format!("spec.imagePullSecrets[{index}]"), "secrets");
    }
    for index in 0..spec.resource_claims.as_ref().map_or(0, Vec::len) {
        refuse(format!("spec.resourceClaims[{index}]"), "resourceclaims");
    }
    for (path, container) in containers_of(spec) {
        refuse_environment(&path, container, &mut refuse);
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        refuse_volume(&format!("spec.volumes[{index}]"), volume, &mut refuse);
    }
}

fn refuse_environment(path: &str, container: &Container, refuse: &mut impl FnMut(String, &str)) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = format!("{path}.env[{index}].valueFrom");
        if let Some(source) = &variable.value_from {
            if source.secret_key_ref.is_some() {
                refuse(format!("{at}.secretKeyRef"), "secrets");
            }
            if source.config_map_key_ref.is_some() {
                refuse(format!("{at}.configMapKeyRef"), "configmaps");
            }
        }
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let at = format!("{path}.envFrom[{index}]");
        if source.secret_ref.is_some() {
            refuse(format!("{at}.secretRef"), "secrets");
        }
        if source.config_map_ref.is_some() {
            refuse(format!("{at}.configMapRef"), "configmaps");
        }
    }
}

fn refuse_volume(path: &str, volume: &Volume, refuse: &mut impl FnMut(String, &str)) {
    for (field, used, what) in [
        (
            "configMap",
            volume.config_map.is_some(),
            "configmaps (via configmap volumes)",
        ),
        (
            "secret",
            volume.secret.is_some(),
            "secrets (via secret volumes)",
        ),
        ("csi", volume.csi.is_some(), "csidrivers (via CSI volumes)"),
        (
            "glusterfs",
            volume.glusterfs.is_some(),
            "endpoints (via glusterFS volumes)",
        ),
        (
            "persistentVolumeClaim",
            volume.persistent_volume_claim.is_some(),
            "persistentvolumeclaims",
        ),
        (
            "ephemeral",
            volume.ephemeral.is_some(),
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (
            "azureFile",
            volume.azure_file.is_some(),
            "secrets (via azureFile volumes)",
        ),
    ] {
        if used {
            refuse(format!("{path}.{field}"), what);
        }
    }
    if let Some(projected) = &volume.projected {
        refuse_projections(path, projected, refuse);
    }
    // Drivers of many kinds take a secret by the same field.
    if volume.csi.is_none()
        && let Ok(Value::Object(kinds)) = serde_json::to_value(volume)
    {
        for (kind, _) in kinds
            .iter()
            .filter(|(_, source)| source.get("secretRef").is_some())
        {
            refuse(format!("{path}.{kind}.secretRef"), "secrets");
        }
    }
}

fn refuse_projections(
    path: &str,
    projected: &ProjectedVolumeSource,
    refuse: &mut impl FnMut(String, &str),
) {
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let at = format!("{path}.projected.sources[{index}]");
        for (field, used, what) in [
            (
                "configMap",
                source.config_map.is_some(),
                "configmaps (via projected volumes)",
            ),
            (
                "secret",
                source.secret.is_some(),
                "secrets (via projected volumes)",
            ),
            (
                "serviceAccountToken",
                source.service_account_token.is_some(),
                "serviceaccounts (via projected volumes)",
            ),
            (
                "clusterTrustBundle",
                source.cluster_trust_bundle.is_some(),
                "clustertrustbundles",
            ),
            (
                "podCertificate",
                source.pod_certificate.is_some(),
                "podcertificates",
            ),
        ] {
            if used {
                refuse(format!("{at}.{field}"), what);
            }
        }
    }
}

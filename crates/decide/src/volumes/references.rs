//! What a pod refers to in the API: the list of what must be watched or asked for while it lives here.
//!
//! In:    a pod
//! Out:   names of ConfigMaps and Secrets of its namespace, tokens, trust anchors
//! Calls: whoever watches objects for pods
//! Holds: every reference that env.rs and projected.rs read is in it; of volume kinds that are not built the secrets are, too
//! Upstream: pkg/api/v1/pod/util.go (VisitPodSecretNames, VisitPodConfigmapNames), pkg/volume/projected/projected.go (collectData)

use k8s_openapi::api::core::v1;
use kubelet_model::objects::{ObjectRefs, TokenRef, TrustBundleRef};
use kubelet_model::pod::Pod;

/// Life of a token where none is said, seconds: the API's default.
const TOKEN_SECONDS: i64 = 3600;

/// All that a pod refers to. Empty names are left out.
pub fn referenced_objects(pod: &Pod) -> ObjectRefs {
    let mut refs = ObjectRefs::default();
    let spec = pod.spec();
    for reference in spec.image_pull_secrets.iter().flatten() {
        refs.secrets.insert(reference.name.clone());
    }
    for container in pod.all_containers() {
        of_environment(&container.env, &container.env_from, &mut refs);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        of_environment(&container.env, &container.env_from, &mut refs);
    }
    for volume in spec.volumes.iter().flatten() {
        of_volume(volume, &mut refs);
    }
    refs.secrets.remove("");
    refs.config_maps.remove("");
    refs
}

fn of_environment(
    env: &Option<Vec<v1::EnvVar>>,
    env_from: &Option<Vec<v1::EnvFromSource>>,
    refs: &mut ObjectRefs,
) {
    for source in env_from.iter().flatten() {
        refs.config_maps
            .extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        refs.secrets
            .extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        refs.config_maps
            .extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        refs.secrets
            .extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
}

fn of_volume(volume: &v1::Volume, refs: &mut ObjectRefs) {
    refs.config_maps
        .extend(volume.config_map.iter().map(|source| source.name.clone()));
    for source in volume
        .projected
        .iter()
        .flat_map(|p| p.sources.iter().flatten())
    {
        of_projection(source, refs);
    }
    let named = |reference: &Option<v1::LocalObjectReference>| {
        reference.as_ref().map(|reference| reference.name.clone())
    };
    let secrets = [
        volume.secret.as_ref().and_then(|s| s.secret_name.clone()),
        volume.azure_file.as_ref().map(|s| s.secret_name.clone()),
        volume.cephfs.as_ref().and_then(|s| named(&s.secret_ref)),
        volume.cinder.as_ref().and_then(|s| named(&s.secret_ref)),
        volume
            .flex_volume
            .as_ref()
            .and_then(|s| named(&s.secret_ref)),
        volume.rbd.as_ref().and_then(|s| named(&s.secret_ref)),
        volume.scale_io.as_ref().map(|s| s.secret_ref.name.clone()),
        volume.iscsi.as_ref().and_then(|s| named(&s.secret_ref)),
        volume.storageos.as_ref().and_then(|s| named(&s.secret_ref)),
        volume
            .csi
            .as_ref()
            .and_then(|s| named(&s.node_publish_secret_ref)),
    ];
    refs.secrets.extend(secrets.into_iter().flatten());
}

fn of_projection(source: &v1::VolumeProjection, refs: &mut ObjectRefs) {
    refs.config_maps
        .extend(source.config_map.iter().map(|source| source.name.clone()));
    refs.secrets
        .extend(source.secret.iter().map(|source| source.name.clone()));
    refs.tokens
        .extend(source.service_account_token.iter().map(token_ref));
    let bundle = source.cluster_trust_bundle.as_ref();
    refs.trust_bundles.extend(bundle.and_then(trust_bundle_ref));
}

/// How a token is asked for.
pub(crate) fn token_ref(source: &v1::ServiceAccountTokenProjection) -> TokenRef {
    TokenRef {
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

/// Which trust anchors are meant; `None` when neither a name nor a signer is said.
pub(crate) fn trust_bundle_ref(
    source: &v1::ClusterTrustBundleProjection,
) -> Option<TrustBundleRef> {
    if let Some(name) = &source.name {
        return Some(TrustBundleRef::Name(name.clone()));
    }
    let selector = source.label_selector.as_ref();
    Some(TrustBundleRef::Signer {
        signer: source.signer_name.clone()?,
        selector: selector.and_then(|selector| serde_json::to_string(selector).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;

    #[test]
    fn every_reference_of_a_pod_is_listed_once() {
        let pod = pod_of(
            "{imagePullSecrets: [{name: pull}, {name: ''}],
              initContainers: [{name: i, envFrom: [{secretRef: {name: s1}}, {configMapRef: {name: c1}}]}],
              containers: [{name: c, env: [{name: A, valueFrom: {configMapKeyRef: {name: c2, key: k}}},
                {name: B, valueFrom: {secretKeyRef: {name: s2, key: k}}}, {name: C, value: x}]}],
              ephemeralContainers: [{name: e, env: [{name: A, valueFrom: {secretKeyRef: {name: s3, key: k}}}]}],
              volumes: [{name: a, configMap: {name: c3}}, {name: b, secret: {secretName: s4}},
                {name: d, csi: {driver: d, nodePublishSecretRef: {name: s5}}},
                {name: p, projected: {sources: [{configMap: {name: c1}}, {secret: {name: s6}},
                  {serviceAccountToken: {path: t, expirationSeconds: 3607}},
                  {serviceAccountToken: {path: v, audience: vault}},
                  {clusterTrustBundle: {name: n, path: a}},
                  {clusterTrustBundle: {signerName: s, labelSelector: {matchLabels: {a: b}}, path: b}}]}}]}",
        );
        let refs = referenced_objects(&pod);
        let list = |names: &std::collections::BTreeSet<String>| {
            names
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(list(&refs.config_maps), "c1 c2 c3");
        assert_eq!(list(&refs.secrets), "pull s1 s2 s3 s4 s5 s6");
        let tokens: Vec<_> = refs
            .tokens
            .iter()
            .map(|token| (token.audience.as_str(), token.expiration_seconds))
            .collect();
        assert_eq!(tokens, [("", 3607), ("vault", 3600)]);
        let bundles: Vec<_> = refs.trust_bundles.into_iter().collect();
        assert_eq!(
            bundles,
            [
                TrustBundleRef::Name("n".into()),
                TrustBundleRef::Signer {
                    signer: "s".into(),
                    selector: Some("{\"matchLabels\":{\"a\":\"b\"}}".into()),
                },
            ]
        );
    }
}

//! Which lists a strategic merge patch merges, and by which key.
//!
//! In:    a kind, the field that holds the list, and the field that holds that one's object
//! Out:   [`Merge`]; lists that are not named here are replaced
//! Calls: `strategic`
//! Holds: facts of the API's types (their `patchStrategy` and `patchMergeKey`)
//! Upstream: staging/src/k8s.io/api/*/v*/types.go (1.36); differences: kinds that are served only

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Replaced as a whole.
    Replace,
    /// A list of plain values: a set.
    Set,
    /// Objects with this key.
    By(&'static str),
    /// The same, and an element of the patch names which of its fields stay.
    ByKeepingNamed(&'static str),
}

/// How the list `field` inside `parent` is merged.
pub(super) fn merge_of(kind: &str, parent: &str, field: &str) -> Merge {
    match (kind, parent, field) {
        (_, "metadata", "ownerReferences") => Merge::By("uid"),
        (_, "metadata", "finalizers") => Merge::Set,
        ("Event" | "Lease" | "CertificateSigningRequest", ..) => Merge::Replace,
        (_, "status", "conditions") => Merge::By("type"),
        ("Pod", "spec", "containers" | "initContainers" | "ephemeralContainers") => {
            Merge::By("name")
        }
        ("Pod", "spec", "imagePullSecrets" | "schedulingGates") => Merge::By("name"),
        ("Pod", "spec", "volumes" | "resourceClaims") => Merge::ByKeepingNamed("name"),
        ("Pod", "spec", "hostAliases") => Merge::By("ip"),
        ("Pod", "spec", "topologySpreadConstraints") => Merge::By("topologyKey"),
        ("Pod", "containers" | "initContainers" | "ephemeralContainers", inner) => match inner {
            "env" => Merge::By("name"),
            "volumeMounts" => Merge::By("mountPath"),
            "volumeDevices" => Merge::By("devicePath"),
            "ports" => Merge::By("containerPort"),
            _ => Merge::Replace,
        },
        ("Pod", "status", "podIPs" | "hostIPs") => Merge::By("ip"),
        ("Pod", "status", "resourceClaimStatuses") => Merge::ByKeepingNamed("name"),
        ("Node", "status", "addresses") => Merge::By("type"),
        ("Node", "spec", "podCIDRs") => Merge::Set,
        ("Service", "spec", "ports") => Merge::By("port"),
        ("ServiceAccount", "", "secrets" | "imagePullSecrets") => Merge::By("name"),
        ("CSINode", "spec", "drivers") => Merge::By("name"),
        _ => Merge::Replace,
    }
}

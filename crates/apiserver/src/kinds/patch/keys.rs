//! Which lists a strategic merge patch merges, and by which key.
//!
//! In:    a kind, the field that holds the list, the field that holds the list's parent object
//! Out:   [`Merge`]; lists without an entry are replaced
//! Calls: `strategic`
//! Holds: taken from the API types (`patchStrategy` and `patchMergeKey`)
//! Upstream: staging/src/k8s.io/api/*/v*/types.go (1.36); differences: only kinds that are served

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Replaced as a whole.
    Replace,
    /// A set of primitive values.
    Set,
    /// Objects that are merged by this key.
    By(&'static str),
    /// The same, with `retainKeys`: an element of the patch names the fields to keep.
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

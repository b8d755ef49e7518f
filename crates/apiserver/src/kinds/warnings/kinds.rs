//! Warnings about nodes, volumes, claims, classes, accounts and endpoints.
//!
//! In:    the object to be stored, and the stored one
//! Out:   upstream's texts
//! Calls: `warnings`
//! Holds: pure
//! Upstream: pkg/api/{persistentvolume,persistentvolumeclaim,storage,node}/util.go,
//!           pkg/registry/core/{endpoint,node,serviceaccount} and pkg/registry/storage/csidriver strategy.go (1.36);
//!           differences: TLS secrets are not checked for a matching pair of certificate and key

use serde_json::Value;

use super::pod::{expressions, fraction, label_problem};
use super::{at, service};
use crate::base::object::{annotation, list, text};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const CLASS_WHY: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";
const OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

const VOLUMES: [(&str, &str, &str); 6] = [
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "rbd",
        "rbd",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
];

pub(super) fn volume(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, why) in [
        (CLASS, CLASS_WHY),
        (
            OPTIONS,
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if annotation(new, key).is_some() {
            found.push(format!("metadata.annotations[{key}]: {why}"));
        }
    }
    if text(new, "/spec/persistentVolumeReclaimPolicy") == "Recycle" {
        found.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let terms = list(new, "/spec/nodeAffinity/required/nodeSelectorTerms");
    for (index, term) in terms.iter().enumerate() {
        let path = at("spec.nodeAffinity.required", "nodeSelectorTerms", index);
        expressions(&path, Some(term), &mut found);
    }
    let spec = new.get("spec");
    for (kind, shown, why) in VOLUMES {
        if spec.is_some_and(|spec| spec.get(kind).is_some()) {
            found.push(format!("spec.{shown}: {why}"));
        }
    }
    found
}

pub(super) fn claim(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if annotation(new, CLASS).is_some() {
        found.push(format!("metadata.annotations[{CLASS}]: {CLASS_WHY}"));
    }
    for kind in ["requests", "limits"] {
        let amounts = new.pointer(&format!("/spec/resources/{kind}"));
        let path = format!("spec.resources.{kind}");
        fraction(amounts, &path, "storage", &mut found);
    }
    found
}

pub(super) fn storage_class(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (index, topology) in list(new, "/allowedTopologies").iter().enumerate() {
        let wanted = list(topology, "/matchLabelExpressions").iter().enumerate();
        for (inner, expression) in wanted {
            if let Some(why) = label_problem(text(expression, "/key")) {
                found.push(format!(
                    "allowedTopologies[{index}].matchLabelExpressions[{inner}].key: {why}"
                ));
            }
        }
    }
    found
}

pub(super) fn runtime_class(new: &Value, _: Option<&Value>) -> Vec<String> {
    let selector = new.pointer("/scheduling/nodeSelector");
    let keys = selector.and_then(Value::as_object).into_iter();
    let keys = keys.flat_map(|selector| selector.keys());
    keys.filter_map(|key| label_problem(key))
        .map(|why| format!("scheduling.nodeSelector: {why}"))
        .collect()
}

pub(super) fn node(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if new.pointer("/spec/configSource").is_some() {
        found.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(new, "/spec/externalID").is_empty() {
        let why = "this field is deprecated, and is unused by Kubernetes";
        found.push(format!("spec.externalID: {why}"));
    }
    found
}

pub(super) fn account(new: &Value, old: Option<&Value>) -> Vec<String> {
    let was_there = old.is_some_and(|old| annotation(old, MOUNTABLE).is_some());
    let is_new = annotation(new, MOUNTABLE).is_some() && !was_there;
    let why =
        "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
    let told = is_new.then(|| format!("metadata.annotations[{MOUNTABLE}]: {why}"));
    told.into_iter().collect()
}

pub(super) fn driver(new: &Value, old: Option<&Value>) -> Vec<String> {
    let requests = |of: &Value| list(of, "/spec/tokenRequests").to_vec();
    let asked = requests(new);
    let is_new = !asked.is_empty() && old.is_none_or(|old| requests(old) != asked);
    let is_unset = new.pointer("/spec/serviceAccountTokenInSecrets").is_none();
    let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    let told = (is_new && is_unset).then(|| why.to_owned());
    told.into_iter().collect()
}

pub(super) fn endpoints(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (index, subset) in list(new, "/subsets").iter().enumerate() {
        for kind in ["addresses", "notReadyAddresses"] {
            let all = list(subset, &format!("/{kind}")).iter().enumerate();
            for (inner, one) in all {
                let path = format!("subsets[{index}].{kind}[{inner}].ip");
                found.extend(service::address(&path, text(one, "/ip")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn odd_objects_of_each_kind_are_told_of() {
        let beta = "beta.kubernetes.io/arch";
        let old = "deprecated since v1.14; use \"kubernetes.io/arch\" instead";
        type Of = fn(&Value, Option<&Value>) -> Vec<String>;
        for (of, object, told) in [
            (volume as Of, json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}), "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned()),
            (volume, json!({"spec": {"storageos": {}}}), "spec.storageOS: deprecated in v1.22, non-functional in v1.25+".to_owned()),
            (volume, json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": beta}]}]}}}}), format!("spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: {beta} is {old}")),
            (claim, json!({"metadata": {"annotations": {CLASS: "x"}}}), format!("metadata.annotations[{CLASS}]: {CLASS_WHY}")),
            (claim, json!({"spec": {"resources": {"requests": {"storage": "100m"}}}}), "spec.resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer".to_owned()),
            (storage_class, json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": beta}]}]}), format!("allowedTopologies[0].matchLabelExpressions[0].key: {old}")),
            (runtime_class, json!({"scheduling": {"nodeSelector": {beta: "x"}}}), format!("scheduling.nodeSelector: {old}")),
            (node, json!({"spec": {"externalID": "x"}}), "spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned()),
            (account, json!({"metadata": {"annotations": {MOUNTABLE: "true"}}}), format!("metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets")),
            (endpoints, json!({"subsets": [{"notReadyAddresses": [{"ip": "1.2.03.4"}]}]}), "subsets[0].notReadyAddresses[0].ip: non-standard IP address \"1.2.03.4\" is invalid: use \"1.2.3.4\"".to_owned()),
        ] {
            assert_eq!(of(&object, None), [told]);
            assert!(of(&json!({"metadata": {}, "spec": {}}), None).is_empty());
        }
        let with = json!({"spec": {"tokenRequests": [{"audience": ""}]}});
        assert_eq!(driver(&with, None).len(), 1);
        assert!(driver(&with, Some(&with)).is_empty());
        let marked = json!({"metadata": {"annotations": {MOUNTABLE: "true"}}});
        assert!(account(&marked, Some(&marked)).is_empty());
    }
}

//! Creates the objects that every cluster has.
//!
//! In:    the store
//! Out:   the four namespaces, the system's priority classes, the `kubernetes` service and its endpoints
//! Calls: `controllers`
//! Holds: an existing object is not changed
//! Upstream: pkg/controlplane/controller/{systemnamespaces,kubernetesservice}, pkg/registry/scheduling/rest (1.36); differences: none

use serde_json::{Value, json};

use super::controller;
use crate::base::failure::Failure;
use crate::kinds::resources::{Resource, by_storage};
use crate::request::options::Run;
use crate::verbs::state::Inner;

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

pub(super) async fn run(server: &Inner) -> Result<(), Failure> {
    for name in NAMESPACES {
        make(
            server,
            "namespaces",
            "",
            json!({"metadata": {"name": name}}),
        )
        .await?;
    }
    let classes = [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ];
    for (name, value, description) in classes {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        make(server, "priorityclasses.scheduling.k8s.io", "", class).await?;
    }
    make(server, "services", "default", kubernetes_service()).await?;
    let Some((ip, port)) = server.advertised else {
        return Ok(());
    };
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": ip.to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    make(server, "endpoints", "default", endpoints).await
}

fn kubernetes_service() -> Value {
    json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    })
}

/// Creates an object unless one of its name exists.
pub(super) async fn make(
    server: &Inner,
    storage: &str,
    namespace: &str,
    object: Value,
) -> Result<(), Failure> {
    let Some(resource): Option<&'static Resource> = by_storage(storage) else {
        return Ok(());
    };
    let key = resource.key(namespace, crate::base::object::name(&object));
    if server.registry.store.get(&key).is_some() {
        return Ok(());
    }
    let who = controller();
    let made = server
        .registry
        .create(resource, namespace, object, &who, Run::Real);
    match made.await {
        Err(failure) if failure.reason == "AlreadyExists" => Ok(()),
        made => made.map(drop),
    }
}

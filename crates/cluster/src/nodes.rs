//! The objects that this node owns: Node, Lease, CSINode.
//!
//! In:    decided objects and patches
//! Out:   what the server has now
//! Calls: act/node/node_status (registration, status, lease)
//! Holds: heartbeats use a lane of their own without a rate limit; an existing Node is adopted, never replaced; the lease is
//!        updated only on top of the version that was read last
//! Upstream: pkg/kubelet/kubelet_node_status.go (registerWithAPIServer), component-helpers/apimachinery/lease/controller.go,
//!           pkg/volume/csi/nodeinfomanager

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

use crate::client::{Client, LaneKind};
use crate::error::ClusterError;
use crate::objects_api::{At, PatchKind};

/// One call about the node; shorter than the time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);
/// Conflicts in a row before a renewal is left to the next period.
const LEASE_TRIES: usize = 5;

/// How a node came to be registered.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// There was none of that name.
    Created(Box<Node>),
    /// It was there; as it is now.
    Adopted(Box<Node>),
}

impl Registered {
    /// The object.
    pub fn node(&self) -> &Node {
        match self {
            Self::Created(node) | Self::Adopted(node) => node,
        }
    }
}

fn node_at<'a>(operation: &'static str, name: &'a str) -> At<'a> {
    At {
        operation,
        lane: LaneKind::Heartbeat,
        namespace: None,
        name,
        subresource: None,
        deadline: HEARTBEAT,
    }
}

impl Client {
    /// Reads a node.
    ///
    /// # Errors
    /// As every call.
    pub async fn read_node(&self, name: &str) -> Result<Node, ClusterError> {
        self.get(node_at("get node", name)).await
    }

    /// Creates the node; where there is one already, sends what `adopt` makes of it: a patch, or nothing.
    ///
    /// # Errors
    /// As every call; nothing was lost then, and it can be tried again.
    pub async fn register_node(
        &self,
        node: &Node,
        adopt: impl FnOnce(&Node) -> Option<Value>,
    ) -> Result<Registered, ClusterError> {
        let created = self.create(node_at("register node", ""), node).await;
        match created {
            Ok(node) => return Ok(Registered::Created(Box::new(node))),
            Err(error) if error.is_already_exists() => {}
            // A node that may not create Nodes may still be one.
            Err(error) if error.code() == Some(403) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                if self.read_node(name).await.is_err() {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let existing = self.read_node(name).await?;
        let adopted = match adopt(&existing) {
            Some(patch) => self.write_node_status(name, &patch).await?,
            None => existing,
        };
        Ok(Registered::Adopted(Box::new(adopted)))
    }

    /// Merges a patch (strategic) into the node's status, labels and annotations.
    ///
    /// # Errors
    /// As every call.
    pub async fn write_node_status(&self, name: &str, patch: &Value) -> Result<Node, ClusterError> {
        let mut at = node_at("patch node status", name);
        at.subresource = Some("status");
        self.patch(at, PatchKind::Strategic, patch).await
    }

    /// Creates the CSINode, or puts annotations and owner of the one that is there right. Its drivers stay.
    ///
    /// # Errors
    /// As every call.
    pub async fn write_csi_node(&self, wanted: &CSINode) -> Result<CSINode, ClusterError> {
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let at = |operation, name| At {
            operation,
            lane: LaneKind::General,
            namespace: None,
            name,
            subresource: None,
            deadline: CALL,
        };
        let existing: CSINode = match self.get(at("get CSINode", name)).await {
            Ok(existing) => existing,
            Err(error) if error.is_not_found() => {
                return self.create(at("create CSINode", ""), wanted).await;
            }
            Err(error) => return Err(error),
        };
        let has = |one: &CSINode| {
            (
                one.metadata.annotations.clone(),
                one.metadata.owner_references.clone(),
            )
        };
        if has(&existing) == has(wanted) {
            return Ok(existing);
        }
        let patch = json!({ "metadata": {
            "annotations": wanted.metadata.annotations,
            "ownerReferences": wanted.metadata.owner_references,
            "resourceVersion": existing.metadata.resource_version,
        } });
        self.patch(at("patch CSINode", name), PatchKind::Merge, &patch)
            .await
    }
}

/// Keeps the node's lease. One owner; renewals do not overlap.
#[derive(Clone, Debug)]
pub struct LeaseKeeper {
    client: Client,
    /// Namespace, name, owner and duration; without a time.
    wanted: Lease,
    latest: Option<Lease>,
}

impl LeaseKeeper {
    /// A keeper of the lease that looks like `wanted`.
    pub fn new(client: Client, wanted: Lease) -> Self {
        Self {
            client,
            wanted,
            latest: None,
        }
    }

    /// Another Node object has the name by now: the lease belongs to it.
    pub fn set_wanted(&mut self, wanted: Lease) {
        self.wanted = wanted;
    }

    /// Writes the time into the lease, creating it if it is not there.
    ///
    /// # Errors
    /// As every call: the next period tries again.
    pub async fn renew(&mut self, now: Timestamp) -> Result<(), ClusterError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let renewed = match self.latest.take() {
                Some(latest) => self.update(latest, now).await,
                None => self.ensure(now).await,
            };
            match renewed {
                Ok(Some(lease)) => {
                    self.latest = Some(lease);
                    return Ok(());
                }
                // It was there and is read now: write on top of it.
                Ok(None) => {}
                // Somebody else wrote, or it is gone: look at it again.
                Err(Renewal::Again(_)) if tries < LEASE_TRIES => {}
                Err(Renewal::Again(error) | Renewal::Failed(error)) => return Err(error),
            }
        }
    }

    fn at<'a>(&self, operation: &'static str, name: &'a str, namespace: &'a str) -> At<'a> {
        At {
            operation,
            lane: LaneKind::Heartbeat,
            namespace: Some(namespace),
            name,
            subresource: None,
            deadline: HEARTBEAT,
        }
    }

    fn address(&self) -> (String, String) {
        let metadata = &self.wanted.metadata;
        (
            metadata.name.clone().unwrap_or_default(),
            metadata.namespace.clone().unwrap_or_default(),
        )
    }

    /// Reads it, or creates it with the time in it.
    async fn ensure(&mut self, now: Timestamp) -> Result<Option<Lease>, Renewal> {
        let (name, namespace) = self.address();
        let at = self.at("get lease", &name, &namespace);
        match self.client.get(at).await {
            Ok(lease) => {
                self.latest = Some(lease);
                Ok(None)
            }
            Err(error) if error.is_not_found() => {
                let mut lease = self.wanted.clone();
                lease.spec.get_or_insert_default().renew_time = Some(micro(now));
                let at = self.at("create lease", "", &namespace);
                let created = self.client.create(at, &lease).await;
                // Where there is no such namespace, or no such kind, another look helps nothing.
                created
                    .map(Some)
                    .map_err(|error| match error.is_not_found() {
                        true => Renewal::Failed(error),
                        false => Renewal::of(error),
                    })
            }
            Err(error) => Err(Renewal::Failed(error)),
        }
    }

    async fn update(&self, mut lease: Lease, now: Timestamp) -> Result<Option<Lease>, Renewal> {
        let (name, namespace) = self.address();
        let wanted = self.wanted.spec.clone().unwrap_or_default();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = wanted.holder_identity;
        spec.lease_duration_seconds = wanted.lease_duration_seconds;
        spec.renew_time = Some(micro(now));
        lease
            .metadata
            .owner_references
            .clone_from(&self.wanted.metadata.owner_references);
        let at = self.at("renew lease", &name, &namespace);
        let renewed = self.client.replace(at, &lease).await;
        renewed.map(Some).map_err(Renewal::of)
    }
}

/// A write of the lease that failed.
enum Renewal {
    /// What was read of it is not true any more.
    Again(ClusterError),
    Failed(ClusterError),
}

impl Renewal {
    fn of(error: ClusterError) -> Self {
        if error.is_conflict() || error.is_not_found() || error.is_already_exists() {
            return Self::Again(error);
        }
        Self::Failed(error)
    }
}

/// The API keeps microseconds.
fn micro(now: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::testing::{Body, Seen, Server, answer, status};

    /// A server that writes down what it is asked, and answers by a function of it and of how often it was asked.
    fn server(
        script: impl Fn(&Seen, usize) -> hyper::Response<Body> + Send + Sync + 'static,
    ) -> (Server, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (seen_lines, count) = (Arc::clone(&lines), AtomicUsize::new(0));
        let server = Server::new(move |seen| {
            seen_lines.lock().unwrap().push(seen.line());
            let response = script(&seen, count.fetch_add(1, Ordering::SeqCst));
            async { response }
        });
        (server, lines)
    }

    fn node(version: &str) -> Value {
        json!({ "metadata": { "name": "one", "uid": "u", "resourceVersion": version } })
    }

    fn wanted_lease() -> Lease {
        serde_json::from_value(json!({
            "metadata": { "name": "one", "namespace": "kube-node-lease",
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "one", "uid": "u" }] },
            "spec": { "holderIdentity": "one", "leaseDurationSeconds": 40 }
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_created_or_adopted() {
        let own: Node = serde_json::from_value(json!({ "metadata": { "name": "one" } })).unwrap();
        let (created, lines) = server(|_, _| answer(201, &node("1")));
        let registered = created
            .client()
            .register_node(&own, |_| None)
            .await
            .unwrap();
        assert!(matches!(registered, Registered::Created(_)));
        assert_eq!(*lines.lock().unwrap(), ["POST /api/v1/nodes"]);

        let (there, lines) = server(|seen, _| match seen.method.as_str() {
            "POST" => status(409, "AlreadyExists"),
            "GET" => answer(200, &node("2")),
            _ => {
                assert_eq!(
                    seen.json(),
                    json!({ "metadata": { "labels": { "a": "b" } } })
                );
                answer(200, &node("3"))
            }
        });
        let adopt = |existing: &Node| {
            assert_eq!(existing.metadata.resource_version.as_deref(), Some("2"));
            Some(json!({ "metadata": { "labels": { "a": "b" } } }))
        };
        let registered = there.client().register_node(&own, adopt).await.unwrap();
        assert!(
            matches!(&registered, Registered::Adopted(node) if node.metadata.resource_version.as_deref() == Some("3"))
        );
        assert_eq!(
            *lines.lock().unwrap(),
            [
                "POST /api/v1/nodes",
                "GET /api/v1/nodes/one",
                "PATCH /api/v1/nodes/one/status"
            ]
        );

        let (denied, _) = server(|_, _| status(403, "Forbidden"));
        let error = denied
            .client()
            .register_node(&own, |_| None)
            .await
            .unwrap_err();
        assert!(
            error.is_denied(),
            "a Node of somebody else is an error: {error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_created_with_its_owner_then_written_over_its_last_version() {
        let (server, lines) = server(|seen, count| {
            if seen.method == "GET" {
                return status(404, "NotFound");
            }
            let mut lease = seen.json();
            lease["metadata"]["resourceVersion"] = json!(count.to_string());
            answer(200, &lease)
        });
        let mut keeper = LeaseKeeper::new(server.client(), wanted_lease());
        let now: Timestamp = "2026-11-23T08:43:27.005044123Z".parse().unwrap();
        keeper.renew(now).await.unwrap();
        let lease = serde_json::to_value(keeper.latest.as_ref().unwrap()).unwrap();
        assert_eq!(lease["spec"]["renewTime"], "2026-11-23T08:43:27.005044Z");
        assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], "u");
        keeper.renew(now).await.unwrap();
        assert_eq!(
            *lines.lock().unwrap(),
            [
                "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/one",
                "POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/one",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_read_again_and_a_storm_of_them_ends() {
        let stored = || {
            let mut lease = serde_json::to_value(wanted_lease()).unwrap();
            lease["metadata"]["resourceVersion"] = json!("7");
            lease
        };
        let (server, _) = server(move |seen, count| match (seen.method.as_str(), count) {
            ("PUT", 0..4) => status(409, "Conflict"),
            ("PUT", _) => answer(200, &seen.json()),
            _ => answer(200, &stored()),
        });
        let mut keeper = LeaseKeeper::new(server.client(), wanted_lease());
        let now = Timestamp::UNIX_EPOCH;
        keeper.renew(now).await.unwrap();
        let (storm, lines) = self::server(move |seen, _| match seen.method.as_str() {
            "PUT" => status(409, "Conflict"),
            _ => answer(200, &stored()),
        });
        let mut keeper = LeaseKeeper::new(storm.client(), wanted_lease());
        let error = keeper.renew(now).await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
        assert!(lines.lock().unwrap().len() <= 2 * LEASE_TRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn without_leases_a_renewal_asks_twice_and_fails_in_the_servers_words() {
        for code in [403, 404, 405, 500] {
            let (server, lines) = server(move |seen, _| match seen.method.as_str() {
                "GET" if code != 403 => status(404, "NotFound"),
                _ => status(code, "Scripted"),
            });
            let mut keeper = LeaseKeeper::new(server.client(), wanted_lease());
            let error = keeper.renew(Timestamp::UNIX_EPOCH).await.unwrap_err();
            assert_eq!(error.code(), Some(code));
            assert!(
                lines.lock().unwrap().len() <= 2,
                "{:?}",
                lines.lock().unwrap()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_no_csi_nodes_two_calls_find_that_out() {
        let (server, lines) = server(|_, _| status(404, "NotFound"));
        let wanted = json!({ "metadata": { "name": "one" }, "spec": { "drivers": [] } });
        let wanted = serde_json::from_value(wanted).unwrap();
        let error = server.client().write_csi_node(&wanted).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert_eq!(lines.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_csi_node_is_created_or_put_right_and_keeps_its_drivers() {
        let wanted: CSINode = serde_json::from_value(json!({
            "metadata": { "name": "one", "annotations": { "a": "b" } }, "spec": { "drivers": [] }
        }))
        .unwrap();
        let (absent, lines) = server(|seen, _| match seen.method.as_str() {
            "GET" => status(404, "NotFound"),
            _ => answer(201, &seen.json()),
        });
        absent.client().write_csi_node(&wanted).await.unwrap();
        assert_eq!(
            lines.lock().unwrap().last().unwrap(),
            "POST /apis/storage.k8s.io/v1/csinodes"
        );
        let (there, _) = server(|seen, _| {
            if seen.method == "PATCH" {
                let patch = seen.json();
                assert!(patch.get("spec").is_none() && patch["metadata"]["resourceVersion"] == "4");
            }
            // As upstream's server writes no drivers.
            answer(
                200,
                &json!({ "metadata": { "name": "one", "resourceVersion": "4" }, "spec": { "drivers": null } }),
            )
        });
        there.client().write_csi_node(&wanted).await.unwrap();
    }
}

//! Typed calls: objects of k8s-openapi in and out.
//!
//! In:    a kind, a place, an object or a patch
//! Out:   the object that the server answers with, without `managedFields`
//! Calls: pods, nodes, objects, tokens, certificates, events; server
//! Holds: names are percent-encoded in paths; an object that was read is never written back whole, because fields unknown to
//!        this build would be lost (exception: leases)
//! Upstream: client-go/kubernetes/typed

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::{Call, Client, LaneKind};
use crate::error::ClusterError;

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Lists are merged by their keys.
    Strategic,
    /// JSON merge patch.
    Merge,
}

/// Where an object is, and how the call goes.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// What errors call it.
    pub operation: &'static str,
    /// Its lane.
    pub lane: LaneKind,
    /// Namespace, for kinds that live in one.
    pub namespace: Option<&'a str>,
    /// Name.
    pub name: &'a str,
    /// `status`, `token`.
    pub subresource: Option<&'static str>,
    /// How long it may take.
    pub deadline: Duration,
}

/// Kinds that this client speaks of.
pub trait Object:
    Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<T> Object for T where
    T: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// Path of a kind's collection: `/api/v1/namespaces/default/pods`.
pub(crate) fn collection<T: Resource>(namespace: Option<&str>) -> String {
    let group = if T::GROUP.is_empty() {
        format!("/api/{}", T::VERSION)
    } else {
        format!("/apis/{}/{}", T::GROUP, T::VERSION)
    };
    match namespace {
        Some(namespace) => {
            let namespace = encoded(namespace);
            format!("{group}/namespaces/{namespace}/{}", T::URL_PATH_SEGMENT)
        }
        None => format!("{group}/{}", T::URL_PATH_SEGMENT),
    }
}

/// Percent-encodes all but unreserved characters, so that no name can leave its place in a path or query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // `.` and `..` alone would be taken for steps of the path.
    if out == "." || out == ".." {
        out = out.replace('.', "%2E");
    }
    out
}

/// Decodes an answer and drops what only servers need.
pub(crate) fn decoded<T: Object>(operation: &'static str, body: &[u8]) -> Result<T, ClusterError> {
    let mut object: T = serde_json::from_slice(body).map_err(|error| ClusterError::Unreadable {
        operation,
        message: error.to_string(),
    })?;
    object.metadata_mut().managed_fields = None;
    Ok(object)
}

fn written(operation: &'static str, value: &impl Serialize) -> Result<Bytes, ClusterError> {
    let text = serde_json::to_vec(value).map_err(|error| ClusterError::Request {
        operation,
        message: error.to_string(),
    })?;
    Ok(Bytes::from(text))
}

impl At<'_> {
    fn call<T: Resource>(&self, method: Method, body: Bytes) -> Call {
        let mut path = collection::<T>(self.namespace);
        if !self.name.is_empty() {
            path = format!("{path}/{}", encoded(self.name));
        }
        if let Some(subresource) = self.subresource {
            path = format!("{path}/{subresource}");
        }
        Call {
            operation: self.operation,
            lane: self.lane,
            method,
            path,
            content_type: "application/json",
            body,
            deadline: self.deadline,
        }
    }
}

impl Client {
    /// Reads an object.
    ///
    /// # Errors
    /// As every call: not sent, refused, lost or late.
    pub async fn get<T: Object>(&self, at: At<'_>) -> Result<T, ClusterError> {
        let answer = self.call(at.call::<T>(Method::GET, Bytes::new())).await?;
        decoded(at.operation, &answer)
    }

    /// Creates an object; the name of `at` is left empty but for subresources.
    ///
    /// # Errors
    /// As every call.
    pub async fn create<T: Object>(&self, at: At<'_>, object: &T) -> Result<T, ClusterError> {
        let body = written(at.operation, object)?;
        let answer = self.call(at.call::<T>(Method::POST, body)).await?;
        decoded(at.operation, &answer)
    }

    /// Posts to a subresource of a kind, whose answer is of another kind.
    pub(crate) async fn create_below<T: Resource>(
        &self,
        at: At<'_>,
        body: &Value,
    ) -> Result<Value, ClusterError> {
        let body = written(at.operation, body)?;
        let answer = self.call(at.call::<T>(Method::POST, body)).await?;
        // The parser's own words could repeat parts of a secret.
        serde_json::from_slice(&answer).map_err(|_| ClusterError::Unreadable {
            operation: at.operation,
            message: "no JSON".to_owned(),
        })
    }

    /// Puts an object in the place of the one that has its resource version.
    ///
    /// # Errors
    /// As every call.
    pub(crate) async fn replace<T: Object>(
        &self,
        at: At<'_>,
        object: &T,
    ) -> Result<T, ClusterError> {
        let body = written(at.operation, object)?;
        let answer = self.call(at.call::<T>(Method::PUT, body)).await?;
        decoded(at.operation, &answer)
    }

    /// Changes an object.
    ///
    /// # Errors
    /// As every call.
    pub async fn patch<T: Object>(
        &self,
        at: At<'_>,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<T, ClusterError> {
        let body = written(at.operation, patch)?;
        let mut call = at.call::<T>(Method::PATCH, body);
        call.content_type = match kind {
            PatchKind::Strategic => "application/strategic-merge-patch+json",
            PatchKind::Merge => "application/merge-patch+json",
        };
        decoded(at.operation, &self.call(call).await?)
    }

    /// Deletes an object, if it still is the one of this UID.
    ///
    /// # Errors
    /// As every call; a conflict when another has the name by now.
    pub async fn delete<T: Object>(
        &self,
        at: At<'_>,
        uid: Option<&str>,
        grace_seconds: Option<i64>,
    ) -> Result<(), ClusterError> {
        let mut options = json!({ "kind": "DeleteOptions", "apiVersion": "v1" });
        if let Some(uid) = uid {
            options["preconditions"] = json!({ "uid": uid });
        }
        if let Some(grace) = grace_seconds {
            options["gracePeriodSeconds"] = json!(grace);
        }
        let body = written(at.operation, &options)?;
        self.call(at.call::<T>(Method::DELETE, body))
            .await
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{coordination::v1::Lease, core::v1};

    #[test]
    fn paths_name_group_namespace_and_kind_and_no_name_leaves_its_place() {
        assert_eq!(collection::<v1::Node>(None), "/api/v1/nodes");
        assert_eq!(
            collection::<v1::Pod>(Some("a/../b?c")),
            "/api/v1/namespaces/a%2F..%2Fb%3Fc/pods"
        );
        assert_eq!(
            collection::<Lease>(Some("kube-node-lease")),
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        );
        assert_eq!(encoded(".."), "%2E%2E");
    }
}

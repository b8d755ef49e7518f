//! The server as its clients see it: requests and responses, without a socket.
//!
//! In:    requests as JSON
//! Out:   codes and JSON
//! Upstream: test/integration/apiserver, test/integration/auth/node_test.go (1.36)

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::base::body::Body;
use crate::base::clock::Chance;
use crate::base::object;
use crate::base::user::User;
use crate::identity::Identity;
use crate::kinds::resources::selectable_fields;
use crate::serve::server::{ApiServer, ServerParts};
use crate::store::{Change, Expected, Store, Write};
use crate::verbs::inflight::Limits;

mod bounds;
mod controllers;
mod floods;
mod identity;
mod impersonation;
mod lists;
mod node;
mod node_authorizer;
mod node_restriction;
mod paths;
mod pods;
mod proxy;
mod requests;
mod rights;
mod signing_requests;
mod tokens;
mod validation;
mod verbs;
mod warnings;
mod watch;

/// 2026-11-25T12:00:00Z.
const NOON: i64 = 1_795_608_000;

/// A server whose clock moves only when the test moves it.
struct World {
    server: ApiServer,
    clock: Arc<AtomicI64>,
    stop: CancellationToken,
}

impl World {
    /// With the objects that every cluster has.
    async fn new() -> Self {
        let world = Self::bare();
        world.settle().await;
        world
    }

    fn bare() -> Self {
        Self::limited(Limits::default())
    }

    fn limited(limits: Limits) -> Self {
        Self::made(limits, |_| {})
    }

    /// With other parts.
    fn made(limits: Limits, change: impl FnOnce(&mut ServerParts)) -> Self {
        let clock = Arc::new(AtomicI64::new(NOON));
        let reading = Arc::clone(&clock);
        let chance = Chance::seeded(7);
        let at = move || jiff::Timestamp::from_second(reading.load(Ordering::Relaxed)).unwrap();
        let identity = Identity::fresh(&chance, at()).unwrap();
        let static_tokens = [("secret-token".to_owned(), User::new("bob", &["users"]))];
        let mut parts = ServerParts {
            store: Store::memory(selectable_fields).unwrap(),
            now: Arc::new(at),
            chance,
            identity,
            static_tokens: static_tokens.into(),
            advertised: Some(([127, 0, 0, 1].into(), 6443)),
            own_kubelet: None,
        };
        change(&mut parts);
        Self {
            server: ApiServer::limited(parts, limits).unwrap(),
            clock,
            stop: CancellationToken::new(),
        }
    }

    /// Lets the controllers run until nothing changes.
    async fn settle(&self) {
        let store = &self.server.0.registry.store;
        let until_quiet = async {
            let mut seen = 0;
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if store.version() == seen {
                    return;
                }
                seen = store.version();
            }
            panic!("the controllers never come to rest");
        };
        tokio::select! {
            () = until_quiet => {}
            () = self.server.run(self.stop.clone()) => {}
        }
    }

    fn advance(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sends a request as the administrator.
    async fn ask(&self, line: &str, body: Value) -> (u16, Value) {
        self.ask_as(&User::admin(), line, body).await
    }

    /// `METHOD path`, or `PATCH:type path` with a word for the content type.
    async fn ask_as(&self, user: &User, line: &str, body: Value) -> (u16, Value) {
        let response = self.send(user, line, &body, "").await;
        let code = response.0;
        let bytes = response.1.collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn send(&self, user: &User, line: &str, body: &Value, accept: &str) -> (u16, Body) {
        let (method, path) = line.split_once(' ').unwrap();
        let (method, content_type) = match method.split_once(':') {
            Some((method, "json")) => (method, "application/json-patch+json"),
            Some((method, "merge")) => (method, "application/merge-patch+json"),
            Some((method, _)) => (method, "application/strategic-merge-patch+json"),
            None if method == "PATCH" => (method, "application/strategic-merge-patch+json"),
            None => (method, "application/json"),
        };
        let text = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body).unwrap()
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://server{path}"))
            .header("content-type", content_type)
            .header("accept", accept)
            .body(Full::new(Bytes::from(text)))
            .unwrap();
        let response = self
            .server
            .service_as(user.clone())
            .call(request)
            .await
            .unwrap();
        (response.status().as_u16(), response.into_body())
    }

    /// Sends a request as the administrator; it must succeed.
    async fn do_it(&self, line: &str, body: Value) -> Value {
        let (code, answer) = self.ask(line, body).await;
        assert!((200..300).contains(&code), "{line}: {code} {answer}");
        answer
    }

    /// Stores an object as it is.
    async fn put(&self, storage: &str, object: Value) {
        let (namespace, name) = (object::namespace(&object), object::name(&object));
        let write = Write {
            key: format!("{storage}/{namespace}/{name}"),
            expected: Expected::Absent,
            change: Change::Put(Box::new(object)),
        };
        self.server.0.registry.store.write(write).await.unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        self.do_it(&format!("GET {path}"), Value::Null).await
    }

    /// The code and the reason of a refusal.
    async fn refused(&self, line: &str, body: Value) -> (u16, String) {
        let (code, answer) = self.ask(line, body).await;
        (
            code,
            answer["reason"].as_str().unwrap_or_default().to_owned(),
        )
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    })
}

fn pod_on(name: &str, node: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["nodeName"] = node.into();
    pod
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "data": data})
}

fn ready_node(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        },
    })
}

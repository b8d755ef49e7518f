//! Who asks.
//!
//! In:    names and groups that a certificate or a token tells
//! Out:   [`User`]
//! Calls: `authn` makes them, everything else reads them
//! Holds: every authenticated user is in `system:authenticated`
//! Upstream: staging/src/k8s.io/apiserver/pkg/authentication/user (1.36); differences: none

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its UID, or nothing.
    pub uid: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of these groups, and of `system:authenticated`.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.iter().any(|group| group == "system:authenticated") {
            groups.push("system:authenticated".to_owned());
        }
        Self {
            name: name.to_owned(),
            groups,
            ..Self::default()
        }
    }

    /// Who may do everything: the administrator.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    /// The kubelet of a node.
    pub fn node(name: &str) -> Self {
        Self::new(&format!("system:node:{name}"), &["system:nodes"])
    }

    /// A service account; its groups follow from its namespace.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
            ],
        )
    }

    /// Whether it is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// The node whose kubelet it is.
    pub fn node_name(&self) -> Option<&str> {
        self.node_identity().filter(|name| !name.is_empty())
    }

    /// What it says to be the kubelet of; empty when it is a kubelet, and does not tell whose.
    pub(crate) fn node_identity(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:");
        name.filter(|_| self.is_in("system:nodes"))
    }

    /// As reviews show it.
    pub(crate) fn shown(&self) -> Value {
        let mut shown = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            shown["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            shown["extra"] = json!(self.extra);
        }
        shown
    }
}

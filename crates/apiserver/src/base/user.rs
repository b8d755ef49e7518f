//! The user who sends a request.
//!
//! In:    names and groups from a certificate or a token
//! Out:   [`User`]
//! Calls: `authn` creates users, everything else reads them
//! Holds: every authenticated user is in `system:authenticated`
//! Upstream: staging/src/k8s.io/apiserver/pkg/authentication/user (1.36); differences: none

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user name.
    pub name: String,
    /// The UID, or empty.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Extra attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with these groups and `system:authenticated`.
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

    /// The administrator, who may do everything.
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

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// The name of the node if the user is its kubelet.
    pub fn node_name(&self) -> Option<&str> {
        self.node_identity().filter(|name| !name.is_empty())
    }

    /// The name of the node that the user claims to be the kubelet of; empty if the user is a kubelet that names no node.
    pub(crate) fn node_identity(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:");
        name.filter(|_| self.is_in("system:nodes"))
    }

    /// The form in which reviews show the user.
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

//! Authorization: whether a user may carry out a request.
//!
//! In:    [`User`], [`Asked`]
//! Out:   [`Decision`]
//! Calls: `http` for each request; `reviews` for access reviews
//! Holds: a request that no rule allows is denied
//! Upstream: plugin/pkg/auth/authorizer/node, pkg/registry/authorization (1.36); differences: no RBAC objects. Administrators
//!           may do everything, kubelets what the node authorizer allows; every authenticated user may review its own access

use crate::base::user::User;
use crate::kinds::resources::NameRule;
use crate::kinds::selectors::{FieldRequirement, parse_fields};
use crate::request::path::{Query, Target};
use crate::store::Store;

mod node;

/// The attributes of a request that authorization looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The path of a non-resource request.
    pub(crate) path: String,
    /// The field selector of a list, a watch or a deletion of many.
    pub(crate) fields: Vec<FieldRequirement>,
}

impl Asked {
    /// The attributes of a request on a resource.
    pub(crate) fn of(target: &Target, verb: &str, query: &Query) -> Self {
        let selector = query.get("fieldSelector").unwrap_or_default();
        let fields = match verb {
            "list" | "watch" | "deletecollection" => parse_fields(selector).unwrap_or_default(),
            _ => Vec::new(),
        };
        let mut name = target.name.clone();
        if ["list", "watch"].contains(&verb)
            && let Some(only) = fields
                .iter()
                .find(|one| one.field == "metadata.name" && one.equal)
            && NameRule::PathSegment.check(&only.value).is_empty()
        {
            name.clone_from(&only.value);
        }
        Self {
            verb: verb.to_owned(),
            group: target.resource.group.to_owned(),
            resource: target.resource.plural.to_owned(),
            subresource: target.subresource.map_or("", |sub| sub.name).to_owned(),
            namespace: target.namespace.clone(),
            name,
            path: String::new(),
            fields,
        }
    }

    /// The attributes of a request on a non-resource path.
    pub(crate) fn of_path(path: &str, verb: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            path: path.to_owned(),
            ..Self::default()
        }
    }

    /// The message of a denial, in upstream's words.
    pub(crate) fn refusal(&self, user: &User, why: &str) -> String {
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        if !self.path.is_empty() {
            return format!(
                "forbidden: User {:?} cannot {} path {:?}{why}",
                user.name, self.verb, self.path
            );
        }
        let dotted = if self.group.is_empty() {
            String::new()
        } else {
            format!(".{}", self.group)
        };
        let named = if self.name.is_empty() {
            String::new()
        } else {
            format!(" {:?}", self.name)
        };
        let resource = if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "{}{dotted}{named} is forbidden: User {:?} cannot {} resource {resource:?} in API group {:?} {scope}{why}",
            self.resource, user.name, self.verb, self.group
        )
    }
}

/// The decision, with a reason for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed(&'static str),
    Refused(String),
}

/// Authorizes a request.
pub(crate) fn decide(store: &Store, user: &User, asked: &Asked) -> Decision {
    if user.is_in("system:masters") {
        return Decision::Allowed("");
    }
    if user.is_in("system:authenticated") && is_for_everybody(asked) {
        return Decision::Allowed("");
    }
    if user.is_in("system:bootstrappers") && is_for_bootstrappers(asked) {
        return Decision::Allowed("");
    }
    match user.node_name() {
        Some(node) => node::decide(store, node, asked),
        None => Decision::Refused(String::new()),
    }
}

/// Whether the request creates or reads a CSR for a first client certificate (upstream's role `system:node-bootstrapper`).
fn is_for_bootstrappers(asked: &Asked) -> bool {
    let verbs = ["create", "get", "list", "watch"];
    asked.group == "certificates.k8s.io"
        && asked.resource == "certificatesigningrequests"
        && asked.subresource.is_empty()
        && verbs.contains(&&*asked.verb)
}

/// Discovery, and reviews of the user's own access.
fn is_for_everybody(asked: &Asked) -> bool {
    let reads = ["get", "head"].contains(&&*asked.verb);
    let discovery = [
        "/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz",
    ];
    let path = &*asked.path;
    let below = |root: &&str| {
        path == *root
            || path
                .strip_prefix(*root)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    if reads && discovery.iter().any(below) {
        return true;
    }
    let question = (&*asked.group, &*asked.resource, &*asked.subresource);
    let own = [
        ("authorization.k8s.io", "selfsubjectaccessreviews", ""),
        ("authorization.k8s.io", "selfsubjectrulesreviews", ""),
        ("authentication.k8s.io", "selfsubjectreviews", ""),
    ];
    asked.verb == "create" && own.contains(&question)
}

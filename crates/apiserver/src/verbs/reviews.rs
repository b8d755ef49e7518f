//! Token reviews and access reviews: answered, not stored.
//!
//! In:    a review with its spec
//! Out:   the review with its status
//! Calls: `verbs`
//! Holds: a review changes nothing
//! Upstream: pkg/registry/authentication, pkg/registry/authorization (1.36); differences: rules reviews list what every user
//!           may do, and everything for administrators; a kubelet's rules are marked as incomplete

use serde_json::{Value, json};

use crate::access::authz::{self, Asked, Decision};
use crate::base::failure::Failure;
use crate::base::object::{as_map, list, text};
use crate::base::user::User;
use crate::kinds::selectors::{FieldRequirement, parse_fields};
use crate::registry::check_kind;
use crate::request::form::bytes;
use crate::verbs::state::Inner;
use crate::verbs::{Call, Reply};

pub(crate) fn serve(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let resource = call.target.resource;
    let mut review = call.object()?;
    check_kind(resource, &mut review)?;
    crate::kinds::typed::fits(&resource.api_version(), resource.kind, &review)?;
    (resource.check)(&review).map_err(Failure::bad_request)?;
    let status = match resource.kind {
        "TokenReview" => token_review(server, &review),
        "SelfSubjectReview" => json!({"userInfo": call.user.shown()}),
        "SelfSubjectAccessReview" => access(server, call.user, &review)?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let user = subject(&review)?;
            let namespace = &call.target.namespace;
            let asked = text(&review, "/spec/resourceAttributes/namespace");
            if resource.namespaced && asked != namespace {
                return Err(Failure::bad_request(
                    "spec.resourceAttributes.namespace must match the namespace of the request",
                ));
            }
            access(server, &user, &review)?
        }
        "SelfSubjectRulesReview" => rules(call.user),
        _ => return Err(Failure::no_such_path()),
    };
    as_map(&mut review).insert("status".to_owned(), status);
    Ok(Reply::Json(201, bytes(&review)))
}

fn token_review(server: &Inner, review: &Value) -> Value {
    let audiences: Vec<String> = list(review, "/spec/audiences")
        .iter()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    match server.authenticate_token(text(review, "/spec/token"), &audiences) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user.shown(), "audiences": audiences})
        }
        Err(why) => json!({"user": {}, "error": why}),
    }
}

/// The user that the review is about.
fn subject(review: &Value) -> Result<User, Failure> {
    let words = |value: &Value| {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    let spec = &review["spec"];
    let user = User {
        name: text(spec, "/user").to_owned(),
        uid: text(spec, "/uid").to_owned(),
        groups: words(&spec["groups"]),
        extra: spec["extra"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), words(value)))
            .collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(Failure::bad_request(
            "spec.user: Required value: at least one of user or group must be specified",
        ));
    }
    Ok(user)
}

fn access(server: &Inner, user: &User, review: &Value) -> Result<Value, Failure> {
    let spec = &review["spec"];
    let asked = match (
        spec.get("resourceAttributes"),
        spec.get("nonResourceAttributes"),
    ) {
        (Some(wanted), None) => Asked {
            verb: text(wanted, "/verb").to_owned(),
            group: text(wanted, "/group").to_owned(),
            resource: text(wanted, "/resource").to_owned(),
            subresource: text(wanted, "/subresource").to_owned(),
            namespace: text(wanted, "/namespace").to_owned(),
            name: text(wanted, "/name").to_owned(),
            path: String::new(),
            fields: selected(wanted)?,
        },
        (None, Some(wanted)) => Asked::of_path(text(wanted, "/path"), text(wanted, "/verb")),
        _ => {
            return Err(Failure::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    Ok(match authz::decide(&server.registry.store, user, &asked) {
        Decision::Allowed("") => json!({"allowed": true}),
        Decision::Allowed(why) => json!({"allowed": true, "reason": why}),
        Decision::Refused(why) if why.is_empty() => json!({"allowed": false}),
        Decision::Refused(why) => json!({"allowed": false, "reason": why}),
    })
}

/// The field selector that the review is about. Requirements that a selector cannot have are ignored.
fn selected(wanted: &Value) -> Result<Vec<FieldRequirement>, Failure> {
    let raw = text(wanted, "/fieldSelector/rawSelector");
    let requirements = list(wanted, "/fieldSelector/requirements");
    if !raw.is_empty() && !requirements.is_empty() {
        return Err(Failure::bad_request(
            "spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: may not specified at the same time as requirements",
        ));
    }
    let read = requirements.iter().filter_map(|one| {
        let [value] = list(one, "/values") else {
            return None;
        };
        let equal = match text(one, "/operator") {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        Some(FieldRequirement {
            field: text(one, "/key").to_owned(),
            value: value.as_str()?.to_owned(),
            equal,
        })
    });
    Ok(if requirements.is_empty() {
        parse_fields(raw).unwrap_or_default()
    } else {
        read.collect()
    })
}

fn rules(user: &User) -> Value {
    if user.is_in("system:masters") {
        return json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        });
    }
    let incomplete = user.node_name().is_some();
    let mut rules = json!({
        "resourceRules": [
            {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
            {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
        ],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz", "/version"]}],
        "incomplete": incomplete,
    });
    if incomplete {
        rules["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    rules
}

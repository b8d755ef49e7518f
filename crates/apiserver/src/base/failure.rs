//! Errors that a client receives, as upstream's `Status` object.
//!
//! In:    what went wrong, with the resource and the name
//! Out:   [`Failure`], its HTTP code and its JSON
//! Calls: everything that can refuse a request; `http` writes the response
//! Holds: reasons, codes and messages equal upstream's, since clients match on them
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/errors, pkg/util/validation/field (1.36); differences: none

use kubelet_validate::FieldProblem;
use serde_json::{Value, json};

/// What an error needs to know of the kind that it is about.
pub trait Named {
    /// Empty for the core group.
    fn group(&self) -> &str;
    /// The resource's name in paths.
    fn plural(&self) -> &str;
    /// `Pod`.
    fn kind(&self) -> &str;

    /// `pods`, or `leases.coordination.k8s.io`.
    fn qualified(&self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
    }
}

/// An error response.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// HTTP code.
    pub code: u16,
    /// Upstream's `StatusReason`.
    pub reason: &'static str,
    /// The message for people.
    pub message: String,
    /// `name`, `group`, `kind`, `causes`, `retryAfterSeconds`.
    pub details: Value,
    /// The continue token with which an expired list can go on.
    pub(crate) token: Option<String>,
}

/// One problem of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid` and the like.
    pub reason: &'static str,
    /// The path of the field.
    pub field: String,
    /// The text after the path.
    pub message: String,
}

impl From<FieldProblem> for Cause {
    fn from(problem: FieldProblem) -> Self {
        Self {
            reason: problem.kind.reason(),
            field: problem.path,
            message: problem.message,
        }
    }
}

impl Cause {
    /// A required field is missing.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!(": {detail}")
        };
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message: format!("Required value{detail}"),
        }
    }

    /// A value is invalid.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {}: {detail}", shown(value)),
        }
    }

    /// The field may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {detail}"),
        }
    }

    /// The value is not one of a list.
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|one| format!("{one:?}")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!(
                "Unsupported value: {}: supported values: {}",
                shown(value),
                allowed.join(", ")
            ),
        }
    }

    /// The value refers to nothing that exists.
    pub fn missing(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueNotFound",
            field: field.into(),
            message: format!("Not found: {}", shown(value)),
        }
    }

    /// The value occurs twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", shown(value)),
        }
    }

    /// The value is too long.
    pub fn too_long(field: impl Into<String>, bytes: usize) -> Self {
        Self {
            reason: "FieldValueTooLong",
            field: field.into(),
            message: format!("Too long: may not be more than {bytes} bytes"),
        }
    }

    fn line(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => value.to_string(),
        other => other.to_string(),
    }
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
            token: None,
        }
    }

    fn of(mut self, resource: &impl Named, name: &str) -> Self {
        let mut details = json!({"name": name, "kind": resource.plural()});
        if !resource.group().is_empty() {
            details["group"] = resource.group().into();
        }
        if name.is_empty() {
            details = json!({"kind": resource.plural()});
        }
        self.details = details;
        self
    }

    /// 404 for an object.
    pub fn not_found(resource: &impl Named, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(404, "NotFound", message).of(resource, name)
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        let mut failure = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        failure.details = json!({});
        failure
    }

    /// 409: the name is already taken.
    pub fn already_exists(resource: &impl Named, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).of(resource, name)
    }

    /// 409: the object has another version than the request was made from, or a precondition does not hold.
    pub fn conflict(resource: &impl Named, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.qualified()
        );
        Self::new(409, "Conflict", message).of(resource, name)
    }

    /// 500, as upstream does: the object of a create request has a resourceVersion.
    pub(crate) fn version_at_creation() -> Self {
        let why = "resourceVersion should not be set on objects to be created";
        Self::new(500, "", why)
    }

    /// 409: a precondition of a deletion does not hold. Upstream's text names the kind here, not the resource.
    pub(crate) fn precondition(resource: &impl Named, name: &str, why: &str) -> Self {
        let qualified = match resource.group() {
            "" => resource.kind().to_owned(),
            group => format!("{}.{group}", resource.kind()),
        };
        let mut failure = Self::conflict(resource, name, why);
        failure.message = format!("Operation cannot be fulfilled on {qualified} {name:?}: {why}");
        failure.details["kind"] = resource.kind().into();
        failure
    }

    /// 409 with upstream's text for an outdated resourceVersion.
    pub fn modified(resource: &impl Named, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422 with all problems.
    pub fn invalid(resource: &impl Named, name: &str, causes: &[Cause]) -> Self {
        Self::invalid_kind(resource.group(), resource.kind(), name, causes)
    }

    /// 422 for the options of a request.
    pub(crate) fn invalid_options(kind: &str, causes: &[Cause]) -> Self {
        Self::invalid_kind("meta.k8s.io", kind, "", causes)
    }

    /// 422 for an object of any kind, served or not.
    pub(crate) fn invalid_kind(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let qualified = match group {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        let lines: Vec<String> = causes.iter().map(Cause::line).collect();
        let what = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{qualified} {name:?} is invalid: {what}");
        let mut failure = Self::new(422, "Invalid", message);
        let causes: Vec<Value> = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        failure.details = json!({"kind": kind, "causes": causes});
        for (field, value) in [("name", name), ("group", group)] {
            if !value.is_empty() {
                failure.details[field] = value.into();
            }
        }
        failure
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 for an object: admission denied the request.
    pub fn forbidden(resource: &impl Named, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message).of(resource, name)
    }

    /// 403 with its own message: the authorizer denied the request.
    pub fn denied(details: Value, message: String) -> Self {
        let mut failure = Self::new(403, "Forbidden", message);
        failure.details = details;
        failure
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let mut failure = Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        failure.details = json!({});
        failure
    }

    /// 406.
    pub fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/json;stream=watch",
        )
    }

    /// 410: the resourceVersion is no longer available.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 for a list page, with the token that continues the list at the current version.
    pub(crate) fn expired_page(token: String) -> Self {
        let mut failure = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        );
        failure.token = Some(token);
        failure
    }

    /// An error answer of the kubelet, in the words of upstream's generic client.
    pub(crate) fn of_server(
        code: u16,
        (verb, resource, name): (&str, &str, &str),
        said: &str,
    ) -> Self {
        let (reason, what) = match code {
            401 => (
                "Unauthorized",
                "the server has asked for the client to provide credentials",
            ),
            403 => ("Forbidden", said),
            404 => (
                "NotFound",
                "the server could not find the requested resource",
            ),
            405 => (
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            406 => ("NotAcceptable", said),
            409 => ("Conflict", "the server reported a conflict"),
            415 => ("UnsupportedMediaType", said),
            422 => (
                "Invalid",
                "the server rejected our request due to an error in our request",
            ),
            429 => (
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted, but may still be processing the request",
            ),
            code if code >= 500 => ("InternalError", ""),
            _ => ("", ""),
        };
        let what = match what {
            "" if code >= 500 => {
                format!(
                    "an error on the server ({said:?}) has prevented the request from succeeding"
                )
            }
            "" => format!(
                "the server responded with the status code {code} but did not return more information"
            ),
            what => what.to_owned(),
        };
        let mut failure = Self::new(code, reason, format!("{what} ({verb} {resource} {name})"));
        failure.details = json!({"name": name, "kind": resource});
        failure
    }

    /// 410: a watch starts at a version that is too old.
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 504: the requested resourceVersion does not exist yet.
    pub fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut failure = Self::new(504, "Timeout", message);
        failure.details = json!({"retryAfterSeconds": 1, "causes": [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]});
        failure
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::too_large_because(&format!("limit is {limit}"))
    }

    /// 413 with its own message.
    pub fn too_large_because(why: &str) -> Self {
        let message = format!("Request entity too large: {why}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(got: &str, accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted} (got {got:?})"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429: an eviction that a disruption budget forbids, or too many requests.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut failure = Self::new(429, "TooManyRequests", message);
        failure.details = json!({"retryAfterSeconds": retry_after_seconds});
        failure
    }

    /// 500.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        let mut failure = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {what}"),
        );
        failure.details = json!({"causes": [{"message": what.to_string()}]});
        failure
    }

    /// 503.
    pub(crate) fn unavailable(message: String) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500 for a kubelet that cannot be reached.
    pub fn dialing(why: impl std::fmt::Display) -> Self {
        Self::new(500, "", format!("error dialing backend: {why}"))
    }

    /// 504.
    pub fn timeout() -> Self {
        Self::new(
            504,
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        )
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if self.reason.is_empty()
            && let Some(status) = status.as_object_mut()
        {
            status.remove("reason");
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        if let Some(token) = &self.token {
            status["metadata"]["continue"] = token.clone().into();
        }
        status
    }

    /// The seconds of the `Retry-After` header.
    pub fn retry_after(&self) -> Option<u64> {
        self.details["retryAfterSeconds"].as_u64()
    }
}

/// The `Status` of a successful request.
pub(crate) fn success(resource: &impl Named, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource.plural(), "uid": uid});
    if !resource.group().is_empty() {
        details["group"] = resource.group().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

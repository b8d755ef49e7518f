//! Discovery: the served groups, versions and resources.
//!
//! In:    the table of kinds
//! Out:   `/api`, `/apis`, the groups, the resources of a version, `/version`
//! Calls: `http`
//! Holds: derived from `resources` alone
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/discovery (1.36); differences: no aggregated form; OpenAPI has paths and no schemas

use serde_json::{Value, json};

use crate::base::failure::Failure;
use crate::kinds::resources::{RESOURCES, Resource};

/// The version that clients see.
pub(crate) const VERSION: &str = "v1.36.2+hyperkube.1";

/// `/version`.
pub(crate) fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": "36", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    })
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/`: the served paths.
pub(crate) fn index() -> Value {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/healthz/ping",
        "/healthz/store",
        "/livez",
        "/livez/ping",
        "/metrics",
        "/openapi/v3",
        "/readyz",
        "/readyz/ping",
        "/readyz/poststarthook/start-system-namespaces-controller",
        "/readyz/store",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for row in groups() {
        paths.push(format!("/apis/{}", row.group));
        paths.push(format!("/apis/{}", row.api_version()));
    }
    paths.sort();
    json!({"paths": paths})
}

fn groups() -> Vec<&'static Resource> {
    let mut seen: Vec<&Resource> = Vec::new();
    for row in RESOURCES.iter().filter(|row| !row.group.is_empty()) {
        if seen.iter().all(|one| one.group != row.group) {
            seen.push(row);
        }
    }
    seen
}

fn group_of(row: &Resource) -> Value {
    let version = json!({"groupVersion": row.api_version(), "version": row.version});
    json!({"name": row.group, "versions": [version], "preferredVersion": version})
}

/// `/apis`.
pub(crate) fn all_groups() -> Value {
    let groups: Vec<Value> = groups().into_iter().map(group_of).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(crate) fn group(name: &str) -> Result<Value, Failure> {
    let found = groups().into_iter().find(|row| row.group == name);
    let mut group = group_of(found.ok_or_else(Failure::no_such_path)?);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Ok(group)
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub(crate) fn resources(group: &str, version: &str) -> Result<Value, Failure> {
    let rows = RESOURCES
        .iter()
        .filter(|row| row.group == group && row.version == version);
    let resources: Vec<Value> = rows.flat_map(entries).collect();
    if resources.is_empty() {
        return Err(Failure::no_such_path());
    }
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    Ok(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
    )
}

/// `/openapi/v3`: where the document of each version is.
pub(crate) fn open_api() -> Value {
    let mut paths = serde_json::Map::new();
    for row in RESOURCES {
        let at = match row.group {
            "" => format!("api/{}", row.version),
            _ => format!("apis/{}", row.api_version()),
        };
        let url = format!("/openapi/v3/{at}?hash={}", VERSION.trim_start_matches('v'));
        paths.insert(at, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The OpenAPI document of a version: which requests take which parameters, without schemas. It tells clients that the server
/// validates fields, so that they do not ask for schemas.
pub(crate) fn open_api_of(group: &str, version: &str) -> Result<Value, Failure> {
    let mut paths = serde_json::Map::new();
    let rows = RESOURCES
        .iter()
        .filter(|row| row.group == group && row.version == version);
    for row in rows {
        let root = match group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let scope = if row.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        let operation = |action: &str| {
            json!({
                "parameters": parameters, "responses": {"200": {"description": "OK"}},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": {"group": row.group, "version": row.version, "kind": row.kind},
            })
        };
        if row.verbs.contains(&"patch") {
            let path = format!("{root}{scope}/{}/{{name}}", row.plural);
            paths.insert(
                path,
                json!({"put": operation("put"), "patch": operation("patch")}),
            );
        }
        let path = format!("{root}{scope}/{}", row.plural);
        paths.insert(path, json!({"post": operation("post")}));
    }
    if paths.is_empty() {
        return Err(Failure::no_such_path());
    }
    Ok(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION}, "paths": paths,
        "components": {"schemas": {}},
    }))
}

/// A resource and its subresources.
fn entries(row: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced,
        "kind": row.kind, "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        own["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        own["categories"] = json!(row.categories);
    }
    let below = row.subresources.iter().map(|sub| {
        let mut entry = json!({
            "name": format!("{}/{}", row.plural, sub.name), "singularName": "",
            "namespaced": row.namespaced, "kind": sub.kind, "verbs": sub.verbs,
        });
        if let Some((group, version)) = sub.group_version {
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        entry
    });
    std::iter::once(own).chain(below).collect()
}

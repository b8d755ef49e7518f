//! The environment of a container, and `$(VAR)` in values, command and arguments.
//!
//! In:    a container's `env` and `envFrom`, its pod, the node, the pod's addresses
//! Out:   variables in the order they were declared; expanded command and arguments
//! Calls: container_config.rs
//! Holds: a later declaration replaces the value of an earlier one in its place; a reference sees only what stands before it
//! Upstream: pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables), third_party/forked/golang/expansion,
//!           pkg/fieldpath/fieldpath.go, pkg/api/v1/resource/helpers.go; differences: upstream's order is random; service
//!           variables come with the API server

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;
use kubelet_model::quantity::Quantity;

use crate::config_problem::ConfigProblem;
use crate::resources::{Amounts, PodLevel, container_limits, container_requests};

#[cfg(test)]
mod tests;

/// What an environment is made from.
#[derive(Clone, Copy, Debug)]
pub struct EnvView<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a v1::Container,
    /// The node.
    pub node: &'a NodeView,
    /// The pod's addresses as the runtime gave them.
    pub pod_ips: &'a [String],
}

/// Variables in order; names are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    variables: Vec<(String, String)>,
    place: BTreeMap<String, usize>,
}

impl Env {
    fn set(&mut self, name: &str, value: String) {
        match self
            .place
            .get(name)
            .and_then(|place| self.variables.get_mut(*place))
        {
            Some(present) => present.1 = value,
            None => {
                self.place.insert(name.to_owned(), self.variables.len());
                self.variables.push((name.to_owned(), value));
            }
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.place
            .get(name)
            .and_then(|place| self.variables.get(*place))
            .map(|(_, value)| value.as_str())
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `text` with its references to known variables replaced.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name).map(str::to_owned))
    }

    /// `subPathExpr` of a mount; every variable in it must have a value.
    pub fn expand_sub_path(&self, expression: &str) -> Result<String, ConfigProblem> {
        let mut missing = BTreeSet::new();
        let expanded = expand(expression, |name| {
            let value = self.get(name).unwrap_or_default();
            if value.is_empty() {
                missing.insert(name.to_owned());
            }
            Some(value.to_owned())
        });
        if missing.is_empty() {
            return Ok(expanded);
        }
        let names: Vec<_> = missing.into_iter().collect();
        Err(ConfigProblem::container(format!(
            "missing value for {}",
            names.join(", ")
        )))
    }
}

/// Replaces `$(NAME)` by `value_of(NAME)`, or leaves it when there is none; `$$` is a dollar; anything else stays.
pub fn expand(text: &str, mut value_of: impl FnMut(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match value_of(name) {
                Some(value) => expanded.push_str(&value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
            // What follows a lone dollar is text, even "(" of a reference that never ends.
            let next = rest.chars().next().map_or(0, char::len_utf8);
            let (literal, after) = rest.split_at(next);
            expanded.push_str(literal);
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

/// The environment of a container, or the first variable that can not be had.
pub fn container_env(view: &EnvView<'_>) -> Result<Env, ConfigProblem> {
    if view.pod.spec().enable_service_links.is_none() {
        return Err(ConfigProblem::container(
            "nil pod.spec.enableServiceLinks encountered, cannot construct envvars",
        ));
    }
    for source in view.container.env_from.iter().flatten() {
        if let Some(config_map) = &source.config_map_ref {
            return Err(no_client(view.pod, "configMap", &config_map.name));
        }
        if let Some(secret) = &source.secret_ref {
            return Err(no_client(view.pod, "secret", &secret.name));
        }
    }
    let mut env = Env::default();
    for variable in view.container.env.iter().flatten() {
        let value = match (
            variable.value.as_deref().unwrap_or_default(),
            &variable.value_from,
        ) {
            ("", Some(source)) => value_from(view, &variable.name, source)?,
            (text, _) => env.expand(text),
        };
        env.set(&variable.name, value);
    }
    Ok(env)
}

/// Upstream's words of a kubelet without an API server.
fn no_client(pod: &Pod, kind: &str, name: &str) -> ConfigProblem {
    let namespace = &pod.full_name.namespace;
    ConfigProblem::container(format!(
        "couldn't get {kind} {namespace}/{name}, no kubeClient defined"
    ))
}

fn value_from(
    view: &EnvView<'_>,
    name: &str,
    source: &v1::EnvVarSource,
) -> Result<String, ConfigProblem> {
    if let Some(field) = &source.field_ref {
        field_value(view, field)
    } else if let Some(resource) = &source.resource_field_ref {
        resource_value(view, resource)
    } else if let Some(key) = &source.config_map_key_ref {
        Err(no_client(view.pod, "configMap", &key.name))
    } else if let Some(key) = &source.secret_key_ref {
        Err(no_client(view.pod, "secret", &key.name))
    } else if source.file_key_ref.is_some() {
        Err(ConfigProblem::container(format!(
            "env {name}: valueFrom.fileKeyRef is not supported"
        )))
    } else {
        Ok(String::new())
    }
}

/// The pod's addresses: at most one of each family, the node's family first.
pub fn ordered_pod_ips(pod_ips: &[String], node: &NodeView) -> Vec<String> {
    let node_is_v6 = node
        .ips
        .first()
        .is_some_and(|ip| matches!(ip.parse(), Ok(IpAddr::V6(_))));
    let parsed: Vec<IpAddr> = pod_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let first = |v6: bool| parsed.iter().find(|ip| ip.is_ipv6() == v6);
    [first(node_is_v6), first(!node_is_v6)]
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

fn host_ips(node: &NodeView) -> Result<Vec<String>, ConfigProblem> {
    let parsed: Vec<IpAddr> = node.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let Some(first) = parsed.first() else {
        return Err(ConfigProblem::container(
            "host IP unknown; known addresses: []",
        ));
    };
    let other = parsed.iter().find(|ip| ip.is_ipv6() != first.is_ipv6());
    Ok(std::iter::once(first)
        .chain(other)
        .map(ToString::to_string)
        .collect())
}

/// The value of a downward API field.
fn field_value(
    view: &EnvView<'_>,
    field: &v1::ObjectFieldSelector,
) -> Result<String, ConfigProblem> {
    let version = field.api_version.as_deref().unwrap_or("v1");
    if version != "v1" {
        return Err(ConfigProblem::container(format!(
            "unsupported pod version: {version}"
        )));
    }
    let (meta, spec) = (&view.pod.object.metadata, view.pod.spec());
    let path = field.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => {
                return Err(ConfigProblem::container(format!(
                    "field label does not support subscript: {path}"
                )));
            }
        };
        return Ok(map
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let pod_ips = ordered_pod_ips(view.pod_ips, view.node);
    Ok(match path {
        "metadata.annotations" => map_text(meta.annotations.as_ref()),
        "metadata.labels" => map_text(meta.labels.as_ref()),
        "metadata.name" => view.pod.full_name.name.to_string(),
        "metadata.namespace" => view.pod.full_name.namespace.to_string(),
        "metadata.uid" => view.pod.uid.to_string(),
        "spec.nodeName" | "spec.host" => text(&spec.node_name),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.hostIP" => host_ips(view.node)?.into_iter().next().unwrap_or_default(),
        "status.hostIPs" => host_ips(view.node)?.join(","),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        "spec.restartPolicy" | "spec.schedulerName" | "status.phase" => {
            return Err(ConfigProblem::container(format!(
                "unsupported fieldPath: {path}"
            )));
        }
        _ => {
            return Err(ConfigProblem::container(format!(
                "field label not supported: {path}"
            )));
        }
    })
}

/// Splits `path['key']`; `None` for a path without a key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?
        .split_once("['")
        .filter(|(map, _)| !map.is_empty())
}

/// A map as lines `key="value"`, in order of keys.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={}", quoted(value));
    map.into_iter()
        .flatten()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Go's quoted form of a text.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if is_printable(c) => quoted.push(c),
            '\0'..='\u{7f}' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// The standard library's table of printable characters; a letter before it keeps combining marks from counting as escapes.
fn is_printable(c: char) -> bool {
    c == '\'' || format!("a{c}").escape_debug().count() == 2
}

/// The value of a container's resource field, in units of the divisor, rounded up.
fn resource_value(
    view: &EnvView<'_>,
    field: &v1::ResourceFieldSelector,
) -> Result<String, ConfigProblem> {
    let same_name = |container: &&v1::Container, name: &str| container.name == name;
    let (container, has_defaults) = match field
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        None => (view.container, true),
        Some(name) => {
            let regular = view
                .pod
                .containers()
                .iter()
                .find(|container| same_name(container, name));
            // Quirk: node defaults reach an init container only in its own environment (kubelet_resources.go).
            let init = || {
                view.pod
                    .init_containers()
                    .iter()
                    .find(|container| same_name(container, name))
            };
            let found = regular
                .map(|container| (container, true))
                .or_else(|| init().map(|container| (container, false)));
            found.ok_or_else(|| ConfigProblem::container(format!("container {name} not found")))?
        }
    };
    let unsupported = || {
        ConfigProblem::container(format!(
            "unsupported container resource : {}",
            field.resource
        ))
    };
    let (kind, resource) = field.resource.split_once('.').ok_or_else(unsupported)?;
    let has_default = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
    if !(has_default || resource.starts_with("hugepages-")) {
        return Err(unsupported());
    }
    let written = match kind {
        "limits" => units(&container_limits(container), resource),
        "requests" => units(&container_requests(container), resource),
        _ => return Err(unsupported()),
    };
    let amount = match written {
        0 if kind == "limits" && has_default && has_defaults => default_limit(view, resource),
        amount => amount,
    };
    let one = if resource == "cpu" { 1000 } else { 1 };
    let divisor = field
        .divisor
        .as_ref()
        .and_then(|divisor| divisor.0.parse::<Quantity>().ok());
    let divisor = divisor
        .filter(|divisor| !divisor.is_zero())
        .map_or(one, |divisor| in_units(&divisor, resource));
    let amount = i128::from(amount);
    let divisor = i128::from(divisor.max(1));
    Ok((amount / divisor + i128::from(amount % divisor > 0)).to_string())
}

/// Thousandths for cpu, whole units for everything else.
fn in_units(amount: &Quantity, resource: &str) -> i64 {
    if resource == "cpu" {
        amount.milli_value()
    } else {
        amount.value()
    }
}

fn units(list: &Amounts, resource: &str) -> i64 {
    list.get(resource)
        .map_or(0, |amount| in_units(amount, resource))
}

/// What a container without a limit is bound by: its pod's limit, else what the node can give.
fn default_limit(view: &EnvView<'_>, resource: &str) -> i64 {
    let allocatable = view.node.allocatable.get(resource).copied();
    match (allocatable, units(&PodLevel::of(view.pod).limits, resource)) {
        (None, _) => 0,
        (Some(allocatable), 0) => allocatable,
        (Some(_), of_pod) => of_pod,
    }
}

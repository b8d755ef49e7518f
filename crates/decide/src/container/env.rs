//! The environment of a container, and `$(VAR)` in values, command and arguments.
//!
//! In:    a container's `env` and `envFrom`, its pod, the node, the pod's addresses, the objects it refers to, services
//! Out:   variables: those of `envFrom`, then `env` as declared, then services; expanded command and arguments
//! Calls: container_config.rs
//! Holds: a later declaration replaces the value of an earlier one in its place; a reference sees only what stands before it,
//!        and every service; values are bytes, as those of secrets are
//! Upstream: pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables), third_party/forked/golang/expansion; differences: upstream's
//!           order is random

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::objects::{ApiAccess, ObjectState, PodObjects, Services};
use kubelet_model::pod::Pod;

use crate::container::config_problem::ConfigProblem;
use crate::container::config_problem::object_text;
pub use crate::container::downward::ordered_pod_ips;
use crate::container::downward::{env_field, env_resource};
use crate::container::services::service_variables;
use crate::shapes::env_files::EnvFileValues;

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
    /// What the pod refers to.
    pub objects: &'a PodObjects,
    /// What was read of the files that it refers to.
    pub env_files: Option<&'a EnvFileValues>,
}

/// Variables in order; names are unique.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env {
    variables: Vec<(String, Vec<u8>)>,
    place: BTreeMap<String, usize>,
}

impl std::fmt::Debug for Env {
    /// Names alone: values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.place.keys()).finish()
    }
}

impl Env {
    fn set(&mut self, name: &str, value: Vec<u8>) {
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
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.place
            .get(name)
            .and_then(|place| self.variables.get(*place))
            .map(|(_, value)| value.as_slice())
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// `text` with its references to known variables replaced. What is no text in them is lost: no command can hold it.
    pub fn expand(&self, text: &str) -> String {
        let expanded = expand_bytes(text, |name| self.get(name).map(<[u8]>::to_vec));
        String::from_utf8_lossy(&expanded).into_owned()
    }

    /// `subPathExpr` of a mount; every variable in it must have a value.
    pub fn expand_sub_path(&self, expression: &str) -> Result<String, ConfigProblem> {
        let mut missing = BTreeSet::new();
        let expanded = expand_bytes(expression, |name| {
            let value = self.get(name).unwrap_or_default();
            if value.is_empty() {
                missing.insert(name.to_owned());
            }
            Some(value.to_vec())
        });
        if missing.is_empty() {
            return Ok(String::from_utf8_lossy(&expanded).into_owned());
        }
        let names: Vec<_> = missing.into_iter().collect();
        Err(ConfigProblem::container(format!(
            "missing value for {}",
            names.join(", ")
        )))
    }
}

/// Replaces `$(NAME)` by `value_of(NAME)`, or leaves it when there is none; `$$` is a dollar; anything else stays.
fn expand_bytes(text: &str, mut value_of: impl FnMut(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.extend_from_slice(before.as_bytes());
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push(b'$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            let value = value_of(name).unwrap_or_else(|| format!("$({name})").into_bytes());
            expanded.extend_from_slice(&value);
            rest = after;
        } else {
            expanded.push(b'$');
            // What follows a lone dollar is text, even "(" of a reference that never ends.
            let next = rest.chars().next().map_or(0, char::len_utf8);
            let (literal, after) = rest.split_at(next);
            expanded.extend_from_slice(literal.as_bytes());
            rest = after;
        }
    }
    expanded.extend_from_slice(rest.as_bytes());
    expanded
}

/// `text` with references to variables of the spec replaced by the values that stand there; one whose value comes from elsewhere is empty.
/// Upstream: `ExpandContainerCommandOnlyStatic`.
pub fn expand_static(text: &str, variables: &[v1::EnvVar]) -> String {
    let value_of = |name: &str| {
        let mut last_first = variables.iter().rev();
        let variable = last_first.find(|variable| variable.name == name)?;
        Some(variable.value.clone().unwrap_or_default().into_bytes())
    };
    String::from_utf8_lossy(&expand_bytes(text, value_of)).into_owned()
}

/// The environment of a container, or the first variable that cannot be had.
pub fn container_env(view: &EnvView<'_>) -> Result<Env, ConfigProblem> {
    let Some(service_links) = view.pod.spec().enable_service_links else {
        return Err(ConfigProblem::container(
            "nil pod.spec.enableServiceLinks encountered, cannot construct envvars",
        ));
    };
    let services = services(view, service_links)?;
    let mut env = Env::default();
    for source in view.container.env_from.iter().flatten() {
        add_all(view, source, &mut env)?;
    }
    for (index, variable) in view.container.env.iter().flatten().enumerate() {
        let text = variable.value.as_deref().unwrap_or_default();
        let value = match (text, &variable.value_from) {
            ("", Some(source)) => match value_from(view, index, source)? {
                Some(value) => value,
                // Optional and not there: as if it were not declared.
                None => continue,
            },
            (text, _) => expand_bytes(text, |name| {
                let value = env.get(name).or_else(|| services.get(name));
                value.map(<[u8]>::to_vec)
            }),
        };
        env.set(&variable.name, value);
    }
    for (name, value) in services.iter() {
        if env.get(name).is_none() {
            env.set(name, value.to_vec());
        }
    }
    Ok(env)
}

fn services(view: &EnvView<'_>, service_links: bool) -> Result<Env, ConfigProblem> {
    let mut variables = Env::default();
    match &view.objects.services {
        Services::NotListed => {}
        Services::NotSynced if view.pod.is_static() => {}
        Services::NotSynced => {
            return Err(ConfigProblem::container(
                "services have not yet been read at least once, cannot construct envvars",
            ));
        }
        Services::Known(services) => {
            let namespace = &view.pod.full_name.namespace;
            for (name, value) in service_variables(services, namespace, service_links) {
                variables.set(&name, value.into_bytes());
            }
        }
    }
    Ok(variables)
}

/// Adds every key of an object.
fn add_all(
    view: &EnvView<'_>,
    source: &v1::EnvFromSource,
    env: &mut Env,
) -> Result<(), ConfigProblem> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let is_optional = |optional: Option<bool>| optional.unwrap_or(false);
    if let Some(reference) = &source.config_map_ref {
        let found = config_map(view, &reference.name, is_optional(reference.optional))?;
        for (key, value) in found
            .and_then(|object| object.data.as_ref())
            .into_iter()
            .flatten()
        {
            env.set(&format!("{prefix}{key}"), value.clone().into_bytes());
        }
    } else if let Some(reference) = &source.secret_ref {
        let found = secret(view, &reference.name, is_optional(reference.optional))?;
        for (key, value) in found
            .and_then(|object| object.data.as_ref())
            .into_iter()
            .flatten()
        {
            env.set(&format!("{prefix}{key}"), value.0.clone());
        }
    }
    Ok(())
}

fn config_map<'a>(
    view: &EnvView<'a>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a v1::ConfigMap>, ConfigProblem> {
    found(
        view,
        ("configMap", "configmap"),
        name,
        &view.objects.config_maps,
        optional,
    )
}

fn secret<'a>(
    view: &EnvView<'a>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a v1::Secret>, ConfigProblem> {
    found(
        view,
        ("secret", "secret"),
        name,
        &view.objects.secrets,
        optional,
    )
}

/// The object; `None` when it is optional and there is none. Upstream names a kind in one way without a client, in another with it.
fn found<'a, T>(
    view: &EnvView<'_>,
    (kind, resource): (&str, &str),
    name: &str,
    objects: &'a BTreeMap<String, ObjectState<T>>,
    optional: bool,
) -> Result<Option<&'a T>, ConfigProblem> {
    let namespace = &view.pod.full_name.namespace;
    if view.objects.access == ApiAccess::Standalone {
        return Err(ConfigProblem::container(format!(
            "couldn't get {kind} {namespace}/{name}, no kubeClient defined"
        )));
    }
    match objects.get(name) {
        Some(ObjectState::Known(object)) => Ok(Some(object)),
        Some(ObjectState::Absent { .. }) if optional => Ok(None),
        state => Err(ConfigProblem::container(object_text(
            resource, namespace, name, state,
        ))),
    }
}

/// The value of a source; `None` when it is optional and not there.
fn value_from(
    view: &EnvView<'_>,
    index: usize,
    source: &v1::EnvVarSource,
) -> Result<Option<Vec<u8>>, ConfigProblem> {
    let text = |value: Result<String, String>| {
        value
            .map(|value| Some(value.into_bytes()))
            .map_err(ConfigProblem::container)
    };
    let (pod, node) = (view.pod, view.node);
    if let Some(field) = &source.field_ref {
        text(env_field(pod, node, view.pod_ips, field))
    } else if let Some(resource) = &source.resource_field_ref {
        text(env_resource(pod, node, view.container, resource))
    } else if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(object) = config_map(view, &reference.name, optional)? else {
            return Ok(None);
        };
        let value = object
            .data
            .as_ref()
            .and_then(|data| data.get(&reference.key));
        let value = value.map(|value| value.clone().into_bytes());
        present(
            view,
            value,
            optional,
            "ConfigMap",
            (&reference.name, &reference.key),
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(object) = secret(view, &reference.name, optional)? else {
            return Ok(None);
        };
        let value = object
            .data
            .as_ref()
            .and_then(|data| data.get(&reference.key));
        let value = value.map(|value| value.0.clone());
        present(
            view,
            value,
            optional,
            "Secret",
            (&reference.name, &reference.key),
        )
    } else if source.file_key_ref.is_some() && node.env_files {
        let found = view.env_files.and_then(|files| files.get(index));
        // Read before every start; a start without it would be a start with another environment.
        let found = found.ok_or_else(|| ConfigProblem::container("couldn't parse env file"))?;
        Ok(found.map(<[u8]>::to_vec))
    } else {
        Ok(Some(Vec::new()))
    }
}

fn present(
    view: &EnvView<'_>,
    value: Option<Vec<u8>>,
    optional: bool,
    kind: &str,
    (name, key): (&str, &str),
) -> Result<Option<Vec<u8>>, ConfigProblem> {
    if value.is_some() || optional {
        return Ok(value);
    }
    let namespace = &view.pod.full_name.namespace;
    Err(ConfigProblem::container(format!(
        "couldn't find key {key} in {kind} {namespace}/{name}"
    )))
}

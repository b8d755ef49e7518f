//! Variables that a container reads from a file of a volume.
//!
//! In:    a pod
//! Out:   causes
//! Calls: `strategy/pod`
//! Holds: pure; a volume is looked up, not looked for
//! Upstream: pkg/apis/core/validation validateFileKeySelector, validateFileKeyRefVolumes (1.36); differences: none known

use std::collections::BTreeMap;

use serde_json::Value;

use super::{containers, names};
use crate::failure::Cause;
use crate::object::{list, text};
use crate::references::has;
use crate::resources::NameRule;

/// What is wrong with each such variable, then with the volumes that they name.
pub(super) fn validate(pod: &Value, causes: &mut Vec<Cause>) {
    let volumes: BTreeMap<&str, &Value> = list(pod, "/spec/volumes")
        .iter()
        .map(|volume| (text(volume, "/name"), volume))
        .collect();
    let mut of_volumes = Vec::new();
    for (which, index, container) in containers(pod) {
        for (number, variable) in list(container, "/env").iter().enumerate() {
            let Some(selector) = variable.pointer("/valueFrom/fileKeyRef") else {
                continue;
            };
            let field = format!("spec.{which}[{index}].env[{number}].valueFrom.fileKeyRef");
            validate_selector(selector, &field, causes);
            of_volumes.extend(wrong_volume(selector, &field, &volumes));
        }
    }
    causes.extend(of_volumes);
}

fn validate_selector(selector: &Value, field: &str, causes: &mut Vec<Cause>) {
    let part = |name: &str| {
        (
            text(selector, &format!("/{name}")),
            format!("{field}.{name}"),
        )
    };
    let mut check = |name: &str, problem: &dyn Fn(&str) -> Option<String>| {
        let (value, field) = part(name);
        if value.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if let Some(problem) = problem(value) {
            causes.push(Cause::invalid(field, &value.into(), &problem));
        }
    };
    check("key", &|key| {
        let is_printable = |c: char| matches!(c, ' '..='~') && c != '=';
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        (!key.chars().all(is_printable)).then(|| why.to_owned())
    });
    check("volumeName", &|name| names::problem(NameRule::Label, name));
    check("path", &|path| {
        let climbs = path.split('/').any(|part| part == "..");
        climbs.then(|| "must not contain '..'".to_owned())
    });
}

fn wrong_volume(selector: &Value, field: &str, volumes: &BTreeMap<&str, &Value>) -> Option<Cause> {
    let name = text(selector, "/volumeName");
    let field = format!("{field}.volumeName");
    match volumes.get(name) {
        None => Some(Cause::missing(field, &name.into())),
        Some(volume) if !has(volume, "emptyDir") => {
            let detail = "referenced volume must be of type emptyDir";
            Some(Cause::invalid(field, &name.into(), detail))
        }
        Some(_) => None,
    }
}

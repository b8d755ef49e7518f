//! Variables from files that an earlier container of the pod wrote (`valueFrom.fileKeyRef`).
//!
//! In:    a container's references and where its volumes lie; what was read of each file
//! Out:   what to read before a start; the value, or why the container cannot be made
//! Calls: container_start; act/pod/execute, which reads
//! Holds: files are read before every start and at no other time; file contents are never logged; a key with an empty value
//!        counts as absent
//! Upstream: pkg/kubelet/util/env/env_util.go (ParseEnv), pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables); 1.36; differences:
//!           a file is read no further than 1 MiB, and must be a regular one
use std::fmt;

use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;

use crate::container::config_problem::ConfigProblem;
use crate::container::downward::quoted;
use crate::shapes::env_files::EnvFileRead;
use crate::shapes::paths::volume_paths;

/// As far as this a file is read, bytes.
pub const READ_LIMIT: u64 = 1 << 20;
/// A line of this length or more is none (bufio.MaxScanTokenSize).
const LONGEST_LINE: usize = 64 * 1024;

/// What was read of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvFileText {
    /// From its begin.
    pub content: Vec<u8>,
    /// Whether there is more.
    pub is_cut: bool,
}

impl fmt::Debug for EnvFileText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.content.len())
    }
}

/// The files that a container's start needs.
///
/// # Errors
/// A volume that the pod does not have, or that is no emptyDir.
pub(crate) fn env_file_reads(
    pod: &Pod,
    node: &NodeView,
    container: &v1::Container,
) -> Result<Vec<EnvFileRead>, ConfigProblem> {
    let references = container.env.iter().flatten().enumerate();
    let references = references.filter_map(|(index, variable)| {
        let is_given = variable.value.as_deref().is_some_and(|v| !v.is_empty());
        let file = variable.value_from.as_ref()?.file_key_ref.as_ref()?;
        (!is_given).then_some((index, file))
    });
    let references: Vec<_> = references.collect();
    if references.is_empty() || !node.env_files {
        return Ok(Vec::new());
    }
    let volumes = volume_paths(pod, node);
    references
        .into_iter()
        .map(|(index, file)| {
            let volume = &file.volume_name;
            let volume_path = volumes.get(volume).cloned().ok_or_else(|| {
                let volume = quoted(volume);
                ConfigProblem::container(format!(
                    "cannot find the volume {volume} referenced by FileKeyRef"
                ))
            })?;
            let declared = pod.spec().volumes.iter().flatten();
            let is_empty_dir = |declared: &v1::Volume| declared.empty_dir.is_some();
            if !declared.filter(|one| one.name == *volume).all(is_empty_dir) {
                // Another kind of volume leads out of the pod's directory, where a dead file system may be.
                let volume = quoted(volume);
                return Err(ConfigProblem::container(format!(
                    "invalid fileKeyRef.volumeName {volume}: referenced volume must be of type emptyDir"
                )));
            }
            Ok(EnvFileRead {
                index,
                volume_path,
                path: file.path.clone(),
                key: file.key.clone(),
                optional: file.optional.unwrap_or(false),
            })
        })
        .collect()
}

/// Why a variable cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFileProblem {
    /// What people are told.
    pub message: String,
    /// More, for the log.
    pub detail: String,
}

/// The value that a read brought: `None` when it is optional and not there.
///
/// # Errors
/// The file could not be read (with why), means nothing, or lacks the key.
pub fn env_file_value(
    read: &EnvFileRead,
    file: Result<EnvFileText, String>,
) -> Result<Option<Vec<u8>>, EnvFileProblem> {
    let value = file
        .and_then(|text| value_in(&text, read.key.as_bytes()))
        .map_err(|detail| EnvFileProblem {
            message: "couldn't parse env file".to_owned(),
            detail,
        })?;
    match value {
        value if !value.is_empty() => Ok(Some(value)),
        _ if read.optional => Ok(None),
        _ => {
            let parts = read.path.split('/');
            let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
            let path = quoted(&format!("{}/{}", read.volume_path, parts.join("/")));
            let message = format!(
                "environment variable key {} not found in file {path}",
                quoted(&read.key)
            );
            Err(EnvFileProblem {
                detail: message.clone(),
                message,
            })
        }
    }
}

/// Lines as a scanner with a bounded buffer gives them.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
    is_cut: bool,
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<&'a [u8]>, String> {
        let Some(rest) = self.rest.filter(|rest| !rest.is_empty() || self.is_cut) else {
            return Ok(None);
        };
        let end = rest.iter().position(|byte| *byte == b'\n');
        if end.is_none() && self.is_cut {
            return Err(format!("more than {READ_LIMIT} bytes"));
        }
        let (line, after) = match end {
            Some(end) => {
                let (line, after) = rest.split_at(end);
                (line, after.get(1..))
            }
            None => (rest, None),
        };
        if line.len() >= LONGEST_LINE {
            return Err("token too long".to_owned());
        }
        self.rest = after;
        self.number += 1;
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    text.split_at(blanks.count()).1
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    let (before, after) = text.split_at(place);
    Some((before, after.get(1..).unwrap_or_default()))
}

/// The value of the first variable of this name; empty when there is none. What stands behind it is not looked at.
fn value_in(text: &EnvFileText, key: &[u8]) -> Result<Vec<u8>, String> {
    let mut lines = Lines {
        rest: Some(&text.content),
        is_cut: text.is_cut,
        number: 0,
    };
    while let Some(line) = lines.next()? {
        let line = trim_start(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let at = lines.number;
        let wrong = |what: &str| {
            Err(format!(
                "invalid environment variable format at line {at}: {what}"
            ))
        };
        let Some((name, value)) = split_once(line, b'=') else {
            return wrong("missing '='");
        };
        match name.last() {
            None => return wrong("empty variable name"),
            Some(b' ' | b'\t') if name.iter().all(|byte| matches!(byte, b' ' | b'\t')) => {
                return wrong("empty variable name");
            }
            Some(b' ' | b'\t') => return wrong("whitespace before '=' is not allowed"),
            Some(_) => {}
        }
        if matches!(value.first(), Some(b' ' | b'\t')) {
            // As a shell reads it: the variable is empty, and the rest is a command.
            if name == key {
                return Ok(Vec::new());
            }
            continue;
        }
        let Some(value) = value.strip_prefix(b"'") else {
            return wrong("value must be enclosed in single quotes");
        };
        let value = quoted_value(value, &mut lines)?;
        if name == key {
            return Ok(value);
        }
    }
    Ok(Vec::new())
}

/// Up to the closing quote, which may be some lines on.
fn quoted_value(first: &[u8], lines: &mut Lines<'_>) -> Result<Vec<u8>, String> {
    let begin = lines.number;
    let mut value = Vec::new();
    let mut rest = first;
    loop {
        if let Some((inside, after)) = split_once(rest, b'\'') {
            value.extend_from_slice(inside);
            let after = trim_start(after);
            if !after.is_empty() && !after.starts_with(b"#") {
                let at = lines.number;
                return Err(format!(
                    "invalid environment variable format at line {at}: unexpected content after closing quote"
                ));
            }
            return Ok(value);
        }
        value.extend_from_slice(rest);
        value.push(b'\n');
        rest = lines.next()?.ok_or_else(|| {
            format!("invalid environment variable format starting at line {begin}: unclosed single quote")
        })?;
    }
}

#[cfg(test)]
mod tests;

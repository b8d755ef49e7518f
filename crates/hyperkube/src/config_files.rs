//! Builds the kubelet's configuration from the command line and the configuration files.
//!
//! In:    a parsed command line, facts of the host; `--config` and the drop-ins of `--config-dir` on disk
//! Out:   `Loaded`: the complete configuration (for `/configz`), each component's part of it, warnings; or every problem
//! Calls: main.rs, once, before logs are set up (so warnings are returned, not logged)
//! Holds: precedence: defaults < file < drop-ins < flags; feature gates merge key by key; nothing on disk is changed
//! Upstream: cmd/kubelet/app/server.go (NewKubeletCommand), pkg/kubelet/kubeletconfig/configfiles; differences: all fields of a
//!           wrong type are reported, with file and line; unknown fields of drop-ins give a warning

use crate::flags::{CommandLine, CommandLineError};
use crate::paths::joined;
use kubelet_api::config::KubeletConfiguration;
use kubelet_decide::config::defaults::{defaults, eviction_hard, without_file};
use kubelet_decide::config::effective::effective;
use kubelet_decide::config::validate::{self, FieldProblem, HostFacts};
use kubelet_decide::config::without_effect;
use kubelet_model::config::Config;
use kubelet_model::gates::{GateProblem, Gates};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod document;

use document::{Document, DocumentError};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The command line is invalid.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// Invalid feature gates on the command line.
    #[error("failed to set feature gates from initial flags-based config: {}", list(.0))]
    Gates(Vec<GateProblem>),
    /// Invalid flags that have no field in the configuration.
    #[error("failed to validate kubelet flags: {}", list(.0))]
    Flags(Vec<FieldProblem>),
    /// The configuration file is invalid.
    #[error("failed to load kubelet config file, path: {path}, error: {1}", path = .0.display())]
    File(PathBuf, #[source] DocumentError),
    /// A drop-in is invalid.
    #[error("failed to load kubelet dropin file, path: {path}, error: {1}", path = .0.display())]
    DropIn(PathBuf, #[source] DocumentError),
    /// The drop-in directory could not be read.
    #[error(
        "failed to merge kubelet configs: failed to walk through kubelet dropin directory {0:?}: {1}"
    )]
    Directory(PathBuf, #[source] std::io::Error),
    /// The merged configuration is invalid.
    #[error("failed to validate kubelet configuration, error: {}", list(.0))]
    Validation(Vec<FieldProblem>),
}

impl ConfigError {
    /// One line per problem, each with its field.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Flags(problems) | Self::Validation(problems) => problems
                .iter()
                .map(|problem| format!("{}: {}", problem.field, problem.message))
                .collect(),
            Self::Gates(problems) => problems.iter().map(ToString::to_string).collect(),
            Self::CommandLine(_) | Self::File(..) | Self::DropIn(..) | Self::Directory(..) => {
                vec![self.to_string()]
            }
        }
    }
}

/// A single problem alone, several in brackets, as upstream's aggregate errors.
fn list<T: ToString>(problems: &[T]) -> String {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [one] => one.clone(),
        words => format!("[{}]", words.join(", ")),
    }
}

/// The loaded configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The complete configuration, as `/configz` shows it.
    pub config: KubeletConfiguration,
    /// A log line for each flag that was set.
    pub given: Vec<String>,
    /// The part of each component.
    pub effective: Config,
    /// Warnings for the log. Deprecated flags have been reported before.
    pub warnings: Vec<String>,
    /// Files in the drop-in directory that were not read.
    pub skipped: Vec<PathBuf>,
}

/// Reads all files and applies the flags on top.
pub(crate) fn load(line: &CommandLine, facts: HostFacts) -> Result<Loaded, ConfigError> {
    let flag_gates = Gates::with(&line.gates()).map_err(ConfigError::Gates)?;
    let problems = validate::flags(&line.flags);
    if !problems.is_empty() {
        return Err(ConfigError::Flags(problems));
    }
    let mut warnings = Vec::new();
    let mut skipped = Vec::new();
    let (file, directory) = (line.flags.config.as_str(), line.flags.config_dir.as_str());
    let mut config = if file.is_empty() {
        line.over(&without_file(defaults(
            KubeletConfiguration::default(),
            &flag_gates,
        )))
    } else {
        from_file(Path::new(file), line, &mut warnings)?
    };
    if !directory.is_empty() {
        let drop_ins = drop_ins(Path::new(directory), &mut skipped)?;
        config = with_drop_ins(config, &drop_ins, line, &mut warnings)?;
    }
    let config = line.over(&config);
    let gates = config.feature_gates.clone().unwrap_or_default();
    let (gates, mut problems) = match Gates::with(&gates) {
        Ok(gates) => (gates, Vec::new()),
        Err(wrong) => (
            flag_gates,
            wrong.into_iter().map(FieldProblem::from).collect(),
        ),
    };
    for name in gates.outdated() {
        warnings.push(format!(
            "setting feature gate {name}, which will be removed in a future release"
        ));
    }
    warnings.extend(without_effect(&config, line, &gates));
    problems.extend(validate::validate(&config, &gates, facts));
    match effective(&config, &line.flags, &gates) {
        Ok(effective) if problems.is_empty() => Ok(Loaded {
            config,
            given: line.shown(),
            effective,
            warnings,
            skipped,
        }),
        Ok(_) => Err(ConfigError::Validation(problems)),
        Err(unreadable) => {
            problems.extend(unreadable);
            Err(ConfigError::Validation(problems))
        }
    }
}

/// Settings that have no effect, or less than upstream.
fn without_effect(config: &KubeletConfiguration, line: &CommandLine, gates: &Gates) -> Vec<String> {
    let untouched = defaults(KubeletConfiguration::default(), gates);
    let untouched = if line.flags.config.is_empty() {
        without_file(untouched)
    } else {
        eviction_hard(untouched)
    };
    let mut warnings = without_effect::warnings(config, &untouched, &line.flags, gates);
    warnings.extend(line.without_effect());
    warnings
}

/// The gates that determine defaults: the command line's, then the file's. Invalid ones are reported at the end.
fn gates_for_defaults(line: &CommandLine, config: &KubeletConfiguration) -> Gates {
    let mut gates: BTreeMap<String, bool> = line.gates();
    gates.extend(config.feature_gates.clone().unwrap_or_default());
    Gates::with(&gates).unwrap_or_default()
}

fn from_file(
    file: &Path,
    line: &CommandLine,
    warnings: &mut Vec<String>,
) -> Result<KubeletConfiguration, ConfigError> {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let in_file = |error| ConfigError::File(path.clone(), error);
    let document = Document::read(&path).map_err(in_file)?;
    document.expect_configuration().map_err(in_file)?;
    let (config, lenient) = document.configuration().map_err(in_file)?;
    if let Some(strict) = lenient {
        let path = path.display();
        warnings.push(format!(
            "Using lenient decoding as strict decoding failed: {path}: {strict}"
        ));
    }
    let gates = gates_for_defaults(line, &config);
    let mut config = defaults(config, &gates);
    resolve_paths(&mut config, path.parent().unwrap_or(Path::new("/")));
    Ok(eviction_hard(config))
}

/// Relative paths in the file start at the file's directory.
fn resolve_paths(config: &mut KubeletConfiguration, directory: &Path) {
    for field in [
        &mut config.static_pod_path,
        &mut config.authentication.x509.client_ca_file,
        &mut config.tls_cert_file,
        &mut config.tls_private_key_file,
        &mut config.resolv_conf,
        &mut config.volume_plugin_dir,
        &mut config.pod_logs_dir,
    ] {
        let Some(path) = field
            .as_mut()
            .filter(|path| !path.is_empty() && !path.starts_with('/'))
        else {
            continue;
        };
        *path = joined(directory, path);
    }
}

/// Every `*.conf` below the directory, in the order of precedence; other files go to `skipped`.
fn drop_ins(directory: &Path, skipped: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |error| ConfigError::Directory(directory.to_owned(), error);
    let mut found = Vec::new();
    // Quirk: a symbolic link to a directory is not followed (filepath.WalkDir), not even the given directory itself.
    let kind = std::fs::symlink_metadata(directory)
        .map_err(failed)?
        .file_type();
    let mut waiting = vec![(directory.to_owned(), kind)];
    while let Some((path, kind)) = waiting.pop() {
        if kind.is_dir() {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                entries.push((entry.path(), entry.file_type().map_err(failed)?));
            }
            entries.sort_by(|one, next| next.0.file_name().cmp(&one.0.file_name()));
            waiting.extend(entries);
        } else if path.to_string_lossy().ends_with(".conf") {
            found.push(path);
        } else {
            skipped.push(path);
        }
    }
    Ok(found)
}

fn with_drop_ins(
    config: KubeletConfiguration,
    drop_ins: &[PathBuf],
    line: &CommandLine,
    warnings: &mut Vec<String>,
) -> Result<KubeletConfiguration, ConfigError> {
    let mut merged = serde_json::to_value(&config).expect("the configuration is plain data");
    for path in drop_ins {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let in_file = |error| ConfigError::DropIn(path.clone(), error);
        let document = Document::read(&path).map_err(in_file)?;
        document.expect_configuration().map_err(in_file)?;
        if let Some(twice) = document.duplicate() {
            return Err(in_file(DocumentError::Strict(twice.to_owned())));
        }
        let (_, unknown) = document.configuration().map_err(in_file)?;
        if let Some(unknown) = unknown {
            warnings.push(format!("{}: {unknown}", path.display()));
        }
        merge_patch(&mut merged, document.value());
    }
    let config: KubeletConfiguration = serde_json::from_value(merged).map_err(|error| {
        ConfigError::DropIn(PathBuf::new(), DocumentError::Decode(error.to_string()))
    })?;
    let gates = gates_for_defaults(line, &config);
    Ok(defaults(config, &gates))
}

/// RFC 7386: objects merge, null removes, everything else replaces.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge_patch(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests;

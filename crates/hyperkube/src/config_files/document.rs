//! Parses one configuration file into typed fields.
//!
//! In:    a path
//! Out:   its JSON value, the line of each field, the typed configuration with the complaints of strict decoding
//! Calls: `config_files.rs`
//! Holds: YAML is converted to JSON, as upstream does, so `'5'` is not a number; the parser's budget stops alias bombs
//! Upstream: pkg/kubelet/kubeletconfig/util/codec, k8s.io/apimachinery/pkg/runtime (errors), sigs.k8s.io/yaml

use kubelet_api::config::{API_VERSION, KIND, KubeletConfiguration};
use kubelet_model::yaml::{self, Duplicates};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// How many fields of a wrong type are reported.
const MOST_PROBLEMS: usize = 32;

/// Why a file is not a valid configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// The file cannot be read.
    #[error("failed to read kubelet config file {0:?}, error: {1}")]
    Read(String, #[source] std::io::Error),
    /// The file is empty.
    #[error("kubelet config file {0:?} was empty")]
    Empty(String),
    /// The file is not YAML or JSON, or a field has a wrong type.
    #[error("failed to decode: {0}")]
    Decode(String),
    /// Strict decoding failed, and lenient decoding is not allowed.
    #[error("strict decoding error: {0}")]
    Strict(String),
    /// The apiVersion or kind is missing.
    #[error("failed to decode: Object '{0}' is missing in '{1}'")]
    Missing(&'static str, String),
    /// Another kind or version.
    #[error(
        "failed to decode: no kind {0:?} is registered for version {1:?} in scheme \"kubelet\""
    )]
    Kind(String, String),
}

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document {
    text: String,
    value: Value,
    /// The error text for a duplicate key, as upstream; the last value counts.
    duplicate: Option<String>,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, DocumentError> {
        let shown = || path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| DocumentError::Read(shown(), error))?;
        if bytes.is_empty() {
            return Err(DocumentError::Empty(shown()));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| DocumentError::Decode(format!("yaml: {error}")))?;
        Self::parse(text)
    }

    pub(super) fn parse(text: String) -> Result<Self, DocumentError> {
        let read = |duplicates| yaml::first_document(&text, duplicates);
        let (value, duplicate) = match read(Duplicates::Error) {
            Ok(value) => (value, None),
            Err(first) => {
                let value = read(Duplicates::LastWins)
                    .map_err(|error| DocumentError::Decode(format!("yaml: {error}")))?;
                (value, Some(doubled(&first)))
            }
        };
        let value = value.unwrap_or_default();
        Ok(Self {
            text,
            value,
            duplicate,
        })
    }

    /// The whole file as JSON.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The error text for a duplicate key.
    pub(super) fn duplicate(&self) -> Option<&str> {
        self.duplicate.as_deref()
    }

    /// Checks that the file is a `KubeletConfiguration` v1beta1.
    pub(super) fn expect_configuration(&self) -> Result<(), DocumentError> {
        let field = |name: &str| self.value.get(name).and_then(Value::as_str).unwrap_or("");
        let (kind, version) = (field("kind"), field("apiVersion"));
        if kind.is_empty() || version.is_empty() {
            let missing = if kind.is_empty() {
                "Kind"
            } else {
                "apiVersion"
            };
            let begin: String = self.text.chars().take(256).collect();
            return Err(DocumentError::Missing(missing, begin));
        }
        if (kind, version) == (KIND, API_VERSION) {
            return Ok(());
        }
        Err(DocumentError::Kind(kind.to_owned(), version.to_owned()))
    }

    /// The typed fields, and the complaints of strict decoding: unknown and duplicate fields.
    pub(super) fn configuration(
        &self,
    ) -> Result<(KubeletConfiguration, Option<String>), DocumentError> {
        let mut unknown = Vec::new();
        let mut misfits = Vec::new();
        let mut value = self.value.clone();
        while misfits.len() < MOST_PROBLEMS {
            unknown.clear();
            let mut track = serde_path_to_error::Track::new();
            let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
            let read =
                serde_ignored::deserialize(tracked, |path| unknown.push(plain(&path.to_string())));
            match read {
                Ok(config) if misfits.is_empty() => return Ok((config, self.minded(&unknown))),
                Ok::<KubeletConfiguration, _>(_) => break,
                Err(error) => {
                    let path = plain(&track.path().to_string());
                    misfits.push(format!("{}{path}: {error}", self.line(&path)));
                    // The field is removed so that the others can be checked, too.
                    if !forget(&mut value, &path) {
                        break;
                    }
                }
            }
        }
        Err(DocumentError::Decode(misfits.join("; ")))
    }

    fn minded(&self, unknown: &[String]) -> Option<String> {
        let unknown = unknown
            .iter()
            .map(|path| format!("{}unknown field {path:?}", self.line(path)));
        let minded: Vec<String> = self.duplicate.iter().cloned().chain(unknown).collect();
        (!minded.is_empty()).then(|| format!("strict decoding error: {}", minded.join(", ")))
    }

    /// `line 7: ` if the field is found in the text, else empty.
    fn line(&self, path: &str) -> String {
        let places: Option<Places> = yaml::first(&self.text, Duplicates::LastWins).ok().flatten();
        let line = places.and_then(|places| places.line(path));
        line.map_or_else(String::new, |line| format!("line {line}: "))
    }
}

/// The duplicate key, in the words of Go's parser.
fn doubled(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey {
            key: Some(key),
            location,
        } => format!("line {}: key {key:?} already set in map", location.line()),
        other => format!("yaml: {other}"),
    }
}

/// `tracing.?.endpoint` without the question mark, which stands for an `Option`.
fn plain(path: &str) -> String {
    path.replace(".?", "").replace("?.", "")
}

/// The names and indices of a path such as `a.b[1].c`.
fn steps(path: &str) -> Vec<String> {
    path.replace('[', ".")
        .replace(']', "")
        .split('.')
        .map(str::to_owned)
        .collect()
}

/// Sets the field at the path to null; false if there is none.
fn forget(value: &mut Value, path: &str) -> bool {
    // A list element cannot be null either, so its whole list is removed.
    let path = path
        .rfind('[')
        .filter(|_| path.ends_with(']'))
        .map_or(path, |end| &path[..end]);
    let pointer: String = steps(path).iter().map(|step| format!("/{step}")).collect();
    match value.pointer_mut(&pointer) {
        Some(field) if !field.is_null() => {
            *field = Value::Null;
            true
        }
        _ => false,
    }
}

/// The line of each field of a YAML text.
#[derive(Debug, Default)]
struct Places(BTreeMap<String, (u64, Places)>);

impl Places {
    fn line(&self, path: &str) -> Option<u64> {
        let mut places = self;
        let mut line = None;
        for step in steps(path) {
            let Some((here, below)) = places.0.get(&step) else {
                break;
            };
            line = Some(*here).filter(|line| *line > 0).or(line);
            places = below;
        }
        line
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Places;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Places, A::Error> {
                let mut places = Places::default();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let line = key.referenced.line();
                    places.0.insert(key.value, (line, map.next_value()?));
                }
                Ok(places)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Places, A::Error> {
                let mut places = Places::default();
                while let Some(below) = seq.next_element::<Places>()? {
                    let line = below.0.values().map(|(line, _)| *line).min().unwrap_or(0);
                    let index = places.0.len().to_string();
                    places.0.insert(index, (line, below));
                }
                Ok(places)
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Places, D::Error> {
                inner.deserialize_any(Walk)
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                inner: D,
            ) -> Result<Places, D::Error> {
                IgnoredAny::deserialize(inner).map(|_| Places::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Places, E> {
                Ok(Places::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Places, E> {
                Ok(Places::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Places, E> {
                Ok(Places::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Places, E> {
                Ok(Places::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Places, E> {
                Ok(Places::default())
            }
            fn visit_unit<E>(self) -> Result<Places, E> {
                Ok(Places::default())
            }
            fn visit_none<E>(self) -> Result<Places, E> {
                Ok(Places::default())
            }
        }
        deserializer.deserialize_any(Walk)
    }
}

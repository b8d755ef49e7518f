//! The kubelet's command line: a table of flags, parsed as pflag does.
//!
//! In:    the arguments after the program's (and the component's) name
//! Out:   `CommandLine`: the flags that were set, in order, as JSON values with their fields; deprecation warnings
//! Calls: config_files.rs applies it over the configuration file; main.rs answers `--help` and `--version`
//! Holds: error texts are pflag's; the table holds every flag of upstream. Not built on clap: parsing the tokens is the smaller
//!        half, and its errors, shorthands and defaults would all have to be turned back into pflag's
//! Upstream: cmd/kubelet/app/options, github.com/spf13/pflag, component-base/cli/flag, component-base/version/verflag

use kubelet_api::config::KubeletConfiguration;
use kubelet_model::config::Flags;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

mod configuration;
mod own;
mod value;

pub(crate) use value::ValueError;

const FILE_INSTEAD: &str = "This parameter should be set via the config file specified by the Kubelet's --config flag. See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information.";
const CADVISOR: &str = "This is a cadvisor flag that was mistakenly registered with the Kubelet. Due to legacy concerns, it will follow the standard CLI deprecation timeline before being removed.";
const EVICTION_INSTEAD: &str =
    "Use --eviction-hard or --eviction-soft instead. Will be removed in a future version.";

/// The field of `--vmodule`.
const VMODULE: &str = "/logging/vmodule";

/// The Kubernetes version that this program stands in for, and our own number after it.
pub(crate) const VERSION: &str = "v1.36.2+hyperkube.1";

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true`, `false` and Go's other spellings; without a value `true`.
    Bool,
    /// 32 bits; `0x` and the like are accepted.
    Int32,
    /// 64 bits.
    Int64,
    /// Any text.
    Text,
    /// A path; a relative one starts at the working directory. Empty means none.
    Path,
    /// Go's duration.
    Duration,
    /// Comma separated, repeatable.
    Strings,
    /// `a=b,c=d`, repeatable.
    Map,
    /// One `a=b` per use.
    SingleMap,
    /// `a=b,c`, where the value of `c` is empty.
    LooseMap,
    /// `a<b,c<d`, repeatable.
    LangleMap,
    /// `a=true,b=false`, repeatable.
    Gates,
    /// `a:b,a:c`, repeatable.
    Multimap,
    /// An IP address.
    Ip,
    /// A resource quantity.
    Quantity,
    /// Log level.
    Level,
    /// `pattern=level,…`, repeatable.
    VModule,
    /// `node:type=quantity,…;…`, repeatable.
    ReservedMemory,
    /// `key=value:effect,…`.
    Taints,
    /// `true`, `raw` or a version.
    Version,
}

/// The effect of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Sets the field of `KubeletConfiguration` at this JSON pointer.
    Config(&'static str),
    /// Sets this field of `model::config::Flags`.
    Flag(&'static str),
    /// No effect; the feature does not exist here.
    Ignored,
    /// Prints the help.
    Help,
    /// Prints the version.
    Version,
}

/// One flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    /// The name with dashes, without the leading ones.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The default, as the help shows it.
    pub default: &'static str,
    /// Its effect.
    pub effect: Effect,
    /// One line of help.
    pub doc: &'static str,
    /// The deprecation text.
    pub deprecated: Option<&'static str>,
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    effect: Effect,
    doc: &'static str,
) -> Flag {
    Flag {
        name,
        kind,
        default,
        effect,
        doc,
        deprecated: None,
    }
}

const fn old(flag: Flag, instead: &'static str) -> Flag {
    Flag {
        deprecated: Some(instead),
        ..flag
    }
}

/// Every flag, sorted by name.
pub(crate) fn table() -> Vec<&'static Flag> {
    let mut flags: Vec<&Flag> = configuration::ROWS.iter().chain(own::ROWS).collect();
    flags.sort_by_key(|flag| flag.name);
    flags
}

fn find(name: &str) -> Option<&'static Flag> {
    let mut flags = configuration::ROWS.iter().chain(own::ROWS);
    flags.find(|flag| flag.name == name)
}

impl Flag {
    /// The one-letter form.
    fn shorthand(&self) -> Option<char> {
        match self.name {
            "v" => Some('v'),
            "help" => Some('h'),
            _ => None,
        }
    }

    /// The value if the flag has none on the command line.
    fn alone(&self) -> Option<&'static str> {
        matches!(self.kind, Kind::Bool | Kind::Version).then_some("true")
    }

    /// The type as the help shows it; a word in the description may replace it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            _ if self.name == "seccomp-default" => "RuntimeDefault",
            Kind::Bool => "bool",
            Kind::Int32 => "int32",
            Kind::Int64 => "int",
            Kind::Text | Kind::Path => "string",
            Kind::Duration => "duration",
            Kind::Strings => "strings",
            Kind::Map | Kind::SingleMap | Kind::LooseMap | Kind::LangleMap => "mapStringString",
            Kind::Gates => "mapStringBool",
            Kind::Multimap => "colonSeparatedMultimapStringString",
            Kind::Ip => "ip",
            Kind::Quantity => "quantity",
            Kind::Level => "Level",
            Kind::VModule => "pattern=N,...",
            Kind::ReservedMemory => "reserved-memory",
            Kind::Taints => "[]v1.Taint",
            Kind::Version => "version",
        }
    }

    /// `-v, --v` or `--name`: the flag's name in pflag's errors.
    fn written(&self) -> String {
        match self.shorthand() {
            Some(letter) => format!("-{letter}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// Why a command line is invalid, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandLineError {
    /// Unknown flag.
    #[error("failed to parse kubelet flag: unknown flag: --{0}")]
    UnknownFlag(String),
    /// Unknown shorthand, and its group of letters.
    #[error("failed to parse kubelet flag: unknown shorthand flag: {0:?} in -{1}")]
    UnknownShorthand(char, String),
    /// A flag without its required value.
    #[error("failed to parse kubelet flag: flag needs an argument: {0}")]
    NoArgument(String),
    /// Dashes without a name.
    #[error("failed to parse kubelet flag: bad flag syntax: {0}")]
    Syntax(String),
    /// An invalid value: the text, the flag, the reason.
    #[error("failed to parse kubelet flag: invalid argument {0:?} for \"{1}\" flag: {2}")]
    Value(String, String, ValueError),
    /// Arguments that are not flags.
    #[error("unknown command {0}")]
    Positional(String),
}

/// The action that the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run.
    Run,
    /// Print the help.
    Help,
    /// Print `Kubernetes <version>`.
    Version,
    /// Print the version in parts.
    RawVersion,
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CommandLine {
    /// Besides running.
    pub request: Request,
    /// The pure flags.
    pub flags: Flags,
    /// Fields of the configuration that were set: JSON pointer to value.
    pub fields: BTreeMap<&'static str, Value>,
    /// What upstream prints for deprecated flags, in order.
    pub warnings: Vec<String>,
    /// Every flag that was given, with its last text: for the log.
    pub given: BTreeMap<&'static str, String>,
}

/// Reads the arguments that follow the component's name.
pub(crate) fn parse(arguments: &[String]) -> Result<CommandLine, CommandLineError> {
    let mut reading = Reading::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            reading.positional.extend(rest.by_ref().cloned());
        } else if let Some(long) = argument.strip_prefix("--") {
            reading.long(long, &mut rest)?;
        } else if argument.len() > 1 && argument.starts_with('-') {
            reading.short(&argument[1..], &mut rest)?;
        } else {
            reading.positional.push(argument.clone());
        }
    }
    reading.finish()
}

type Rest<'a> = std::slice::Iter<'a, String>;

#[derive(Default)]
struct Reading {
    positional: Vec<String>,
    help: bool,
    version: String,
    own: Map<String, Value>,
    fields: BTreeMap<&'static str, Value>,
    warnings: Vec<String>,
    given: BTreeMap<&'static str, String>,
}

impl Reading {
    fn long(&mut self, long: &str, rest: &mut Rest<'_>) -> Result<(), CommandLineError> {
        let (name, given) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(CommandLineError::Syntax(format!("--{long}")));
        }
        let dashed = name.replace('_', "-");
        let flag = find(&dashed).ok_or_else(|| CommandLineError::UnknownFlag(name.to_owned()))?;
        let value = match (given, flag.alone()) {
            (Some(value), _) | (None, Some(value)) => value,
            (None, None) => rest
                .next()
                .ok_or_else(|| CommandLineError::NoArgument(format!("--{name}")))?,
        };
        self.set(flag, value)
    }

    /// A group of shorthands; the first one that needs a value takes the rest.
    fn short(&mut self, group: &str, rest: &mut Rest<'_>) -> Result<(), CommandLineError> {
        let mut letters = group.chars();
        while let Some(letter) = letters.next() {
            let flag = match letter {
                'v' => find("v"),
                'h' => find("help"),
                _ => None,
            };
            let flag =
                flag.ok_or_else(|| CommandLineError::UnknownShorthand(letter, group.to_owned()))?;
            let after = letters.as_str();
            if let Some(value) = after.strip_prefix('=').filter(|value| !value.is_empty()) {
                return self.set(flag, value);
            }
            if let Some(alone) = flag.alone() {
                self.set(flag, alone)?;
                continue;
            }
            if !after.is_empty() {
                return self.set(flag, after);
            }
            let value = rest
                .next()
                .ok_or_else(|| CommandLineError::NoArgument(format!("{letter:?} in -{group}")))?;
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, text: &str) -> Result<(), CommandLineError> {
        let before = match flag.effect {
            Effect::Config(pointer) => self.fields.remove(pointer),
            Effect::Flag(field) => self.own.remove(field),
            Effect::Ignored | Effect::Help | Effect::Version => None,
        };
        let value = value::read(flag.kind, text, before)
            .map_err(|error| CommandLineError::Value(text.to_owned(), flag.written(), error))?;
        self.given.insert(flag.name, text.to_owned());
        if let Some(instead) = flag.deprecated {
            let name = flag.name;
            let words = format!("Flag --{name} has been deprecated, {instead}");
            self.warnings.push(words);
        }
        match flag.effect {
            Effect::Config(pointer) => drop(self.fields.insert(pointer, value)),
            Effect::Flag(field) => drop(self.own.insert(field.to_owned(), value)),
            Effect::Help => self.help = value == Value::Bool(true),
            Effect::Version => self.version = value.as_str().unwrap_or_default().to_owned(),
            Effect::Ignored => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<CommandLine, CommandLineError> {
        if let Some(word) = self.positional.into_iter().next() {
            return Err(CommandLineError::Positional(word));
        }
        let request = match self.version.as_str() {
            _ if self.help => Request::Help,
            "true" => Request::Version,
            "raw" => Request::RawVersion,
            _ => Request::Run,
        };
        let flags = serde_json::from_value(Value::Object(self.own))
            .expect("every row of the table names a field of its own type: a test sets each");
        Ok(CommandLine {
            request,
            flags,
            fields: self.fields,
            warnings: self.warnings,
            given: self.given,
        })
    }
}

impl CommandLine {
    /// `FLAG: --name="value"` for every flag that was set, for the log; possible secrets are masked.
    pub(crate) fn shown(&self) -> Vec<String> {
        let secret = ["manifest-url-header", "storage-driver-password"];
        let given = self.given.iter();
        given
            .map(|(name, text)| {
                (
                    name,
                    if secret.contains(name) {
                        "<masked>"
                    } else {
                        text
                    },
                )
            })
            .map(|(name, text)| format!("FLAG: --{name}={text:?}"))
            .collect()
    }

    /// Flags that have no effect and were set to something other than their default.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = String> {
        let given = self.given.iter();
        let ignored = given.filter_map(|(name, text)| Some((find(name)?, text)));
        let ignored = ignored.filter(|(flag, text)| {
            let is_default = flag.default == text.as_str() || flag.default == format!("{text:?}");
            let is_off = flag.default.is_empty() && text.as_str() == "false";
            flag.effect == Effect::Ignored && !is_default && !is_off
        });
        ignored.map(|(flag, _)| format!("--{} is set and has no effect", flag.name))
    }

    /// The feature gates of the flags.
    pub(crate) fn gates(&self) -> BTreeMap<String, bool> {
        let gates = self.fields.get("/featureGates").cloned();
        gates
            .and_then(|gates| serde_json::from_value(gates).ok())
            .unwrap_or_default()
    }

    /// The configuration with every set flag applied. Feature gates merge key by key, rules of `--vmodule` are appended to
    /// those of the file; every other map or list is replaced.
    pub(crate) fn over(&self, config: &KubeletConfiguration) -> KubeletConfiguration {
        let mut value = serde_json::to_value(config).expect("the configuration is plain data");
        for (pointer, set) in &self.fields {
            let merged = match (value.pointer_mut(pointer), set) {
                (Some(Value::Object(gates)), Value::Object(set)) if *pointer == "/featureGates" => {
                    gates.extend(set.clone());
                    true
                }
                (Some(Value::Array(rules)), Value::Array(set)) if *pointer == VMODULE => {
                    // They may have been applied already: flags are applied both to the defaults and to the files.
                    if !rules.ends_with(set) {
                        rules.extend(set.iter().cloned());
                    }
                    true
                }
                _ => false,
            };
            if !merged {
                put(&mut value, pointer, set.clone());
            }
        }
        serde_json::from_value(value)
            .expect("every row of the table names a field of its own type: a test sets each")
    }
}

/// Sets the value at a JSON pointer, creating the parent objects.
fn put(root: &mut Value, pointer: &str, set: Value) {
    let mut place = root;
    for name in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[name];
    }
    *place = set;
}

/// The text of `--help`.
pub(crate) fn help() -> String {
    let mut out = String::from(
        "The kubelet runs on each node. It makes the containers of the pods that it is given run, and keeps them running.\n\
         Pods come from the API server (--kubeconfig), from files in a directory, or from a URL.\n\nUsage:\n  kubelet [flags]\n\nFlags:\n",
    );
    for flag in table() {
        let short = flag
            .shorthand()
            .map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let type_name = match (flag.kind, flag.type_name()) {
            (_, "bool") => String::new(),
            (Kind::Version, _) => " version[=true]".to_owned(),
            (_, type_name) => format!(" {type_name}"),
        };
        let default = match flag.default {
            "" | "version[=true]" => String::new(),
            default => format!(" (default {default})"),
        };
        let deprecated = flag
            .deprecated
            .map(|instead| format!(" (DEPRECATED: {instead})"))
            .unwrap_or_default();
        let (name, doc) = (flag.name, flag.doc);
        write!(
            out,
            "  {short}--{name}{type_name}\n                {doc}{default}{deprecated}\n"
        )
        .expect("writing to a String does not fail");
    }
    out
}

/// The text of `--version`.
pub(crate) fn version(request: Request) -> String {
    match request {
        Request::RawVersion => format!(
            "version.Info{{Major:\"1\", Minor:\"36\", EmulationMajor:\"\", EmulationMinor:\"\", MinCompatibilityMajor:\"\", MinCompatibilityMinor:\"\", GitVersion:\"{VERSION}\", GitCommit:\"\", GitTreeState:\"\", BuildDate:\"\", GoVersion:\"\", Compiler:\"rustc\", Platform:\"{}\"}}",
            platform()
        ),
        Request::Run | Request::Help | Request::Version => format!("Kubernetes {VERSION}"),
    }
}

/// Operating system and architecture by Go's names.
pub(crate) fn platform() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{machine}")
}

#[cfg(test)]
mod tests;

//! The command lines of the node's own commands.
//!
//! In:    arguments, from the command's name on
//! Out:   a [`Request`], or what is wrong with them
//! Calls: `run`; hyperkube/main takes the names
//! Holds: pure; a flag may stand anywhere, as `--flag=value` or `--flag value`
//! Upstream: kubectl get, kubectl describe

use std::path::PathBuf;

/// The commands and what they do.
pub const VERBS: [(&str, &str); 4] = [
    ("get", "the pods of this node, as a table, JSON or YAML"),
    (
        "describe",
        "everything about a pod: containers, probes with their results, volumes, its start",
    ),
    (
        "why",
        "why a pod is not Ready, in plain words: what is waited for, the last error, the next try",
    ),
    (
        "timeline",
        "where the time of a pod's start went, stage by stage",
    ),
];

pub(crate) const OUTPUTS: [&str; 4] = ["json", "yaml", "wide", "name"];
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// What its value is; `None` without one.
    value: Option<&'static str>,
    help: &'static str,
}

const fn flag(
    long: &'static str,
    short: Option<char>,
    value: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        value,
        help,
    }
}

pub(crate) const FLAGS: [Flag; 7] = [
    flag(
        "namespace",
        Some('n'),
        Some("NAME"),
        "Only pods of this namespace",
    ),
    flag(
        "all-namespaces",
        Some('A'),
        None,
        "Pods of all namespaces, which is the default",
    ),
    flag(
        "output",
        Some('o'),
        Some("json|yaml|wide|name"),
        "The form of the output",
    ),
    flag(
        "watch",
        Some('w'),
        None,
        "Print again what changes, until interrupted",
    ),
    flag("socket", None, Some("PATH"), "The socket of the kubelet"),
    flag(
        "root-dir",
        None,
        Some("DIR"),
        "The kubelet's root directory, in which its socket lies",
    ),
    flag("help", Some('h'), None, "This text"),
];

/// Where the kubelet is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The usual root directory, else the one kubelet that runs.
    Usual,
    RootDir(PathBuf),
    Socket(PathBuf),
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Text,
    Wide,
    Json,
    Yaml,
    Name,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Describe,
    Why,
    Timeline,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) verb: Verb,
    pub(crate) names: Vec<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) output: Output,
    pub(crate) is_watch: bool,
    pub(crate) place: Place,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Print this text.
    Text(String),
    /// Print the completion of this shell.
    Completion(String),
    /// Ask the kubelet.
    Ask(Command),
}

/// Reads the arguments; the error is the text for the user.
pub(crate) fn parse(arguments: &[String]) -> Result<Request, String> {
    let mut rest = arguments.iter().map(String::as_str);
    let verb = rest.next().unwrap_or_default();
    if verb == "completion" {
        return completion(&rest.collect::<Vec<_>>());
    }
    let mut command = Command {
        verb: match verb {
            "get" => Verb::Get,
            "describe" => Verb::Describe,
            "why" => Verb::Why,
            "timeline" => Verb::Timeline,
            other => return Err(format!("unknown command {other:?}")),
        },
        names: Vec::new(),
        namespace: None,
        output: Output::Text,
        is_watch: false,
        place: Place::Usual,
    };
    while let Some(word) = rest.next() {
        let Some((flag, value)) = flag_of(word)? else {
            command.names.push(word.to_owned());
            continue;
        };
        let missing = || format!("flag needs an argument: --{}", flag.long);
        let value = match flag.value {
            None if value.is_some_and(|value| value != "true") => {
                return Err(format!("--{} takes no value", flag.long));
            }
            None => "",
            Some(_) => value.or_else(|| rest.next()).ok_or_else(missing)?,
        };
        match flag.long {
            "namespace" => command.namespace = Some(value.to_owned()),
            "all-namespaces" => command.namespace = None,
            "output" => command.output = output(value)?,
            "watch" => command.is_watch = true,
            "socket" => command.place = Place::Socket(value.into()),
            "root-dir" => command.place = Place::RootDir(value.into()),
            _ => return Ok(Request::Text(help(verb))),
        }
    }
    let is_kind = |word: &String| ["pod", "pods", "po"].contains(&word.as_str());
    if command.names.first().is_some_and(is_kind) {
        command.names.remove(0);
    }
    check(command).map(Request::Ask)
}

fn check(command: Command) -> Result<Command, String> {
    let is_list = matches!(command.output, Output::Wide | Output::Name);
    if is_list && command.verb != Verb::Get {
        return Err("-o wide and -o name are for get; here -o json or -o yaml".to_owned());
    }
    Ok(command)
}

/// The flag of a word and the value in it; `None` for a word that is no flag.
fn flag_of(word: &str) -> Result<Option<(&'static Flag, Option<&str>)>, String> {
    let unknown = || format!("unknown flag: {word}");
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let flag = FLAGS.iter().find(|flag| flag.long == name);
        return flag.map(|flag| Some((flag, value))).ok_or_else(unknown);
    }
    let Some(short) = word.strip_prefix('-') else {
        return Ok(None);
    };
    let mut letters = short.chars();
    let letter = letters.next().ok_or_else(unknown)?;
    let flag = FLAGS.iter().find(|flag| flag.short == Some(letter));
    let flag = flag.ok_or_else(unknown)?;
    let value = letters.as_str();
    let value = value.strip_prefix('=').unwrap_or(value);
    match (value, flag.value) {
        ("", _) => Ok(Some((flag, None))),
        (value, Some(_)) => Ok(Some((flag, Some(value)))),
        (_, None) => Err(unknown()),
    }
}

fn output(value: &str) -> Result<Output, String> {
    match value {
        "json" => Ok(Output::Json),
        "yaml" => Ok(Output::Yaml),
        "wide" => Ok(Output::Wide),
        "name" => Ok(Output::Name),
        other => Err(format!(
            "unknown output format {other:?}; it may be {}",
            OUTPUTS.join(", ")
        )),
    }
}

fn completion(words: &[&str]) -> Result<Request, String> {
    let usage = || format!("usage: hyperkube completion {}", SHELLS.join("|"));
    match words {
        ["-h" | "--help"] => Ok(Request::Text(format!("{}\n", usage()))),
        [shell] if SHELLS.contains(shell) => Ok(Request::Completion((*shell).to_owned())),
        _ => Err(usage()),
    }
}

fn help(verb: &str) -> String {
    let what = VERBS.iter().find(|(known, _)| *known == verb);
    let what = what.map_or("", |(_, what)| what);
    let mut text = format!(
        "{}{}.\n\nUsage:\n  hyperkube {verb} [pods] [NAME...] [flags]\n\nNAME is a pod's name, namespace/name or UID. \
         A static pod may be called by the name in its manifest.{}\n\nFlags:\n",
        what.get(..1).unwrap_or_default().to_uppercase(),
        what.get(1..).unwrap_or_default(),
        match verb {
            "why" => "\nWithout a name: every pod that is not Ready.",
            _ => "\nWithout a name: every pod.",
        }
    );
    for flag in FLAGS {
        let short = flag
            .short
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = flag
            .value
            .map_or_else(String::new, |value| format!(" {value}"));
        let name = format!("{short}--{}{value}", flag.long);
        text.push_str(&format!("  {name:<36} {}\n", flag.help));
    }
    text.push_str(
        "\nThe kubelet of this node is asked, over a socket that root alone may use; no API server is needed. Without --socket and \
         --root-dir\nthat is the kubelet with the usual root directory, else the only one that runs here.\n",
    );
    text
}

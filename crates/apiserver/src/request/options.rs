//! The options in a request's query, parsed and validated as upstream does.
//!
//! In:    the query, the verb; the body of a deletion
//! Out:   [`ListOptions`], [`WriteOptions`], [`LogOptions`]; 400 for a value that cannot be parsed, 422 for an invalid one
//! Calls: `verbs`, `subresources`, `proxy`, `http` (the timeout)
//! Holds: pure; every value of an option is answered with a `Status`, never with a server error
//! Upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/{internalversion/validation,v1/validation,v1/conversion.go},
//!           pkg/apis/core/validation ValidatePodLogOptions (1.36); differences: of two wrong options, the other one may be
//!           reported

use std::num::IntErrorKind;

use crate::base::failure::{Cause, Failure};
use crate::kinds::resources::Resource;
use crate::kinds::selectors::Selection;
use crate::request::path::Query;

mod time;

pub(crate) use time::timeout;

/// The longest `fieldManager`.
const MANAGER_BYTES: usize = 128;

/// Whether the request writes or is a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Real,
    Dry,
}

/// How a `resourceVersion` is to be matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

/// The options of a list, a watch or a deletecollection.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    /// Empty: none.
    pub(crate) version: String,
    pub(crate) matching: Match,
    /// `None`: no limit.
    pub(crate) limit: Option<usize>,
    /// Empty: none.
    pub(crate) continues: String,
    /// 0: none.
    pub(crate) seconds: u64,
    pub(crate) initial: Option<bool>,
    pub(crate) bookmarks: bool,
}

impl ListOptions {
    /// Parses and validates the options.
    pub(crate) fn read(resource: &Resource, query: &Query) -> Result<Self, Failure> {
        let word = |name: &str| query.first(name).unwrap_or_default().to_owned();
        let selection = Selection::parse(
            resource,
            query.first("labelSelector"),
            query.first("fieldSelector"),
        )?;
        let seconds = integer(query, "timeoutSeconds")?.unwrap_or(0);
        let limit = integer(query, "limit")?.unwrap_or(0);
        let initial = query.first("sendInitialEvents");
        let mut options = Self {
            selection,
            version: word("resourceVersion"),
            matching: Match::Unset,
            limit: usize::try_from(limit).ok().filter(|limit| *limit > 0),
            continues: word("continue"),
            seconds: u64::try_from(seconds).unwrap_or(0),
            initial: initial.map(|_| query.is_set("sendInitialEvents")),
            bookmarks: query.is_set("allowWatchBookmarks"),
        };
        let matching = word("resourceVersionMatch");
        let causes = if query.is_set("watch") {
            options.wrong_of_watch(&matching)
        } else {
            options.wrong_of_list(&matching)
        };
        if !causes.is_empty() {
            return Err(Failure::invalid_options("ListOptions", &causes));
        }
        options.matching = match &*matching {
            "Exact" => Match::Exact,
            "NotOlderThan" => Match::NotOlderThan,
            _ => Match::Unset,
        };
        // A watch from version "" or "0" first sends the existing objects.
        let from_begin = ["", "0"].contains(&&*options.version);
        if query.is_set("watch") && from_begin && options.initial.is_none() {
            options.initial = Some(true);
        }
        Ok(options)
    }

    fn wrong_of_list(&self, matching: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        let field = "resourceVersionMatch";
        if !matching.is_empty() {
            if self.version.is_empty() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                causes.push(Cause::forbidden(field, detail));
            }
            causes.extend(self.match_and_continue());
            if !["Exact", "NotOlderThan"].contains(&matching) {
                let allowed = ["Exact", "NotOlderThan", ""];
                causes.push(Cause::unsupported(field, &matching.into(), &allowed));
            }
            if matching == "Exact" && self.version == "0" {
                let detail =
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                causes.push(Cause::forbidden(field, detail));
            }
        }
        if self.initial.is_some() {
            let detail = "sendInitialEvents is forbidden for list";
            causes.push(Cause::forbidden("sendInitialEvents", detail));
        }
        causes
    }

    fn wrong_of_watch(&self, matching: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        let field = "resourceVersionMatch";
        if self.initial.is_some() && matching != "NotOlderThan" {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(field, detail));
        }
        if !matching.is_empty() {
            if self.initial.is_none() {
                let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                causes.push(Cause::forbidden(field, detail));
            }
            if matching != "NotOlderThan" {
                let allowed = ["NotOlderThan"];
                causes.push(Cause::unsupported(field, &matching.into(), &allowed));
            }
            causes.extend(self.match_and_continue());
        }
        causes
    }

    fn match_and_continue(&self) -> Option<Cause> {
        let detail = "resourceVersionMatch is forbidden when continue is provided";
        (!self.continues.is_empty()).then(|| Cause::forbidden("resourceVersionMatch", detail))
    }
}

/// Parses a list's resourceVersion; 0 means any.
pub(crate) fn version(text: &str) -> Result<u64, Failure> {
    parsed_version(text).map_err(|cause| {
        Failure::bad_request(format!(
            "invalid resource version: {}: {}",
            cause.field, cause.message
        ))
    })
}

/// Parses a watch's resourceVersion.
pub(crate) fn watch_version(resource: &Resource, text: &str) -> Result<u64, Failure> {
    parsed_version(text)
        .map_err(|cause| Failure::invalid_kind(resource.group, resource.plural, "", &[cause]))
}

fn parsed_version(text: &str) -> Result<u64, Cause> {
    if text.is_empty() {
        return Ok(0);
    }
    // Go's unsigned integers accept no sign, not even a plus.
    let parsed = text.parse::<u64>();
    let signed = text.starts_with('+');
    let why = match parsed {
        Ok(version) if !signed => return Ok(version),
        Err(error) if !signed && *error.kind() == IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    let detail = format!("strconv.ParseUint: parsing {text:?}: {why}");
    Err(Cause::invalid("resourceVersion", &text.into(), &detail))
}

/// A whole number.
pub(crate) fn integer(query: &Query, name: &str) -> Result<Option<i64>, Failure> {
    use IntErrorKind::{NegOverflow, PosOverflow};
    let Some(text) = query.first(name) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })
}

/// What happens to unknown fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) run: Run,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Parses and validates the options.
    pub(crate) fn read(verb: &str, query: &Query) -> Result<Self, Failure> {
        let kind = match verb {
            "create" => "CreateOptions",
            "patch" => "PatchOptions",
            _ => "UpdateOptions",
        };
        let mut causes = Vec::new();
        if verb == "patch" && query.first("force").is_some() {
            let detail = "may not be specified for non-apply patch";
            causes.push(Cause::forbidden("force", detail));
        }
        causes.extend(wrong_manager(
            query.first("fieldManager").unwrap_or_default(),
        ));
        let dry: Vec<&str> = query.all("dryRun").collect();
        causes.extend(wrong_dry_run(&dry));
        let given = query.first("fieldValidation").unwrap_or_default();
        let validation = match given {
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            _ => FieldValidation::Warn,
        };
        let allowed = ["", "Ignore", "Strict", "Warn"];
        if !allowed.contains(&given) {
            let cause = Cause::unsupported("fieldValidation", &given.into(), &allowed);
            causes.push(cause);
        }
        if !causes.is_empty() {
            return Err(Failure::invalid_options(kind, &causes));
        }
        let run = if dry.is_empty() { Run::Real } else { Run::Dry };
        Ok(Self { run, validation })
    }
}

/// The only valid value is `All`.
pub(crate) fn wrong_dry_run(given: &[&str]) -> Option<Cause> {
    let wrong = given.iter().any(|value| *value != "All");
    wrong.then(|| Cause::unsupported("dryRun", &given.into(), &["All"]))
}

fn wrong_manager(manager: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if manager.len() > MANAGER_BYTES {
        causes.push(Cause::too_long("fieldManager", MANAGER_BYTES));
    }
    let bad = manager
        .char_indices()
        .filter(|(_, letter)| letter.is_control() || (letter.is_whitespace() && *letter != ' '));
    // Each error quotes the whole text, so one is enough.
    causes.extend(bad.take(1).map(|(at, letter)| {
        let detail = format!(
            "invalid character U+{:04X} (at position {at})",
            u32::from(letter)
        );
        Cause::invalid("fieldManager", &manager.into(), &detail)
    }));
    causes
}

/// Refuses options that a get request cannot have.
pub(crate) fn check_get(query: &Query, newest: u64) -> Result<(), Failure> {
    if query.is_set("export") {
        return Err(Failure::bad_request(
            "the export parameter, deprecated since v1.14, is no longer supported",
        ));
    }
    let wanted = version(query.first("resourceVersion").unwrap_or_default())?;
    if wanted > newest {
        return Err(Failure::too_large_version(wanted, newest));
    }
    Ok(())
}

/// The log options, under the kubelet's own names.
pub(crate) struct LogOptions(pub(crate) Vec<(&'static str, String)>);

impl LogOptions {
    /// Parses and validates the options before the pod is looked up.
    pub(crate) fn read(query: &Query, pod: &str) -> Result<Self, Failure> {
        let seconds = integer(query, "sinceSeconds")?;
        let since = query.first("sinceTime").map(time::instant).transpose()?;
        let (tail, limit) = (integer(query, "tailLines")?, integer(query, "limitBytes")?);
        let mut causes = Vec::new();
        if let Some(lines) = tail.filter(|lines| *lines < 0) {
            let detail = "must be greater than or equal to 0";
            causes.push(Cause::invalid("tailLines", &lines.into(), detail));
        }
        if let Some(bytes) = limit.filter(|bytes| *bytes < 1) {
            let detail = "must be greater than 0";
            causes.push(Cause::invalid("limitBytes", &bytes.into(), detail));
        }
        match (seconds, &since) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                causes.push(Cause::forbidden("", detail));
            }
            (Some(seconds), None) if seconds < 1 => {
                let detail = "must be greater than 0";
                causes.push(Cause::invalid("sinceSeconds", &seconds.into(), detail));
            }
            _ => {}
        }
        // Upstream's gate PodLogsQuerySplitStreams is off by default.
        if query.first("stream").is_some() {
            causes.push(Cause::forbidden("stream", "may not be specified"));
        }
        if !causes.is_empty() {
            return Err(Failure::invalid_kind("", "PodLogOptions", pod, &causes));
        }
        let mut given = Vec::new();
        for name in ["follow", "previous", "timestamps"] {
            if query.is_set(name) {
                given.push((name, "true".to_owned()));
            }
        }
        let numbers = [
            ("sinceSeconds", seconds),
            ("tailLines", tail),
            ("limitBytes", limit),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.to_string())));
        given.extend(numbers);
        given.extend(since.map(|since| ("sinceTime", since)));
        Ok(Self(given))
    }
}

/// Refuses invalid ports.
pub(crate) fn check_ports(query: &Query) -> Result<(), Failure> {
    for text in query.all("ports").flat_map(|list| list.split(',')) {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let why = match text.parse::<u16>() {
            Ok(_) if digits => continue,
            _ if digits => "value out of range",
            _ => "invalid syntax",
        };
        return Err(Failure::bad_request(format!(
            "cannot convert to []int32: strconv.ParseUint: parsing {text:?}: {why}"
        )));
    }
    Ok(())
}

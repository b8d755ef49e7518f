//! Label and field selectors: parsed once per request, matched against the labels and fields that the store keeps beside each
//! object.
//!
//! In:    `labelSelector`, `fieldSelector`
//! Out:   [`Selection`]; whether an object matches
//! Calls: `options` for list, watch and deletecollection; `authz`
//! Holds: matching parses no object
//! Upstream: staging/src/k8s.io/apimachinery/pkg/{labels,fields}/selector.go (1.36); differences: none known

use std::collections::BTreeMap;

use crate::base::failure::Failure;
use crate::kinds::resources::Resource;
use crate::store::Object;

/// The maximum of requirements and values in a selector; a watch keeps them for its whole life.
const PARTS: usize = 1000;

/// What a list or watch selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

/// One requirement on a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldRequirement {
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) equal: bool,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let number = |key| labels.get(key).and_then(|text| text.parse::<i64>().ok());
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
            Self::Greater(key, than) => number(key).is_some_and(|n| n > *than),
            Self::Less(key, than) => number(key).is_some_and(|n| n < *than),
        }
    }
}

impl Selection {
    /// Parses both selectors.
    pub(crate) fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Failure> {
        bounded(labels.unwrap_or_default())?;
        bounded(fields.unwrap_or_default())?;
        let labels = parse_labels(labels.unwrap_or_default())
            .map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?;
        let mut fields = parse_fields(fields.unwrap_or_default()).map_err(Failure::bad_request)?;
        for requirement in &mut fields {
            requirement.field = kept_field(resource, &requirement.field)?.to_owned();
        }
        Ok(Self { labels, fields })
    }

    /// Whether every object matches.
    pub(crate) fn is_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object matches.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.iter().all(|one| one.matches(&object.labels))
            && self.fields.iter().all(|one| {
                let (namespace, name) = object.place();
                let found = match &*one.field {
                    "metadata.name" => name,
                    "metadata.namespace" => namespace,
                    field => object.field(field),
                };
                (found == one.value) == one.equal
            })
    }
}

/// The field names of `events.k8s.io`, and the stored names of the same fields.
const EVENT_FIELDS: [(&str, &str); 10] = [
    ("reason", "reason"),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    (
        "regarding.resourceVersion",
        "involvedObject.resourceVersion",
    ),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];

/// The stored field for a field label of the kind.
fn kept_field<'a>(resource: &Resource, label: &'a str) -> Result<&'a str, Failure> {
    let is_own = |label: &str| {
        label == "metadata.name" || (label == "metadata.namespace" && resource.namespaced)
    };
    // Kinds without selectable fields of their own accept name and namespace only; the error names them.
    if resource.selectable.is_empty() {
        return match label {
            "metadata.name" | "metadata.namespace" => Ok(label),
            _ => Err(Failure::bad_request(format!(
                "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ))),
        };
    }
    let found = match (resource.kind, label) {
        _ if is_own(label) => Some(label),
        // The name that old clients use.
        ("Pod", "spec.host") => Some("spec.nodeName"),
        // A known label that no object has a value for.
        ("Pod", "status.podIPs") => Some(label),
        ("Event", label) if resource.group == "events.k8s.io" => EVENT_FIELDS
            .iter()
            .find(|(theirs, _)| *theirs == label)
            .map(|(_, kept)| *kept),
        _ => resource.selectable.contains(&label).then_some(label),
    };
    found.ok_or_else(|| Failure::bad_request(format!("field label not supported: {label}")))
}

/// Limits the number of commas: every requirement and every value but the first follows one.
fn bounded(selector: &str) -> Result<(), Failure> {
    let parts = selector.matches(',').count() + 1;
    if parts > PARTS {
        let why = format!("a selector may have no more than {PARTS} requirements and values");
        return Err(Failure::bad_request(why));
    }
    Ok(())
}

/// Parses a field selector. The authorizer decides by this result, so [`Selection`] must match by the same one.
pub(crate) fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, String> {
    let terms = split_terms(text).into_iter().filter(|t| !t.is_empty());
    terms
        .map(|term| {
            let parts = term.char_indices().find_map(|(at, _)| {
                let rest = &term[at..];
                let signs = [("!=", false), ("==", true), ("=", true)];
                let found = signs
                    .iter()
                    .find_map(|(sign, equal)| Some((rest.strip_prefix(sign)?, *equal)));
                found.map(|(value, equal)| (&term[..at], value, equal))
            });
            let (field, value, equal) = parts
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            Ok(FieldRequirement {
                field: field.to_owned(),
                value: unescaped(value)?,
                equal,
            })
        })
        .collect()
}

/// Splits at commas without a preceding backslash.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Removes the backslashes before `\`, `,` and `=`. Unescaped, those characters are invalid in a value.
fn unescaped(value: &str) -> Result<String, String> {
    let (mut plain, mut letters) = (String::new(), value.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                _ => return Err(format!("invalid field selector: invalid escape in {value}")),
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped {letter} in {value}"
                ));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// Splits at commas outside parentheses.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let (mut terms, mut depth, mut term) = (Vec::new(), 0_usize, String::new());
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(std::mem::take(&mut term));
                continue;
            }
            _ => {}
        }
        term.push(letter);
    }
    terms.push(term);
    let wanted = terms.iter().map(|term| term.trim());
    wanted.filter(|t| !t.is_empty()).map(parse_label).collect()
}

fn parse_label(term: &str) -> Result<Requirement, String> {
    let key = |text: &str| {
        let text = text.trim();
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if text.is_empty() || !text.chars().all(letters) {
            return Err(format!("found '{text}', expected: a label's key"));
        }
        Ok(text.to_owned())
    };
    let set = |text: &str| {
        let inner = text
            .trim()
            .strip_prefix('(')
            .and_then(|t| t.strip_suffix(')'));
        let inner = inner.ok_or_else(|| format!("found '{text}', expected: '('"))?;
        Ok::<_, String>(
            inner
                .split(',')
                .map(|v| v.trim().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let number = |text: &str| {
        let parsed = text.trim().parse::<i64>();
        parsed.map_err(|_| format!("found '{text}', expected: an integer"))
    };
    if let Some(absent) = term.strip_prefix('!') {
        return Ok(Requirement::Absent(key(absent)?));
    }
    for (word, is_in) in [(" notin", false), (" in", true)] {
        if let Some((name, values)) = term.split_once(word)
            && values.trim_start().starts_with('(')
        {
            let (name, values) = (key(name)?, set(values)?);
            return Ok(if is_in {
                Requirement::In(name, values)
            } else {
                Requirement::NotIn(name, values)
            });
        }
    }
    for (sign, is_in) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((name, value)) = term.split_once(sign) {
            let (name, values) = (key(name)?, vec![value.trim().to_owned()]);
            return Ok(if is_in {
                Requirement::In(name, values)
            } else {
                Requirement::NotIn(name, values)
            });
        }
    }
    if let Some((name, than)) = term.split_once('>') {
        return Ok(Requirement::Greater(key(name)?, number(than)?));
    }
    if let Some((name, than)) = term.split_once('<') {
        return Ok(Requirement::Less(key(name)?, number(than)?));
    }
    Ok(Requirement::Exists(key(term)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels = labels.collect();
        parse_labels(selector)
            .unwrap()
            .iter()
            .all(|one| one.matches(&labels))
    }

    #[test]
    fn label_selectors_have_all_of_upstreams_forms() {
        let web = [("app", "web"), ("size", "3")];
        for (selector, matches) in [
            ("", true),
            ("app=web", true),
            ("app==web,size=3", true),
            ("app!=web", false),
            ("none!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("none notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!none,app", true),
            ("size>2", true),
            ("size<2", false),
        ] {
            assert_eq!(check(selector, &web), matches, "{selector}");
        }
        for bad in ["app in db", "a b", "=x", "size>x"] {
            assert!(parse_labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_selector_of_too_many_parts_is_refused() {
        let many = |count: usize| vec!["a"; count].join(",");
        assert!(parse_labels(&many(1000)).is_ok());
        let pods = crate::kinds::resources::find("", "v1", "pods").unwrap();
        let fields = vec!["metadata.name!=a"; 1001].join(",");
        for (labels, fields) in [
            (many(1001), String::new()),
            (format!("x in ({})", many(1001)), String::new()),
            (String::new(), fields),
        ] {
            let refused = Selection::parse(pods, Some(&labels), Some(&fields));
            assert_eq!(refused.unwrap_err().code, 400);
        }
    }

    #[test]
    fn field_selectors_are_equalities() {
        let parsed = parse_fields("spec.nodeName=a,status.phase!=Failed").unwrap();
        let parsed: Vec<_> = parsed
            .iter()
            .map(|f| (&*f.field, &*f.value, f.equal))
            .collect();
        let expected = [
            ("spec.nodeName", "a", true),
            ("status.phase", "Failed", false),
        ];
        assert_eq!(parsed, expected);
        assert!(parse_fields("spec.nodeName").is_err());
    }

    #[test]
    fn an_escaped_comma_is_a_part_of_the_value() {
        let parsed = parse_fields(r"metadata.name!=x\,spec.nodeName\=n").unwrap();
        let expected = FieldRequirement {
            field: "metadata.name".to_owned(),
            value: "x,spec.nodeName=n".to_owned(),
            equal: false,
        };
        assert_eq!(parsed, [expected]);
        for bad in [r"a=b\", r"a=b\c", "a=b=c", "a!=b==c"] {
            assert!(parse_fields(bad).is_err(), "{bad}");
        }
    }
}

//! Names that become one component of a path; only a plain component is accepted.
//!
//! In:    text from disk listings, labels of the runtime, manifests, the API and the journal
//! Out:   [`PathPart`], or why the text is refused; the same check for the IDs of `ids`
//! Calls: ids, pod; code that joins an external name to a path
//! Holds: such a name is never empty, `.` or `..`, and contains neither `/` nor NUL: joined to a directory, it names a direct
//!        child
//! Upstream: none (there names are checked by the API server alone)

use std::fmt;

/// The longest file name on Linux, in bytes.
pub const LONGEST_PART: usize = 255;

/// Why a text is not a plain path component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
pub struct BadName {
    text: String,
    why: &'static str,
}

/// Bytes of a refused text that are shown.
const SHOWN: usize = 128;

impl BadName {
    pub(crate) fn new(text: &str, why: &'static str) -> Self {
        let text = text.chars().take(SHOWN).collect();
        Self { text, why }
    }
}

/// Refuses anything but one plain path component.
///
/// # Errors
/// What is wrong with it.
pub fn check_part(text: &str) -> Result<(), BadName> {
    let why = match text {
        "" => "is empty",
        "." | ".." => "names no file",
        _ if text.contains(['/', '\0']) => "contains a slash or a NUL",
        _ if text.len() > LONGEST_PART => "is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(BadName::new(text, why))
}

/// As [`check_part`], for a name that is joined to others by `_`: it contains no `_`, so that the parts can be told apart.
///
/// # Errors
/// What is wrong with it.
pub fn check_joined(text: &str) -> Result<(), BadName> {
    check_part(text)?;
    if text.contains('_') {
        return Err(BadName::new(text, "holds an underscore"));
    }
    Ok(())
}

/// One plain path component.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PathPart(String);

impl PathPart {
    /// Checks the text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, BadName> {
        let text = text.into();
        check_part(&text)?;
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for PathPart {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_plain_component_is_a_part() {
        let longest = "x".repeat(255);
        for good in [
            "a",
            "...",
            "a_b",
            ".hidden",
            "kubernetes.io~empty-dir",
            &longest,
        ] {
            assert_eq!(PathPart::parse(good).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(256);
        for bad in ["", ".", "..", "/", "a/b", "a/", "../a", "a\0b", &too_long] {
            assert!(PathPart::parse(bad).is_err(), "{bad:?}");
        }
        assert!(check_joined("a-b").is_ok() && check_joined("a_b").is_err());
        let shown = check_part("a/b").unwrap_err().to_string();
        assert_eq!(shown, "\"a/b\" contains a slash or a NUL");
    }

    proptest! {
        #[test]
        fn a_part_lies_directly_in_the_directory_that_it_is_joined_to(text in "[a./\0_]{0,4}") {
            let directory = std::path::Path::new("/pods");
            if let Ok(part) = PathPart::parse(text) {
                let joined = directory.join(&part);
                prop_assert_eq!(joined.parent(), Some(directory));
                prop_assert_eq!(joined.file_name().and_then(|name| name.to_str()), Some(part.as_str()));
            }
        }
    }
}

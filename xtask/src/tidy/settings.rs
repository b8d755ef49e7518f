//! Every setting of the configuration is read by the product, or stands in the table of those that do nothing yet.
//!
//! In:    `model/src/config.rs`, the table in `decide/src/config/without_effect.rs`, all product files
//! Out:   one line per finding
//! Calls: tidy
//! Holds: a reader is a file outside of reading, defaults and validation that names the field; names that several structs share count
//!        for each of them, so a finding is certain and its absence is not
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};

use super::{is_test, product};

const SETTINGS: &str = "crates/model/src/config.rs";
const TABLE: &str = "crates/decide/src/config/without_effect.rs";

/// What makes the settings, checks them or is no product.
const NO_READERS: [&str; 12] = [
    "crates/api/",
    "crates/attack/",
    "crates/bench/",
    "crates/decide/src/config/defaults",
    "crates/decide/src/config/effective",
    "crates/decide/src/config/validate",
    "crates/decide/src/config/without_effect",
    "crates/fuzz/",
    "crates/machine/",
    "crates/model/src/config",
    "crates/testkit/",
    "crates/world/",
];

/// Goes through the files.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// `Struct.field` by the field's name.
    fields: BTreeMap<String, Vec<String>>,
    /// Rows of the table: what holds the setting, and whether a part of it works.
    rows: BTreeMap<String, bool>,
    /// Every word that follows a dot in a reader.
    words: BTreeSet<String>,
}

impl Settings {
    /// Takes in one file.
    pub(super) fn look(&mut self, file: &str, text: &str) {
        match file {
            SETTINGS => self.declared(text),
            TABLE => self.table(text),
            _ => {}
        }
        if is_test(file)
            || !file.starts_with("crates/")
            || NO_READERS.iter().any(|place| file.starts_with(place))
        {
            return;
        }
        self.words.extend(after_dots(product(text)));
    }

    fn declared(&mut self, text: &str) {
        let mut holder = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub struct ") {
                holder = rest.split([' ', '(']).next().unwrap_or_default().to_owned();
            }
            let field = line
                .strip_prefix("    pub ")
                .and_then(|rest| rest.split_once(": "));
            // The flags are the raw form; each becomes a setting of a component, or is in the table by its own name.
            let is_part = holder.ends_with("Config") && holder != "Config";
            if let Some((field, _)) = field.filter(|_| is_part) {
                let place = format!("{holder}.{field}");
                self.fields.entry(field.to_owned()).or_default().push(place);
            }
        }
    }

    fn table(&mut self, text: &str) {
        for quoted in text.split('"').skip(1).step_by(2) {
            if quoted.contains("Config.") {
                let works = text.contains(&format!("\", \"{quoted}\", \""));
                self.rows.insert(quoted.to_owned(), works);
            }
        }
    }

    /// What is wrong, once all files were taken in.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (field, places) in &self.fields {
            let is_read = self.words.contains(field);
            for place in places {
                match (is_read, self.rows.get(place)) {
                    (false, None) => findings.push(format!(
                        "{SETTINGS}: nobody reads {place}: name it in {TABLE}"
                    )),
                    (false, Some(true)) => findings.push(format!(
                        "{TABLE}: {place} is said to work in part, and nobody reads it"
                    )),
                    _ => {}
                }
            }
        }
        for place in self.rows.keys() {
            let field = place.rsplit('.').next().unwrap_or_default();
            if !self.fields.get(field).is_some_and(|at| at.contains(place)) {
                findings.push(format!("{TABLE}: {place} is no setting"));
            }
        }
        findings
    }
}

/// Every word that follows a dot: names of fields that are read, and of methods.
fn after_dots(text: &str) -> impl Iterator<Item = String> {
    let rest = text.split('.').skip(1);
    let word = |rest: &str| {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default().to_owned()
    };
    rest.map(word).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(table: &str, product: &str) -> Vec<String> {
        let mut settings = Settings::default();
        settings.look(
            SETTINGS,
            "pub struct AConfig {\n    pub one: u8,\n    pub two: u8,\n}\n",
        );
        settings.look(TABLE, table);
        settings.look("crates/act/src/x.rs", product);
        settings.findings()
    }

    #[test]
    fn a_setting_is_read_or_in_the_table() {
        let nothing: Vec<String> = Vec::new();
        let row = "all(\"/two\", \"AConfig.two\"),";
        assert_eq!(findings(row, "c.one"), nothing);
        assert_eq!(findings("", "c.one + c.two"), nothing);
        let missing = findings("", "c.one\n#[cfg(test)]\nmod tests { c.two }");
        assert_eq!(
            missing,
            [format!(
                "{SETTINGS}: nobody reads AConfig.two: name it in {TABLE}"
            )]
        );
        let part = "but(\"/two\", \"AConfig.two\", \"does\"),";
        assert_eq!(findings(part, "c.one").len(), 1);
        assert_eq!(
            findings("all(\"/x\", \"AConfig.x\"),", "c.one.two").len(),
            1
        );
    }
}

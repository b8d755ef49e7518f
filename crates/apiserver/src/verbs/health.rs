//! `/healthz`, `/livez` and `/readyz`: the server's health, as a whole and check by check.
//!
//! In:    the path and its query, the results of the checks
//! Out:   code and text
//! Calls: `http`
//! Holds: a failed check is always reported with its name and its reason; the reasons contain nothing confidential
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/healthz/healthz.go (1.36); differences: reasons are included, since no
//!           other place has them

use std::fmt::Write as _;

use crate::request::path::Query;

/// One check: its name, and what is wrong.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) wrong: Option<String>,
}

/// The answer of `/healthz`, of `/healthz/<check>` and the like; `None` for an unknown check.
pub(crate) fn answer(path: &str, query: &Query, checks: &[Check]) -> Option<(u16, String)> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let whole = parts.next().unwrap_or_default();
    // A check's name may contain a slash.
    let one: Vec<&str> = parts.collect();
    if !one.is_empty() {
        let name = one.join("/");
        let check = checks.iter().find(|check| check.name == name)?;
        return Some(match &check.wrong {
            None => (200, "ok".to_owned()),
            Some(why) => (500, format!("internal server error: {why}\n")),
        });
    }
    Some(all(whole, query, checks))
}

fn all(whole: &str, query: &Query, checks: &[Check]) -> (u16, String) {
    let mut unknown: Vec<&str> = query.all("exclude").collect();
    let (mut lines, mut failed) = (String::new(), false);
    let mut line = |text: String| {
        let written = writeln!(lines, "{text}");
        debug_assert!(written.is_ok(), "a string takes everything");
    };
    for Check { name, wrong } in checks {
        if query.all("exclude").any(|one| one == *name) {
            unknown.retain(|one| one != name);
            line(format!("[+]{name} excluded: ok"));
            continue;
        }
        match wrong {
            None => line(format!("[+]{name} ok")),
            Some(why) => {
                failed = true;
                line(format!("[-]{name} failed: {why}"));
            }
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|one| format!("{one:?}")).collect();
        let names = names.join(",");
        line(format!(
            "warn: some health checks cannot be excluded: no matches for {names}"
        ));
    }
    if failed {
        return (500, format!("{lines}{whole} check failed\n"));
    }
    match query.first("verbose") {
        None => (200, "ok".to_owned()),
        Some(_) => (200, format!("{lines}{whole} check passed\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_and_each_check_are_told_as_upstream_tells_them() {
        let checks = |wrong: Option<&str>| {
            let wrong = wrong.map(str::to_owned);
            let ping = Check {
                name: "ping",
                wrong: None,
            };
            [
                ping,
                Check {
                    name: "hook/store",
                    wrong,
                },
            ]
        };
        let of = |path: &str, query: &str, wrong: Option<&str>| {
            answer(path, &Query::parse(query), &checks(wrong))
        };
        let told = |code: u16, text: &str| Some((code, text.to_owned()));
        assert_eq!(of("/readyz", "", None), told(200, "ok"));
        let verbose = "[+]ping ok\n[+]hook/store ok\nreadyz check passed\n";
        assert_eq!(of("/readyz/", "verbose", None), told(200, verbose));
        let failed = "[+]ping ok\n[-]hook/store failed: full\nreadyz check failed\n";
        assert_eq!(of("/readyz", "", Some("full")), told(500, failed));
        let excluded = "[+]ping ok\n[+]hook/store excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n";
        let query = "verbose=true&exclude=hook/store&exclude=x";
        assert_eq!(of("/readyz", query, Some("full")), told(200, excluded));
        assert_eq!(of("/livez/ping", "verbose", None), told(200, "ok"));
        let internal = "internal server error: full\n";
        assert_eq!(
            of("/livez/hook/store", "", Some("full")),
            told(500, internal)
        );
        assert_eq!(of("/livez/other", "", None), None);
    }
}

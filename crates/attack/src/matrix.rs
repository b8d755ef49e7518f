//! Identities × paths × verbs on every port, against answers written down by hand.
//!
//! In:    `expected/kubelet.txt`, `expected/apiserver.txt`
//! Out:   every difference
//! Calls: main
//! Holds: each request comes on a connection of its own; a cell names all statuses that are right, and nothing else is
//! Upstream: pkg/kubelet/server/{server,auth}.go, plugin/pkg/auth/authorizer/node (1.36)

use rig::http::{Body, Credential, Http};
use rig::node::NODE_NAME;
use serde_json::json;

use crate::identities::{self, NAMES};
use crate::machine::Machine;
use crate::report::Report;
use crate::target::{LASTING, PODS, Target, asked, pod};

const KUBELET: &str = include_str!("../expected/kubelet.txt");
const API_SERVER: &str = include_str!("../expected/apiserver.txt");

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row<'a> {
    port: &'a str,
    method: &'a str,
    path: &'a str,
    body: &'a str,
    /// One a column of [`NAMES`].
    expected: Vec<&'a str>,
}

/// Reads a table: lines `port NAME`, and rows of one cell an identity, method, path and perhaps a body.
fn rows(table: &str) -> anyhow::Result<Vec<Row<'_>>> {
    let mut port = "";
    let mut rows = Vec::new();
    for line in table.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(named) = line.strip_prefix("port ") {
            port = named.trim();
            continue;
        }
        let mut words = line.split_whitespace();
        let expected: Vec<&str> = words.by_ref().take(NAMES.len()).collect();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            anyhow::bail!("a row without method or path: {line}");
        };
        let body = line.find(" < ").map_or("", |at| line[at + 3..].trim());
        rows.push(Row {
            port,
            method,
            path,
            body,
            expected,
        });
    }
    Ok(rows)
}

fn client(target: &Target<'_>, port: &str, who: &Credential) -> anyhow::Result<Http> {
    let ports = target.ports;
    match port {
        "main" => Target::as_somebody(ports.main, who),
        "api" => Target::as_somebody(ports.api, who),
        "health" => Ok(plain(ports.health, who)),
        "read-only" => Ok(plain(ports.read_only, who)),
        unknown => anyhow::bail!("no port is called {unknown}"),
    }
}

/// A port without TLS, where a certificate cannot be shown.
fn plain(port: u16, who: &Credential) -> Http {
    let header = match who {
        Credential::Token(token) => format!("Authorization: Bearer {token}\r\n"),
        _ => String::new(),
    };
    Http::new(port)
        .with(&header)
        .patient(std::time::Duration::from_secs(5))
}

/// What one request is answered.
fn answer(target: &Target<'_>, row: &Row<'_>, who: &Credential) -> String {
    let kind = match row.method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = (!row.body.is_empty()).then_some(Body {
        kind,
        bytes: row.body.as_bytes(),
    });
    let path = row.path.replace("{node}", NODE_NAME);
    let asked =
        client(target, row.port, who).and_then(|mut http| http.ask(row.method, &path, body));
    match asked {
        Ok((status, _)) => status.to_string(),
        Err(error) => format!("{error:#}"),
    }
}

fn compare(target: &Target<'_>, table: &str, report: &mut Report) -> anyhow::Result<()> {
    let (rows, everybody) = (rows(table)?, identities::all(target)?);
    let (mut tried, mut wrong) = (0, Vec::new());
    for row in &rows {
        for ((name, who), expected) in everybody.iter().zip(&row.expected) {
            if *expected == "-" {
                continue;
            }
            tried += 1;
            let got = answer(target, row, who);
            if !expected.split('/').any(|right| right == got) {
                let finding = format!(
                    "{} {} {} as {name}: {got}, expected {expected}",
                    row.port, row.method, row.path
                );
                rig::say(&format!("   {finding}"));
                wrong.push(finding);
            }
        }
    }
    report.note("requests", tried.to_string());
    report.none("answers that differ from the table", &wrong);
    Ok(())
}

/// Objects that the tables name: a pod of this node that refers to one secret and one config map of two.
pub(crate) fn objects(target: &Target<'_>) -> anyhow::Result<()> {
    let mut api = target.api();
    for name in ["used", "unused"] {
        let object = json!({"metadata": {"name": name}, "data": {}});
        for kind in ["secrets", "configmaps"] {
            let path = format!("/api/v1/namespaces/default/{kind}");
            asked(&mut api, "POST", &path, Some(&object))?;
        }
    }
    let mut user = pod(&target.machine.image, "user", "Always", LASTING);
    user["spec"]["volumes"] = json!([
        {"name": "s", "secret": {"secretName": "used"}},
        {"name": "c", "configMap": {"name": "used"}},
    ]);
    asked(&mut api, "POST", PODS, Some(&user))?;
    let elsewhere = json!({"metadata": {"name": "elsewhere"}});
    asked(&mut api, "POST", "/api/v1/nodes", Some(&elsewhere))?;
    let lease = json!({"metadata": {"name": "elsewhere"}, "spec": {"holderIdentity": "elsewhere"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    asked(&mut api, "POST", leases, Some(&lease))?;
    let path = format!("{PODS}/user");
    rig::clock::poll("the pod of the table is Ready", 50, 30.0, || {
        let shown = asked(&mut api, "GET", &path, None)?;
        Ok(crate::target::is_ready(&shown).then_some(()))
    })
}

/// The kubelet's three ports.
pub(crate) fn kubelet(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    let target = Target::running(machine, "auth-kubelet")?;
    objects(&target)?;
    compare(&target, KUBELET, report)
}

/// The API server's port.
pub(crate) fn apiserver(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    let target = Target::running(machine, "auth-apiserver")?;
    objects(&target)?;
    compare(&target, API_SERVER, report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_whole() {
        for table in [KUBELET, API_SERVER] {
            let rows = rows(table).unwrap();
            assert!(rows.len() > 20);
            for row in rows {
                assert!(!row.port.is_empty(), "{row:?}");
                assert!(row.path.starts_with('/'), "{row:?}");
                let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
                assert!(methods.contains(&row.method), "{row:?}");
                for cell in &row.expected {
                    let is_status = |word: &str| matches!(word.parse::<u16>(), Ok(100..=599));
                    assert!(*cell == "-" || cell.split('/').all(is_status), "{row:?}");
                }
            }
        }
    }
}

//! Runs a credential plugin and reads the `ExecCredential` that it prints.
//!
//! In:    its configuration, the cluster's address
//! Out:   a token or a certificate, and until when they are good
//! Calls: credentials
//! Holds: at most one minute and one MiB; the output never shows in an error; the plugin is killed when nobody waits for it
//! Upstream: client-go/plugin/pkg/client/auth/exec (exec.go), client.authentication.k8s.io/v1

use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::kubeconfig::{ExecConfig, Secret, Server, Trust};
use crate::tls::read_material;

/// A program that asks a cloud takes seconds.
const DEADLINE: Duration = Duration::from_secs(60);
const MAX_BYTES: u64 = 1 << 20;

/// What a program gave.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) token: Option<Secret>,
    /// PEM certificate and PEM key.
    pub(crate) pair: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExecCredential {
    kind: String,
    api_version: String,
    status: Option<ExecStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExecStatus {
    token: String,
    client_certificate_data: String,
    client_key_data: String,
    expiration_timestamp: Option<Timestamp>,
}

/// Runs the program once.
pub(crate) async fn run(config: &ExecConfig, server: &Server) -> Result<Credential, String> {
    let input = input(config, server).await?;
    let output = tokio::time::timeout(DEADLINE, output(config, &input)).await;
    let output =
        output.map_err(|_| format!("{} did not end within {DEADLINE:?}", named(config)))??;
    read(config, &output)
}

fn named(config: &ExecConfig) -> String {
    format!("credential program {}", config.command.display())
}

/// `KUBERNETES_EXEC_INFO`.
async fn input(config: &ExecConfig, server: &Server) -> Result<Value, String> {
    let mut spec = json!({ "interactive": false });
    if config.provide_cluster_info {
        let mut cluster = json!({ "server": server.url.to_string().trim_end_matches('/') });
        match &server.trust {
            Trust::Nobody => cluster["insecure-skip-tls-verify"] = json!(true),
            Trust::Authorities(material) => {
                let pem = ByteString(read_material(material).await?);
                cluster["certificate-authority-data"] = json!(pem);
            }
            Trust::System => {}
        }
        if let Some(name) = &server.tls_name {
            cluster["tls-server-name"] = json!(name);
        }
        if let Some(proxy) = &server.proxy {
            cluster["proxy-url"] = json!(proxy.to_string());
        }
        spec["cluster"] = cluster;
    }
    Ok(json!({ "kind": "ExecCredential", "apiVersion": config.api_version, "spec": spec }))
}

async fn output(config: &ExecConfig, input: &Value) -> Result<Vec<u8>, String> {
    let mut command = Command::new(&config.command);
    command
        .args(&config.args)
        .envs(config.env.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", input.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        let hint = config.install_hint.trim();
        let gap = if hint.is_empty() { "" } else { "; " };
        format!("{} cannot be started: {error}{gap}{hint}", named(config))
    })?;
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MAX_BYTES + 1).read_to_end(&mut text).await;
        read.map_err(|error| format!("{}: {error}", named(config)))?;
    }
    if text.len() as u64 > MAX_BYTES {
        return Err(format!(
            "{} printed more than {MAX_BYTES} bytes",
            named(config)
        ));
    }
    let status = child.wait().await;
    let status = status.map_err(|error| format!("{}: {error}", named(config)))?;
    if !status.success() {
        return Err(format!("{} failed: {status}", named(config)));
    }
    Ok(text)
}

fn read(config: &ExecConfig, output: &[u8]) -> Result<Credential, String> {
    let wrong = |why: &str| format!("{} printed {why}", named(config));
    // The parser's own words could repeat parts of the secret.
    let printed: ExecCredential =
        serde_json::from_slice(output).map_err(|_| wrong("no ExecCredential in JSON"))?;
    if printed.kind != "ExecCredential" {
        return Err(wrong("another kind than ExecCredential"));
    }
    if printed.api_version != config.api_version {
        return Err(wrong("another apiVersion than it was asked for"));
    }
    let status = printed.status.ok_or_else(|| wrong("no status"))?;
    let pair = match (
        status.client_certificate_data.is_empty(),
        status.client_key_data.is_empty(),
    ) {
        (true, true) => None,
        (false, false) => Some((
            status.client_certificate_data.into_bytes(),
            status.client_key_data.into_bytes(),
        )),
        _ => return Err(wrong("only one of certificate and key")),
    };
    let token = Some(status.token).filter(|token| !token.is_empty());
    if token.is_none() && pair.is_none() {
        return Err(wrong("neither a token nor a certificate"));
    }
    Ok(Credential {
        token: token.map(|token| Secret(token.into_bytes())),
        pair,
        expires: status.expiration_timestamp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn program(script: &str) -> ExecConfig {
        ExecConfig {
            api_version: "client.authentication.k8s.io/v1".to_owned(),
            command: PathBuf::from("/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("EXTRA".to_owned(), "given".to_owned())],
            provide_cluster_info: true,
            install_hint: "install it".to_owned(),
        }
    }

    fn server() -> Server {
        Server {
            url: "https://a:6443".parse().unwrap(),
            trust: Trust::Nobody,
            tls_name: Some("b".to_owned()),
            proxy: None,
        }
    }

    #[tokio::test]
    async fn a_program_is_told_of_the_cluster_and_gives_a_token() {
        let script = r#"
            case "$KUBERNETES_EXEC_INFO" in *'"server":"https://a:6443"'*) ;; *) exit 3;; esac
            echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1",
                "status":{"token":"'$EXTRA'","expirationTimestamp":"2030-01-01T00:00:00Z"}}'"#;
        let given = run(&program(script), &server()).await.unwrap();
        assert_eq!(given.token, Some(Secret(b"given".to_vec())));
        assert_eq!(given.expires.unwrap().to_string(), "2030-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn a_program_that_does_wrong_is_named_and_its_words_are_not_repeated() {
        for (script, why) in [
            ("exit 2", "failed"),
            ("echo geheim", "no ExecCredential"),
            (
                r#"echo '{"kind":"ExecCredential","apiVersion":"v0","status":{"token":"geheim"}}'"#,
                "apiVersion",
            ),
            ("head -c 2000000 /dev/zero", "more than"),
        ] {
            let error = run(&program(script), &server()).await.unwrap_err();
            assert!(error.contains(why) && !error.contains("geheim"), "{error}");
        }
        let mut absent = program("");
        absent.command = PathBuf::from("/nowhere/to/be/found");
        let error = run(&absent, &server()).await.unwrap_err();
        assert!(error.ends_with("install it"), "{error}");
    }
}

//! Everybody who may come to a port.
//!
//! In:    a running node: its authority, its tokens, its objects
//! Out:   credentials by the names that the tables in `expected/` use
//! Calls: matrix, escalation, floods
//! Holds: each credential is real: signed by the node's own authority where the name says no more, by another one where it does
//! Upstream: none

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rig::clock;
use rig::http::Credential;
use rig::node::NODE_NAME;
use serde_json::json;

use crate::target::{ADMIN, BOOTSTRAP, PODS, Target, VIEWER, asked, pod, text};

/// Names in the order of the tables' columns.
pub(crate) const NAMES: [&str; 12] = [
    "anon", "junk", "expired", "otherca", "wrongorg", "sa", "gone", "node", "other", "boot",
    "viewer", "admin",
];

/// When a certificate is good, in seconds from now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) from: f64,
    pub(crate) until: f64,
}

const TODAY: Validity = Validity {
    from: -300.0,
    until: 86_400.0,
};
const YESTERDAY: Validity = Validity {
    from: -172_800.0,
    until: -3600.0,
};

/// Signs client certificates.
pub(crate) struct Signer(Issuer<'static, KeyPair>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

fn parameters(name: &str, groups: &[&str], valid: Validity) -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name = DistinguishedName::new();
    for group in groups {
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, *group);
    }
    parameters.distinguished_name.push(DnType::CommonName, name);
    let at = |seconds: f64| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs_f64(clock::now() + seconds)
    };
    (parameters.not_before, parameters.not_after) = (at(valid.from), at(valid.until));
    Ok(parameters)
}

impl Signer {
    /// The node's own authority.
    pub(crate) fn own(target: &Target<'_>) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(&fs::read_to_string(target.pki("ca.key"))?)?;
        let certificate = fs::read_to_string(target.pki("ca.crt"))?;
        Ok(Self(Issuer::from_ca_cert_pem(&certificate, key)?))
    }

    /// Another one, with the same name.
    fn other() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut own = parameters("kubernetes", &[], TODAY)?;
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        own.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        let certificate = own.self_signed(&key)?.pem();
        Ok(Self(Issuer::from_ca_cert_pem(&certificate, key)?))
    }

    /// A client of this name and these groups.
    pub(crate) fn client(
        &self,
        name: &str,
        groups: &[&str],
        valid: Validity,
    ) -> anyhow::Result<Credential> {
        let key = KeyPair::generate()?;
        let mut leaf = parameters(name, groups, valid)?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(Credential::Certificate {
            chain: leaf.signed_by(&key, &self.0)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The credential of a kubeconfig.
fn of_kubeconfig(target: &Target<'_>, file: &str) -> anyhow::Result<Credential> {
    let config = fs::read_to_string(target.pki(file))?;
    let field = |name: &str| -> anyhow::Result<String> {
        let at = config
            .find(name)
            .with_context(|| format!("{name} in {file}"))?;
        let rest = config[at + name.len()..].trim_start_matches(['"', ':', ' ']);
        let word: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c))
            .collect();
        Ok(String::from_utf8(
            base64::engine::general_purpose::STANDARD.decode(word)?,
        )?)
    };
    Ok(Credential::Certificate {
        chain: field("client-certificate-data")?,
        key: field("client-key-data")?,
    })
}

/// The node's own credential.
pub(crate) fn of_node(target: &Target<'_>) -> anyhow::Result<Credential> {
    of_kubeconfig(target, "kubelet.kubeconfig")
}

/// A token of the service account `default`, bound to a pod when one is named.
pub(crate) fn account_token(target: &Target<'_>, bound: Option<&str>) -> anyhow::Result<String> {
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let mut request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
    });
    if let Some(pod) = bound {
        request["spec"]["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod", "name": pod});
    }
    let answer = asked(&mut target.api(), "POST", path, Some(&request))?;
    match text(&answer, "/status/token") {
        "" => bail!("no token in {answer}"),
        token => Ok(token.to_owned()),
    }
}

/// A token whose pod is gone.
fn token_of_the_gone(target: &Target<'_>) -> anyhow::Result<String> {
    let name = "gone";
    let pod = pod(&target.machine.image, name, "Never", "exit 0");
    asked(&mut target.api(), "POST", PODS, Some(&pod))?;
    let token = account_token(target, Some(name))?;
    let path = format!("{PODS}/{name}");
    let now = json!({"gracePeriodSeconds": 0});
    asked(&mut target.api(), "DELETE", &path, Some(&now))?;
    clock::poll("the token's pod is gone", 50, 20.0, || {
        let (status, _) = target.api().ask("GET", &path, None)?;
        Ok((status == 404).then_some(()))
    })?;
    Ok(token)
}

/// All of them, by name.
pub(crate) fn all(target: &Target<'_>) -> anyhow::Result<Vec<(&'static str, Credential)>> {
    let (own, other) = (Signer::own(target)?, Signer::other()?);
    let masters = ["system:masters"];
    let token = |token: &str| Credential::Token(token.to_owned());
    let one = |name: &str| -> anyhow::Result<Credential> {
        Ok(match name {
            "anon" => Credential::Nobody,
            "junk" => token("neither.a.token"),
            "expired" => own.client("kubernetes-admin", &masters, YESTERDAY)?,
            "otherca" => other.client("kubernetes-admin", &masters, TODAY)?,
            "wrongorg" => {
                own.client(&format!("system:node:{NODE_NAME}"), &["system:node"], TODAY)?
            }
            "sa" => Credential::Token(account_token(target, None)?),
            "gone" => Credential::Token(token_of_the_gone(target)?),
            "node" => of_node(target)?,
            "other" => own.client("system:node:elsewhere", &["system:nodes"], TODAY)?,
            "boot" => token(BOOTSTRAP),
            "viewer" => token(VIEWER),
            "admin" => token(ADMIN),
            unknown => bail!("nobody is called {unknown}"),
        })
    };
    NAMES
        .into_iter()
        .map(|name| Ok((name, one(name)?)))
        .collect()
}

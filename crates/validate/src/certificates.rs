//! Validates CertificateSigningRequests.
//!
//! In:    a CSR with its defaults
//! Out:   problems
//! Calls: the API server
//! Holds: an answer cannot be changed
//! Upstream: pkg/apis/certificates/validation/validation.go; differences: the PEM blocks of request and certificate are not
//!           parsed here but by the API server's signer

use crate::Checked;
use crate::pod::check_signer_name;
use crate::problem::{Problems, list, plain};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use std::collections::BTreeSet;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const ANSWERS: [&str; 3] = ["Approved", "Denied", "Failed"];

impl Checked for CertificateSigningRequest {
    fn check(&self, problems: &mut Problems) {
        let spec = &self.spec;
        if spec.request.0.is_empty() {
            problems.required("spec.request", "");
        }
        let usages = list(&spec.usages);
        if usages.is_empty() {
            problems.required("spec.usages", "");
        }
        let mut seen = BTreeSet::new();
        for (index, usage) in usages.iter().enumerate() {
            let path = format!("spec.usages[{index}]");
            problems.known(path.as_str(), Some(usage), &USAGES);
            if !seen.insert(usage) {
                problems.duplicate(path, usage);
            }
        }
        let signer = spec.signer_name.as_str();
        if signer == "kubernetes.io/legacy-unknown" {
            let detail = "the legacy signerName is not allowed via this API version";
            problems.invalid("spec.signerName", signer, detail);
        } else {
            check_signer_name("spec.signerName", signer, problems);
        }
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            problems.invalid("spec.expirationSeconds", seconds, detail);
        }
        check_conditions(conditions(self), problems);
    }

    fn check_status(&self, old: &Self, problems: &mut Problems) {
        let mut now = Problems::default();
        check_conditions(conditions(self), &mut now);
        let mut then = Problems::default();
        check_conditions(conditions(old), &mut then);
        let then: BTreeSet<_> = then.found().into_iter().collect();
        problems.append_but(now, &then);
        check_answers(self, old, problems);
        let certificate = |request: &'_ Self| {
            let status = request.status.clone();
            status.and_then(|status| status.certificate).map(|c| c.0)
        };
        let before = certificate(old).filter(|held| !held.is_empty());
        if before.is_some() && certificate(self) != before {
            let detail = "updates may not modify existing certificate content";
            problems.forbidden("status.certificate", detail);
        }
    }
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    status
        .map(|status| list(&status.conditions))
        .unwrap_or_default()
}

fn check_conditions(conditions: &[CertificateSigningRequestCondition], problems: &mut Problems) {
    let path = "status.conditions";
    let mut seen = BTreeSet::new();
    for (index, one) in conditions.iter().enumerate() {
        let kind = one.type_.as_str();
        if kind.is_empty() {
            problems.required(format!("{path}[{index}].type"), "");
        }
        let known: &[&str] = if ANSWERS.contains(&kind) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        problems.one_of(format!("{path}[{index}].status"), Some(&one.status), known);
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            problems.invalid(path, kind, detail);
        }
        if !seen.insert(kind) {
            problems.duplicate(format!("{path}[{index}].type"), kind);
        }
    }
}

/// Existing answers stay. `Failed` is set through this path, approval through a subresource of its own.
fn check_answers(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    problems: &mut Problems,
) {
    let path = "status.conditions";
    let of = |request, kind| -> Vec<_> {
        let all = conditions(request).iter();
        all.filter(|one| one.type_ == kind).cloned().collect()
    };
    for kind in ANSWERS {
        let (now, then) = (of(new, kind), of(old, kind));
        if now.len() < then.len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            problems.forbidden(path, &detail);
        } else if kind != "Failed" && now.len() > then.len() {
            let detail = format!("updates may not add a condition of type {kind:?}");
            problems.forbidden(path, &detail);
        } else if kind != "Failed" && now.iter().map(said).ne(then.iter().map(said)) {
            let detail = format!("updates may not modify a condition of type {kind:?}");
            problems.forbidden(path, &detail);
        }
    }
}

fn said(one: &CertificateSigningRequestCondition) -> (&str, &str, &str) {
    (&one.status, plain(&one.reason), plain(&one.message))
}

//! Decides when a CSR expires.
//!
//! In:    a CSR, the time
//! Out:   whether it is deleted
//! Calls: `certificates`
//! Holds: pure; applies to every signer; a pending CSR is kept for a day, an answered one for an hour
//! Upstream: pkg/controller/certificates/cleaner/cleaner.go (1.36); differences: none known

use jiff::Timestamp;
use kubelet_tls::Certificate;
use serde_json::Value;

use crate::base::encoding::from_base64;
use crate::base::object::{list, parse_time, text};

/// An approved, denied or failed CSR.
const ANSWERED_SECONDS: i64 = 3600;
/// A CSR that waits for its approval or for its certificate.
const WAITING_SECONDS: i64 = 24 * 3600;

/// Whether the CSR has expired.
pub(super) fn is_over(request: &Value, now: Timestamp) -> bool {
    let older = |at: &str, seconds: i64| {
        let at = parse_time(at);
        at.is_some_and(|at| now.as_second() - at.as_second() > seconds)
    };
    let certificate = text(request, "/status/certificate");
    let conditions = list(request, "/status/conditions");
    if conditions.is_empty() {
        return older(
            text(request, "/metadata/creationTimestamp"),
            WAITING_SECONDS,
        );
    }
    conditions.iter().any(|condition| {
        let since = text(condition, "/lastUpdateTime");
        match text(condition, "/type") {
            "Denied" | "Failed" => older(since, ANSWERED_SECONDS),
            "Approved" if certificate.is_empty() => older(since, WAITING_SECONDS),
            "Approved" => older(since, ANSWERED_SECONDS) || has_ended(certificate, now),
            _ => false,
        }
    })
}

/// Whether an issued certificate (PEM in base64) has expired.
fn has_ended(certificate: &str, now: Timestamp) -> bool {
    let Some(pem) = from_base64(certificate) else {
        return false;
    };
    let read = Certificate::from_pem(&pem);
    read.is_ok_and(|read| read.validity.not_after < now)
}

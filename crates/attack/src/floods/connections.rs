//! Connections that say nothing, or half of something, up to the port's limit and beyond.
//!
//! In:    a port
//! Out:   how many were opened, and how many the node still had at the end
//! Calls: floods
//! Holds: half as many again as the largest number that the port ever took
//! Upstream: none

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rig::http::{Credential, Secure, Wire};

use crate::flood::Span;
use crate::target::Target;

const SHORT: Duration = Duration::from_millis(300);

/// Whether the other side has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    let _set = stream.set_read_timeout(Some(Duration::from_millis(1)));
    let mut buffer = [0; 4096];
    let mut stream = stream;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => {
                use std::io::ErrorKind::{TimedOut, WouldBlock};
                return matches!(error.kind(), WouldBlock | TimedOut);
            }
        }
    }
}

/// Opens them, opens those anew that were closed, until the end.
fn silent(port: u16, count: usize, span: &Span) -> anyhow::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut held, mut opened) = (Vec::new(), 0_usize);
    span.every(100, || {
        held.retain(is_open);
        while held.len() < count && span.goes_on() {
            // Refused: the queue of the kernel is full, too.
            let Ok(stream) = TcpStream::connect_timeout(&address, SHORT) else {
                break;
            };
            held.push(stream);
            opened += 1;
        }
    });
    held.retain(is_open);
    Ok(format!(
        "{count} silent connections: {opened} opened, {} open at the end",
        held.len()
    ))
}

pub(super) fn silent_health(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    silent(target.ports.health, 200, span)
}

pub(super) fn silent_read_only(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    silent(target.ports.read_only, 400, span)
}

pub(super) fn silent_main(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    silent(target.ports.main, 800, span)
}

pub(super) fn silent_api(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    silent(target.ports.api, 1600, span)
}

/// Each says a head, a byte at a time, and never its end.
fn half(port: u16, secure: Option<&Secure>, count: usize, span: &Span) -> anyhow::Result<String> {
    let (mut held, mut opened, mut said) = (Vec::<Wire>::new(), 0_usize, 0_usize);
    span.every(50, || {
        while held.len() < count && span.goes_on() {
            let Ok(mut wire) = Wire::open(port, secure, SHORT) else {
                break;
            };
            if wire
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ")
                .is_err()
            {
                break;
            }
            held.push(wire);
            opened += 1;
        }
        held.retain_mut(|wire| {
            said += 1;
            wire.write_all(b"a").and_then(|()| wire.flush()).is_ok()
        });
    });
    Ok(format!(
        "{count} half heads: {opened} opened, {said} bytes said, {} open at the end",
        held.len()
    ))
}

fn tls() -> anyhow::Result<Secure> {
    Secure::client(&Credential::Nobody, &[])
}

pub(super) fn half_health(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    half(target.ports.health, None, 200, span)
}

pub(super) fn half_read_only(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    half(target.ports.read_only, None, 400, span)
}

pub(super) fn half_main(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    half(target.ports.main, Some(&tls()?), 800, span)
}

pub(super) fn half_api(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    half(target.ports.api, Some(&tls()?), 1600, span)
}

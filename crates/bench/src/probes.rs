//! Probes of many pods: what they cost the kubelet, how late they are, and whether all of them say what is true.
//!
//! In:    the program `stand-in-runtime` of testkit; a server of this process that every probe asks
//! Out:   rows on processor time, lateness, verdicts, memory
//! Calls: main
//! Holds: the probes go over real connections to 127.0.0.1; the pods' processes do not exist, so that only probing costs
//! Upstream: test/e2e_node/probe_stress_test.go

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use crate::Plan;
use crate::clock;
use crate::figures::Table;
use crate::kubelet::Kubelet;
use crate::node::{KubeletPlaces, Node};
use crate::pods::{clear, manifest};
use crate::process;
use crate::scale::stand_in;

/// Answers every request with 200, in a thread that lives as long as the process.
fn server() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    drop(thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                continue;
            };
            let mut head = [0; 1024];
            // A TCP probe says nothing and hangs up.
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _answered = stream.write_all(answer);
            }
        }
    }));
    Ok(port)
}

/// A pod whose container has all three probes.
fn probed(image: &str, name: &str, port: u16, period: u32) -> (String, String) {
    let (name, mut text) = manifest(image, name);
    let http = format!("httpGet: {{host: 127.0.0.1, port: {port}}}");
    let tcp = format!("tcpSocket: {{host: 127.0.0.1, port: {port}}}");
    for (probe, handler) in [("readiness", &http), ("liveness", &tcp), ("startup", &tcp)] {
        text.push_str(&format!(
            "    {probe}Probe: {{periodSeconds: {period}, {handler}}}\n"
        ));
    }
    (name, text)
}

/// The sum of a family's samples with these words in their labels.
fn sum(metrics: &str, family: &str, words: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(family));
    let values = lines.filter(|line| line.contains(words));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        // The sum of nothing would be -0.
        .fold(0.0, |sum, value| sum + value)
}

/// The bound of the bucket in which 99 of 100 samples lie, milliseconds.
fn p99_ms(metrics: &str, family: &str) -> f64 {
    let count = sum(metrics, &format!("{family}_count"), "");
    let bucket = format!("{family}_bucket");
    let buckets = metrics.lines().filter(|line| line.starts_with(&bucket));
    let bounds = buckets.filter_map(|line| {
        let bound = line.split("le=\"").nth(1)?.split('"').next()?;
        let below: f64 = line.rsplit(' ').next()?.parse().ok()?;
        Some((bound.parse::<f64>().unwrap_or(f64::INFINITY), below))
    });
    let mut enough = bounds.filter(|(_, below)| *below >= count * 0.99);
    enough
        .next()
        .map_or(f64::INFINITY, |(bound, _)| bound * 1000.0)
}

/// Many pods whose probes come at this period.
fn scene(
    (node, image): (&Node, &str),
    (count, period): (usize, u32),
    target_percent: f64,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let (_stand_in, endpoint) = stand_in(node)?;
    let places = KubeletPlaces {
        endpoint,
        folder: node.path("HK_DATA").join(format!("probes-{period}")),
        max_pods: u32::try_from(count)? + 10,
    };
    let port = server()?;
    let mut kubelet = Kubelet::start(node, &places)?;
    clock::pause_ms(1000);
    let pods: Vec<_> = (0..count)
        .map(|number| probed(image, &format!("p-{number:06}"), port, period))
        .collect();
    kubelet.add(&pods)?;
    kubelet.until_ready(count, 50, 180.0)?;
    clock::pause_ms(5000);
    let activity = process::activity(kubelet.program.pid(), plan.quiet_s)?;
    let memory = process::memory(kubelet.program.pid())?;
    let probes = String::from_utf8_lossy(&kubelet.get("/metrics/probes")?).into_owned();
    let metrics = String::from_utf8_lossy(&kubelet.get("/metrics")?).into_owned();
    let title = format!("{count} pods, three probes each at {period} s");
    table.judge(
        &format!("{title}: processor"),
        format!(
            "{:.2} % of a core, {:.1} wake-ups/s",
            activity.cpu_percent, activity.wakeups
        ),
        "",
        (
            &format!("<= {target_percent} %"),
            activity.cpu_percent <= target_percent,
        ),
    );
    let late = p99_ms(&metrics, "hyperkube_probe_lateness_seconds");
    table.judge(
        &format!("{title}: late, p99 (bound of its bucket)"),
        format!("{late} ms"),
        "",
        ("<= 50 ms", late <= 50.0),
    );
    let wrong = sum(&probes, "prober_probe_total", "result=\"failed\"");
    let all = sum(&probes, "prober_probe_total", "");
    table.judge(
        &format!("{title}: wrong verdicts of {all}"),
        format!("{wrong}"),
        "",
        ("0", wrong == 0.0 && all > 0.0),
    );
    table.note(&format!("{title}: memory"), memory.text(), "");
    let names: Vec<String> = pods.into_iter().map(|(name, _)| name).collect();
    clear(&mut kubelet, &names)?;
    kubelet.program.stop()
}

/// A full node at the default period, and fewer pods at the shortest.
pub(crate) fn run(node: &Node, plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    scene((node, image), (plan.full, 10), 1.0, plan, table)?;
    scene((node, image), (plan.full.min(50), 1), 4.0, plan, table)
}

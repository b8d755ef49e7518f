//! Everything about one pod, for people.
//!
//! In:    a pod with its story, the moment
//! Out:   text in sections
//! Calls: `run`
//! Holds: pure; what another program wrote into a pod is printed without control characters
//! Upstream: kubectl describe; differences: probes with their results, waits, the start

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_model::story::{Next, Probe, Verdict};
use serde_json::Value;

use crate::client::Told;
use crate::paint::Paint;
use crate::row::{init_specs, init_statuses, row, source, specs, statuses};
use crate::times::{age, date, seconds, since};
use crate::words::{asked, printable};
use crate::{timeline, why};

/// Lines at a depth.
struct Page {
    text: String,
    now: Timestamp,
}

impl Page {
    fn line(&mut self, depth: usize, name: &str, value: &str) {
        let indent = "  ".repeat(depth);
        let width = 20_usize.saturating_sub(indent.len());
        let line = if value.is_empty() {
            format!("{indent}{name}:")
        } else {
            format!("{indent}{:<width$} {value}", format!("{name}:"))
        };
        // Writing to a String cannot fail.
        let _written = writeln!(self.text, "{}", printable(&line));
    }

    fn maybe(&mut self, depth: usize, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.line(depth, name, value);
        }
    }

    fn at(&self, at: Timestamp) -> String {
        format!("{} ({} ago)", date(at), since(at, self.now))
    }
}

/// The whole text.
pub(crate) fn describe(told: &Told, now: Timestamp, paint: Paint) -> String {
    let mut page = Page {
        text: String::new(),
        now,
    };
    head(&mut page, told);
    let init = init_specs(&told.pod);
    if !init.is_empty() {
        page.line(0, "Init Containers", "");
        init.iter()
            .for_each(|spec| container(&mut page, told, spec));
    }
    page.line(0, "Containers", "");
    let all = specs(&told.pod);
    all.iter().for_each(|spec| container(&mut page, told, spec));
    ephemeral(&mut page, told);
    conditions(&mut page, told);
    volumes(&mut page, told);
    let mut text = page.text;
    text.push_str("Start:\n");
    indented(&mut text, &timeline::text(told, now, paint));
    text.push_str("Why:\n");
    indented(&mut text, &why::why(told).text(now, paint));
    text
}

fn indented(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _written = writeln!(text, "  {line}");
    }
}

fn head(page: &mut Page, told: &Told) {
    let (pod, row) = (&told.pod, row(&told.pod, page.now));
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    page.line(0, "Name", told.name());
    page.line(0, "Namespace", told.namespace());
    page.line(0, "UID", told.uid());
    page.line(0, "Source", source(pod));
    page.maybe(0, "Node", spec.and_then(|spec| spec.node_name.as_deref()));
    let started = status.and_then(|status| status.start_time.as_ref());
    let started = started.map(|at| page.at(at.0));
    page.maybe(0, "Start Time", started.as_deref());
    for (name, words) in [
        ("Labels", &pod.metadata.labels),
        ("Annotations", &pod.metadata.annotations),
    ] {
        for (index, (key, value)) in words.iter().flatten().enumerate() {
            let name = if index == 0 { name } else { "" };
            let value = format!("{key}={value}");
            if name.is_empty() {
                page.text
                    .push_str(&format!("{:<20} {}\n", "", printable(&value)));
            } else {
                page.line(0, name, &value);
            }
        }
    }
    page.line(0, "Status", &row.status);
    page.line(0, "Ready", &row.ready);
    page.line(0, "Restarts", &row.restarts);
    page.maybe(
        0,
        "Reason",
        status.and_then(|status| status.reason.as_deref()),
    );
    page.maybe(
        0,
        "Message",
        status.and_then(|status| status.message.as_deref()),
    );
    let ips = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    let ips: Vec<&str> = ips.iter().map(|ip| ip.ip.as_str()).collect();
    page.maybe(0, "IPs", Some(&ips.join(", ")));
    page.maybe(
        0,
        "QoS Class",
        status.and_then(|status| status.qos_class.as_deref()),
    );
}

fn state(page: &mut Page, name: &str, state: &v1::ContainerState) {
    if let Some(running) = &state.running {
        let since = running.started_at.as_ref().map(|at| page.at(at.0));
        page.line(
            2,
            name,
            &format!("Running since {}", since.unwrap_or_default()),
        );
    } else if let Some(end) = &state.terminated {
        let reason = end.reason.as_deref().unwrap_or("Terminated");
        page.line(2, name, &format!("{reason}, exit code {}", end.exit_code));
        let times = [("Started", &end.started_at), ("Finished", &end.finished_at)];
        for (name, at) in times {
            let at = at.as_ref().map(|at| page.at(at.0));
            page.maybe(3, name, at.as_deref());
        }
        page.maybe(3, "Message", end.message.as_deref());
    } else if let Some(waiting) = &state.waiting {
        page.line(
            2,
            name,
            &format!("Waiting: {}", waiting.reason.as_deref().unwrap_or_default()),
        );
        page.maybe(3, "Message", waiting.message.as_deref());
    }
}

fn container(page: &mut Page, told: &Told, spec: &v1::Container) {
    let all = init_statuses(&told.pod).iter().chain(statuses(&told.pod));
    let status = { all }.find(|status| status.name == spec.name);
    page.line(1, &spec.name, "");
    let id = status.and_then(|status| status.container_id.as_deref());
    page.maybe(2, "Container ID", id);
    page.maybe(2, "Image", spec.image.as_deref());
    page.maybe(2, "Image ID", status.map(|status| status.image_id.as_str()));
    if let Some(status) = status {
        let (now, last) = (status.state.as_ref(), status.last_state.as_ref());
        now.into_iter().for_each(|now| state(page, "State", now));
        last.into_iter()
            .for_each(|last| state(page, "Last State", last));
        page.line(2, "Ready", &status.ready.to_string());
        page.line(2, "Restart Count", &status.restart_count.to_string());
    }
    let probes = [
        ("Startup", &spec.startup_probe),
        ("Readiness", &spec.readiness_probe),
        ("Liveness", &spec.liveness_probe),
    ];
    for (kind, probe) in probes {
        let Some(probe) = probe else {
            continue;
        };
        page.line(2, kind, &asked(probe));
        let mut known = told.story.probes.iter();
        if let Some(known) = known.find(|known| known.container == spec.name && known.kind == kind)
        {
            result(page, known);
        }
    }
    for mount in spec.volume_mounts.iter().flatten() {
        let access = if mount.read_only == Some(true) {
            "ro"
        } else {
            "rw"
        };
        page.line(
            2,
            "Mount",
            &format!("{} from {} ({access})", mount.mount_path, mount.name),
        );
    }
}

/// Containers that were added to look at the others.
fn ephemeral(page: &mut Page, told: &Told) {
    let status = told.pod.status.as_ref();
    let all = status.and_then(|status| status.ephemeral_container_statuses.as_deref());
    let all = all.unwrap_or_default();
    if !all.is_empty() {
        page.line(0, "Ephemeral Containers", "");
    }
    for status in all {
        page.line(1, &status.name, "");
        page.maybe(2, "Container ID", status.container_id.as_deref());
        page.line(2, "Image", &status.image);
        let now = status.state.as_ref();
        now.into_iter().for_each(|now| state(page, "State", now));
    }
}

fn result(page: &mut Page, probe: &Probe) {
    let verdict = match probe.verdict {
        None => "none yet",
        Some(Verdict::Success) => "success",
        Some(Verdict::Failure) => "failure",
    };
    page.line(3, "Result", verdict);
    if let Some(last) = &probe.last {
        let word = if last.succeeded {
            "succeeded"
        } else {
            "failed"
        };
        let row = format!(
            "{word} {} ago, {} in a row",
            since(last.at, page.now),
            last.in_a_row
        );
        page.line(3, "Last Try", &row);
    }
    if let Some(failure) = &probe.failure {
        let text = format!("{} ago: {}", since(failure.at, page.now), failure.text);
        page.line(3, "Last Failure", &text);
    }
    let next = match probe.next {
        Next::At(at) if at <= page.now => "now".to_owned(),
        Next::At(at) => format!("in {}", age(seconds(page.now, at).max(1))),
        Next::UnderWay => "under way".to_owned(),
        Next::AfterStartup => "after the startup probe".to_owned(),
        Next::Settled => "never for this instance".to_owned(),
    };
    page.line(3, "Next Try", &next);
}

fn conditions(page: &mut Page, told: &Told) {
    let status = told.pod.status.as_ref();
    let all = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    if all.is_empty() {
        return;
    }
    page.line(0, "Conditions", "");
    for condition in all {
        let since = condition
            .last_transition_time
            .as_ref()
            .map(|at| page.at(at.0));
        let mut text = condition.status.clone();
        for more in [&condition.reason, &condition.message, &since]
            .into_iter()
            .flatten()
        {
            if !more.is_empty() {
                text.push_str(&format!("  {more}"));
            }
        }
        page.line(1, &condition.type_, &text);
    }
}

/// The type of a volume and what it says of itself.
fn volumes(page: &mut Page, told: &Told) {
    let spec = told.pod.spec.as_ref();
    let all = spec
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    if all.is_empty() {
        return;
    }
    page.line(0, "Volumes", "");
    for volume in all {
        let value = serde_json::to_value(volume).unwrap_or(Value::Null);
        let fields = value.as_object().into_iter().flatten();
        let of_type = { fields }.find(|(key, _)| *key != "name");
        let text = of_type.map(|(type_, value)| format!("{type_} {value}"));
        page.line(1, &volume.name, text.as_deref().unwrap_or("emptyDir {}"));
    }
}

//! Metrics of calls to the API server, under upstream's names.
//!
//! In:    calls as they begin and end
//! Out:   `rest_client_…` families
//! Calls: client, credentials; wiring registers them once
//! Holds: a call without an answer counts with code `<error>`; the duration of a call includes its wait in the rate limiter; a
//!        watch has a count and a wait, but no duration and no size
//! Upstream: staging/src/k8s.io/component-base/metrics/prometheus/restclient/metrics.go, client-go/rest/request.go (1.36)

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

const SECONDS: [f64; 12] = [
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];
const BYTES: [f64; 11] = [
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];
/// Ten minutes to four years, seconds.
const AGES: [f64; 11] = [
    600.0,
    1800.0,
    3600.0,
    14400.0,
    86400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];
/// The code of a call that got no answer.
const NO_ANSWER: &str = "<error>";

/// The families.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    requests: IntCounterVec,
    seconds: HistogramVec,
    waits: HistogramVec,
    sent: HistogramVec,
    received: HistogramVec,
    certificate_ages: Histogram,
}

/// Which server is asked, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a str,
    pub(crate) verb: &'a str,
}

impl Figures {
    /// Registers the families.
    ///
    /// # Errors
    /// When one of the names is taken in this registry.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new(
            "rest_client_requests_total",
            "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
        );
        let requests = IntCounterVec::new(requests, &["code", "method", "host"])?;
        let by_verb = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(registry, HistogramVec::new(opts, &["verb", "host"])?)
        };
        let ages = HistogramOpts::new(
            "rest_client_exec_plugin_certificate_rotation_age",
            "[ALPHA] Histogram of the number of seconds the last auth exec plugin client certificate lived before being rotated. If auth exec plugin client certificates are unused, histogram will contain no data.",
        );
        Ok(Self {
            requests: registered(registry, requests)?,
            seconds: by_verb(
                "rest_client_request_duration_seconds",
                "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
                &SECONDS,
            )?,
            waits: by_verb(
                "rest_client_rate_limiter_duration_seconds",
                "[ALPHA] Client side rate limiter latency in seconds. Broken down by verb, and host.",
                &SECONDS,
            )?,
            sent: by_verb(
                "rest_client_request_size_bytes",
                "[ALPHA] Request size in bytes. Broken down by verb and host.",
                &BYTES,
            )?,
            received: by_verb(
                "rest_client_response_size_bytes",
                "[ALPHA] Response size in bytes. Broken down by verb and host.",
                &BYTES,
            )?,
            certificate_ages: registered(
                registry,
                Histogram::with_opts(ages.buckets(AGES.to_vec()))?,
            )?,
        })
    }

    /// The server answered with this status, or not at all.
    pub(crate) fn answered(&self, asked: Asked<'_>, code: Option<u16>) {
        let code = code.map(|code| code.to_string());
        let code = code.as_deref().unwrap_or(NO_ANSWER);
        self.requests
            .with_label_values(&[code, asked.verb, asked.host])
            .inc();
    }

    /// A call waited so long for its turn.
    pub(crate) fn waited(&self, asked: Asked<'_>, wait: Duration) {
        self.waits
            .with_label_values(&[asked.verb, asked.host])
            .observe(wait.as_secs_f64());
    }

    /// A call took so long, and so many bytes went out and came in; `None` where the answer was not whole.
    pub(crate) fn took(
        &self,
        asked: Asked<'_>,
        took: Duration,
        sent: usize,
        received: Option<usize>,
    ) {
        let labels = [asked.verb, asked.host];
        let seconds = self.seconds.with_label_values(&labels);
        seconds.observe(took.as_secs_f64());
        self.sent.with_label_values(&labels).observe(bytes(sent));
        if let Some(received) = received {
            let sizes = self.received.with_label_values(&labels);
            sizes.observe(bytes(received));
        }
    }

    /// A program's certificate was replaced when it was so old.
    pub(crate) fn certificate_replaced(&self, age: Duration) {
        self.certificate_ages.observe(age.as_secs_f64());
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn bytes(count: usize) -> f64 {
    count as f64
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

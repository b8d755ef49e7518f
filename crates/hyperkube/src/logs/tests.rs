//! Log lines as klog writes them, levels, and when lines reach the output.
//!
//! Upstream: k8s.io/klog/v2 (textlogger tests), component-base/logs/json/json_test.go

use super::*;
use std::time::Duration;
use tracing::{debug, error, info, info_span, trace, warn};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn clock() -> Timestamp {
    Timestamp::from_microsecond(1_795_467_723_000_001).unwrap()
}

fn config(format: LogFormat, verbosity: u32, vmodule: &[(&str, u32)]) -> LoggingConfig {
    LoggingConfig {
        format,
        split_stream: false,
        info_buffer: 0,
        flush_frequency: Duration::from_secs(5),
        verbosity,
        vmodule: vmodule
            .iter()
            .map(|(pattern, level)| ((*pattern).to_owned(), *level))
            .collect(),
    }
}

/// The text-format output, for tests elsewhere.
pub(crate) fn captured(say: impl FnOnce()) -> String {
    written(&config(LogFormat::Text, 0, &[]), |_, _| say())
}

/// The output of `say`, without line numbers.
fn written(config: &LoggingConfig, say: impl FnOnce(&LogHandle, &Written)) -> String {
    let out = Written::default();
    let outputs = Outputs {
        buffer: Vec::new(),
        room: 0,
        errors: Box::new(out.clone()),
        information: None,
    };
    let (layer, handle) = build(config, (clock, TimeZone::UTC), 4711, outputs);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        say(&handle, &out)
    });
    handle.flush();
    let mut text = String::new();
    let mut rest = out.text();
    while let Some(at) = rest.find("tests.rs:") {
        let after = at + "tests.rs:".len();
        let digits = rest[after..]
            .chars()
            .take_while(char::is_ascii_digit)
            .count();
        text.push_str(&rest[..after]);
        text.push('N');
        rest = rest[after + digits..].to_owned();
    }
    text + &rest
}

#[test]
fn text_lines_are_klogs() {
    let text = written(&config(LogFormat::Text, 0, &[]), |_, _| {
        info!(pod = "ns/name", count = 3, ready = true, took = ?Duration::from_millis(5), "Pod \"x\" is ready");
        warn!(error = "no\tluck", "Will retry");
        error!(output = "one\ntwo\n", "Failed");
    });
    assert_eq!(
        text,
        "I1123 21:02:03.000001    4711 tests.rs:N] \"Pod \\\"x\\\" is ready\" pod=\"ns/name\" count=3 ready=true took=\"5ms\"\n\
         W1123 21:02:03.000001    4711 tests.rs:N] \"Will retry\" err=\"no\\tluck\"\n\
         E1123 21:02:03.000001    4711 tests.rs:N] \"Failed\" output=<\n\tone\n\ttwo\n >\n"
    );
}

#[test]
fn json_lines_are_zaps() {
    let text = written(&config(LogFormat::Json, 4, &[]), |_, _| {
        info!(pod = "ns/name", count = 3, "Ready");
        debug!("Nothing to do");
        error!(error = "no luck", "Failed");
    });
    assert_eq!(
        text,
        "{\"ts\":1795467723000.001,\"caller\":\"logs/tests.rs:N\",\"msg\":\"Ready\",\"v\":0,\"pod\":\"ns/name\",\"count\":3}\n\
         {\"ts\":1795467723000.001,\"caller\":\"logs/tests.rs:N\",\"msg\":\"Nothing to do\",\"v\":4}\n\
         {\"ts\":1795467723000.001,\"caller\":\"logs/tests.rs:N\",\"msg\":\"Failed\",\"err\":\"no luck\"}\n"
    );
}

#[test]
fn verbosity_and_vmodule_decide_what_is_written() {
    type Row = (u32, &'static [(&'static str, u32)], &'static str);
    let rows: &[Row] = &[
        (0, &[], "info warn error "),
        (2, &[], "info info2 warn error "),
        (4, &[], "info info2 debug warn error "),
        (6, &[], "info info2 debug trace warn error "),
        (6, &[("other", 0)], "info info2 debug trace warn error "),
        (0, &[("tests", 4)], "info info2 debug warn error "),
        (0, &[("te*s", 4)], "info info2 debug warn error "),
        (0, &[("t?sts", 2)], "info info2 warn error "),
        (0, &[("other", 9)], "info warn error "),
        (0, &[("[s-u]ests", 2)], "info info2 warn error "),
        (0, &[("[^t]ests", 9)], "info warn error "),
        (0, &[("[tests", 9)], "info warn error "),
        (0, &[("\\tests", 2)], "info info2 warn error "),
        // The first matching rule counts, and never lowers the general level.
        (0, &[("t*", 2), ("tests", 9)], "info info2 warn error "),
        (0, &[("*/logs/tests", 4)], "info warn error "),
    ];
    for (verbosity, vmodule, words) in rows {
        let text = written(&config(LogFormat::Text, *verbosity, vmodule), |_, _| {
            info!("info");
            info!(v = 2, "info2");
            debug!("debug");
            trace!("trace");
            debug!(target: "h2::proto", "library");
            warn!("warn");
            error!("error");
        });
        let said: String = text
            .lines()
            .filter_map(|line| line.split('"').nth(1))
            .map(|word| format!("{word} "))
            .collect();
        assert_eq!(said, *words, "{verbosity} {vmodule:?}");
    }
}

#[test]
fn the_verbosity_changes_while_the_program_runs() {
    let text = written(&config(LogFormat::Text, 0, &[]), |handle, _| {
        for level in [0, 4, 0] {
            handle.set_verbosity(level);
            debug!(level, "said");
        }
        assert_eq!(handle.verbosity(), 0);
    });
    assert_eq!(text.matches("said").count(), 1, "{text}");
}

#[test]
fn lines_come_at_once_unless_a_buffer_was_asked_for() {
    let text = written(&config(LogFormat::Text, 0, &[]), |_, out| {
        info!("one");
        assert!(out.text().contains("one"));
    });
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_stream_of_information_takes_what_is_no_error_and_may_wait() {
    let long = "x".repeat(300);
    for (format, on_errors) in [
        (LogFormat::Text, "warned failed "),
        (LogFormat::Json, "failed "),
    ] {
        let (errors, information) = (Written::default(), Written::default());
        let outputs = Outputs {
            buffer: Vec::new(),
            room: 256,
            errors: Box::new(errors.clone()),
            information: Some(Box::new(information.clone())),
        };
        let (layer, handle) = build(&config(format, 0, &[]), (clock, TimeZone::UTC), 1, outputs);
        let said = |out: &Written| -> String {
            let words = ["said", "warned", "failed", "xxx"];
            let text = out.text();
            let lines = text
                .lines()
                .flat_map(|line| words.iter().find(|w| line.contains(**w)));
            lines.map(|word| format!("{word} ")).collect()
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            info!("said");
            warn!("warned");
            error!("failed");
            assert_eq!(said(&errors), on_errors);
            assert_eq!(said(&information), "", "nothing was full yet");
            // Larger than the buffer: it bypasses the buffer, after the buffered lines.
            info!("{long}");
            assert!(said(&information).ends_with("xxx "));
            info!("said");
            assert!(said(&information).ends_with("xxx "));
            handle.flush();
            assert!(said(&information).ends_with("xxx said "));
        });
    }
}

#[test]
fn text_shows_local_time_and_json_the_milliseconds() {
    let zone = TimeZone::fixed(jiff::tz::offset(-5));
    for (format, begins) in [
        (LogFormat::Text, "I1123 16:02:03.000001 "),
        (LogFormat::Json, "{\"ts\":1795467723000.001,"),
    ] {
        let out = Written::default();
        let outputs = Outputs {
            buffer: Vec::new(),
            room: 0,
            errors: Box::new(out.clone()),
            information: None,
        };
        let (layer, _handle) = build(&config(format, 0, &[]), (clock, zone.clone()), 1, outputs);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            info!("now");
        });
        assert!(out.text().starts_with(begins), "{}", out.text());
    }
}

#[test]
fn spans_lend_their_fields_and_secrets_are_masked() {
    let text = written(&config(LogFormat::Text, 0, &[]), |_, _| {
        let span = info_span!(
            "plan",
            pod = "ns/a",
            uid = "u",
            step = tracing::field::Empty
        );
        let _entered = span.enter();
        span.record("step", "start");
        info!(uid = "own", bearer_token = "abc", "Done");
    });
    assert!(
        text.ends_with(
            "\"Done\" pod=\"ns/a\" step=\"start\" uid=\"own\" bearer_token=\"<masked>\"\n"
        ),
        "{text}"
    );
}

#[test]
fn a_library_s_spans_are_as_its_events_and_ours_always_lend_their_fields() {
    for (level, librarys) in [(0, false), (8, true)] {
        let text = written(&config(LogFormat::Text, level, &[]), |_, _| {
            let ours = tracing::debug_span!("plan", pod = "ns/a").entered();
            let theirs = tracing::debug_span!(target: "h2::codec", "frame", stream = 1_u64);
            assert_eq!(!theirs.is_disabled(), librarys);
            let _within = theirs.entered();
            info!("Done");
            drop(ours);
        });
        assert!(text.contains("pod=\"ns/a\""), "{text}");
        assert_eq!(text.contains("stream=1"), librarys, "{text}");
    }
}

//! Log lines in klog's text format or as JSON, for all `tracing` events.
//!
//! In:    events and spans; the `logging` part of the configuration; the wall clock and the process ID
//! Out:   lines on stderr (with split streams, information on stdout); a handle that changes the verbosity
//! Calls: main.rs installs it once; `/debug/flags/v` sets the verbosity; the end of main flushes
//! Holds: error is E, warn is W, info is I at level 0 (or at its field `v`), debug is I at 4, trace at 6; debug and trace of
//!        libraries are at 8 and 10. Lines are written at once; only lines to a separate stdout may be buffered, up to the
//!        configured size and flush frequency. Values of fields with a secret's name are masked. The text format uses local
//!        time.
//! Upstream: k8s.io/klog/v2 (text), component-base/logs/{api/v1/text.go,json}

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kubelet_model::config::{LogFormat, LoggingConfig};
use kubelet_model::error_text::error_text;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

mod line;
mod zone;

use line::{Line, Pair, Shown};

/// The outputs: errors, and everything else.
struct Outputs {
    buffer: Vec<u8>,
    /// The size of the buffer; 0 means none.
    room: usize,
    errors: Box<dyn Write + Send>,
    information: Option<Box<dyn Write + Send>>,
}

impl Outputs {
    /// Writes the buffered lines. An error is ignored, since it cannot be logged.
    fn flush(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.write_now(&buffer, false);
    }

    fn write_now(&mut self, bytes: &[u8], is_error: bool) {
        let information = self.information.as_mut().filter(|_| !is_error);
        let out = information.unwrap_or(&mut self.errors);
        if !bytes.is_empty() {
            drop(out.write_all(bytes).and_then(|()| out.flush()));
        }
    }

    /// A line is never split: if it does not fit, the buffer is flushed first; if it is larger than the buffer, it bypasses it.
    fn write(&mut self, line: &[u8], is_error: bool) {
        if is_error || self.room == 0 {
            return self.write_now(line, is_error);
        }
        if self.buffer.len() + line.len() > self.room {
            self.flush();
        }
        if line.len() > self.room {
            self.write_now(line, false);
        } else {
            self.buffer.extend_from_slice(line);
        }
    }
}

struct Shared {
    verbosity: AtomicU32,
    vmodule: Vec<(String, u32)>,
    format: LogFormat,
    pid: u32,
    clock: fn() -> Timestamp,
    zone: TimeZone,
    outputs: Mutex<Outputs>,
}

impl Shared {
    fn outputs(&self) -> std::sync::MutexGuard<'_, Outputs> {
        // A panic during a write leaves at most half a line.
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verbosity for a source file.
    fn verbosity_in(&self, file: &str) -> u32 {
        let matching = self
            .vmodule
            .iter()
            .find(|(pattern, _)| line::file_matches(pattern, file));
        let own = matching.map_or(0, |(_, level)| *level);
        own.max(self.verbosity.load(Ordering::Relaxed))
    }
}

/// Changes and flushes the logs at run time.
#[derive(Clone)]
pub(crate) struct LogHandle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle")
            .field("verbosity", &self.verbosity())
            .finish()
    }
}

impl LogHandle {
    /// The highest level of information that is written.
    pub(crate) fn verbosity(&self) -> u32 {
        self.shared.verbosity.load(Ordering::Relaxed)
    }

    /// Sets that level, at once and for all components.
    pub(crate) fn set_verbosity(&self, level: u32) {
        self.shared.verbosity.store(level, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Writes the buffered lines.
    pub(crate) fn flush(&self) {
        self.shared.outputs().flush();
    }

    /// The same, unless another thread is writing at this moment: it may be stuck.
    pub(crate) fn flush_if_free(&self) {
        if let Ok(mut outputs) = self.shared.outputs.try_lock() {
            outputs.flush();
        }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    let names = ["hyperkube", "kubelet_"];
    names.iter().any(|name| metadata.target().starts_with(name))
}

/// The level at which an event is written; events of libraries count as less important.
fn level_of(metadata: &Metadata<'_>) -> u32 {
    match (*metadata.level(), is_ours(metadata)) {
        (Level::ERROR | Level::WARN | Level::INFO, _) => 0,
        (Level::DEBUG, true) => 4,
        (_, true) => 6,
        (Level::DEBUG, false) => 8,
        (_, false) => 10,
    }
}

struct KlogLayer {
    shared: Arc<Shared>,
}

impl KlogLayer {
    /// Our own spans are kept at every level, since their fields are added to events. Spans of libraries follow the level of
    /// their events (HTTP/2 opens several for every frame).
    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata);
        level == 0
            || metadata.is_span() && is_ours(metadata)
            || level <= self.shared.verbosity_in(metadata.file().unwrap_or(""))
    }
}

/// Collects the fields of an event or a span.
#[derive(Default)]
struct Collected {
    message: String,
    level: Option<u32>,
    pairs: Vec<Pair>,
}

impl Collected {
    fn put(&mut self, field: &Field, shown: Shown) {
        match (field.name(), shown) {
            ("message", Shown::Text(text)) => self.message = text,
            ("v", Shown::Plain(level)) => self.level = level.parse().ok(),
            (name, shown) => self.pairs.push(Pair::new(name, shown)),
        }
    }
}

impl Visit for Collected {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Shown::Text(value.to_owned()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Shown::Plain(value.to_string()));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Shown::Plain(value.to_string()));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        let shown = if value.is_finite() {
            Shown::Plain(text)
        } else {
            Shown::Text(text)
        };
        self.put(field, shown);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Shown::Plain(value.to_string()));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The causes are not part of an error's own text, so they are appended.
        self.put(field, Shown::Text(error_text(value)));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, Shown::Text(format!("{value:?}")));
    }
}

/// The fields of a span, stored with it.
struct SpanPairs(Vec<Pair>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KlogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.is_wanted(metadata)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Collected::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanPairs(fields.pairs));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Collected::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(pairs) = span.extensions_mut().get_mut::<SpanPairs>()
        {
            pairs.0.extend(fields.pairs);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut own = Collected::default();
        event.record(&mut own);
        let file = metadata.file().unwrap_or("unknown");
        let level = own.level.unwrap_or_else(|| level_of(metadata));
        let is_information = *metadata.level() > Level::WARN;
        if is_information && level > 0 && level > self.shared.verbosity_in(file) {
            return;
        }
        let mut pairs = Vec::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(of_span) = span.extensions().get::<SpanPairs>() {
                pairs.extend(of_span.0.iter().cloned());
            }
        }
        // The event's own fields win, and come last.
        pairs.retain(|pair| own.pairs.iter().all(|later| later.name != pair.name));
        pairs.append(&mut own.pairs);
        let line = Line {
            severity: *metadata.level(),
            level,
            time: (self.shared.clock)(),
            zone: &self.shared.zone,
            pid: self.shared.pid,
            file,
            number: metadata.line().unwrap_or(0),
            message: &own.message,
            pairs: &pairs,
        };
        // In JSON a warning is information, since it has no severity there.
        let (text, is_error) = match self.shared.format {
            LogFormat::Text => (line.text(), !is_information),
            LogFormat::Json => (line.json(), *metadata.level() == Level::ERROR),
        };
        self.shared.outputs().write(text.as_bytes(), is_error);
    }
}

fn build(
    config: &LoggingConfig,
    (clock, zone): (fn() -> Timestamp, TimeZone),
    pid: u32,
    outputs: Outputs,
) -> (KlogLayer, LogHandle) {
    let shared = Arc::new(Shared {
        verbosity: AtomicU32::new(config.verbosity),
        vmodule: config.vmodule.clone(),
        format: config.format,
        pid,
        clock,
        zone,
        outputs: Mutex::new(outputs),
    });
    let handle = LogHandle {
        shared: Arc::clone(&shared),
    };
    (KlogLayer { shared }, handle)
}

/// Sends all `tracing` events to stderr from now on. If lines are buffered, a thread of its own flushes them, so that a blocked
/// runtime does not delay them; a panic flushes them, too.
pub(crate) fn install(config: &LoggingConfig) -> anyhow::Result<LogHandle> {
    let information = config
        .split_stream
        .then(|| Box::new(std::io::stdout()) as Box<dyn Write + Send>);
    let outputs = Outputs {
        buffer: Vec::new(),
        room: config.info_buffer,
        errors: Box::new(std::io::stderr()),
        information,
    };
    let (layer, handle) = build(
        config,
        (Timestamp::now, zone::local()),
        std::process::id(),
        outputs,
    );
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    if config.info_buffer > 0 {
        let (flusher, frequency) = (handle.clone(), config.flush_frequency);
        std::thread::Builder::new()
            .name("log-flush".to_owned())
            .spawn(move || {
                loop {
                    std::thread::park_timeout(frequency);
                    flusher.flush();
                }
            })?;
    }
    let (at_panic, before) = (handle.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        // The panicking thread may hold the buffer; in that case its owner flushes.
        at_panic.flush_if_free();
        before(panic);
    }));
    Ok(handle)
}

#[cfg(test)]
impl LogHandle {
    /// For tests that only flush.
    pub(crate) fn to_nowhere() -> Self {
        let config = LoggingConfig {
            format: LogFormat::Text,
            split_stream: false,
            info_buffer: 0,
            flush_frequency: std::time::Duration::from_secs(5),
            verbosity: 0,
            vmodule: Vec::new(),
        };
        let outputs = Outputs {
            buffer: Vec::new(),
            room: 0,
            errors: Box::new(std::io::sink()),
            information: None,
        };
        build(&config, (Timestamp::now, TimeZone::UTC), 0, outputs).1
    }
}

#[cfg(test)]
pub(crate) mod tests;

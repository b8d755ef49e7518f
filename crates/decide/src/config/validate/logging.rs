//! Checks of this process's own logs and traces.
//!
//! In:    the examination
//! Out:   problems in it
//! Calls: `validate`
//! Upstream: component-base/logs/api/v1/options.go (Validate), component-base/tracing/api/v1/config.go

use super::{Examination, quoted, text};
use kubelet_api::config::OutputRoutingOptions;
use kubelet_api::duration::GoDuration;
use kubelet_model::gates::name;
use kubelet_model::quantity::Quantity;

const LARGEST_VERBOSITY: u32 = i32::MAX as u32;

impl Examination<'_> {
    pub(super) fn logging(&mut self) {
        let logging = &self.config.logging;
        let flush = logging
            .flush_frequency
            .map(|flush| flush.duration())
            .unwrap_or_default();
        if flush <= GoDuration::ZERO {
            let words = format!("Invalid value: \"{flush}\": Must be greater than zero");
            self.named("logging.flushFrequency", &words);
        }
        let format = text(&logging.format);
        if !matches!(format, "text" | "json") {
            let words = format!("Invalid value: {}: Unsupported log format", quoted(format));
            self.named("logging.format", &words);
        }
        if format == "json" && !self.is_enabled(name::LOGGING_BETA_OPTIONS) {
            self.named(
                "logging.format",
                "Forbidden: Log format json is disabled, see LoggingBetaOptions feature",
            );
        }
        self.verbosity("logging.verbosity", logging.verbosity.unwrap_or(0));
        let rules = logging.vmodule.as_deref().unwrap_or_default();
        if !rules.is_empty() && !matches!(format, "" | "text") {
            self.named(
                "logging.vmodule",
                "Forbidden: Only supported for text log format",
            );
        }
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("logging.vmodule[{index}]");
            if rule.file_pattern.is_empty() {
                self.named(&field, "Required value: File pattern must not be empty");
            }
            if rule.file_pattern.contains(['=', ',']) {
                let words = format!(
                    "Invalid value: {}: File pattern must not contain equal sign or comma",
                    quoted(&rule.file_pattern)
                );
                self.named(&field, &words);
            }
            self.verbosity(&field, rule.verbosity);
        }
        self.routing("logging.options.text", &logging.options.text);
        self.routing("logging.options.json", &logging.options.json);
    }

    /// A problem in the form of upstream's field errors.
    fn named(&mut self, field: &str, words: &str) {
        self.say(field, format!("{field}: {words}"));
    }

    fn verbosity(&mut self, field: &str, level: u32) {
        if level > LARGEST_VERBOSITY {
            let words = format!("Invalid value: {level}: Must be <= {LARGEST_VERBOSITY}");
            self.named(field, &words);
        }
    }

    fn routing(&mut self, field: &str, options: &OutputRoutingOptions) {
        let size = options
            .info_buffer_size
            .as_ref()
            .map_or("0", |size| size.0.as_str());
        let size = match size.parse::<Quantity>() {
            Ok(size) => size.value(),
            Err(error) => {
                let words = format!("Invalid value: {}: {error}", quoted(size));
                self.named(&format!("{field}.infoBufferSize"), &words);
                0
            }
        };
        if self.is_enabled(name::LOGGING_ALPHA_OPTIONS) {
            return;
        }
        for (option, set) in [
            ("splitStream", options.split_stream == Some(true)),
            ("infoBufferSize", size != 0),
        ] {
            if set {
                self.named(
                    &format!("{field}.{option}"),
                    "Forbidden: Feature LoggingAlphaOptions is disabled",
                );
            }
        }
    }

    pub(super) fn tracing(&mut self) {
        let Some(tracing) = &self.config.tracing else {
            return;
        };
        if let Some(rate) = tracing.sampling_rate_per_million {
            let field = "tracing.samplingRatePerMillion";
            if rate < 0 {
                self.named(
                    field,
                    &format!("Invalid value: {rate}: sampling rate must be positive"),
                );
            }
            if rate > 1_000_000 {
                let words = "sampling rate per million must be less than or equal to one million";
                self.named(field, &format!("Invalid value: {rate}: {words}"));
            }
        }
        if let Some(endpoint) = &tracing.endpoint
            && let Some((value, words)) = endpoint_problem(endpoint)
        {
            self.named(
                "tracing.endpoint",
                &format!("Invalid value: {}: {words}", quoted(&value)),
            );
        }
    }
}

/// The target as it is understood, and what is wrong with it.
fn endpoint_problem(endpoint: &str) -> Option<(String, String)> {
    let target = if endpoint.contains("//") {
        endpoint.to_owned()
    } else {
        format!("dns://{endpoint}")
    };
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let parse = format!("parse {}", quoted(&target));
    let words = match target.split_once(':') {
        Some(("", _)) => format!("{parse}: missing protocol scheme"),
        Some((scheme, _)) if is_scheme(scheme) => match scheme.to_ascii_lowercase().as_str() {
            "dns" | "unix" | "unix-abstract" => return None,
            scheme => unsupported(scheme),
        },
        Some((path, _)) if !path.contains('/') => {
            format!("{parse}: first path segment in URL cannot contain colon")
        }
        Some(_) | None => unsupported(""),
    };
    Some((target, words))
}

fn unsupported(scheme: &str) -> String {
    format!(
        "unsupported scheme: {scheme}.  Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md"
    )
}

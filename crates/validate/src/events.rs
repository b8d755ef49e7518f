//! Validates events, in the form of the core group and of `events.k8s.io`.
//!
//! In:    an event in either form
//! Out:   problems
//! Calls: the API server
//! Holds: an event must be in the namespace of its object
//! Upstream: pkg/apis/core/validation/events.go

use crate::Checked;
use crate::names;
use crate::problem::{Problems, plain};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::events::v1 as newer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

const SHORT: usize = 128;
const MESSAGE: usize = 1024;

/// The common content of both forms, with each form's field names.
struct Said<'a> {
    namespace: &'a str,
    of_object: &'a str,
    time: Option<&'a MicroTime>,
    controller: (&'static str, &'a str),
    instance: &'a str,
    action: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl Said<'_> {
    fn check(&self, problems: &mut Problems) {
        let cluster = self.of_object.is_empty();
        let misplaced = match (self.time.is_some(), cluster) {
            (false, true) => !["", "default"].contains(&self.namespace),
            (false, false) => self.namespace != self.of_object,
            (true, true) => !["default", "kube-system"].contains(&self.namespace),
            (true, false) => false,
        };
        if misplaced {
            let detail = "does not match event.namespace";
            problems.invalid("involvedObject.namespace", self.of_object, detail);
        }
        if self.time.is_some() {
            self.check_new(problems);
        }
        problems.reasons(
            "namespace",
            self.namespace,
            names::dns_subdomain(self.namespace),
        );
    }

    /// Events of newer recorders must name the reporting controller and instance.
    fn check_new(&self, problems: &mut Problems) {
        let (field, controller) = self.controller;
        if controller.is_empty() {
            problems.required(field, "");
        }
        problems.reasons(field, controller, names::label_key(controller));
        for (field, value) in [
            ("reportingInstance", self.instance),
            ("action", self.action),
            ("reason", self.reason),
        ] {
            if value.is_empty() {
                problems.required(field, "");
            }
            if value.len() > SHORT {
                problems.invalid(field, "", &format!("can have at most {SHORT} characters"));
            }
        }
        if self.message.len() > MESSAGE {
            let detail = format!("can have at most {MESSAGE} characters");
            problems.invalid("message", "", &detail);
        }
    }
}

impl Checked for v1::Event {
    fn check(&self, problems: &mut Problems) {
        let said = Said {
            namespace: plain(&self.metadata.namespace),
            of_object: plain(&self.involved_object.namespace),
            time: self.event_time.as_ref(),
            controller: ("reportingComponent", plain(&self.reporting_component)),
            instance: plain(&self.reporting_instance),
            action: plain(&self.action),
            reason: plain(&self.reason),
            message: plain(&self.message),
        };
        said.check(problems);
    }
}

impl Checked for newer::Event {
    fn check(&self, problems: &mut Problems) {
        let of_object = self.regarding.as_ref();
        let said = Said {
            namespace: plain(&self.metadata.namespace),
            of_object: of_object
                .map(|object| plain(&object.namespace))
                .unwrap_or_default(),
            time: self.event_time.as_ref(),
            controller: ("reportingController", plain(&self.reporting_controller)),
            instance: plain(&self.reporting_instance),
            action: plain(&self.action),
            reason: plain(&self.reason),
            message: plain(&self.note),
        };
        said.check(problems);
    }

    fn check_new(&self, problems: &mut Problems) {
        check_series(self, problems);
        if self.event_time.is_none() {
            problems.required("eventTime", "");
        }
        let kind = plain(&self.type_);
        if !["Normal", "Warning"].contains(&kind) {
            problems.invalid("type", "", &format!("has invalid value: {kind}"));
        }
        let source = self.deprecated_source.as_ref();
        for (field, used) in [
            ("firstTimestamp", self.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", self.deprecated_last_timestamp.is_some()),
            ("count", self.deprecated_count.unwrap_or_default() != 0),
            (
                "source",
                source.is_some_and(|source| {
                    !plain(&source.component).is_empty() || !plain(&source.host).is_empty()
                }),
            ),
        ] {
            if used {
                problems.invalid(field, "", "needs to be unset");
            }
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        if self.series != old.series {
            check_series(self, problems);
        }
        problems.immutable("involvedObject", &self.regarding, &old.regarding);
        problems.immutable("reason", &self.reason, &old.reason);
        problems.immutable("message", &self.note, &old.note);
        problems.immutable("source", &self.deprecated_source, &old.deprecated_source);
        let (now, then) = (
            &self.deprecated_first_timestamp,
            &old.deprecated_first_timestamp,
        );
        problems.immutable("firstTimestamp", now, then);
        let (now, then) = (
            &self.deprecated_last_timestamp,
            &old.deprecated_last_timestamp,
        );
        problems.immutable("lastTimestamp", now, then);
        problems.immutable("count", &self.deprecated_count, &old.deprecated_count);
        problems.immutable("type", &self.type_, &old.type_);
        problems.immutable("eventTime", &self.event_time, &old.event_time);
        problems.immutable("action", &self.action, &old.action);
        problems.immutable("related", &self.related, &old.related);
        let (now, then) = (&self.reporting_controller, &old.reporting_controller);
        problems.immutable("reportingController", now, then);
        let (now, then) = (&self.reporting_instance, &old.reporting_instance);
        problems.immutable("reportingInstance", now, then);
    }
}

fn check_series(event: &newer::Event, problems: &mut Problems) {
    if let Some(series) = &event.series
        && series.count < 2
    {
        problems.invalid("series.count", "", "should be at least 2");
    }
}

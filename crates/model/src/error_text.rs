//! An error in one line, with its causes.
//!
//! In:    an error
//! Out:   text for logs, events, statuses and metrics' neighbours
//! Calls: cri, cluster, act, hyperkube
//! Holds: outermost first; what an error's own text says of its cause already is not said twice
//! Upstream: Go's `fmt.Errorf` with `%w`, which is one text from the start

use std::error::Error;

/// The error, then each cause after a colon.
pub fn error_text(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// The same for an error of which the text is known to be better than its own.
pub fn with_causes(mut text: String, mut cause: Option<&(dyn Error + 'static)>) -> String {
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_follow_and_none_is_said_twice() {
        for (layers, text) in [
            (&["a"][..], "a"),
            (&["open a", "no such file"], "open a: no such file"),
            (
                &["open a: denied", "denied", "by b"],
                "open a: denied: by b",
            ),
            (&["a", "b", "b", "c"], "a: b: c"),
            (&["a", ""], "a"),
        ] {
            let inner = |cause, text: &&'static str| Some(Box::new(Layer(text, cause)));
            let error = layers.iter().rev().fold(None, inner).unwrap();
            assert_eq!(error_text(&error), text);
        }
    }
}

//! Tables of log lines; the output is the same for every way to cut the input.
//!
//! Upstream: staging/src/k8s.io/cri-client/pkg/logs/logs_test.go (cases)

use super::*;

fn options() -> LogOptions {
    LogOptions {
        follow: false,
        previous: false,
        timestamps: false,
        tail: None,
        limit: None,
        since: None,
        streams: Wanted::All,
    }
}

/// The output for a log that is fed in pieces of this size.
fn shown(options: &LogOptions, log: &str, piece: usize) -> Result<String, String> {
    let mut lines = Lines::new(options);
    let mut out = Vec::new();
    for part in log.as_bytes().chunks(piece) {
        if lines.feed(part, &mut out)? == Progress::Done {
            return Ok(String::from_utf8(out).unwrap());
        }
    }
    lines.end()?;
    Ok(String::from_utf8(out).unwrap())
}

/// The output, which must be equal for every size of pieces.
fn always(options: &LogOptions, log: &str) -> Result<String, String> {
    let whole = shown(options, log, log.len().max(1));
    for piece in 1..log.len() {
        assert_eq!(shown(options, log, piece), whole, "pieces of {piece}");
    }
    whole
}

const LOG: &str = "\
2016-10-06T00:17:09.669794202Z stdout F one\n\
2016-10-06T00:17:10.1Z stderr P two, \n\
2016-10-06T00:17:10.2Z stderr P:x still two, \n\
2016-10-06T00:17:11Z stderr F:x the end of two\n\
2016-10-06T02:17:12+02:00 stdout F \n\
2016-10-06T00:17:13.5+00:00 stdout F a b  c\n";

#[test]
fn partial_lines_become_one_and_times_stand_at_their_begin() {
    let plain = "one\ntwo, still two, the end of two\n\na b  c\n";
    assert_eq!(always(&options(), LOG).unwrap(), plain);
    let timed = LogOptions {
        timestamps: true,
        ..options()
    };
    assert_eq!(
        always(&timed, LOG).unwrap(),
        "2016-10-06T00:17:09.669794202Z one\n\
         2016-10-06T00:17:10.100000000Z two, still two, the end of two\n\
         2016-10-06T02:17:12.000000000+02:00 \n\
         2016-10-06T00:17:13.500000000Z a b  c\n"
    );
}

#[test]
fn since_streams_limits_and_lines_cut_what_is_shown() {
    let since = |text: &str| LogOptions {
        since: Some(text.parse().unwrap()),
        ..options()
    };
    assert_eq!(
        always(&since("2016-10-06T00:17:12Z"), LOG).unwrap(),
        "\na b  c\n"
    );
    assert_eq!(always(&since("2017-01-01T00:00:00Z"), LOG).unwrap(), "");
    let of = |streams| LogOptions {
        streams,
        ..options()
    };
    assert_eq!(always(&of(Wanted::Stdout), LOG).unwrap(), "one\n\na b  c\n");
    assert_eq!(
        always(&of(Wanted::Stderr), LOG).unwrap(),
        "two, still two, the end of two\n"
    );
    let limit = |limit| LogOptions {
        limit: Some(limit),
        ..options()
    };
    assert_eq!(always(&limit(1), LOG).unwrap(), "o");
    assert_eq!(always(&limit(4), LOG).unwrap(), "one\n");
    assert_eq!(always(&limit(9), LOG).unwrap(), "one\ntwo, ");
    let timed = LogOptions {
        timestamps: true,
        limit: Some(33),
        ..options()
    };
    assert_eq!(
        always(&timed, LOG).unwrap(),
        "2016-10-06T00:17:09.669794202Z on"
    );
    let tail = |tail| LogOptions {
        tail: Some(tail),
        ..options()
    };
    assert_eq!(always(&tail(0), LOG).unwrap(), "");
    // The tail counts lines of the log, not lines of the container's output.
    assert_eq!(always(&tail(2), LOG).unwrap(), "one\ntwo, ");
    let followed = LogOptions {
        tail: Some(0),
        follow: true,
        ..options()
    };
    assert_eq!(
        always(&followed, "2016-10-06T00:17:09Z stdout F x\n").unwrap(),
        "x\n"
    );
}

#[test]
fn lines_that_are_none_are_left_out_but_the_first_must_be_one() {
    let good = "2016-10-06T00:17:09Z stdout F good\n";
    let long = "x".repeat(5000);
    for bad in [
        "",
        "word",
        "2016-10-06T00:17:09Z stdout F",
        "2016-10-06T00:17:09Z stdin F x",
        "yesterday stdout F x",
        "{\"log\":\"x\"}",
        &long,
    ] {
        let log = format!("{good}{bad}\n{good}");
        assert_eq!(always(&options(), &log).unwrap(), "good\ngood\n", "{bad:?}");
        assert_eq!(
            always(&options(), &format!("{good}{bad}")).unwrap(),
            "good\n",
            "{bad:?}"
        );
    }
    assert_eq!(
        shown(&options(), "2016-10-06T00:17:09Z stdin F x\n", 1000).unwrap_err(),
        "failed to get parse function: unsupported log format: \"2016-10-06T00:17:09Z stdin F \""
    );
    assert_eq!(
        always(&options(), "x\n").unwrap_err(),
        "failed to get parse function: unsupported log format: \"x\\n\""
    );
    assert_eq!(always(&options(), "").unwrap(), "");
}

#[test]
fn an_unfinished_line_is_shown_and_one_of_any_length_takes_no_memory() {
    assert_eq!(
        always(&options(), "2016-10-06T00:17:09Z stdout F unfin").unwrap(),
        "unfin"
    );
    let mut lines = Lines::new(&options());
    let mut out = Vec::new();
    lines
        .feed(b"2016-10-06T00:17:09Z stdout F ", &mut out)
        .unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        lines.feed(&chunk, &mut out).unwrap();
        assert_eq!(out.len(), chunk.len());
        out.clear();
    }
    assert!(matches!(&lines.at, At::Content { .. }));
}

//! The format by upstream's table, and what becomes of a value that is not there.
//!
//! Upstream: pkg/kubelet/util/env/env_util_test.go (the cases)

use kubelet_model::objects::PodObjects;

use super::*;
use crate::pod::pod_plan::pod_plan;
use crate::shapes::env_files::EnvFileRead;
use crate::shapes::env_files::EnvFileValues;
use crate::testing::seen::Seen;
use crate::testing::{node, pod_of};

fn text(content: &str) -> EnvFileText {
    EnvFileText {
        content: content.as_bytes().to_vec(),
        is_cut: false,
    }
}

fn found(content: &str, key: &str) -> Result<String, String> {
    value_in(&text(content), key.as_bytes()).map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn values_stand_in_single_quotes() {
    let at = |line: usize, what: &str| {
        Err(format!(
            "invalid environment variable format at line {line}: {what}"
        ))
    };
    let rows: Vec<(&str, &str, Result<String, String>)> = vec![
        ("   A='1'\n\tB='2'\nC='3'\n", "B", Ok("2".to_owned())),
        ("# c\n\nA='1'\n   # c\n\nB='2'", "B", Ok("2".to_owned())),
        ("A='1'\n", "B", Ok(String::new())),
        ("", "B", Ok(String::new())),
        ("A='1#2' # c\n", "A", Ok("1#2".to_owned())),
        (
            "A='  1 = $B \\n \"  '\n",
            "A",
            Ok("  1 = $B \\n \"  ".to_owned()),
        ),
        (
            "A='1\r\n2\n  3'\r\nB='x'\r\n",
            "A",
            Ok("1\n2\n  3".to_owned()),
        ),
        ("A='1\r\n2\n  3'\r\nB='x'\r\n", "B", Ok("x".to_owned())),
        ("A='1'\nA='2'\n", "A", Ok("1".to_owned())),
        ("A=  '1'\nB='2'\n", "A", Ok(String::new())),
        ("A=  '1'\nB='2'\n", "B", Ok("2".to_owned())),
        ("A=''\n", "A", Ok(String::new())),
        (
            "A='1'\nwhat follows is not looked at",
            "A",
            Ok("1".to_owned()),
        ),
        ("A\n", "A", at(1, "missing '='")),
        ("\n='1'\n", "A", at(2, "empty variable name")),
        ("  ='1'\n", "A", at(1, "empty variable name")),
        (
            "A ='1'\n",
            "A",
            at(1, "whitespace before '=' is not allowed"),
        ),
        (
            "A=1\n",
            "A",
            at(1, "value must be enclosed in single quotes"),
        ),
        (
            "A=\"1\"\n",
            "B",
            at(1, "value must be enclosed in single quotes"),
        ),
        (
            "A=\n",
            "A",
            at(1, "value must be enclosed in single quotes"),
        ),
        (
            "A='x\n1' 2\n",
            "A",
            at(2, "unexpected content after closing quote"),
        ),
        (
            "A='1''2'\n",
            "A",
            at(1, "unexpected content after closing quote"),
        ),
        (
            "\nA='1\n2\n",
            "A",
            Err(
                "invalid environment variable format starting at line 2: unclosed single quote"
                    .to_owned(),
            ),
        ),
    ];
    for (content, key, expected) in rows {
        assert_eq!(found(content, key), expected, "{content:?}");
    }
}

#[test]
fn lines_and_files_are_bounded() {
    let line = |length: usize| format!("A='{}'", "x".repeat(length - 4));
    assert_eq!(found(&line(65_535), "A").unwrap().len(), 65_531);
    for tail in ["", "\n"] {
        let long = format!("{}{tail}B='1'", line(65_536));
        assert_eq!(found(&long, "A"), Err("token too long".to_owned()));
    }
    let cut = |content: &str, key: &str| {
        let text = EnvFileText {
            is_cut: true,
            ..text(content)
        };
        value_in(&text, key.as_bytes())
    };
    assert_eq!(cut("A='1'\nB='2'", "A"), Ok(b"1".to_vec()));
    let too_long = Err("more than 1048576 bytes".to_owned());
    assert_eq!(cut("A='1'\nB='2'", "B"), too_long);
    assert_eq!(cut("A='1'\n", "B"), too_long);
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let text = EnvFileText {
        content: b"A='\xff\x01'\n".to_vec(),
        is_cut: false,
    };
    assert_eq!(value_in(&text, b"A"), Ok(vec![0xff, 1]));
}

fn reference(optional: bool) -> EnvFileRead {
    EnvFileRead {
        index: 0,
        volume_path: "/v".to_owned(),
        path: "./a//b".to_owned(),
        key: "K".to_owned(),
        optional,
    }
}

#[test]
fn a_key_that_is_not_there_may_be_missing_but_a_file_may_not() {
    let told = |optional: bool, file: Result<&str, &str>| {
        let file = file.map(text).map_err(str::to_owned);
        env_file_value(&reference(optional), file).map_err(|problem| problem.message)
    };
    assert_eq!(told(false, Ok("K='1'")), Ok(Some(b"1".to_vec())));
    let missing = "environment variable key \"K\" not found in file \"/v/a/b\"".to_owned();
    assert_eq!(told(false, Ok("A='1'")), Err(missing.clone()));
    assert_eq!(told(false, Ok("K=''")), Err(missing));
    assert_eq!(told(true, Ok("A='1'")), Ok(None));
    for optional in [false, true] {
        let unread = "couldn't parse env file".to_owned();
        assert_eq!(told(optional, Err("no such file")), Err(unread.clone()));
        assert_eq!(told(optional, Ok("K")), Err(unread));
    }
}

#[test]
fn what_is_read_follows_from_the_container() {
    let reads = |env: &str| {
        let pod = pod_of(&format!(
            "{{volumes: [{{name: v, emptyDir: {{}}}}, {{name: h, hostPath: {{path: /mnt/dead}}}}],
               containers: [{{name: c, image: i, env: [{env}]}}]}}"
        ));
        env_file_reads(&pod, &node(), &pod.containers()[0]).map_err(|problem| problem.message)
    };
    let one = |volume: &str| {
        format!(
            "{{name: A, valueFrom: {{fileKeyRef: {{volumeName: {volume}, path: f, key: K, optional: true}}}}}}"
        )
    };
    assert_eq!(reads("{name: B, value: x}"), Ok(Vec::new()));
    let expected = EnvFileRead {
        index: 1,
        volume_path: "/var/lib/kubelet/pods/u1/volumes/kubernetes.io~empty-dir/v".to_owned(),
        path: "f".to_owned(),
        key: "K".to_owned(),
        optional: true,
    };
    assert_eq!(
        reads(&format!("{{name: B, value: x}}, {}", one("v"))),
        Ok(vec![expected])
    );
    assert_eq!(
        reads(&one("w")),
        Err("cannot find the volume \"w\" referenced by FileKeyRef".to_owned())
    );
    assert_eq!(
        reads(&one("h")),
        Err(
            "invalid fileKeyRef.volumeName \"h\": referenced volume must be of type emptyDir"
                .to_owned()
        )
    );
}

#[test]
fn values_do_not_show_in_debug_texts() {
    let mut values = EnvFileValues::default();
    values.insert(3, Some(b"secret".to_vec()));
    assert_eq!(format!("{values:?} {:?}", text("secret")), "{3} 6 bytes");
}

#[test]
fn files_are_read_before_a_start_and_those_after_it_wait() {
    let pod = pod_of(
        "{volumes: [{name: v, emptyDir: {}}], containers: [{name: a, image: i, env: [{name: A, valueFrom: {fileKeyRef:
          {volumeName: v, path: f, key: K}}}]}, {name: b, image: i}]}",
    );
    let seen = Seen::new(pod, PodObjects::default());
    let mut seen = seen.running().prepared();
    seen.observed.containers.clear();
    let plan = |seen: &Seen| seen.see(pod_plan).to_string();
    assert_eq!(
        plan(&seen),
        "read variables of a (its variables come from files)"
    );
    let mut values = EnvFileValues::default();
    values.insert(0, Some(b"1".to_vec()));
    let attempt = seen.memory.attempts.get_mut("a").unwrap();
    attempt.image.as_mut().unwrap().env_files = Some(values);
    assert_eq!(
        plan(&seen),
        "start a[0] (not started yet); start b[0] (not started yet)"
    );
}

//! Command lines, names, completion.
//!
//! Upstream: none

use kubelet_model::story::Story;
use serde_json::json;

use super::{crashing_pod, pod, ready, ready_pod, running, told, unready_pod};
use crate::client::Told;
use crate::command::{Request, parse};
use crate::completion::script;
use crate::select::{Wanted, select};

fn read(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match parse(&words) {
        Ok(Request::Text(text)) => text.lines().next().unwrap_or_default().to_owned(),
        Ok(Request::Completion(shell)) => format!("completion of {shell}"),
        Ok(Request::Ask(c)) => {
            let namespace = c.namespace.as_deref().unwrap_or("*");
            let names = c.names.join(",");
            format!(
                "{:?} {names} in {namespace} as {:?} watch={} {:?}",
                c.verb, c.output, c.is_watch, c.place
            )
        }
        Err(error) => error,
    }
}

#[test]
fn command_lines_are_read_and_mistakes_named() {
    for (line, expected) in [
        ("get", "Get  in * as Text watch=false Usual"),
        ("get pods -o wide -w", "Get  in * as Wide watch=true Usual"),
        (
            "get po a b -n kube-system",
            "Get a,b in kube-system as Text watch=false Usual",
        ),
        (
            "get -nkube-system -A",
            "Get  in * as Text watch=false Usual",
        ),
        (
            "get --output=yaml --namespace x",
            "Get  in x as Yaml watch=false Usual",
        ),
        ("get -ojson", "Get  in * as Json watch=false Usual"),
        (
            "why pod a --watch --root-dir /r",
            "Why a in * as Text watch=true RootDir(\"/r\")",
        ),
        (
            "describe ns/a --socket=/s",
            "Describe ns/a in * as Text watch=false Socket(\"/s\")",
        ),
        ("timeline", "Timeline  in * as Text watch=false Usual"),
        ("why -n x", "Why  in x as Text watch=false Usual"),
        (
            "why a -o wide",
            "-o wide and -o name are for get; here -o json or -o yaml",
        ),
        (
            "get -o xml",
            "unknown output format \"xml\"; it may be json, yaml, wide, name",
        ),
        ("get -o", "flag needs an argument: --output"),
        ("get -x", "unknown flag: -x"),
        ("get -wo", "unknown flag: -wo"),
        ("get --watch=3", "--watch takes no value"),
        ("get --selector a=b", "unknown flag: --selector"),
        (
            "get --help",
            "The pods of this node, as a table, JSON or YAML.",
        ),
        (
            "why -h",
            "Why a pod is not Ready, in plain words: what is waited for, the last error, the next try.",
        ),
        ("completion", "usage: hyperkube completion bash|zsh|fish"),
        (
            "completion tcsh",
            "usage: hyperkube completion bash|zsh|fish",
        ),
        (
            "completion --help",
            "usage: hyperkube completion bash|zsh|fish",
        ),
        ("completion bash", "completion of bash"),
    ] {
        assert_eq!(read(line), expected, "{line}");
    }
}

#[test]
fn a_name_means_one_pod_or_the_error_names_candidates() {
    let other = |namespace: &str, uid: &str| -> Told {
        let container = json!({"state": running()});
        let mut pod = pod("good", container, &ready("True", None));
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["uid"] = json!(uid);
        told(pod, Story::default())
    };
    let all = [
        ready_pod(),
        other("other", "u2"),
        unready_pod(),
        crashing_pod(),
    ];
    let meant = |name: &str, namespace: Option<&str>| match select(&all, Wanted { name, namespace })
    {
        Ok(told) => told.uid().to_owned(),
        Err(error) => error.to_string(),
    };
    for (name, namespace, expected) in [
        ("broken-n1", None, "uid-broken"),
        ("broken", None, "uid-broken"),
        ("pod/broken", None, "uid-broken"),
        ("default/broken-n1", None, "uid-broken"),
        ("uid-crash", None, "uid-crash"),
        ("good", Some("other"), "u2"),
        ("other/good-n1", None, "u2"),
        (
            "good-n1",
            None,
            "\"good-n1\" is the name of 2 pods; name one by namespace/name or by its UID: default/good-n1 (uid-good), \
             other/good-n1 (u2)",
        ),
        (
            "crash",
            Some("other"),
            "no pod \"crash\" on this node in namespace \"other\"; there is default/crash-n1",
        ),
        (
            "nothing",
            None,
            "no pod \"nothing\" on this node; there is default/good-n1, other/good-n1, default/broken-n1, default/crash-n1",
        ),
    ] {
        assert_eq!(meant(name, namespace), expected, "{name}");
    }
    let none = select(
        &[],
        Wanted {
            name: "a",
            namespace: None,
        },
    )
    .unwrap_err();
    assert_eq!(
        none.to_string(),
        "no pod \"a\" on this node; there is none at all"
    );
}

#[test]
fn completion_knows_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell).unwrap();
        for word in [
            "get",
            "describe",
            "why",
            "timeline",
            "kubelet",
            "completion",
            "json",
            "root-dir",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains('@'), "{shell}: {script}");
    }
}

//! The binary without a runtime: components, versions, help, and errors of invalid arguments.
//!
//! In:    arguments, configuration files
//! Out:   exit status, both streams
//! Calls: cargo test
//! Holds: nothing is started: every row ends before the first side effect
//! Upstream: cmd/kubelet/app/server.go (NewKubeletCommand), component-base/version/verflag

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_hyperkube");

/// The directory of one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hyperkube-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn run(program: &str, line: &str) -> (i32, String, String) {
    let output: Output = Command::new(program)
        .args(line.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_asked_for_is_printed_and_ends_well() {
    let version = "Kubernetes v1.36.2+hyperkube.1\n";
    let rows = [
        ("", "hyperkube kubelet "),
        ("help", "hyperkube kubelet "),
        ("--help", "hyperkube kubelet "),
        ("--version", version),
        ("kubelet --version", version),
        ("kubelet --version=true --max-pods=1", version),
        (
            "kubelet --version=raw",
            "version.Info{Major:\"1\", Minor:\"36\", ",
        ),
        ("kubelet -h", "\nUsage:\n  kubelet [flags]\n\nFlags:\n"),
        ("help", "\n  hyperkube why        why a pod is not Ready"),
        (
            "why --help",
            "\nUsage:\n  hyperkube why [pods] [NAME...] [flags]\n",
        ),
        ("completion bash", "\ncomplete -F _hyperkube hyperkube\n"),
        (
            "kubelet --help --version",
            "\nUsage:\n  kubelet [flags]\n\nFlags:\n",
        ),
    ];
    for (line, part) in rows {
        let (code, out, _) = run(BINARY, line);
        assert!(code == 0 && out.contains(part), "{line}: {code} {out}");
    }
}

#[test]
fn bad_arguments_are_named_on_stderr() {
    let flag = "Error: failed to parse kubelet flag: ";
    let rows = [
        (
            "nonsense",
            "hyperkube: \"nonsense\" is not a component\n",
            "",
        ),
        ("kubelet version", "Error: unknown command version\n", ""),
        (
            "get -o xml",
            "Error: unknown output format \"xml\"",
            "\nSee 'hyperkube get --help'.\n",
        ),
        (
            "get --socket /nothing/here.sock",
            "Error: no kubelet of hyperkube serves /nothing/here.sock: there is no such socket. ",
            "",
        ),
        (
            "kubelet --fail-swap-on false",
            "Error: unknown command false\n",
            "",
        ),
        ("kubelet --nope", flag, "unknown flag: --nope\n"),
        (
            "kubelet -v 2 --v=4 -v=x",
            flag,
            "for \"-v, --v\" flag: strconv.ParseUint",
        ),
        (
            "kubelet --kube-reserved cpu",
            flag,
            "malformed pair, expect string=string\n",
        ),
        (
            "kubelet --feature-gates Foo=true",
            "Error: ",
            "unrecognized feature gate: Foo\n",
        ),
        (
            "kubelet --feature-gates NodeSwap=false --feature-gates Foo=true",
            "Error: unrecognized feature gate: Foo\n",
            "       cannot set feature gate NodeSwap to false, feature is locked to true\n",
        ),
        (
            "kubelet --config /no/such/file",
            "Error: failed to load kubelet config file, path: /no/such/file",
            "",
        ),
        (
            "kubelet --node-labels kubernetes.io/x=1",
            "Error: --node-labels: unknown 'kubernetes.io'",
            "",
        ),
        (
            "kubelet --feature-gates=KubeletCrashLoopBackOffMax=true --v=2 --hostname-override=x --cert-dir=/x --cloud-provider= --fail-cgroupv1=false --provider-id=x --config-dir=/no/such",
            "Error: failed to merge kubelet configs: failed to walk through kubelet dropin directory",
            "",
        ),
    ];
    for (line, begin, part) in rows {
        let (code, out, err) = run(BINARY, line);
        let err = err
            .lines()
            .filter(|line| !line.contains("has been deprecated"))
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        assert_eq!((code, out.as_str()), (1, ""), "{line}: {err}");
        assert!(
            err.starts_with(begin) && err.contains(part),
            "{line}: {err}"
        );
    }
}

#[test]
fn deprecated_flags_are_warned_of_even_when_nothing_starts() {
    let (code, out, err) = run(
        BINARY,
        "kubelet --max-pods=-1 --port=0 --hostname-override=x",
    );
    assert_eq!((code, out.as_str()), (1, ""));
    let instead = "This parameter should be set via the config file specified by the Kubelet's --config flag. See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information.";
    let warnings = format!(
        "Flag --max-pods has been deprecated, {instead}\nFlag --port has been deprecated, {instead}\n"
    );
    assert!(err.starts_with(&warnings), "{err}");
    for problem in [
        "maxPods: invalid configuration: maxPods (--max-pods) -1 must not be a negative number\n",
        "port: invalid configuration: port (--port) 0 must be between 1 and 65535, inclusive\n",
    ] {
        assert!(err.contains(problem), "{err}");
    }
}

#[test]
fn called_by_a_components_name_it_is_that_component() {
    let scratch = Scratch::new("names");
    let link = scratch.0.join("kubelet");
    symlink(BINARY, &link).unwrap();
    let link = link.to_str().unwrap();
    assert_eq!(run(link, "--version").1, "Kubernetes v1.36.2+hyperkube.1\n");
    assert_eq!(run(link, "kubelet").2, "Error: unknown command kubelet\n");
}

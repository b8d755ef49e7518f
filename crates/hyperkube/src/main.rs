//! `hyperkube`: one program; the component is chosen by the first argument or by the program's name.
//!
//! In:    arguments; `argv[0]`
//! Out:   exit status 0 after a regular stop or printed text, 1 otherwise, with the error on stderr
//! Holds: the only decision here is which component runs
//! Upstream: cmd/kubelet/kubelet.go, and cmd/hyperkube as it was

mod apiserver;
mod config_files;
mod flags;
mod logs;
mod node;
mod paths;
mod wiring;

use std::io::Write as _;
use std::process::ExitCode;

use config_files::Loaded;
use flags::Request;
use kubelet_decide::config::validate::HostFacts;
use kubelet_host::HostRoot;
use kubelet_host::cgroup::{self, CgroupVersion};
use kubelet_model::error_text::error_text;
use logs::LogHandle;

/// Every component: its name and its description.
const COMPONENTS: [(&str, &str); 3] = [
    ("kubelet", "the node agent: runs the pods of this machine"),
    ("apiserver", "the API server of a one-node cluster"),
    (
        "node",
        "both of them, as one process with one data directory",
    ),
];

fn main() -> ExitCode {
    one_arena();
    let mut arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let called = if arguments.is_empty() {
        String::new()
    } else {
        arguments.remove(0)
    };
    let called_kubelet = called.rsplit('/').next() == Some("kubelet");
    match (called_kubelet, arguments.first().map(String::as_str)) {
        (true, _) => kubelet(&arguments),
        (false, Some("kubelet")) => kubelet(arguments.get(1..).unwrap_or_default()),
        (false, Some("apiserver")) => apiserver(arguments.get(1..).unwrap_or_default()),
        (false, Some("node")) => node(arguments.get(1..).unwrap_or_default()),
        (false, Some(word)) if is_command(word) => {
            kubelet_story::run(&arguments, jiff::Timestamp::now)
        }
        (false, None | Some("help" | "--help" | "-h")) => print(&components()),
        (false, Some("--version")) => print(&format!("{}\n", flags::version(Request::Version))),
        (false, Some(word)) => fail(&format!(
            "hyperkube: {word:?} is not a component\n\n{}",
            components()
        )),
    }
}

/// Whether the word is a command that asks the kubelet of this node, and no component.
fn is_command(word: &str) -> bool {
    word == "completion" || kubelet_story::VERBS.iter().any(|(verb, _)| *verb == word)
}

fn components() -> String {
    let mut text = "hyperkube runs one Kubernetes component:\n\n".to_owned();
    for (word, what) in COMPONENTS {
        text.push_str(&format!("  hyperkube {word:<10} {what}\n"));
    }
    text.push_str("\nor asks the kubelet of this node, without an API server:\n\n");
    let completion = (
        "completion",
        "completion of these commands for bash, zsh or fish",
    );
    for (word, what) in kubelet_story::VERBS.into_iter().chain([completion]) {
        text.push_str(&format!("  hyperkube {word:<10} {what}\n"));
    }
    text.push_str("\nhyperkube <component> --help shows its flags. If the program is called by a component's name, it runs that component.\n");
    text
}

fn kubelet(arguments: &[String]) -> ExitCode {
    let line = match flags::parse(arguments) {
        Ok(line) => line,
        Err(error) => return fail(&format!("Error: {error}\n")),
    };
    if let Some(answer) = kubelet_answer(&line) {
        return print(&answer);
    }
    let loaded = match load(&line) {
        Ok(loaded) => loaded,
        Err(text) => return fail(&text),
    };
    run(loaded, wiring::run)
}

/// Text that is printed instead of running, for `--help` and `--version`.
fn kubelet_answer(line: &flags::CommandLine) -> Option<String> {
    match line.request {
        Request::Help => Some(flags::help()),
        Request::Version | Request::RawVersion => {
            Some(format!("{}\n", flags::version(line.request)))
        }
        Request::Run => None,
    }
}

/// Loads the configuration. Warnings of the command line are printed at once; the error is the text to print before exiting.
fn load(line: &flags::CommandLine) -> Result<Loaded, String> {
    for warning in &line.warnings {
        // As pflag does: before logs are set up, and without a log format.
        complain(&format!("{warning}\n"));
    }
    let root = HostRoot::real();
    let facts = HostFacts {
        cgroup_v2: matches!(cgroup::version(&root), Ok(CgroupVersion::V2)),
    };
    config_files::load(line, facts)
        .map_err(|error| format!("Error: {}\n", error.lines().join("\n       ")))
}

/// Sets up logging and runs `part` to its end.
fn run<F>(loaded: Loaded, part: impl FnOnce(Loaded, LogHandle) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let logs = match logs::install(&loaded.effective.logging) {
        Ok(logs) => logs,
        Err(error) => return fail(&format!("Error: start logging: {}\n", error_text(&*error))),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(part(loaded, logs.clone()));
            // Abandoned blocking calls must not delay the exit.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(error.into()),
    };
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_text(&*error), "Kubelet failed");
            fail(&format!(
                "Error: failed to run Kubelet: {}\n",
                error_text(&*error)
            ))
        }
    };
    logs.flush();
    code
}

fn node(arguments: &[String]) -> ExitCode {
    match node::prepare(arguments) {
        Ok(node::Request::Answer(text)) => print(&text),
        Ok(node::Request::Run(mut node)) => match load(&node.kubelet) {
            Ok(mut loaded) => {
                node.fit(&mut loaded);
                run(loaded, |loaded, logs| node.run(loaded, logs))
            }
            Err(text) => fail(&text),
        },
        Err(error) => fail(&format!("Error: {}\n", error_text(&*error))),
    }
}

fn apiserver(arguments: &[String]) -> ExitCode {
    match apiserver::main(arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(text)) => print(&text),
        Err(error) => fail(&format!("Error: {}\n", error_text(&*error))),
    }
}

/// A single arena keeps the memory that a burst of threads freed in one place, where it can be returned to the kernel.
fn one_arena() {
    kubelet_host::memory::one_arena();
}

fn print(text: &str) -> ExitCode {
    // If the pipe is closed, the reader wants no more.
    let _written = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _written = std::io::stderr().write_all(text.as_bytes());
}

fn fail(text: &str) -> ExitCode {
    complain(text);
    ExitCode::FAILURE
}

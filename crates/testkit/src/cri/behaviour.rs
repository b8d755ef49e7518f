//! How the processes, images and execs of a simulation behave: data, chosen by functions that the simulation hands in.
//!
//! In:    the pod, the container's configuration, its attempt; the image's name and how often it was pulled; the exec's command
//! Out:   [`Behaviour`], [`PullOutcome`], [`ExecOutcome`]
//! Calls: `cri` at CreateContainer, PullImage and ExecSync
//! Holds: without a function the container's command says it: `sleep 5`, `exit 3`, `sh -c "trap '' TERM; sleep 5; exit 3"`
//! Upstream: none

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kubelet_api::runtime::v1 as wire;
use tonic::Code;

/// What one container's process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Exits by itself this long after its start; `None` runs until it is stopped.
    pub exits_after: Option<Duration>,
    /// The code of that exit.
    pub exit_code: i32,
    /// That exit is the kernel's OOM kill: reason `OOMKilled`, whatever `exit_code` says it is 137.
    pub oom: bool,
    /// SIGTERM does nothing.
    pub ignores_term: bool,
    /// Time between SIGTERM and exit.
    pub term_delay: Duration,
    /// The code of an exit by SIGTERM: 143 where no handler is.
    pub term_exit_code: i32,
    /// Time between SIGKILL and exit: a process in uninterruptible sleep.
    pub kill_delay: Duration,
    /// CreateContainer fails with this text.
    pub create_error: Option<String>,
    /// StartContainer fails with this text, and the container is Exited with code 128, reason `StartError`.
    pub start_error: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            exits_after: None,
            exit_code: 0,
            oom: false,
            ignores_term: false,
            term_delay: Duration::ZERO,
            term_exit_code: 143,
            kill_delay: Duration::ZERO,
            create_error: None,
            start_error: None,
        }
    }
}

impl Behaviour {
    /// Exits by itself.
    pub fn exits(after: Duration, exit_code: i32) -> Self {
        Self {
            exits_after: Some(after),
            exit_code,
            ..Self::default()
        }
    }

    /// What a command line does: `sleep N`, `exit N`, `true`, `false`, or a shell script of those, joined by `;` or `&&`, with
    /// `trap '' TERM`. Anything else runs until it is stopped. Unlike a real first process, `sleep` obeys SIGTERM.
    pub fn of_command(words: &[String]) -> Self {
        let script = match words {
            [shell, flag, script] if shell.ends_with("sh") && flag == "-c" => script.clone(),
            _ => words.join(" "),
        };
        let mut behaviour = Self::default();
        let mut passed = Duration::ZERO;
        let mut last_code = 0;
        for line in script
            .split([';', '&'])
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let mut parts = line.split_whitespace();
            match (
                parts
                    .next()
                    .map(|word| word.rsplit('/').next().unwrap_or(word)),
                parts.next(),
            ) {
                (Some("sleep"), Some(time)) => match seconds(time) {
                    Some(time) => passed += time,
                    None => return behaviour,
                },
                (Some("exit"), code) => {
                    last_code = code.and_then(|code| code.parse().ok()).unwrap_or(last_code);
                    break;
                }
                (Some("true"), _) => last_code = 0,
                (Some("false"), _) => last_code = 1,
                (Some("trap"), _) => behaviour.ignores_term = line.ends_with("TERM"),
                _ => return behaviour,
            }
        }
        if !script.trim().is_empty() {
            behaviour.exits_after = Some(passed);
            behaviour.exit_code = last_code;
        }
        behaviour
    }
}

/// The argument of `sleep`: seconds, or with one of s, m, h, d; `None` for `infinity` and nonsense.
fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 's') => (&text[..at], 1.0),
        (at, 'm') => (&text[..at], 60.0),
        (at, 'h') => (&text[..at], 3_600.0),
        (at, 'd') => (&text[..at], 86_400.0),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

/// Of which container the behaviour is asked.
#[derive(Debug, Clone, Copy)]
pub struct ContainerCall<'a> {
    /// The pod's sandbox.
    pub sandbox: &'a wire::PodSandboxConfig,
    /// The container; its metadata hold name and attempt.
    pub container: &'a wire::ContainerConfig,
}

/// How a pull goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOutcome {
    /// How long it takes.
    pub latency: Duration,
    /// The failure at its end.
    pub failure: Option<(Code, String)>,
    /// The image's size in bytes.
    pub size: u64,
}

impl Default for PullOutcome {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            failure: None,
            size: 5_000_000,
        }
    }
}

/// How an exec goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutcome {
    /// How long it takes; longer than the call's timeout means that it fails with that.
    pub latency: Duration,
    /// The code of the command.
    pub exit_code: i32,
    /// What it prints.
    pub stdout: Vec<u8>,
    /// What it prints as errors.
    pub stderr: Vec<u8>,
}

/// Chooses the behaviour of a container.
pub type BehaviourOf = Arc<dyn Fn(ContainerCall<'_>) -> Behaviour + Send + Sync>;
/// Chooses how the `nth` pull (from 1) of an image goes.
pub type PullOf = Arc<dyn Fn(&str, u64) -> PullOutcome + Send + Sync>;
/// Chooses how an exec in a container goes.
pub type ExecOf = Arc<dyn Fn(ContainerCall<'_>, &[String]) -> ExecOutcome + Send + Sync>;

/// By image, user and password.
pub type RegistryOf = Arc<dyn Fn(&str, &str, &str) -> bool + Send + Sync>;

/// The functions of one simulation.
#[derive(Clone)]
pub struct Scripts {
    /// Processes of containers.
    pub behaviour: BehaviourOf,
    /// Image pulls.
    pub pull: PullOf,
    /// Whether the registry lets this user with this password have an image.
    pub registry: RegistryOf,
    /// Execs.
    pub exec: ExecOf,
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            behaviour: Arc::new(|call| {
                let config = call.container;
                let words: Vec<String> =
                    config.command.iter().chain(&config.args).cloned().collect();
                Behaviour::of_command(&words)
            }),
            pull: Arc::new(|_, _| PullOutcome::default()),
            registry: Arc::new(|_, _, _| true),
            exec: Arc::new(|_, _| ExecOutcome::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Behaviour {
        Behaviour::of_command(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn commands_say_what_the_process_does() {
        assert_eq!(
            of(&["sleep", "10"]),
            Behaviour::exits(Duration::from_secs(10), 0)
        );
        assert_eq!(
            of(&["/bin/sleep", "2m"]),
            Behaviour::exits(Duration::from_mins(2), 0)
        );
        assert_eq!(of(&["exit", "3"]), Behaviour::exits(Duration::ZERO, 3));
        assert_eq!(
            of(&["sh", "-c", "sleep 1; exit 4"]),
            Behaviour::exits(Duration::from_secs(1), 4)
        );
        assert_eq!(of(&["sleep", "infinity"]), Behaviour::default());
        assert_eq!(of(&[]), Behaviour::default());
        assert_eq!(of(&["nginx", "-g", "daemon off;"]), Behaviour::default());
        let stubborn = of(&["/bin/sh", "-c", "trap '' TERM; sleep 100"]);
        assert!(stubborn.ignores_term && stubborn.exits_after == Some(Duration::from_secs(100)));
    }
}

//! Runs a command of the node: asks the kubelet, prints what people or programs read.
//!
//! In:    arguments
//! Out:   text on the standard output; exit status 0, or 1 with an error on the standard error
//! Calls: hyperkube/main
//! Holds: a closed pipe ends it quietly; a watch ends with an error when the kubelet does
//! Upstream: kubectl

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_host::sockets::listening;
use serde_json::{Value, json};

use crate::client::{Client, ClientError, Event, Told};
use crate::command::{Command, Output, Place, Request, Verb, parse};
use crate::completion::script;
use crate::paint::Paint;
use crate::select::{SelectError, Wanted, of_namespace, select};
use crate::table::{Columns, Widths, cells, head, table};
use crate::{describe, socket, timeline, why};

/// Answers of probes and waits are no changes of a pod: a watch asks for them.
const AGAIN: Duration = Duration::from_secs(2);
/// The usual root directory.
const ROOT_DIR: &str = "/var/lib/kubelet";

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("several kubelets run here; --socket names one: {}", list(.0))]
    Several(Vec<PathBuf>),
    #[error("{0}")]
    Render(String),
    /// The reader wants no more.
    #[error("the output is closed")]
    Closed,
}

fn list(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// Runs the command; `now` reads the wall clock.
pub fn run(arguments: &[String], now: fn() -> Timestamp) -> ExitCode {
    let command = match parse(arguments) {
        Ok(Request::Text(text)) => return print_all(&text),
        Ok(Request::Completion(shell)) => {
            return print_all(&script(&shell).unwrap_or_default());
        }
        Ok(Request::Ask(command)) => command,
        Err(error) => {
            let verb = arguments.first().map_or("", String::as_str);
            return fail(&format!("{error}\nSee 'hyperkube {verb} --help'."));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(ask(&command, now)),
        Err(error) => return fail(&error.to_string()),
    };
    match ended {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn print_all(text: &str) -> ExitCode {
    // A reader that wants no more has read enough.
    drop(print(text));
    ExitCode::SUCCESS
}

fn fail(text: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed.
    let _written = writeln!(std::io::stderr(), "Error: {text}");
    ExitCode::FAILURE
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|_closed| Failure::Closed)
}

/// The socket of the kubelet that is meant.
fn find(place: &Place) -> Result<PathBuf, Failure> {
    let usual = match place {
        Place::Socket(path) => return Ok(path.clone()),
        Place::RootDir(dir) => return Ok(socket(dir)),
        Place::Usual => socket(Path::new(ROOT_DIR)),
    };
    let running = listening(&socket(Path::new("/")).to_string_lossy());
    match running.as_slice() {
        [one] if !running.contains(&usual) => Ok(one.clone()),
        [_, _, ..] if !running.contains(&usual) => Err(Failure::Several(running)),
        _ => Ok(usual),
    }
}

async fn ask(command: &Command, now: fn() -> Timestamp) -> Result<(), Failure> {
    let mut client = Client::connect(&find(&command.place)?).await?;
    let screen = Screen {
        command,
        paint: Paint::for_output(),
        now,
    };
    if command.is_watch {
        return screen.watch(&mut client).await;
    }
    let all = client.list().await?;
    let meant = screen.meant(&all)?;
    print(&screen.text(&meant)?)
}

/// How answers are shown.
struct Screen<'a> {
    command: &'a Command,
    paint: Paint,
    now: fn() -> Timestamp,
}

impl Screen<'_> {
    /// The pods that the command is about.
    fn meant<'a>(&self, all: &'a [Told]) -> Result<Vec<&'a Told>, SelectError> {
        let namespace = self.command.namespace.as_deref();
        if self.command.names.is_empty() {
            return Ok(of_namespace(all, namespace).collect());
        }
        let names = self.command.names.iter();
        names
            .map(|name| select(all, Wanted { name, namespace }))
            .collect()
    }

    fn columns(&self) -> Columns {
        Columns {
            namespace: self.command.namespace.is_none(),
            wide: self.command.output == Output::Wide,
        }
    }

    /// All that is printed of these pods.
    fn text(&self, pods: &[&Told]) -> Result<String, Failure> {
        match self.command.output {
            Output::Json | Output::Yaml => self.for_programs(pods),
            Output::Name => {
                let names = pods
                    .iter()
                    .map(|told| format!("pod/{}\n", told.full_name()));
                Ok(names.collect())
            }
            Output::Text | Output::Wide => Ok(self.for_people(pods)),
        }
    }

    fn for_people(&self, pods: &[&Told]) -> String {
        let now = (self.now)();
        let each = |text: &dyn Fn(&Told) -> String| {
            let texts: Vec<String> = pods.iter().map(|told| text(told)).collect();
            texts.join("\n")
        };
        let is_list = self.command.names.is_empty() && !self.command.is_watch;
        match self.command.verb {
            _ if pods.is_empty() => "No pods on this node.\n".to_owned(),
            Verb::Get => {
                let columns = self.columns();
                let rows = pods.iter().map(|told| cells(told, columns, now));
                let rows: Vec<_> = [head(columns)].into_iter().chain(rows).collect();
                table(&rows, self.paint)
            }
            Verb::Describe => each(&|told| describe::describe(told, now, self.paint)),
            Verb::Why if is_list => why::all(pods, now, self.paint),
            Verb::Why => each(&|told| why::why(told).text(now, self.paint)),
            Verb::Timeline if is_list => table(&timeline::rows(pods), self.paint),
            Verb::Timeline => each(&|told| timeline::text(told, now, self.paint)),
        }
    }

    fn for_programs(&self, pods: &[&Told]) -> Result<String, Failure> {
        let values: Vec<Value> = pods.iter().map(|told| self.value(told)).collect();
        let value = match values.as_slice() {
            // A watch prints one after the other.
            [one] if self.command.names.len() == 1 || self.command.is_watch => one.clone(),
            many if self.command.verb == Verb::Get => {
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": many})
            }
            many => json!({ "items": many }),
        };
        let failed = |error: String| Failure::Render(error);
        match self.command.output {
            Output::Yaml => {
                serde_saphyr::to_string(&value).map_err(|error| failed(error.to_string()))
            }
            _ => serde_json::to_string_pretty(&value)
                .map(|text| text + "\n")
                .map_err(|error| failed(error.to_string())),
        }
    }

    fn value(&self, told: &Told) -> Value {
        let why = || serde_json::to_value(why::why(told)).unwrap_or(Value::Null);
        match self.command.verb {
            Verb::Get => told.json.clone(),
            Verb::Describe => {
                let story = serde_json::to_value(&told.story).unwrap_or(Value::Null);
                json!({"pod": told.json, "story": story, "why": why()})
            }
            Verb::Why => why(),
            Verb::Timeline => timeline::value(told),
        }
    }

    /// What is there, and then each pod that changes.
    async fn watch(&self, client: &mut Client) -> Result<(), Failure> {
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        let mut asking = client.clone();
        let mut watch = client.watch().await?;
        let mut tick = tokio::time::interval(AGAIN);
        let mut printed = Printed::default();
        let mut is_complete = false;
        loop {
            let event = tokio::select! {
                // What is told comes first; dropping the wait for it loses nothing.
                biased;
                event = watch.next() => event?,
                _ = tick.tick(), if is_complete && !self.is_rows() => {
                    for told in asking.list().await? {
                        let uid = told.uid().to_owned();
                        if all.contains_key(&uid) {
                            all.insert(uid.clone(), told);
                            self.again(&all, &uid, &mut printed)?;
                        }
                    }
                    continue;
                }
            };
            let changed = match event {
                Event::Changed(told) => {
                    let uid = told.uid().to_owned();
                    all.insert(uid.clone(), *told);
                    Some(uid)
                }
                Event::Gone(uid) => {
                    printed.texts.remove(&uid);
                    if let Some(told) = all.remove(&uid).filter(|_| !self.is_for_programs()) {
                        self.gone(&told)?;
                    }
                    None
                }
                Event::Complete => {
                    is_complete = true;
                    self.first(&all, &mut printed)?;
                    continue;
                }
            };
            if is_complete && let Some(uid) = changed {
                self.again(&all, &uid, &mut printed)?;
            }
        }
    }

    /// What is there at the begin. A pod that is named has to be there.
    fn first(&self, all: &BTreeMap<String, Told>, printed: &mut Printed) -> Result<(), Failure> {
        let mut all: Vec<Told> = all.values().cloned().collect();
        all.sort_by_key(Told::full_name);
        let meant = self.meant(&all)?;
        if !self.is_rows() {
            for (index, told) in meant.into_iter().enumerate() {
                let text = self.text(&[told])?;
                let lasting = self.lasting(told);
                printed.texts.insert(told.uid().to_owned(), lasting);
                print(&format!("{}{text}", self.between(index > 0)))?;
            }
            return Ok(());
        }
        let (columns, now) = (self.columns(), (self.now)());
        let rows = meant.iter().map(|told| cells(told, columns, now));
        let rows: Vec<_> = [head(columns)].into_iter().chain(rows).collect();
        printed.widths.fit(&rows);
        print(&printed.widths.lines(&rows, self.paint))
    }

    /// That a pod is gone. A list says so by what it does not show.
    fn gone(&self, told: &Told) -> Result<(), Failure> {
        if self.is_rows() || !self.is_meant(told) {
            return Ok(());
        }
        print(&format!("\nPod {} is gone.\n", told.full_name()))
    }

    /// Whether the command is about this pod.
    fn is_meant(&self, told: &Told) -> bool {
        let one = [told.clone()];
        let (names, namespace) = (&self.command.names, self.command.namespace.as_deref());
        match names.is_empty() {
            true => of_namespace(&one, namespace).next().is_some(),
            false => names
                .iter()
                .any(|name| select(&one, Wanted { name, namespace }).is_ok()),
        }
    }

    fn is_for_programs(&self) -> bool {
        matches!(
            self.command.output,
            Output::Json | Output::Yaml | Output::Name
        )
    }

    /// Whether changes are rows below a head.
    fn is_rows(&self) -> bool {
        let is_text = matches!(self.command.output, Output::Text | Output::Wide);
        self.command.verb == Verb::Get && is_text
    }

    /// One pod after a change.
    fn again(
        &self,
        all: &BTreeMap<String, Told>,
        uid: &str,
        printed: &mut Printed,
    ) -> Result<(), Failure> {
        let Some(told) = all.get(uid) else {
            return Ok(());
        };
        if !self.is_meant(told) {
            return Ok(());
        }
        if self.is_rows() {
            let rows = [cells(told, self.columns(), (self.now)())];
            printed.widths.fit(&rows);
            return print(&printed.widths.lines(&rows, self.paint));
        }
        let lasting = self.lasting(told);
        if printed.texts.insert(uid.to_owned(), lasting.clone()) == Some(lasting) {
            return Ok(());
        }
        let text = self.text(&[told])?;
        print(&format!("{}{text}", self.between(true)))
    }

    /// What parts one answer of a watch from the one before.
    fn between(&self, is_later: bool) -> &'static str {
        match self.command.output {
            Output::Yaml if is_later => "---\n",
            Output::Text if is_later => "\n",
            Output::Json | Output::Wide | Output::Name | Output::Yaml | Output::Text => "",
        }
    }

    /// What is printed, without the times that pass.
    fn lasting(&self, told: &Told) -> Value {
        let why = || {
            let why = why::why(told);
            let links = why.chain.into_iter();
            let links = links.map(|link| json!([link.text, link.last_error]));
            json!([why.state, links.collect::<Vec<_>>()])
        };
        match self.command.verb {
            Verb::Why => why(),
            Verb::Describe => json!([told.json, why()]),
            Verb::Get | Verb::Timeline => self.value(told),
        }
    }
}

/// What a watch has printed.
#[derive(Default)]
struct Printed {
    widths: Widths,
    texts: BTreeMap<String, Value>,
}

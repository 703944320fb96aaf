//! The executor of commands: what may be executed, how, and what its end means.
//!
//! Each command has a runner above it (`shells/runner`) that outlives this daemon. May not start
//! processes itself. Invariant: a command that was begun is never begun again for its epoch, and
//! its outcome is taken from what its runner wrote, whichever daemon started it.

pub mod allow;
mod definition;
mod environment;
mod outcome;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zeroize::Zeroize as _;

use crate::codecs::event::FailureClass;
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::limits::SHELL_TIMEOUT_MS;
use crate::machines::effect::plain_error;
use crate::ports::disk::{self, Disk};
use crate::ports::telemetry::Metrics;
use crate::shells::runner::Job;
use crate::shells::runner::folder::Folder;
use crate::shells::runner::keeper::{self, Runner};

use super::http::refused;
use super::secrets::{Missing, Secret, Secrets, Use};
use super::{Attempt, Bar, Executor, Outcome, Stop, StopWhy, Working, redact, template};
use allow::Allow;
use definition::{Command, Definition};

/// How long to wait for a runner to say which process it is.
const UNNAMED: Duration = Duration::from_millis(20);

/// `[executors.shell]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// What may be executed.
    pub allow: Allow,
    /// Whether texts are given to a shell.
    pub allow_command_strings: bool,
    /// Where programs are looked for.
    pub path: Vec<PathBuf>,
    /// Variables of the daemon that commands get.
    pub env_pass: Vec<String>,
    /// Variables that a process may set.
    pub env_allow: Vec<String>,
    /// Below which directories commands may be started.
    pub cwd_roots: Vec<PathBuf>,
    /// How much of each stream is kept.
    pub log_bytes_max: u64,
    /// How long a command may take to end once it was told to.
    pub kill_grace_ms: u64,
    /// Limits of the system by name.
    pub rlimits: BTreeMap<String, u64>,
}

/// Executes commands.
#[derive(Clone)]
pub struct Shell(Arc<Means>);

/// With what commands are executed.
struct Means {
    rules: Rules,
    disk: Arc<dyn Disk>,
    /// This program.
    exe: PathBuf,
    /// What commands get of the daemon's environment.
    passed: BTreeMap<String, String>,
    secrets: Secrets,
    metrics: Arc<Metrics>,
}

/// A command that may be executed.
struct Plan {
    def: Definition,
    program: PathBuf,
    /// A directory that configuration allows; its own empty one if there is none.
    cwd: Option<PathBuf>,
}

/// Secrets of a command, by name.
type Found = BTreeMap<String, Secret>;

impl Shell {
    /// Under these rules; `variable` reads the daemon's environment.
    #[must_use]
    pub fn new(
        rules: Rules,
        disk: Arc<dyn Disk>,
        exe: &Path,
        (secrets, metrics): (Secrets, Arc<Metrics>),
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let pass = |name: &String| Some((name.clone(), variable(name)?));
        let passed = rules.env_pass.iter().filter_map(pass).collect();
        let exe = exe.to_owned();
        Self(Arc::new(Means { rules, disk, exe, passed, secrets, metrics }))
    }
}

impl Executor for Shell {
    fn kind(&self) -> &'static str {
        "shell"
    }

    fn may_run(&self, definition: &Value, cwd: Option<&str>) -> Result<(), Bar> {
        self.0.plan(definition, cwd).map(|_| ())
    }

    fn timeout_ms(&self, _definition: &Value) -> Option<u64> {
        Some(SHELL_TIMEOUT_MS)
    }

    fn target(&self, definition: &Value) -> Option<String> {
        Definition::read(definition).ok().map(|def| def.command.program().to_owned())
    }

    fn run(&self, attempt: Attempt, stop: Stop) -> Working {
        let means = Arc::clone(&self.0);
        Box::pin(async move {
            let secrets = match means.clone().find_secrets(&attempt).await {
                Ok(secrets) => secrets,
                Err(missing) => return refused(&Box::from(missing)),
            };
            let (attempt, begun) = blocking(move || {
                let begun = means.begin(&attempt, &secrets);
                (attempt, begun.map(|(folder, runner)| (means, folder, runner)))
            })
            .await;
            match begun {
                Ok((means, folder, runner)) => {
                    means.watch(attempt, folder, Some(runner), stop).await
                }
                Err(why) => not_begun(why),
            }
        })
    }

    fn resume(&self, attempt: &Attempt, stop: &Stop) -> Option<Working> {
        let (means, attempt, stop) = (Arc::clone(&self.0), attempt.clone(), stop.clone());
        Some(Box::pin(async move {
            let folder = Folder::make(&attempt.dir, attempt.effect_id, attempt.epoch);
            match folder {
                Ok(folder) => means.watch(attempt, folder, None, stop).await,
                Err(e) => unreadable(&e),
            }
        }))
    }

    fn outlives(&self, _definition: &Value) -> bool {
        true
    }
}

impl Means {
    /// Reads a definition and asks the rules about it.
    fn plan(&self, definition: &Value, run_cwd: Option<&str>) -> Result<Plan, Bar> {
        let def = Definition::read(definition)
            .map_err(|why| Bar::Never(plain_error("InvalidShellDefinition", why)))?;
        let held = |why: String, allow: String| Bar::Held { why, allow };
        let named = def.command.program();
        let program = self.real(named).ok_or_else(|| {
            let (why, allow) = self.no_program(named);
            held(why, allow)
        })?;
        match &def.command {
            Command::Text(_) if self.rules.allow_command_strings => {}
            Command::Text(_) => {
                let why = "texts are not given to a shell".to_owned();
                return Err(held(why, "executors.shell.allow_command_strings = true".to_owned()));
            }
            Command::Argv(_, args) => {
                if !self.rules.allow.permits(&program, args, |name| self.real(name)) {
                    let why = format!("no rule allows {named:?} with these arguments");
                    let rule = allow::Rule { program: named.to_owned(), args: Some(args.clone()) };
                    return Err(held(why, format!("executors.shell.allow = [{rule}]")));
                }
            }
        }
        if let Some(name) = environment::forbidden(&def, &self.rules) {
            let allow = format!("executors.shell.env_allow = [{name:?}]");
            return Err(held(format!("the variable {name} may not be set"), allow));
        }
        let cwd = match (&def.cwd, run_cwd) {
            (Some(asked), _) => Some(self.allowed_dir(Path::new(asked)).ok_or_else(|| {
                let allow = format!("executors.shell.cwd_roots = [{asked:?}]");
                held(format!("nothing may be started in {asked}"), allow)
            })?),
            (None, Some(its)) => self.allowed_dir(Path::new(its)),
            (None, None) => None,
        };
        Ok(Plan { def, program, cwd })
    }

    /// Why a program is not found, and what would have it found.
    fn no_program(&self, named: &str) -> (String, String) {
        let why = format!("there is no program {named:?}");
        if named.starts_with('/') {
            return (why, "to install it there".to_owned());
        }
        if named.contains('/') {
            let why = format!("{named:?} means another program in every directory");
            return (why, "its absolute path in the definition".to_owned());
        }
        let path: Vec<_> = self.rules.path.iter().map(|dir| dir.display()).collect();
        (why, format!("to install it in one of {path:?}, or its directory in executors.shell.path"))
    }

    /// A program's path without links.
    fn real(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            let path = Path::new(program);
            // A relative path would mean something else in every directory.
            return path.is_absolute().then(|| self.disk.canonicalize(path).ok()).flatten();
        }
        self.rules.path.iter().find_map(|dir| self.disk.canonicalize(&dir.join(program)).ok())
    }

    /// The directory without links, if it lies below one that is allowed.
    fn allowed_dir(&self, dir: &Path) -> Option<PathBuf> {
        let real = self.disk.canonicalize(dir).ok().filter(|_| dir.is_absolute())?;
        let mut roots = self.rules.cwd_roots.iter();
        let inside =
            |root: &PathBuf| self.disk.canonicalize(root).is_ok_and(|r| real.starts_with(r));
        roots.any(inside).then_some(real)
    }

    /// Fetches what the variables of a command name. What cannot be begun needs none.
    async fn find_secrets(self: Arc<Self>, attempt: &Attempt) -> Result<Found, Missing> {
        let named = |def: &Definition| -> BTreeSet<String> {
            let names = def.env.values().flat_map(|text| template::secrets_named(text));
            names.map(str::to_owned).collect()
        };
        let (definition, cwd) = (attempt.definition.clone(), attempt.cwd.clone());
        let means = Arc::clone(&self);
        let plan = blocking(move || means.plan(&definition, cwd.as_deref())).await;
        let Ok(plan) = plan else { return Ok(Found::new()) };
        let program = plan.program.display().to_string();
        let mut found = Found::new();
        for name in named(&plan.def) {
            let secret = self.secrets.resolve(&name, Use::Program(&program)).await?;
            found.insert(name, secret);
        }
        Ok(found)
    }

    /// Starts the runner of an attempt.
    fn begin(&self, attempt: &Attempt, secrets: &Found) -> Result<(Folder, Runner), String> {
        let plan =
            self.plan(&attempt.definition, attempt.cwd.as_deref()).map_err(|bar| match bar {
                Bar::Held { why, .. } => why,
                Bar::Never(error) => error.message,
                Bar::Elsewhere => "it is done elsewhere".to_owned(),
            })?;
        let folder =
            Folder::make(&attempt.dir, attempt.effect_id, attempt.epoch).map_err(|e| said(&e))?;
        let job = self.job(attempt, plan, &folder, secrets)?;
        let runner = keeper::start(&self.exe, &job).map_err(|e| e.to_string())?;
        Ok((folder, runner))
    }

    fn job(
        &self,
        attempt: &Attempt,
        mut plan: Plan,
        folder: &Folder,
        secrets: &Found,
    ) -> Result<Job, String> {
        let run_dir = self.disk.canonicalize(attempt.dir.path()).map_err(|e| said(&e))?;
        for text in plan.def.env.values_mut() {
            let filled = template::fill_secrets(text, &|name| secrets.get(name));
            // A secret that is missing here was not named when they were fetched.
            let filled = filled.map_err(|name| format!("there is no secret {name} any more"))?;
            text.zeroize();
            text.push_str(&filled);
        }
        let task = run_dir.join("tasks").join(attempt.effect_id.to_string());
        let cwd = if let Some(cwd) = plan.cwd {
            cwd
        } else {
            folder.dir().ensure_dir("scratch").map_err(|e| said(&e))?;
            task.join("scratch")
        };
        let mut ours = vec![
            ("DORMOUSE_RUN_ID", attempt.run_id.to_string()),
            ("DORMOUSE_EFFECT_ID", attempt.effect_id.to_string()),
            ("DORMOUSE_EPOCH", attempt.epoch.to_string()),
            ("DORMOUSE_ATTEMPT", attempt.attempt.to_string()),
            ("DORMOUSE_IDEMPOTENCY_KEY", attempt.idempotency_key.clone()),
            ("DORMOUSE_OUTPUTS", task.join(folder.outputs()).display().to_string()),
        ];
        let deadline = attempt.deadline.as_ref().map(Timestamp::to_string);
        ours.extend(deadline.map(|deadline| ("DORMOUSE_DEADLINE", deadline)));
        ours.extend(attempt.traceparent.clone().map(|trace| ("TRACEPARENT", trace)));
        Ok(Job {
            run_dir,
            effect_id: attempt.effect_id,
            epoch: attempt.epoch,
            program: plan.program,
            arg0: plan.def.command.program().to_owned(),
            args: plan.def.command.args(),
            env: environment::whole(&plan.def, &self.rules, &self.passed, ours),
            cwd,
            stdin: plan.def.stdin,
            timeout_ms: attempt.timeout_ms,
            kill_grace_ms: self.rules.kill_grace_ms,
            log_bytes_max: self.rules.log_bytes_max,
            rlimits: self.rules.rlimits.clone(),
            hide: secrets
                .values()
                .filter(|secret| redact::is_hidden(secret))
                .map(|secret| (redact::mark(secret.name()), secret.text().to_owned()))
                .collect(),
        })
    }

    /// Waits for the end of an attempt, whoever supervises it.
    async fn watch(
        self: Arc<Self>,
        attempt: Attempt,
        folder: Folder,
        runner: Option<Runner>,
        stop: Stop,
    ) -> Outcome {
        let _here = Counted::one(&self.metrics);
        self.follow(attempt, folder, runner, stop).await
    }

    async fn follow(
        self: Arc<Self>,
        attempt: Attempt,
        folder: Folder,
        mut runner: Option<Runner>,
        mut stop: Stop,
    ) -> Outcome {
        loop {
            if let Some(runner) = runner.take() {
                if let Err(e) = ended(&runner, &mut stop).await {
                    tracing::warn!(run = %attempt.run_id, "a runner cannot be watched: {e}");
                    tokio::time::sleep(UNNAMED).await;
                }
                blocking(move || runner.bury()).await;
            }
            let (means, its) = (Arc::clone(&self), folder.clone());
            match blocking(move || keeper::find(&its, &means.disk.boot_id())).await {
                Ok(keeper::Found::Running(found)) => runner = Some(found),
                Ok(keeper::Found::Unnamed) => tokio::time::sleep(UNNAMED).await,
                Ok(keeper::Found::Ended(exit)) => {
                    self.metrics.redactions.add(exit.hidden);
                    return blocking(move || outcome::of(&attempt, &folder, &exit)).await;
                }
                Ok(keeper::Found::NotBegun) => {
                    return not_begun("its runner ended before the command was begun".to_owned());
                }
                Ok(keeper::Found::Lost { evidence }) => {
                    let evidence = Some(Json::of(&evidence));
                    return Outcome::Unknown { cause: "executor_lost", evidence };
                }
                Err(e) => return unreadable(&e),
            }
        }
    }
}

/// Counts a command for as long as it is watched.
struct Counted(Arc<Metrics>);

impl Counted {
    fn one(metrics: &Arc<Metrics>) -> Self {
        metrics.shell_processes.shift(1);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shell_processes.shift(-1);
    }
}

fn said(error: &disk::Error) -> String {
    format!("{error}: {}", error.source)
}

/// Waits until a runner ends, and passes on that its command is given up.
async fn ended(runner: &Runner, stop: &mut Stop) -> std::io::Result<()> {
    let owned = runner.as_fd().try_clone_to_owned()?;
    #[expect(deprecated, reason = "unsound for what does not own its descriptor; this does")]
    let fd = AsyncFd::with_interest(owned, Interest::READABLE)?;
    tokio::select! {
        readable = fd.readable() => return readable.map(|_| ()),
        why = stop.asked() => {
            // It watches the time itself, and goes on when the daemon ends.
            if why == StopWhy::Cancelled {
                runner.stop();
            }
        }
    }
    fd.readable().await.map(|_| ())
}

/// Does what waits for a disk on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // The runtime ends, and with it whoever waits here.
        Err(_) => std::future::pending().await,
    }
}

fn not_begun(why: String) -> Outcome {
    Outcome::failed(FailureClass::NotBegun, plain_error("ShellSpawn", why))
}

fn unreadable(error: &disk::Error) -> Outcome {
    let evidence = Json::of(&format!("{error}: {}", error.source));
    Outcome::Unknown { cause: "executor_lost", evidence: Some(evidence) }
}

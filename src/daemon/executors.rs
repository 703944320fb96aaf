//! The executors that configuration turns on, and the threads that they work on.
//!
//! May not know effects. Invariant: what is not turned on starts nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::services::executor::agents::AgentExecutor;
use crate::services::executor::agents::book::Book;
use crate::services::executor::agents::postbox::Postbox;
use crate::services::executor::echo::Echo;
use crate::services::executor::guard::{Guard, Listeners};
use crate::services::executor::http::wire::{SystemNames, Wire};
use crate::services::executor::http::{Client, Http};
use crate::services::executor::mcp::{Mcp, Means};
use crate::services::executor::secrets::Secrets;
use crate::services::executor::shell::{Rules, Shell};
use crate::services::executor::{Executor, Registry};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};

use super::config::Config;

/// Threads on which executors wait for the outside; none of them computes.
const THREADS: usize = 2;
/// Longest file of certificate authorities.
const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What a file of agents is called.
const AGENTS_FILE: &str = "agents.yaml";

/// The agents of a daemon.
fn agents(runs: &Runs, config: &Config) -> Arc<Book> {
    let book = Book::new(Arc::clone(&runs.disk), Some(agents_file(runs, config)));
    let compat = &config.compat;
    // Another default agent that was asked for comes before the echo.
    let echoes = compat.echo && compat.default_agent.is_none();
    let book = if echoes { book.echoing() } else { book };
    // What is wrong with the file is said at once, not when the first agent is asked.
    book.agents();
    Arc::new(book)
}

/// The executors of a daemon, and the agents that one of them asks.
pub(super) fn registry(
    runs: &Runs,
    config: &Config,
    ours: &Listeners,
) -> Result<(Registry, Arc<Book>)> {
    let asked = &config.executors;
    let echo = |kind: &String| Arc::new(Echo::new(kind.clone())) as Arc<dyn Executor>;
    let (mut on, mut off): (Vec<_>, _) = (asked.echo_kinds.iter().map(echo).collect(), Vec::new());
    let client = client(runs, config, ours)?;
    let commands = shell(runs, asked.shell.clone().unwrap_or_default(), &client);
    let list = if asked.shell.is_some() { &mut on } else { &mut off };
    list.push(Arc::clone(&commands) as Arc<dyn Executor>);
    if asked.http.is_some() {
        on.push(Arc::new(Http::new(client.clone())));
    }
    if !config.mcp_servers.is_empty() {
        let means = Means { client: client.clone(), passed: passed() };
        on.push(Arc::new(Mcp::new(config.mcp_servers.clone(), &means)));
    }
    let book = agents(runs, config);
    let postbox = Arc::new(Postbox::new(
        Arc::clone(&runs.disk),
        runs.root.clone(),
        ours.clone(),
        config.http.public_url.clone(),
    ));
    on.push(Arc::new(AgentExecutor {
        client,
        book: Arc::clone(&book),
        shell: commands,
        commands: asked.shell.is_some(),
        postbox,
    }));
    Ok((Registry::of(on).and_off(off), book))
}

/// What servers of tools get of the daemon's environment.
fn passed() -> BTreeMap<String, String> {
    let here = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    let language = ("LANG".to_owned(), "C.UTF-8".to_owned());
    ["PATH", "HOME"].into_iter().filter_map(here).chain([language]).collect()
}

/// What requests need to leave.
fn client(runs: &Runs, config: &Config, ours: &Listeners) -> Result<Client> {
    let requests = config.executors.http.as_ref();
    let unusable = |key: &str, why: &dyn std::fmt::Display| {
        Error::Invalid(Trouble::new("usage", format!("{key}: {why}")))
    };
    let ca_file = requests.and_then(|requests| requests.ca_file.as_ref());
    let roots = ca_file.map(|path| runs.disk.read_user_file(path, CA_FILE_BYTES_MAX)).transpose();
    let roots = roots.map_err(|e| unusable("executors.http.ca_file", &e))?;
    let wire = Wire::new(Arc::new(SystemNames), roots.as_deref());
    let origins = requests.map(|requests| &requests.allow_origins[..]).unwrap_or_default();
    let guard = Guard::new(origins, ours.clone());
    let metrics = Arc::clone(&runs.telemetry.metrics);
    let secrets = config.secrets.clone();
    Ok(Client {
        wire: wire.map_err(|e| unusable("executors.http.ca_file", &e))?,
        guard: guard.map_err(|e| unusable("executors.http.allow_origins", &e))?,
        secrets: Secrets::new(secrets, Arc::clone(&runs.disk), Arc::clone(&metrics)),
        clock: Arc::clone(&runs.clock),
        metrics,
    })
}

/// The file of agents: the one that is named, else the root's, else the user's. A root's file that
/// is not there yet may come.
fn agents_file(runs: &Runs, config: &Config) -> PathBuf {
    if let Some(named) = &config.executors.agents_file {
        return named.clone();
    }
    let of_root = runs.root.join(".dormouse").join(AGENTS_FILE);
    let above = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let above = above("XDG_CONFIG_HOME").or_else(|| Some(above("HOME")?.join(".config")));
    let of_user = above.map(|above| above.join("dormouse").join(AGENTS_FILE));
    let is_there = |path: &PathBuf| runs.disk.canonicalize(path).is_ok();
    of_user.filter(|of_user| !is_there(&of_root) && is_there(of_user)).unwrap_or(of_root)
}

fn shell(runs: &Runs, rules: Rules, client: &Client) -> Arc<Shell> {
    let variable = |name: &str| std::env::var(name).ok();
    let (disk, program) = (Arc::clone(&runs.disk), runs.hosts.program());
    let shared = (client.secrets.clone(), Arc::clone(&client.metrics));
    Arc::new(Shell::new(rules, disk, program, shared, variable))
}

/// Where executors work. Dropped, it waits for nobody: a daemon whose storage failed ends inside
/// of another runtime, where nobody may wait.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Starts them.
    pub(super) fn start() -> Result<(Self, Handle)> {
        let mut builder = Builder::new_multi_thread();
        let built = builder.worker_threads(THREADS).thread_name("executor").enable_all().build();
        let runtime = built.map_err(|e| {
            let what = format!("the executors' threads could not be started: {e}");
            Error::Bug(Trouble::new("bug", what))
        })?;
        let handle = runtime.handle().clone();
        Ok((Self(Some(runtime)), handle))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

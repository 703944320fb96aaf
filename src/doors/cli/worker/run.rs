//! `worker run`: does tasks with a command, one after the other.
//!
//! May not know what a task is about. Invariant: what was begun is posted, by this worker or by the
//! next one of its name; what nobody knows is posted as unknown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::child::{self, Ended, Running};
use super::outbox::{self, Entry, Outbox, Said};
use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::deeds::path;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::labour::{Claiming, args_link, put_args};
use crate::doors::cli::output;
use crate::doors::cli::remote::Client;
use crate::doors::cli::task::claim::{signatures, ttl_ms, worker};
use crate::ground::limits::CLAIM_WAIT_MS_DEFAULT;

/// How long a daemon that does not answer is left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a command may take to stop before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// Do tasks with a command: the task comes as JSON on its standard input; what it prints, or writes
/// to the file `$DORMOUSE_OUTPUTS`, is the value. A signal lets it finish what it is at.
///
/// Example:
///   dormouse worker run --kind agent --concurrency 4 -- ./do-task.sh
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the command can do: the kind of effects; may be given several times
    #[arg(long = "kind", value_name = "KIND", required = true)]
    kinds: Vec<String>,
    /// Who works [default: the name of the machine and the kinds]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Of kind agent, only tasks of the agent of this name
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
    /// What the worker offers, for effects that require it
    #[arg(long = "offers", value_name = "NAME")]
    offers: Vec<String>,
    /// What its kinds take and bring, for workflow documents: a JSON file, as for
    /// executors.signatures of the configuration
    #[arg(long, value_name = "FILE")]
    signatures: Option<PathBuf>,
    /// How many tasks at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How long silence is taken for life, such as 60s
    #[arg(long, value_name = "DURATION")]
    ttl: Option<humantime::Duration>,
    /// Where what was begun is noted [default: .dormouse/outbox in the runs root]
    #[arg(long, value_name = "DIR")]
    outbox: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What all tasks of a worker share.
struct Shop {
    client: Client,
    outbox: Outbox,
    name: String,
    ttl_ms: u64,
    kinds: Vec<String>,
    agents: Vec<String>,
    offers: Vec<String>,
    signatures: Option<Json>,
    command: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = context.daemon()?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = args.name.clone().unwrap_or_else(|| format!("{machine}-{}", args.kinds.join("-")));
    let name = worker(&name)?.to_owned();
    let place = args.outbox.clone().unwrap_or_else(|| context.meta().join("outbox"));
    let outbox = Outbox::open(context, &place, &name)?;
    let shop = Arc::new(Shop {
        client,
        outbox,
        name,
        ttl_ms: ttl_ms(args.ttl)?,
        kinds: args.kinds.clone(),
        agents: args.agents.clone(),
        offers: args.offers.clone(),
        signatures: signatures(args.signatures.as_deref(), context)?,
        command: args.command.clone(),
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::usage(&format!("cannot begin: {e}"), ""))?;
    let done = runtime.block_on(work(Arc::clone(&shop), args.concurrency));
    // What the shop holds may not end inside of a runtime.
    drop(runtime);
    drop(shop);
    done
}

async fn work(shop: Arc<Shop>, concurrency: u16) -> Result<Exit, Failure> {
    let broken = |e: std::io::Error| Failure::usage(&format!("cannot listen to signals: {e}"), "");
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    shop.take_up().await?;
    output::remark(&format!("{} works; a signal lets it finish what it is at", shop.name));
    let (ending, ended) = watch::channel(false);
    let hands: Vec<_> =
        (0..concurrency).map(|_| tokio::spawn(Arc::clone(&shop).hand(ended.clone()))).collect();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Everybody holds a receiver.
    let _ = ending.send(true);
    for hand in hands {
        // A hand that panicked has left its task to the outbox.
        let _ = hand.await;
    }
    Ok(Exit::Done)
}

impl Shop {
    /// What a worker of this name left: results are posted, what it had begun is unknown, what it
    /// never began is given back.
    async fn take_up(&self) -> Result<(), Failure> {
        let left = self.outbox.all()?;
        let mut known = Vec::new();
        for entry in left {
            let why = "the worker ended while it was at this";
            let said = entry.said.unwrap_or_else(|| Said::unknown("WorkerLost", why));
            self.post(&entry.run_id, &entry.effect_id, entry.epoch, &said).await?;
            self.outbox.forget(&outbox::name(&entry.run_id, &entry.effect_id, entry.epoch));
            known.push((entry.run_id, entry.effect_id));
        }
        let query: String = url::form_urlencoded::byte_serialize(self.name.as_bytes()).collect();
        let held = format!("/v1/tasks?state=started&pageSize=1000&worker={query}");
        let held = self.client.get_on(&held).await?;
        for task in held["tasks"].as_array().into_iter().flatten() {
            let text = |name: &str| task[name].as_str().unwrap_or("").to_owned();
            let (run, effect) = (text("runId"), text("effectId"));
            if known.contains(&(run.clone(), effect.clone())) {
                continue;
            }
            self.release(&run, &effect, &task["epoch"], "the worker was started again").await;
        }
        Ok(())
    }

    /// Does one task after the other until it is told to stop.
    async fn hand(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let claim = Claiming {
                worker: &self.name,
                kinds: &self.kinds,
                agents: &self.agents,
                offers: &self.offers,
                signatures: self.signatures.as_ref(),
                runs: &[],
                max: 1,
                wait_ms: CLAIM_WAIT_MS_DEFAULT,
                ttl_ms: self.ttl_ms,
                claim_id: None,
            };
            // Whoever stops hangs up: what was given meanwhile is taken back.
            let claimed = tokio::select! {
                claimed = self.client.post_on("/v1/tasks/claim", &claim) => claimed,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match claimed {
                Ok(claimed) => {
                    for task in claimed["tasks"].as_array().into_iter().flatten() {
                        self.work_on(task.clone()).await;
                    }
                }
                Err(failure) => {
                    output::remark(&format!("nothing to do for now: {}", failure.what));
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        _ = stop.wait_for(|stop| *stop) => return,
                    }
                }
            }
        }
    }

    async fn work_on(&self, mut task: Value) {
        if let Some(link) = args_link(&task) {
            match self.client.get_on(&link).await {
                Ok(args) => put_args(&mut task, args),
                Err(failure) => {
                    output::remark(&format!("its arguments cannot be read: {}", failure.what));
                    let text = |name: &str| task[name].as_str().unwrap_or("").to_owned();
                    let (run, effect) = (text("runId"), text("effectId"));
                    let why = "its arguments cannot be read";
                    return self.release(&run, &effect, &task["epoch"], why).await;
                }
            }
        }
        self.perform(&task).await;
    }

    async fn perform(&self, task: &Value) {
        let text = |name: &str| task[name].as_str().unwrap_or("").to_owned();
        let (run, effect) = (text("runId"), text("effectId"));
        let name = outbox::name(&run, &effect, epoch(task));
        if let Err(e) = self.outbox.put(&Entry::of(task, None)) {
            output::remark(&format!("{run} {effect}: {e}"));
            return self.release(&run, &effect, &task["epoch"], "the outbox is broken").await;
        }
        let outputs = self.outbox.outputs(&name);
        let variables = child::variables(task, &outputs.display().to_string());
        let running = match Running::start(&self.command, &variables) {
            Ok(running) => running,
            Err(e) => {
                output::remark(&format!("{}: {e}", self.command.join(" ")));
                self.release(&run, &effect, &task["epoch"], "the command cannot be started").await;
                return self.outbox.forget(&name);
            }
        };
        let (group, input) = (running.group(), task.to_string());
        let mut ended = tokio::task::spawn_blocking(move || running.finish(&input));
        let told = tokio::select! {
            ended = &mut ended => Ok(ended),
            directive = self.beat(task) => Err(directive),
        };
        let ended = match told {
            Ok(ended) => ended,
            Err(directive) => {
                child::end(group, Signal::TERM);
                let waited = tokio::time::timeout(KILL_AFTER, &mut ended).await;
                child::end(group, Signal::KILL);
                if waited.is_err() {
                    let _ = ended.await;
                }
                return self.called_off(task, &directive).await;
            }
        };
        let (status, printed) =
            ended.unwrap_or_else(|e| (Err(std::io::Error::other(e.to_string())), Vec::new()));
        let judged = match self.outbox.read_outputs(&name) {
            Ok(outputs) => child::judge(&status, &printed, outputs.as_deref()),
            Err(e) => Ended::Unknown(format!("what the command wrote cannot be read: {e}")),
        };
        self.say(task, Said::of(judged)).await;
    }

    /// Says that a task is worked on, until it is called off.
    async fn beat(&self, task: &Value) -> String {
        let every = task["heartbeatEveryMs"].as_u64().unwrap_or(self.ttl_ms / 3).max(1);
        let place = place(task, "heartbeat");
        let sign = json!({ "epoch": task["epoch"], "worker": self.name });
        loop {
            tokio::time::sleep(Duration::from_millis(every)).await;
            match self.client.post_on(&place, &sign).await {
                Ok(beat) if beat["directive"] == "continue" => {}
                Ok(beat) => return beat["directive"].as_str().unwrap_or("stop").to_owned(),
                // The number is dead, or the effect has ended.
                Err(failure) if failure.exit == Exit::Conflict => return "stop".to_owned(),
                // A daemon that is away for a while has not called it off.
                Err(_) => {}
            }
        }
    }

    /// A command was ended because nobody wants its outcome any more.
    async fn called_off(&self, task: &Value, directive: &str) {
        let said = if directive == "cancel" {
            let error = json!({ "name": "Cancelled", "message": "the run was cancelled" });
            Said { status: "error".into(), value: None, error: Some(error) }
        } else {
            Said::unknown("Stopped", "the command was ended: its time was over")
        };
        self.say(task, said).await;
    }

    /// Posts how a task ended; until that is done it stands in the outbox.
    async fn say(&self, task: &Value, said: Said) {
        let entry = Entry::of(task, Some(said));
        let (run, effect) = (&entry.run_id, &entry.effect_id);
        if let Err(e) = self.outbox.put(&entry) {
            output::remark(&format!("{run} {effect}: {e}"));
        }
        let Some(said) = &entry.said else { return };
        while let Err(failure) = self.post(run, effect, entry.epoch, said).await {
            output::remark(&format!("not posted yet: {}", failure.what));
            tokio::time::sleep(AGAIN).await;
        }
        self.outbox.forget(&outbox::name(run, effect, entry.epoch));
    }

    /// Posts a result. What is refused for good counts as said: it is kept as evidence.
    async fn post(&self, run: &str, effect: &str, epoch: u64, said: &Said) -> Result<(), Failure> {
        let body = Posting { epoch, said };
        match self.client.post_on(&path(run, &format!("tasks/{effect}/result")), &body).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.exit == Exit::Storage => Err(failure),
            Err(failure) => {
                output::remark(&format!("{run} {effect}: {} [{}]", failure.what, failure.code));
                Ok(())
            }
        }
    }

    async fn release(&self, run: &str, effect: &str, epoch: &Value, reason: &str) {
        let body = json!({ "epoch": epoch, "began": false, "reason": reason });
        let place = path(run, &format!("tasks/{effect}/release"));
        if let Err(failure) = self.client.post_on(&place, &body).await {
            // Its lease lapses.
            output::remark(&format!("{run} {effect}: {}", failure.what));
        }
    }
}

fn place(task: &Value, verb: &str) -> String {
    let text = |name: &str| task[name].as_str().unwrap_or("");
    path(text("runId"), &format!("tasks/{}/{verb}", text("effectId")))
}

fn epoch(task: &Value) -> u64 {
    task["epoch"].as_u64().unwrap_or(0)
}

/// `POST …/result`.
#[derive(serde::Serialize)]
struct Posting<'a> {
    epoch: u64,
    #[serde(flatten)]
    said: &'a Said,
}

impl Said {
    /// What is posted of an end.
    fn of(ended: Ended) -> Self {
        match ended {
            Ended::Ok(value) => Self { status: "ok".into(), value: Some(value), error: None },
            Ended::Error { mut error, retryable } => {
                if let Some(retryable) = retryable {
                    error["retryable"] = json!(retryable);
                }
                Self { status: "error".into(), value: None, error: Some(error) }
            }
            Ended::Unknown(why) => Self::unknown("Unreadable", &why),
        }
    }

    fn unknown(name: &str, why: &str) -> Self {
        let error = json!({ "name": name, "message": why });
        Self { status: "unknown".into(), value: None, error: Some(error) }
    }
}

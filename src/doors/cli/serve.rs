//! `serve`: own a runs root and let its runs go on, until a signal.
//!
//! May not serve requests itself. Invariant: exit 0 means that every run directory is complete by
//! itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use sd_notify::NotifyState;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::context::{Context, Extra};
use super::failure::{Exit, Failure};
use super::output;
use crate::daemon::Daemon;
use crate::daemon::config::{self, Config};
use crate::daemon::descriptors::Shares;
use crate::daemon::logging::{self, Format};
use crate::doors::http::{self, Keyring};
use crate::ground::limits::{HTTP_DRAIN_MS, HTTP_DRAIN_SHARE};
use crate::ports::disk::fault::Plan;
use crate::ports::disk::socket::listen_for_owner;
use crate::services::executor::agents::book::Book;
use crate::shells::run_dir::root::SOCKET;

/// Serve a runs root: own its runs, let them go on, and answer over a Unix socket.
///
/// Needs no configuration. SIGTERM and SIGINT finish what was begun, make every run directory
/// complete and end; a second signal leaves at once, and the next start recovers.
///
/// Example:
///   dormouse serve
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Serve on this TCP address of this machine as well, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// For trying out: serve on 127.0.0.1:8080, or at --listen, where messages to agents need no
    /// token; let the agent `default` say what it was told; and log more
    #[arg(long)]
    dev: bool,
    /// What to log, such as debug or dormouse=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Send traces to this collector over OTLP/HTTP, such as `http://127.0.0.1:4318`
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// The file that lists agents to ask over HTTP
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
    /// Let operations on the disk fail; see `dormouse torture`
    #[arg(long, value_name = "PLAN", hide = true)]
    faults: Option<Plan>,
}

/// For answers to leave when storage has failed.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
/// Effects of this kind are answered with their arguments under `--dev`.
const ECHO_KIND: &str = "echo";
/// Where `--dev` serves.
const DEV_ADDRESS: &str = "127.0.0.1:8080";

impl Args {
    /// What these options set in the configuration.
    pub(super) fn settings(&self) -> Extra {
        let mut extra = Extra::new();
        if self.dev {
            let address = self.listen.clone().unwrap_or_else(|| DEV_ADDRESS.to_owned());
            extra.push(("compat.aetheris.listen", address, "--dev"));
            extra.push(("compat.aetheris.token", "none".to_owned(), "--dev"));
            extra.push(("compat.aetheris.echo", "true".to_owned(), "--dev"));
            extra.push(("telemetry.log_format", "text".to_owned(), "--dev"));
            extra.push(("telemetry.log_filter", "debug".to_owned(), "--dev"));
            extra.push(("executors.echo.kinds", ECHO_KIND.to_owned(), "--dev"));
        }
        for (key, given, option) in [
            ("http.listen", if self.dev { &None } else { &self.listen }, "--listen"),
            ("telemetry.log_filter", &self.log, "--log"),
            ("telemetry.log_format", &self.log_format, "--log-format"),
            ("telemetry.otlp_endpoint", &self.otlp_endpoint, "--otlp-endpoint"),
        ] {
            extra.extend(given.clone().map(|value| (key, value, option)));
        }
        if let Some(file) = &self.agents {
            // Whoever has no current directory gives the whole path, or hears that it is needed.
            let whole = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            let whole = whole.to_string_lossy().into_owned();
            extra.push(("executors.agents.file", whole, "--agents"));
        }
        extra
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let faulty = args.faults.clone().map(|plan| context.on_faulty_disk(plan));
    let context = faulty.as_ref().unwrap_or(context);
    log(&context.config.telemetry)?;
    raise_descriptors();
    if context.runs.disk.effective_uid() == 0 {
        output::remark("warning: running as root; whoever may ask this daemon acts as root");
    }
    let failed = |e: io::Error| Failure::usage(&format!("the daemon cannot begin: {e}"), "");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    // Before anything is opened: a signal that comes early is a stop like any.
    let stop = listen_to_signals(&runtime).map_err(failed)?;
    let done = serve(context, &runtime, stop);
    // Whatever still runs there is bounded by nothing; the process ends.
    runtime.shutdown_background();
    done.map(|()| Exit::Done)
}

/// Begins to log as it is configured.
fn log(config: &config::Telemetry) -> Result<(), Failure> {
    let format = if config.log_json { Format::Json } else { Format::Text };
    logging::init(format, &config.log_filter).map_err(|e| {
        let what = format!("telemetry.log_filter: {e}");
        Failure::usage(&what, "give --log a filter such as dormouse=debug")
    })
}

fn serve(context: &Context, runtime: &Runtime, stop: oneshot::Receiver<()>) -> Result<(), Failure> {
    let mut daemon = Daemon::start(&context.runs, &context.config)?;
    let failed = |e: io::Error| Failure::usage(&format!("the daemon cannot begin: {e}"), "");
    read_again_on_hangup(runtime, daemon.agents()).map_err(failed)?;
    let place = context.meta().join(SOCKET);
    remove_socket(context);
    let socket = listen_for_owner(&place).map_err(|e| unusable(&place, &e))?;
    let options = door(context, &daemon, socket)?;
    announce(context, &place, &options);
    // Nobody may be listening.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    watchdog(runtime);
    let drain = Duration::from_millis(context.config.drain_timeout_ms);
    let (first, draining) = oneshot::channel();
    let (failure, note) = (daemon.failure(), daemon.failure_note());
    let stopping = async move {
        // Whether a signal came or its listener is gone: this ends.
        let _ = stop.await;
        let _ = first.send(());
    };
    runtime.block_on(async {
        let serving = http::serve(options, stopping);
        let finish = async {
            serving.await.map_err(|e| unusable(&place, &e))?;
            remove_socket(context);
            let settled = tokio::task::spawn_blocking(move || daemon.stop()).await;
            settled.map_err(|e| unusable(&place, &io::Error::other(e)))??;
            Ok(())
        };
        let late = async {
            let _ = draining.await;
            tokio::time::sleep(drain).await;
        };
        let broken = async {
            // A manager that ends because it was asked to says nothing.
            let Ok(why) = failure.await else { return std::future::pending().await };
            note();
            // Answers that say so may still leave.
            tokio::time::sleep(LAST_ANSWERS).await;
            why
        };
        tokio::select! {
            done = finish => done,
            () = late => Err(drained(drain)),
            why = broken => Err(why.into()),
        }
    })
}

/// The HTTP door, as it is configured.
fn door(
    context: &Context,
    daemon: &Daemon,
    socket: std::os::unix::net::UnixListener,
) -> Result<http::Options, Failure> {
    let (runs, asked) = (&context.runs, &context.config.http);
    let shares = Shares::of_process()?;
    let listen = |address| {
        http::listen(address, false).map_err(|e| {
            let what = format!("cannot listen on {address}: {e}");
            let next = vec!["give --listen another address; port 0 takes a free one".to_owned()];
            Failure { exit: Exit::Conflict, code: "address_unusable".into(), what, next }
        })
    };
    let tcp = asked.listen.map(listen).transpose()?;
    let compat = compat(&context.config, daemon, listen)?;
    let place = compat.place.as_ref().map(|(tcp, _)| tcp);
    for address in tcp.iter().chain(place).filter_map(|tcp| tcp.local_addr().ok()) {
        daemon.listens_at(address);
    }
    Ok(http::Options {
        tcp,
        compat,
        tokens: Some(Keyring::open(Arc::clone(&runs.disk), context.tokens_file())?),
        allowed_hosts: asked.allowed_hosts.clone(),
        allowed_origins: asked.allowed_origins.clone(),
        bounds: bounds(&context.config, &shares),
        ..http::Options::new(daemon.handle(), daemon.schedules(), daemon.exposition(), socket)
    })
}

/// Messages to agents, as they are configured.
fn compat(
    config: &Config,
    daemon: &Daemon,
    listen: impl Fn(SocketAddr) -> Result<TcpListener, Failure>,
) -> Result<http::compat::Options, Failure> {
    let asked = &config.compat;
    let tcp = asked.listen.map(listen).transpose()?;
    Ok(http::compat::Options {
        agents: daemon.agents(),
        default_agent: asked.default_agent.clone(),
        place: tcp.map(|tcp| (tcp, asked.is_open)),
    })
}

/// One slow client may not use up the time that settling needs.
fn bounds(config: &Config, shares: &Shares) -> http::Bounds {
    http::Bounds {
        body_bytes_max: config.http.body_bytes_max,
        connections_max: shares.connections,
        followers_max: shares.followers,
        drain_ms: HTTP_DRAIN_MS.min(config.drain_timeout_ms / HTTP_DRAIN_SHARE),
        ..http::Bounds::default()
    }
}

/// Whoever left a socket there is gone: the root is ours. A client that finds none knows that no
/// daemon answers.
fn remove_socket(context: &Context) {
    let meta = context.runs.disk.open_dir(&context.meta());
    let _ = meta.and_then(|meta| meta.unlink(SOCKET));
}

fn unusable(place: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot serve on {}: {error}", place.display());
    let next = match error.kind() {
        io::ErrorKind::InvalidInput => "the path of a socket is short; give a shorter --runs-root",
        _ => "see that the directory may be written and has room",
    };
    let next = vec![next.to_owned()];
    Failure { exit: Exit::Storage, code: "socket_unusable".into(), what, next }
}

fn drained(drain: Duration) -> Failure {
    let drain = humantime::format_duration(drain);
    let what = format!("what was begun was not finished within {drain} (drain_timeout)");
    let next = vec!["nothing acknowledged is lost; the next start recovers".to_owned()];
    Failure { exit: Exit::No, code: "drain_timeout".into(), what, next }
}

fn announce(context: &Context, socket: &Path, options: &http::Options) {
    let root = &context.runs.root;
    let pid = std::process::id();
    let address = options.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
    let place = options.compat.place.as_ref();
    let place = place.and_then(|(tcp, is_open)| Some((tcp.local_addr().ok()?, *is_open)));
    if context.json {
        return output::json(&json!({
            "ready": true, "pid": pid, "version": env!("CARGO_PKG_VERSION"),
            "runsRoot": root, "socket": socket,
            "listen": address.or(place.map(|(address, _)| address)),
            "compat": place.map(|(address, _)| address),
        }));
    }
    output::remark(&format!("dormouse {} serves, pid {pid}", env!("CARGO_PKG_VERSION")));
    output::remark(&format!("  runs    {}", root.display()));
    output::remark(&format!("  socket  {}", socket.display()));
    if let Some(address) = address {
        output::remark(&format!("  http    http://{address}, with a token"));
        output::remark("next: dormouse token create NAME");
    }
    if let Some((address, is_open)) = place {
        let how = if is_open { "no token: any user of this machine may" } else { "with a token" };
        output::remark(&format!("  agents  http://{address}/api, {how}"));
    }
    if let Some((address, true)) = place {
        output::remark(&format!(
            "next: curl http://{address}/api/agents/default/message \\\n        \
             -H 'content-type: application/json' -d '{{\"message\": \"hello\"}}'"
        ));
    }
    output::remark("next: dormouse run create --entry FILE");
    output::remark("ready");
}

/// The first signal asks for an orderly end; a second one leaves at once.
fn listen_to_signals(runtime: &Runtime) -> io::Result<oneshot::Receiver<()>> {
    let _inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // With a handler, a file beyond its limit is an error of the write instead of the end.
    let beyond_limit = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    let (send, stop) = oneshot::channel();
    runtime.spawn(async move {
        let _kept = beyond_limit;
        let mut send = Some(send);
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 128 + Signal::TERM.as_raw(),
                _ = interrupt.recv() => 128 + Signal::INT.as_raw(),
            };
            let Some(send) = send.take() else { std::process::exit(code) };
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
            output::remark("stopping: finishing what was begun; a second signal leaves at once");
            // Whoever is gone has stopped already.
            let _ = send.send(());
        }
    });
    Ok(stop)
}

/// A hangup asks a daemon to read its files again.
fn read_again_on_hangup(runtime: &Runtime, agents: Arc<Book>) -> io::Result<()> {
    let _inside = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    runtime.spawn(async move {
        while hangup.recv().await.is_some() {
            let agents = Arc::clone(&agents);
            // A disk may take its time; what cannot be read is said in the log.
            let _ = tokio::task::spawn_blocking(move || agents.read_again()).await;
        }
    });
    Ok(())
}

/// Tells the service manager that this process lives, if it wants to know.
fn watchdog(runtime: &Runtime) {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    runtime.spawn(async move {
        let mut tick = tokio::time::interval((every / 2).max(Duration::from_millis(1)));
        loop {
            tick.tick().await;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    });
}

/// Many runs keep many files open.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // As many as there were is enough to begin with.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

//! `serve`: own a runs root and let its runs go on, until a signal.
//!
//! May not serve requests itself. Invariant: exit 0 means that every run directory is complete by
//! itself.

use std::os::unix::net::UnixListener;

use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::daemon::logging::{self, FILTER_DEFAULT, Format};
use crate::daemon::{Daemon, Options};
use crate::doors::http;

/// Serve a runs root: own its runs and let them go on.
///
/// Example:
///   dormouse serve
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is logged, such as dormouse=debug
    #[arg(long, env = "DORMOUSE_LOG", value_name = "FILTER", default_value = FILTER_DEFAULT)]
    log: String,
    /// What a log line looks like
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Send traces to this collector over OTLP
    #[arg(long, value_name = "http://HOST:4318")]
    otlp_endpoint: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let format = match args.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    logging::init(format, &args.log)
        .map_err(|e| Failure::usage(&e.to_string(), "give --log dormouse=info"))?;
    let options = Options { otlp_endpoint: args.otlp_endpoint.clone(), ..Options::default() };
    let daemon = Daemon::start(context.runs.clone(), options)?;
    let place = context.runs.root.join(".dormouse/socket");
    let unusable = |e: std::io::Error| {
        Failure::usage(&format!("cannot serve on {}: {e}", place.display()), "")
    };
    let _ = context.runs.disk.open_dir(&context.runs.root.join(".dormouse")).map(|dir| {
        // Whoever left it is gone: the root is ours.
        let _ = dir.unlink("socket");
    });
    let socket = UnixListener::bind(&place).map_err(unusable)?;
    output::remark(&format!("runs     {}", context.runs.root.display()));
    output::remark(&format!("socket   {}", place.display()));
    output::remark("next: dormouse run create --entry FILE");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(unusable)?;
    let handle = daemon.handle();
    runtime
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let stop = async move {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            };
            http::serve(handle, daemon.exposition(), socket, stop).await
        })
        .map_err(unusable)?;
    daemon.stop()?;
    Ok(Exit::Done)
}

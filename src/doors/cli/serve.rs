//! `serve`: own a runs root and let its runs go on, until a signal.
//!
//! May not serve requests itself. Invariant: exit 0 means that every run directory is complete by
//! itself.

use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::daemon::Daemon;
use crate::doors::http;
use crate::ports::disk::socket::listen_for_owner;

/// Serve a runs root: own its runs and let them go on.
///
/// Example:
///   dormouse serve
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_args: &Args, context: &Context) -> Result<Exit, Failure> {
    let daemon = Daemon::start(context.runs.clone())?;
    let place = context.runs.root.join(".dormouse/socket");
    let unusable = |e: std::io::Error| {
        Failure::usage(&format!("cannot serve on {}: {e}", place.display()), "")
    };
    let _ = context.runs.disk.open_dir(&context.runs.root.join(".dormouse")).map(|dir| {
        // Whoever left it is gone: the root is ours.
        let _ = dir.unlink("socket");
    });
    let socket = listen_for_owner(&place).map_err(unusable)?;
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
            http::serve(http::Options::new(handle, socket), stop).await
        })
        .map_err(unusable)?;
    daemon.stop()?;
    Ok(Exit::Done)
}

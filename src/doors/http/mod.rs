//! The HTTP door: `/v1` over a Unix socket, and over TCP on the loopback interface when asked.
//!
//! May not decide anything about a run. Invariant: an answer leaves after what it says is durable.

mod health;
mod metrics;

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::daemon::metrics::Exposition;
use crate::services::manager::Handle;

/// What every route gets.
#[derive(Clone)]
pub(crate) struct Door {
    /// The runs.
    pub(crate) handle: Handle,
    /// The numbers.
    pub(crate) exposition: Arc<Exposition>,
}

/// All routes.
fn router(door: Door) -> Router {
    let metrics = Arc::clone(&door.handle.runs().telemetry.metrics);
    let routes = Router::new().merge(health::routes()).merge(metrics::routes());
    routes.layer(from_fn_with_state(metrics, metrics::observe)).with_state(door)
}

/// Serves until `stop` is done, then finishes the requests that are under way.
pub(crate) async fn serve(
    handle: Handle,
    exposition: Arc<Exposition>,
    socket: UnixListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    let router = router(Door { handle, exposition });
    axum::serve(socket, router).with_graceful_shutdown(stop).await
}

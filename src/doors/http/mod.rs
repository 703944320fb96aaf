//! The HTTP door: `/v1` over a Unix socket, and over TCP on the loopback interface when asked.
//!
//! May not decide anything about a run. Invariant: an answer leaves after what it says is durable.

mod health;

use std::io;
use std::os::unix::net::UnixListener;

use axum::Router;

use crate::services::manager::Handle;

/// What every route gets.
#[derive(Clone)]
pub(crate) struct Door {
    /// The runs.
    pub(crate) handle: Handle,
}

/// All routes.
fn router(door: Door) -> Router {
    Router::new().merge(health::routes()).with_state(door)
}

/// Serves until `stop` is done, then finishes the requests that are under way.
pub(crate) async fn serve(
    handle: Handle,
    socket: UnixListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    let router = router(Door { handle });
    axum::serve(socket, router).with_graceful_shutdown(stop).await
}

//! The HTTP door: `/v1` over a Unix socket, and over TCP on the loopback interface when asked.
//!
//! May not decide anything about a run. Invariant: an answer leaves after what it says is durable.

mod agents;
mod auth;
mod blobs;
mod body;
mod breakpoints;
mod code;
pub mod compat;
mod decide;
mod effects;
mod events;
mod feed;
mod files;
mod follow;
mod guard;
mod health;
mod holder;
mod index;
mod keyring;
mod ledger;
mod limit;
mod logs;
mod metrics;
mod openapi;
mod problem;
mod rebuild;
mod repair;
mod retention;
mod runs;
mod schedules;
mod signals;
mod snapshot;
mod status;
mod steer;
pub mod tokens;
mod why;
mod wire;
mod work;

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::{Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::daemon::metrics::Exposition;
use crate::ground::limits;
use crate::services::manager::Handle;
use crate::services::schedules::Schedules;

pub use auth::Scope;
pub use keyring::Keyring;
pub use wire::listen;

/// What the door is opened with.
pub struct Options {
    /// The runs.
    pub handle: Handle,
    /// What makes runs begin by themselves.
    pub schedules: Schedules,
    /// The numbers.
    pub exposition: Arc<Exposition>,
    /// The Unix socket.
    pub socket: std::os::unix::net::UnixListener,
    /// Where to listen besides.
    pub tcp: Option<std::net::TcpListener>,
    /// Messages to agents.
    pub compat: compat::Options,
    /// Who may come in over TCP; without it, nobody.
    pub tokens: Option<Keyring>,
    /// Names of this daemon besides those of the loopback interface, with or without a port.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may ask.
    pub allowed_origins: Vec<String>,
    /// What it takes.
    pub bounds: Bounds,
}

/// How much the door takes, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest body.
    pub body_bytes_max: usize,
    /// Largest upload.
    pub blob_bytes_max: u64,
    /// How long a body may take to arrive; of an upload, each part of it.
    pub body_wait_ms: u64,
    /// How long the head of a request may take to arrive, and a connection may be idle.
    pub headers_wait_ms: u64,
    /// How long a peer may read nothing of what is sent to it.
    pub write_wait_ms: u64,
    /// How long requests may take to finish once the door closes; then they are cut off.
    pub drain_ms: u64,
    /// Most connections of one listener at a time.
    pub connections_max: usize,
    /// Most clients that follow runs at a time.
    pub followers_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::HTTP_BODY_BYTES_MAX,
            blob_bytes_max: limits::BLOB_BYTES_MAX,
            body_wait_ms: limits::HTTP_BODY_WAIT_MS,
            headers_wait_ms: limits::HTTP_HEADERS_WAIT_MS,
            write_wait_ms: limits::HTTP_WRITE_WAIT_MS,
            drain_ms: limits::HTTP_DRAIN_MS,
            connections_max: limits::HTTP_CONNECTIONS_MAX,
            followers_max: limits::SSE_FOLLOWERS_MAX,
        }
    }
}

impl Options {
    /// A door with a Unix socket alone.
    #[must_use]
    pub fn new(
        handle: Handle,
        schedules: Schedules,
        exposition: Arc<Exposition>,
        socket: std::os::unix::net::UnixListener,
    ) -> Self {
        let compat = compat::Options::without_agents(&handle);
        Self {
            compat,
            handle,
            schedules,
            exposition,
            socket,
            tcp: None,
            tokens: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            bounds: Bounds::default(),
        }
    }
}

/// What every route gets.
#[derive(Clone)]
struct Door(Arc<Inside>);

/// The state of the door.
struct Inside {
    handle: Handle,
    schedules: Schedules,
    exposition: Arc<Exposition>,
    compat: compat::Inside,
    tokens: Option<Keyring>,
    allowed_hosts: Vec<String>,
    allowed_origins: Vec<String>,
    bounds: Bounds,
    rights: guard::Rights,
    contract: String,
    followers: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Deref for Door {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.0
    }
}

/// All routes, each with its part of the contract.
fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(runs::routes())
        .merge(steer::routes())
        .merge(code::routes())
        .merge(snapshot::routes())
        .merge(why::routes())
        .merge(signals::routes())
        .merge(rebuild::routes())
        .merge(repair::routes())
        .merge(retention::routes())
        .merge(status::routes())
        .merge(events::routes())
        .merge(feed::routes())
        .merge(effects::routes())
        .merge(work::routes())
        .merge(agents::routes())
        .merge(blobs::routes())
        .merge(logs::routes())
        .merge(decide::routes())
        .merge(ledger::routes())
        .merge(limit::routes())
        .merge(schedules::routes())
        .merge(breakpoints::routes())
        .merge(health::routes())
        .merge(index::routes())
        .merge(openapi::routes())
}

/// The contract, as it is served and as it is frozen in `fixtures/openapi.json`.
#[must_use]
pub fn contract() -> String {
    openapi::finish(routes().into_openapi())
}

/// Serves until `stop` is done, then finishes the requests that are under way.
pub async fn serve(options: Options, stop: impl Future<Output = ()>) -> io::Result<()> {
    let (stopping, stopped) = watch::channel(false);
    let ours = options.handle.runs().disk.effective_uid();
    options.socket.set_nonblocking(true)?;
    let mut listeners =
        vec![wire::Listener::Socket(tokio::net::UnixListener::from_std(options.socket)?, ours)];
    let (compat, place) = options.compat.split(&options.handle);
    for (tcp, is_open) in options.tcp.map(|tcp| (tcp, false)).into_iter().chain(place) {
        tcp.set_nonblocking(true)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        listeners.push(wire::Listener::Tcp(tcp, is_open));
    }
    let (router, api) = routes().split_for_parts();
    let contract = openapi::finish(api);
    let door = Door(Arc::new(Inside {
        handle: options.handle.clone(),
        schedules: options.schedules,
        exposition: options.exposition,
        compat,
        tokens: options.tokens,
        allowed_hosts: options.allowed_hosts,
        allowed_origins: options.allowed_origins,
        bounds: options.bounds,
        rights: guard::Rights::of(&serde_json::from_str(&contract)?),
        contract,
        followers: Arc::new(Semaphore::new(options.bounds.followers_max)),
        stop: stopped.clone(),
    }));
    let router = finish(router, door);
    let serving: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            tokio::spawn(wire::serve(listener, router.clone(), options.bounds, stopped.clone()))
        })
        .collect();
    stop.await;
    // Before requests under way are waited for: a claim may wait for longer.
    options.handle.refuse_claims();
    // Whoever listens to this is counted above.
    let _ = stopping.send(true);
    for serving in serving {
        serving.await.map_err(io::Error::other)?;
    }
    Ok(())
}

/// The routes behind the guard.
fn finish(router: Router<Door>, door: Door) -> Router {
    let numbers = Arc::clone(&door.handle.runs().telemetry.metrics);
    router
        .merge(metrics::routes())
        .merge(compat::routes())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            axum::response::IntoResponse::into_response(body::gave_up())
        }))
        .layer(from_fn_with_state(door.clone(), guard::pass))
        // Bodies have limits of this door's own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(compat::errors::plainly))
        .layer(from_fn_with_state(numbers, metrics::observe))
        .with_state(door)
}

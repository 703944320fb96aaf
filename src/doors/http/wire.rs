//! The wire: listening, accepting, and how long a connection may dawdle.
//!
//! May not know routes. Invariant: connections are bounded in number, and none is held up for ever
//! by a peer that neither sends nor reads.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::Bounds;
use super::guard::Peer;
use crate::ground::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

/// How long to wait after accepting failed, as when descriptors ran out.
const ACCEPT_AGAIN_MS: u64 = 50;

/// Where connections come from.
pub(super) enum Listener {
    /// The Unix socket, and the only user who may come in.
    Socket(UnixListener, u32),
    /// TCP, and whether the routes for messages are open there.
    Tcp(TcpListener, bool),
}

/// Binds a TCP address: one of the loopback interface, unless `anywhere`.
pub fn listen(address: SocketAddr, anywhere: bool) -> io::Result<std::net::TcpListener> {
    if !anywhere && !address.ip().is_loopback() {
        let what = format!("{address} is not on the loopback interface");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    std::net::TcpListener::bind(address)
}

/// Serves a listener until `stop` changes; then the requests under way are finished.
pub(super) async fn serve(
    listener: Listener,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(bounds.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stopped(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(Some((stream, peer, place))) => {
                let io = Patient { stream, patience_ms: bounds.write_wait_ms, stuck: None };
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    converse(io, router.layer(Extension(peer)), bounds, stop).await;
                    drop(place);
                });
            }
            Ok(None) => {}
            Err(_) => sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await,
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    // Who is not done by then is cut off; what was acknowledged is durable.
    let _ = tokio::time::timeout(Duration::from_millis(bounds.drain_ms), drained).await;
}

type AcceptDone = (Stream, Peer, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for it; nothing if it is somebody else's.
async fn accept(listener: &Listener, room: &Arc<Semaphore>) -> io::Result<Option<AcceptDone>> {
    let place = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    match listener {
        Listener::Socket(socket, ours) => {
            let (stream, _) = socket.accept().await?;
            if stream.peer_cred()?.uid() != *ours {
                return Ok(None);
            }
            Ok(Some((Stream::Socket(stream), Peer::Socket, place)))
        }
        Listener::Tcp(tcp, is_open) => {
            let (stream, _) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            let port = stream.local_addr()?.port();
            let peer = Peer::Tcp { port, is_open: *is_open };
            Ok(Some((Stream::Tcp(stream), peer, place)))
        }
    }
}

/// Waits until the daemon stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody who could say it any more: as good as said.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse(io: Patient, router: Router, bounds: Bounds, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(bounds.headers_wait_ms))
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // What goes wrong on a connection is its peer's to see.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

enum Stream {
    Socket(UnixStream),
    Tcp(TcpStream),
}

/// A stream that gives up when its peer has read nothing for too long.
struct Patient {
    stream: Stream,
    patience_ms: u64,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// Counts how long writing has been stuck.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stuck = None;
            return wrote;
        }
        let patience = Duration::from_millis(self.patience_ms);
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        std::task::ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Socket(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.stream {
            Stream::Socket(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.judge(cx, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            Stream::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

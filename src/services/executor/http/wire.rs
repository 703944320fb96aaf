//! One request on a connection of its own: name, address, TLS, head, and the beginning of the
//! answer.
//!
//! May not know what a status means. Invariant: a connection goes only to an address that the
//! guard has let through, and the bytes of the request that left are counted, so that "nothing was
//! sent" is known and not guessed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use url::Url;

use crate::ground::limits::{HTTP_ADDRESSES_MAX, HTTP_HEAD_BYTES_MAX};
use crate::services::executor::guard::{Guard, Origin, Refusal};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It may not go there; nothing was sent.
    #[error(transparent)]
    Refused(Refusal),
    /// Nothing of the request left.
    #[error("{0}")]
    Unreachable(String),
    /// Some of it left, and no answer came back whole.
    #[error("{0}")]
    Broken(String),
}

/// Addresses on their way.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Who knows the addresses of a name.
pub trait Names: Send + Sync {
    /// The addresses of `host`, with this port.
    fn addresses(&self, host: &str, port: u16) -> Found;
}

/// The machine's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, host: &str, port: u16) -> Found {
        let host = host.to_owned();
        Box::pin(async move {
            tokio::net::lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>)
        })
    }
}

/// How many bytes of requests left, and of answers came back, in one attempt.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Bytes that left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Bytes that came back.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Hop {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Header fields, without the host.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The beginning of an answer. The connection is closed when it goes.
pub struct Begun {
    /// Head, and what will come.
    pub response: Response<Incoming>,
    /// Moves its bytes.
    pub driver: Driver,
}

/// Moves the bytes of a connection, but only while somebody waits for them: once an attempt is
/// dropped nothing of it is sent any more, and what was counted stays true.
pub struct Driver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Driver {
    /// Does this while bytes move.
    pub async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if self.0.as_mut().is_some_and(|driven| driven.as_mut().poll(cx).is_ready()) {
                self.0 = None;
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// What requests need to leave.
#[derive(Clone)]
pub struct Wire {
    names: Arc<dyn Names>,
    tls: Arc<ClientConfig>,
}

impl Wire {
    /// With these names, trusting the usual certificate authorities and those of `extra_roots`
    /// (PEM). What is wrong with those is said.
    pub fn new(names: Arc<dyn Names>, extra_roots: Option<&[u8]>) -> Result<Self, String> {
        use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in CertificateDer::pem_slice_iter(extra_roots.unwrap_or_default()) {
            let certificate = certificate.map_err(|e| e.to_string())?;
            roots.add(certificate).map_err(|e| e.to_string())?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let mut tls = config.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { names, tls: Arc::new(tls) })
    }

    /// Sends one request and waits for the head of its answer.
    pub async fn send(
        &self,
        guard: &Guard,
        hop: Hop,
        connect_ms: u64,
        traffic: &Arc<Traffic>,
    ) -> Result<Begun, Trouble> {
        let limit = Duration::from_millis(connect_ms);
        let connected = tokio::time::timeout(limit, self.connect(guard, &hop.url)).await;
        let stream = connected.unwrap_or_else(|_| {
            Err(Trouble::Unreachable(format!("no connection within {connect_ms} ms")))
        })?;
        let before = traffic.sent();
        let counted = Counted { inner: stream, traffic: Arc::clone(traffic) };
        exchange(counted, hop).await.map_err(|why| {
            if traffic.sent() == before { Trouble::Unreachable(why) } else { Trouble::Broken(why) }
        })
    }

    async fn connect(&self, guard: &Guard, url: &Url) -> Result<Box<dyn Duplex>, Trouble> {
        let origin = Origin::of(url);
        let mut last = format!("{} has no address", origin.host);
        for address in self.checked(guard, &origin).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small requests leave at once; a failure only makes them slower.
                    let _ = stream.set_nodelay(true);
                    return self.secured(stream, &origin).await;
                }
                Err(e) => last = format!("{address}: {e}"),
            }
        }
        Err(Trouble::Unreachable(last))
    }

    /// The addresses of an origin, resolved once, each let through by the guard.
    async fn checked(&self, guard: &Guard, origin: &Origin) -> Result<Vec<SocketAddr>, Trouble> {
        let mut addresses = if let Ok(ip) = origin.host.parse::<IpAddr>() {
            vec![SocketAddr::new(ip, origin.port)]
        } else {
            let found = self.names.addresses(&origin.host, origin.port).await;
            found.map_err(|e| Trouble::Unreachable(format!("{}: {e}", origin.host)))?
        };
        addresses.truncate(HTTP_ADDRESSES_MAX);
        for address in &addresses {
            guard.check(origin, *address).map_err(Trouble::Refused)?;
        }
        Ok(addresses)
    }

    async fn secured(
        &self,
        stream: TcpStream,
        origin: &Origin,
    ) -> Result<Box<dyn Duplex>, Trouble> {
        if !origin.tls {
            return Ok(Box::new(stream));
        }
        let unreachable = |e: &dyn std::fmt::Display| {
            Trouble::Unreachable(format!("TLS with {}: {e}", origin.host))
        };
        let name = ServerName::try_from(origin.host.clone()).map_err(|e| unreachable(&e))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        Ok(Box::new(connector.connect(name, stream).await.map_err(|e| unreachable(&e))?))
    }
}

async fn exchange(stream: Counted, hop: Hop) -> Result<Begun, String> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| said(&e))?;
    // What becomes of the connection is told to the side that waits for the answer, too.
    let whole = async move { drop(connection.await) };
    let mut driver = Driver(Some(Box::pin(whole)));
    let request = request(hop).map_err(|e| e.to_string())?;
    let response = driver.alongside(sender.send_request(request)).await.map_err(|e| said(&e))?;
    Ok(Begun { response, driver })
}

fn request(hop: Hop) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut target = hop.url.path().to_owned();
    if let Some(query) = hop.url.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut request =
        Request::builder().method(hop.method).uri(target).body(Full::new(hop.body))?;
    let mut host = hop.url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = hop.url.port() {
        host = format!("{host}:{port}");
    }
    *request.headers_mut() = hop.headers;
    request.headers_mut().insert(HOST, HeaderValue::from_str(&host)?);
    Ok(request)
}

/// An error with what is behind it.
pub fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        at = source.source();
    }
    text
}

/// A connection in both directions.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Counts what passes: above TLS, so that only bytes of the request count.
struct Counted {
    inner: Box<dyn Duplex>,
    traffic: Arc<Traffic>,
}

impl Counted {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.traffic.sent.fetch_add(bytes as u64, Ordering::AcqRel);
        }
        polled
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, into);
        let more = into.filled().len() - before;
        self.traffic.received.fetch_add(more as u64, Ordering::AcqRel);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

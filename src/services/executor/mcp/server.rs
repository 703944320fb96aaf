//! One configured server: begun when it is first needed, and again when it is gone.
//!
//! May not know effects. Invariant: calls share one conversation, and a server that is begun anew
//! was gone before.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::keys;
use super::talk::{Call, End, Harmless, Talk};
use super::web::Web;
use crate::ground::limits::{MCP_MESSAGE_BYTES_MAX, MCP_STDERR_BYTES, MCP_STDERR_WAIT_MS};
use crate::services::executor::Stop;
use crate::services::executor::guard::{self, Origin};
use crate::services::executor::http::Client;
use crate::services::executor::redact::Redactor;
use crate::services::executor::secrets::Use;
use crate::shells::piped::{self, Piped, Program};

/// `[mcp.servers.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// How it is reached.
    pub way: Way,
    /// How long it may take until it has said what it can do.
    pub start_timeout_ms: u64,
    /// The tools that may be called; all if absent.
    pub allow_tools: Option<Vec<String>>,
    /// Whether it is believed what it says about calling its tools again.
    pub trust_hints: bool,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is a program, and speaks through its standard streams.
    Program {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment; texts may name secrets.
        env: BTreeMap<String, String>,
    },
    /// It answers over HTTP.
    Url {
        /// Where; an operator wrote it, so it may be on this machine.
        url: String,
        /// Header fields; texts may name secrets.
        headers: BTreeMap<String, String>,
    },
}

/// What servers share.
#[derive(Clone)]
pub struct Means {
    /// Knows secrets, and sends.
    pub client: Client,
    /// What programs get of the daemon's environment.
    pub passed: BTreeMap<String, String>,
}

/// A server.
pub(super) struct Server {
    pub(super) section: Section,
    means: Means,
    open: Mutex<Option<Arc<Open>>>,
    harmless: Harmless,
}

/// One that was begun.
pub(super) struct Open {
    talk: Talk,
    redactor: Redactor,
    /// Ends when this goes.
    _program: Option<Piped>,
}

impl Server {
    pub(super) fn new(section: Section, means: Means) -> Self {
        Self { section, means, open: Mutex::new(None), harmless: Harmless::default() }
    }

    /// Calls a tool; with what hides secrets in the answer, if the server was reached.
    pub(super) async fn call(&self, call: Call, stop: &mut Stop) -> (End, Option<Arc<Open>>) {
        let open = tokio::select! {
            open = self.open() => open,
            why = stop.asked() => Err(format!("it was to stop before it had begun: {why:?}")),
        };
        match open {
            Ok(open) => (open.talk.call(call, stop).await, Some(open)),
            Err(why) => (End::NotSent(why), None),
        }
    }

    /// Whether a tool may be called again, as far as the server has told and is believed.
    pub(super) fn may_repeat(&self, tool: &str) -> bool {
        let harmless = self.harmless.read().unwrap_or_else(PoisonError::into_inner);
        self.section.trust_hints && harmless.contains(tool)
    }

    async fn open(&self) -> Result<Arc<Open>, String> {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| !open.talk.is_over()) {
            return Ok(Arc::clone(open));
        }
        *slot = None;
        let limit_ms = self.section.start_timeout_ms;
        let begun = timeout(Duration::from_millis(limit_ms), self.begin()).await;
        let open =
            begun.unwrap_or_else(|_| Err(format!("it said nothing within {limit_ms} ms")))?;
        Ok(Arc::clone(slot.insert(Arc::new(open))))
    }

    async fn begin(&self) -> Result<Open, String> {
        match &self.section.way {
            Way::Program { program, args, env } => {
                let name = program.display().to_string();
                let to = Use::Program(&name);
                let (filled, redactor) = keys::filled(&self.means.client, to, env).await?;
                let mut env = self.means.passed.clone();
                env.extend(keys::texts(&filled));
                let program = Program { program: program.clone(), args: args.clone(), env };
                let begun =
                    begin(&program, &self.harmless).await.map_err(|why| format!("{name}: {why}"));
                let (talk, piped) = begun.map_err(|why| redactor.text(&why).into_owned())?;
                Ok(Open { talk, redactor, _program: Some(piped) })
            }
            Way::Url { url, headers } => {
                let begun = self.reach(url, headers).await;
                let (talk, redactor) = begun.map_err(|why| format!("{url}: {why}"))?;
                Ok(Open { talk, redactor, _program: None })
            }
        }
    }

    async fn reach(
        &self,
        url: &str,
        headers: &BTreeMap<String, String>,
    ) -> Result<(Talk, Redactor), String> {
        let Client { wire, guard, .. } = &self.means.client;
        let url = guard::read(url).map_err(|e| e.to_string())?;
        let origin = Origin::of(&url);
        let to = Use::Host(&origin.host);
        let (filled, redactor) = keys::filled(&self.means.client, to, headers).await?;
        let headers = keys::headers(&filled)?;
        let config = StreamableHttpClientTransportConfig::with_uri(url.to_string());
        let web = Web { wire: wire.clone(), guard: guard.and(origin.clone()), url };
        let config = config.custom_headers(headers);
        let transport = StreamableHttpClientTransport::with_client(web, config);
        let begun = Talk::begin(transport, Arc::clone(&self.harmless)).await;
        let talk = begun.map_err(|why| redactor.text(&why).into_owned())?;
        Ok((talk, redactor))
    }
}

impl Open {
    pub(super) const fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

/// Starts a program and talks to it. If it cannot be talked to, what it complained of is said.
async fn begin(program: &Program, harmless: &Harmless) -> Result<(Talk, Piped), String> {
    let (running, pipes) = piped::spawn(program).map_err(|e| format!("cannot be started: {e}"))?;
    let said = |e: io::Error| e.to_string();
    let stdin = Sender::from_owned_fd(pipes.stdin).map_err(said)?;
    let stdout = Receiver::from_owned_fd(pipes.stdout).map_err(said)?;
    let complaints = listen(pipes.stderr).map_err(said)?;
    let transport = AsyncRwTransport::new_client(stdout, stdin);
    let transport = transport.with_max_line_length(MCP_MESSAGE_BYTES_MAX);
    match Talk::begin(transport, Arc::clone(harmless)).await {
        Ok(talk) => Ok((talk, running)),
        Err(why) => {
            drop(running);
            let wait = Duration::from_millis(MCP_STDERR_WAIT_MS);
            let complaint = timeout(wait, complaints).await.ok().and_then(Result::ok);
            let complaint = complaint.unwrap_or_default();
            Err(if complaint.is_empty() { why } else { format!("{why}: {complaint}") })
        }
    }
}

/// Reads what a program complains of to its end, and keeps the last of it.
fn listen(stderr: OwnedFd) -> io::Result<JoinHandle<String>> {
    let mut stderr = Receiver::from_owned_fd(stderr)?;
    Ok(tokio::spawn(async move {
        let (mut kept, mut chunk) = (Vec::new(), [0; MCP_STDERR_BYTES]);
        while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
            kept.extend_from_slice(&chunk[..n]);
            kept.drain(..kept.len().saturating_sub(MCP_STDERR_BYTES));
        }
        String::from_utf8_lossy(&kept).trim().to_owned()
    }))
}

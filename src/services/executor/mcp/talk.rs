//! A conversation with a server: its tools, and calls of them.
//!
//! May not know how the server was reached. Invariant: an [`End`] that says that nothing was sent
//! is proven; whatever cannot be proven is lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ErrorData, JsonObject,
    MetaObject, RequestMetaObject, ServerResult, Tool,
};
use rmcp::service::{
    PeerRequestOptions, RequestHandle, RunningService, ServiceError, ServiceExt as _,
};
use rmcp::transport::Transport;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::fate::{Fate, SendError, Watched};
use super::ours::Ours;
use crate::ground::limits::MCP_CANCEL_MS;
use crate::services::executor::{Stop, StopWhy};

/// A call of a tool.
pub(super) struct Call {
    /// Its name.
    pub(super) tool: String,
    /// What it is given.
    pub(super) arguments: Option<JsonObject>,
    /// What the server is told beside that.
    pub(super) meta: MetaObject,
}

/// How a call ended.
pub(super) enum End {
    /// The tool answered.
    Answered(Box<CallToolResult>),
    /// The server refused the request, or failed at it.
    Refused(ErrorData),
    /// It has no such tool; nothing was sent.
    NoTool,
    /// It wants to know something before it goes on.
    Asks,
    /// It has nothing that it could act on.
    NotSent(String),
    /// It may have acted on it, and did not answer.
    Lost(String),
    /// It was at work when it was told to stop.
    Stopped(StopWhy),
}

/// A conversation that was begun.
pub(super) struct Talk {
    service: RunningService<RoleClient, Ours>,
    tools: Mutex<BTreeSet<String>>,
    tools_changed: Arc<AtomicBool>,
    harmless: Harmless,
}

/// Tools of a server that change nothing by being called again, in its own words.
pub(super) type Harmless = Arc<RwLock<BTreeSet<String>>>;

impl Talk {
    /// Agrees on a version, and asks for the tools.
    pub(super) async fn begin<T>(transport: T, harmless: Harmless) -> Result<Self, String>
    where
        T: Transport<RoleClient> + 'static,
        T::Error: SendError,
    {
        let ours = Ours::default();
        let tools_changed = Arc::clone(&ours.tools_changed);
        let service = ours.serve(Watched(transport)).await.map_err(|e| e.to_string())?;
        let talk = Self { service, tools: Mutex::default(), tools_changed, harmless };
        *talk.tools.lock().await = talk.list().await.map_err(|e| e.to_string())?;
        Ok(talk)
    }

    /// Whether the server is gone.
    pub(super) fn is_over(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// Calls a tool.
    pub(super) async fn call(&self, call: Call, stop: &mut Stop) -> End {
        match self.has(&call.tool).await {
            Ok(true) => {}
            Ok(false) => return End::NoTool,
            Err(e) => return End::NotSent(format!("its tools cannot be listed: {e}")),
        }
        let mut params = CallToolRequestParams::new(call.tool);
        params.arguments = call.arguments;
        let fate = Fate::default();
        let mut request = CallToolRequest::new(params);
        request.extensions.insert(fate.clone());
        let mut options = PeerRequestOptions::no_options();
        options.meta = Some(RequestMetaObject(call.meta));
        let asked = ClientRequest::CallToolRequest(request);
        match self.service.peer().send_cancellable_request(asked, options).await {
            Ok(handle) => follow(handle, &fate, stop).await,
            Err(e) => End::NotSent(e.to_string()),
        }
    }

    async fn list(&self) -> Result<BTreeSet<String>, ServiceError> {
        // Asked for before the list: a change on the way makes it old again.
        self.tools_changed.store(false, Ordering::Release);
        let tools = self.service.peer().list_all_tools().await?;
        let harmless = tools.iter().filter(|tool| is_harmless(tool));
        *self.harmless.write().unwrap_or_else(PoisonError::into_inner) =
            harmless.map(|tool| tool.name.to_string()).collect();
        Ok(tools.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// Whether the server has a tool, as far as it has told.
    async fn has(&self, tool: &str) -> Result<bool, ServiceError> {
        let mut tools = self.tools.lock().await;
        if self.tools_changed.load(Ordering::Acquire) {
            self.service.peer().clear_response_cache().await;
            *tools = self.list().await?;
        }
        Ok(tools.contains(tool))
    }
}

/// Whether a server says of a tool that calling it again does no harm.
fn is_harmless(tool: &Tool) -> bool {
    let hints = tool.annotations.as_ref();
    hints.is_some_and(|h| h.read_only_hint == Some(true) || h.idempotent_hint == Some(true))
}

/// Waits for the answer, or until it is to stop.
async fn follow(mut handle: RequestHandle<RoleClient>, fate: &Fate, stop: &mut Stop) -> End {
    let answer = tokio::select! {
        answer = &mut handle.rx => answer,
        why = stop.asked() => {
            let notice = handle.cancel(Some(format!("{why:?}")));
            // A server that does not read hears nothing.
            let _ = timeout(Duration::from_millis(MCP_CANCEL_MS), notice).await;
            return End::Stopped(why);
        }
    };
    let why = match answer {
        Ok(Ok(ServerResult::CallToolResult(result))) => return End::Answered(Box::new(result)),
        Ok(Ok(ServerResult::InputRequiredResult(_))) => return End::Asks,
        Ok(Err(ServiceError::McpError(error))) => return End::Refused(error),
        Ok(Ok(_)) => "it answered with something else".to_owned(),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "it is gone".to_owned(),
    };
    if fate.may_have_begun() { End::Lost(why) } else { End::NotSent(why) }
}

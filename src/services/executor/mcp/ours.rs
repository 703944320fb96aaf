//! Our side of a conversation with a server: who we are, and what we do not do for it.
//!
//! May not call tools. Invariant: whatever a server asks of a client is refused in words, never
//! left without an answer.

#![expect(deprecated, reason = "servers of older versions still ask for these")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::ClientHandler;
use rmcp::ErrorData;
use rmcp::RoleClient;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ErrorCode, Implementation, ListRootsResult,
};
use rmcp::service::{NotificationContext, RequestContext};

/// Answers a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Ours {
    /// The list of tools that was read is not theirs any more.
    pub(super) tools_changed: Arc<AtomicBool>,
}

fn refused(what: &str) -> ErrorData {
    let why = format!("dormouse calls tools unattended; it does not {what}");
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, why, None)
}

impl ClientHandler for Ours {
    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Err(refused("sample"))
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Err(refused("ask people"))
    }

    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Err(refused("offer roots"))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.tools_changed.store(true, Ordering::Release);
    }

    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("dormouse", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
    }
}

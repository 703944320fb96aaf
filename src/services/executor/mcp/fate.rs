//! What became of a request on its way to a server: whether it can have been acted on.
//!
//! May not know what is asked. Invariant: a request counts as possibly acted on from the moment
//! its bytes begin to leave, unless it is proven that none of them could be used.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::RoleClient;
use rmcp::model::{GetExtensions, JsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

/// Travels with a request, beside its bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(Arc<AtomicBool>);

impl Fate {
    /// Whether the server may have acted on it.
    pub(super) fn may_have_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, begun: bool) {
        self.0.store(begun, Ordering::Release);
    }
}

/// Why sending failed, as far as it matters.
pub(super) trait SendError {
    /// Whether the server has nothing that it could act on.
    fn nothing_usable_left(&self) -> bool;
}

impl SendError for io::Error {
    /// A message ends with a line feed, and a write that failed never wrote its last byte.
    fn nothing_usable_left(&self) -> bool {
        true
    }
}

/// A transport that says what became of the requests which carry a [`Fate`].
pub(super) struct Watched<T>(pub(super) T);

impl<T> Transport<RoleClient> for Watched<T>
where
    T: Transport<RoleClient>,
    T::Error: SendError,
{
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let fate = match &item {
            JsonRpcMessage::Request(asked) => asked.request.extensions().get::<Fate>().cloned(),
            _ => None,
        };
        let sending = self.0.send(item);
        async move {
            let Some(fate) = fate else { return sending.await };
            fate.set(true);
            let sent = sending.await;
            if sent.as_ref().is_err_and(SendError::nothing_usable_left) {
                fate.set(false);
            }
            sent
        }
    }

    fn receive(&mut self) -> impl Future<Output = Option<RxJsonRpcMessage<RoleClient>>> + Send {
        self.0.receive()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.0.close()
    }
}

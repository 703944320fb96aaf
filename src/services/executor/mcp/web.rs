//! The way to a server over HTTP: its messages as requests of ours, its answers as a stream.
//!
//! May not know what is said. Invariant: a request goes only where the guard lets it, and one that
//! was not sent is told from one that may have been.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use url::Url;

use super::fate::SendError;
use crate::ground::limits::{HTTP_CONNECT_MS_DEFAULT, MCP_MESSAGE_BYTES_MAX};
use crate::services::executor::guard::Guard;
use crate::services::executor::http::wire::{Begun, Driver, Hop, Trouble, Wire, said};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

type Error = StreamableHttpError<Trouble>;
type Messages = BoxStream<'static, Result<Sse, SseError>>;

/// Sends to one server.
#[derive(Clone)]
pub(super) struct Web {
    pub(super) wire: Wire,
    pub(super) guard: Guard,
    pub(super) url: Url,
}

impl SendError for Error {
    fn nothing_usable_left(&self) -> bool {
        match self {
            // The last: the server says that it knows nothing of the conversation.
            Self::Client(Trouble::Refused(_) | Trouble::Unreachable(_)) | Self::SessionExpired => {
                true
            }
            Self::HttpStatus(status) => status.status == StatusCode::TOO_MANY_REQUESTS.as_u16(),
            _ => false,
        }
    }
}

impl Web {
    async fn send(
        &self,
        method: Method,
        session: Option<&str>,
        more: HashMap<HeaderName, HeaderValue>,
        body: Option<Vec<u8>>,
    ) -> Result<Begun, Error> {
        let mut headers: HeaderMap = more.into_iter().collect();
        let accepted = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(ACCEPT, accepted);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(session) = session {
            headers.insert(SESSION, header(session)?);
        }
        let body = Bytes::from(body.unwrap_or_default());
        let hop = Hop { method, url: self.url.clone(), headers, body };
        let traffic = Arc::default();
        let begun = self.wire.send(&self.guard, hop, HTTP_CONNECT_MS_DEFAULT, &traffic).await;
        begun.map_err(StreamableHttpError::Client)
    }
}

impl StreamableHttpClient for Web {
    type Error = Trouble;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let body = serde_json::to_vec(&message)?;
        let session = session_id.as_deref();
        let begun = self.send(Method::POST, session, custom_headers, Some(body)).await?;
        let Begun { response, mut driver } = begun;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::NOT_FOUND && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        let given = head.headers.get(&SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
        if head.status.is_success() && is_kind(&head, "text/event-stream") {
            return Ok(StreamableHttpPostResponse::Sse(messages(body, driver), given));
        }
        let bytes = whole(body, &mut driver).await?;
        let answer = serde_json::from_slice::<ServerJsonRpcMessage>(&bytes);
        match answer {
            Ok(answer) if head.status.is_success() => {
                Ok(StreamableHttpPostResponse::Json(answer, given))
            }
            // What a server says in its own words counts, whatever the status.
            Ok(answer @ JsonRpcMessage::Error(_)) => {
                Ok(StreamableHttpPostResponse::Json(answer, given))
            }
            _ if head.status.is_success() && bytes.is_empty() => {
                Ok(StreamableHttpPostResponse::Accepted)
            }
            _ => Err(refusal(&head)),
        }
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Error> {
        let begun = self.send(Method::DELETE, Some(&session_id), custom_headers, None).await?;
        let status = begun.response.status();
        // A server need not be able to.
        if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(());
        }
        Err(refusal(&begun.response.into_parts().0))
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        mut custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Messages, Error> {
        if let Some(last) = last_event_id {
            custom_headers.insert(LAST_EVENT, header(&last)?);
        }
        let begun = self.send(Method::GET, session_id.as_deref(), custom_headers, None).await?;
        let (head, body) = begun.response.into_parts();
        if head.status.is_success() && is_kind(&head, "text/event-stream") {
            return Ok(messages(body, begun.driver));
        }
        Err(match head.status {
            StatusCode::METHOD_NOT_ALLOWED => StreamableHttpError::ServerDoesNotSupportSse,
            _ => refusal(&head),
        })
    }
}

fn header(text: &str) -> Result<HeaderValue, Error> {
    let unfit = |_| StreamableHttpError::UnexpectedServerResponse("a name of no header".into());
    HeaderValue::from_str(text).map_err(unfit)
}

fn is_kind(head: &Parts, kind: &str) -> bool {
    let told = head.headers.get(CONTENT_TYPE).and_then(|told| told.to_str().ok());
    told.is_some_and(|told| told.trim().to_ascii_lowercase().starts_with(kind))
}

fn refusal(head: &Parts) -> Error {
    let after = head.headers.get("retry-after").and_then(|after| after.to_str().ok());
    let status = head.status.as_u16();
    rmcp::transport::streamable_http_client::HttpStatusError::new(status, after.map(str::to_owned))
        .into()
}

/// The whole body, if it is not longer than a message may be.
async fn whole(body: Incoming, driver: &mut Driver) -> Result<Vec<u8>, Error> {
    let (mut bytes, mut parts) = (Vec::new(), Box::pin(parts(body)));
    while let Some(part) = driver.alongside(parts.next()).await {
        let part = part.map_err(|why| StreamableHttpError::Client(Trouble::Broken(why)))?;
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// The messages of a body that may go on for as long as there is something to say.
fn messages(body: Incoming, driver: Driver) -> Messages {
    let parts = Box::pin(parts(body));
    let bytes = stream::unfold((parts, driver), |(mut parts, mut driver)| async move {
        let part = driver.alongside(parts.next()).await?;
        Some((part.map_err(std::io::Error::other), (parts, driver)))
    });
    SseStream::from_bytes_stream(bytes).boxed()
}

/// The parts of a body, at most as many bytes as a message may have.
fn parts(body: Incoming) -> impl futures_util::Stream<Item = Result<Bytes, String>> + Send {
    stream::unfold(Some((body, MCP_MESSAGE_BYTES_MAX)), |left| async move {
        let (mut body, left) = left?;
        loop {
            let frame = match body.frame().await? {
                Ok(frame) => frame,
                Err(e) => return Some((Err(said(&e)), None)),
            };
            let Ok(bytes) = frame.into_data() else { continue };
            return match left.checked_sub(bytes.len()) {
                Some(left) => Some((Ok(bytes), Some((body, left)))),
                None => Some((Err("it says too much at a time".to_owned()), None)),
            };
        }
    })
}

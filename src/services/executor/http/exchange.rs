//! An exchange: a request, the redirects that are followed, and the answer at their end.
//!
//! May not know what a status means, but for redirects. Invariant: a request that changes something
//! is never sent to another origin than its author's, and neither is what holds a secret.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, LOCATION};
use hyper::{Method, StatusCode};
use url::Url;

use super::wire::{Driver, Hop, Traffic, Trouble, Wire, said};
use crate::services::executor::guard::{self, Guard, Origin};

/// What is to be exchanged.
#[derive(Debug, Clone)]
pub struct Order {
    /// The first request.
    pub hop: Hop,
    /// Header fields that no other origin may see, besides the well-known ones.
    pub secret_headers: Vec<HeaderName>,
    /// How many redirects are followed.
    pub follow: usize,
    /// How long a connection may take.
    pub connect_ms: u64,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Where it came from at last.
    pub url: Url,
    /// An earlier server did something, and this one only tells about it.
    pub acted: bool,
}

/// The body of an answer, still to be read.
pub struct Rest {
    body: Incoming,
    driver: Driver,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is longer than it may be.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    /// It broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

impl Rest {
    /// The next bytes of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Unread> {
        while let Some(frame) = self.driver.alongside(self.body.frame()).await {
            let frame = frame.map_err(|e| Unread::Broken(said(&e)))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The whole body, if it is not longer than this.
    pub async fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, Unread> {
        if self.body.size_hint().lower() > bytes_max as u64 {
            return Err(Unread::TooLong(bytes_max));
        }
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if whole.len() + bytes.len() > bytes_max {
                return Err(Unread::TooLong(bytes_max));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// The beginning of the body, as much as comes.
    pub async fn beginning(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut begun = Vec::new();
        while let Ok(Some(bytes)) = self.chunk().await {
            let room = bytes_max - begun.len();
            begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if begun.len() == bytes_max {
                break;
            }
        }
        begun
    }
}

/// Sends an order and follows where it is told to. Trouble after a redirect that followed a deed
/// is never "nothing was sent".
pub async fn exchange(
    wire: &Wire,
    guard: &Guard,
    mut order: Order,
    traffic: &Arc<Traffic>,
) -> Result<(Head, Rest), Trouble> {
    let mut acted = false;
    loop {
        let hop = order.hop.clone();
        let sent = wire.send(guard, hop, order.connect_ms, traffic).await;
        let begun = sent.map_err(|trouble| match trouble {
            Trouble::Refused(e) if acted => Trouble::Broken(e.to_string()),
            Trouble::Unreachable(why) if acted => Trouble::Broken(why),
            other => other,
        })?;
        let (parts, body) = begun.response.into_parts();
        if order.follow > 0
            && let Some(next) = onward(&order, parts.status, &parts.headers)
        {
            // The first server has been asked, whatever becomes of the rest.
            acted |= next.method != order.hop.method;
            order.hop = next;
            order.follow -= 1;
            continue;
        }
        let head = Head { status: parts.status, headers: parts.headers, url: order.hop.url, acted };
        return Ok((head, Rest { body, driver: begun.driver }));
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The request that a redirect asks for, if it may be followed.
fn onward(order: &Order, status: StatusCode, headers: &HeaderMap) -> Option<Hop> {
    let told = headers.get(LOCATION)?.to_str().ok()?;
    let url = guard::read(order.hop.url.join(told).ok()?.as_str()).ok()?;
    let mut next = Hop { url, ..order.hop.clone() };
    let same = Origin::of(&next.url) == Origin::of(&order.hop.url);
    let keeps = match status.as_u16() {
        307 | 308 => true,
        // What was sent is not sent again: the answer is fetched.
        301..=303 => is_safe(&order.hop.method),
        _ => return None,
    };
    if keeps && !same && !is_safe(&order.hop.method) {
        return None;
    }
    if !keeps {
        next.method = Method::GET;
        next.body = Bytes::new();
        for name in ["content-type", "content-length", "idempotency-key"] {
            next.headers.remove(name);
        }
    }
    if !same {
        for name in order.secret_headers.iter().chain(&[AUTHORIZATION, COOKIE]) {
            next.headers.remove(name);
        }
        next.body = Bytes::new();
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn order(method: Method) -> Order {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "x-key", "content-type", "accept", "idempotency-key"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let url = "https://a.example/one".parse().unwrap();
        let hop = Hop { method, url, headers, body: Bytes::from_static(b"body") };
        let secret_headers = vec![HeaderName::from_static("x-key")];
        Order { hop, secret_headers, follow: 1, connect_ms: 1 }
    }

    fn told(method: Method, status: u16, location: &'static str) -> Option<Hop> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static(location));
        onward(&order(method), StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn a_redirect_changes_what_is_sent() {
        let other = "https://b.example/two";
        for (method, status, to, goes_on_as, with_body) in [
            (Method::GET, 301, "/two", Some("GET"), true),
            (Method::HEAD, 302, other, Some("HEAD"), false),
            (Method::GET, 307, other, Some("GET"), false),
            (Method::POST, 301, "/two", Some("GET"), false),
            (Method::POST, 302, "/two", Some("GET"), false),
            (Method::POST, 303, other, Some("GET"), false),
            (Method::POST, 307, "/two", Some("POST"), true),
            (Method::POST, 308, "two?x", Some("POST"), true),
            (Method::POST, 307, other, None, false),
            (Method::DELETE, 308, "http://a.example/one", None, false),
            (Method::POST, 307, "//a.example:444/x", None, false),
            (Method::GET, 302, "https://user@b.example/", None, false),
            (Method::GET, 302, "file:///etc/passwd", None, false),
            (Method::GET, 300, "/two", None, false),
            (Method::GET, 304, "/two", None, false),
        ] {
            let next = told(method.clone(), status, to);
            let as_method = next.as_ref().map(|hop| hop.method.as_str());
            assert_eq!(as_method, goes_on_as, "{method} {status} {to}");
            let Some(next) = next else { continue };
            assert_eq!(!next.body.is_empty(), with_body, "{method} {status} {to}");
            let far = to == other;
            for (name, stays) in [("authorization", !far), ("x-key", !far), ("accept", true)] {
                assert_eq!(next.headers.contains_key(name), stays, "{name}: {method} {to}");
            }
        }
    }
}

//! Following a run: its records as server-sent events, each the stored line byte for byte.
//!
//! May not buffer ahead of its reader. Invariant: a follower costs one page of records, however
//! slowly it reads; a record is sent after it is durable.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Door;
use super::problem::{Answer, Problem};
use super::wire::stopped;
use crate::codecs::format::line;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::{EVENTS_PAGE_BYTES_MAX, EVENTS_PAGE_MAX, SSE_COMMENT_MS};
use crate::ports::telemetry::Metrics;
use crate::services::manager::Handle;
use crate::services::runs::Result;
use crate::services::runs::view::{self, Look};

/// Some records that follow a place, and where the run stands.
pub(super) struct Page {
    /// Place, name and text of each.
    pub(super) lines: Vec<(Seq, &'static str, String)>,
    /// The last record.
    pub(super) head: Seq,
    /// The word for where the run stands.
    pub(super) state: &'static str,
    /// The run has ended.
    pub(super) ended: bool,
}

/// One follower.
struct Follower {
    handle: Handle,
    run: RunId,
    after: Seq,
    pages: Pages,
    ready: VecDeque<Event>,
    /// The run has ended and all its records are on their way.
    done: bool,
    durable: watch::Receiver<Seq>,
    stop: watch::Receiver<bool>,
    _place: Place,
}

/// One of the places that there are for followers.
pub(super) struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn take(door: &Door) -> Answer<Self> {
        let permit = door.followers.clone().try_acquire_owned().map_err(|_| {
            let what = "too many clients follow runs (sse_followers_max)";
            Problem::new("followers_full", StatusCode::SERVICE_UNAVAILABLE, what)
                .next("read pages of events instead")
        })?;
        let metrics = Arc::clone(&door.handle.runs().telemetry.metrics);
        metrics.sse_followers.shift(1);
        Ok(Self { metrics, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.sse_followers.shift(-1);
    }
}

/// Follows a run from `after` on.
pub(super) async fn follow(door: &Door, run: RunId, after: Seq, pages: Pages) -> Answer<Response> {
    let place = Place::take(door)?;
    // Subscribed first: what becomes durable from now on wakes the follower.
    let durable = door.handle.follow(&run);
    let page = read(&door.handle, &run, after, pages).await;
    let page = page.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    let hello = json!({ "runId": run, "head": page.head, "state": page.state });
    let mut follower = Follower {
        handle: door.handle.clone(),
        run,
        after,
        pages,
        ready: VecDeque::from([Event::default().event("hello").data(hello.to_string())]),
        done: false,
        durable,
        stop: door.stop.clone(),
        _place: place,
    };
    follower.take(page);
    let alive = KeepAlive::new().interval(Duration::from_millis(SSE_COMMENT_MS));
    Ok(Sse::new(follower.stream()).keep_alive(alive).into_response())
}

impl Follower {
    /// Makes messages of a page.
    fn take(&mut self, page: Page) {
        for (seq, name, line) in page.lines {
            self.after = seq;
            self.ready.push_back(Event::default().id(seq.to_string()).event(name).data(line));
        }
        if page.ended && self.after >= page.head {
            let end = json!({ "runId": self.run, "head": page.head, "state": page.state });
            self.ready.push_back(Event::default().event("end").data(end.to_string()));
            self.done = true;
        }
    }

    fn stream(self) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next message; nothing when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.done {
                return None;
            }
            self.durable.mark_unchanged();
            // A journal that cannot be read any more, or a daemon that stops, ends the stream:
            // whoever comes again is told why.
            let page = read(&self.handle, &self.run, self.after, self.pages).await.ok()?;
            let nothing_new = page.lines.is_empty();
            self.take(page);
            if nothing_new && !self.done {
                tokio::select! {
                    changed = self.durable.changed() => changed.ok()?,
                    () = stopped(&mut self.stop) => return None,
                }
            }
        }
    }
}

async fn read(handle: &Handle, run: &RunId, after: Seq, pages: Pages) -> Result<Page> {
    handle.read(run, move |look| Ok(pages(look, after))).await
}

/// The stored line at a place, if the journal goes so far.
pub(super) fn line_at(look: Look<'_>, seq: Seq) -> Option<String> {
    let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
    let record = look.records.get(at)?;
    let before = at.checked_sub(1).and_then(|at| look.records.get(at));
    let sum = before.map_or_else(|| line::genesis(look.dir.id()), |record| record.sum);
    let (text, _) = line::encode(record.seq, record.at, &record.event, sum);
    Some(String::from_utf8_lossy(text.trim_ascii_end()).into_owned())
}

/// Makes a page of the records after a place.
pub(super) type Pages = fn(Look<'_>, Seq) -> Page;

/// The stored lines after a place. A journal holds exactly what encoding its records gives (J23).
pub(super) fn stored_lines(look: Look<'_>, after: Seq) -> Page {
    let start = usize::try_from(after.0).unwrap_or(usize::MAX).min(look.records.len());
    let before = start.checked_sub(1).and_then(|at| look.records.get(at));
    let mut sum = before.map_or_else(|| line::genesis(look.dir.id()), |record| record.sum);
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for record in look.records[start..].iter().take(EVENTS_PAGE_MAX) {
        let (mut text, next) = line::encode(record.seq, record.at, &record.event, sum);
        text.truncate(text.trim_ascii_end().len());
        bytes += text.len();
        sum = next;
        let text = String::from_utf8_lossy(&text).into_owned();
        lines.push((record.seq, record.event.name(), text));
        if bytes >= EVENTS_PAGE_BYTES_MAX {
            break;
        }
    }
    Page {
        lines,
        head: look.state.head.seq,
        state: view::state_name(look.state),
        ended: look.state.end.is_some(),
    }
}

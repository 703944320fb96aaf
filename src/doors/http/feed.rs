//! `/v1/events`: everything that becomes durable in a root, as server-sent events.
//!
//! May not buffer ahead of its reader. Invariant: records come in the order in which they became
//! durable, none is left out without a word, and a place of another daemon's life is never taken
//! for one of this.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::Query;
use super::follow::{Place, line_at};
use super::problem::{Answer, Problem};
use super::runs::read_id;
use super::wire::stopped;
use crate::ground::id::RunId;
use crate::ground::limits::{EVENTS_PAGE_MAX, SSE_COMMENT_MS};
use crate::services::manager::{Handle, Note, Told};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(feed))
}

/// Which events, and from where
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only what became durable after this place, an `id` of this stream; else from now on
    after: Option<String>,
    /// Only records of these runs, with commas between them
    runs: Option<String>,
    /// Only events of these types, with commas between them
    types: Option<String>,
    /// `1`: also what no record says: `note.progress`, `note.lease`, `note.worker`
    volatile: Option<String>,
}

/// Where a follower was cut off, for the contract
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the contract alone")]
struct Resumed {
    /// As `after`
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<String>,
}

/// What a follower wants to hear of.
struct Filter {
    runs: Option<BTreeSet<RunId>>,
    types: Option<BTreeSet<String>>,
}

impl Filter {
    fn read(wanted: &Wanted) -> Answer<Self> {
        let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect();
        let runs = wanted.runs.as_deref().map(|runs| runs.split(',').map(str::trim));
        let runs = runs.map(|runs| runs.map(read_id).collect::<Answer<BTreeSet<_>>>());
        Ok(Self { runs: runs.transpose()?, types: wanted.types.as_deref().map(names) })
    }

    fn takes(&self, run: Option<&RunId>, event: &str) -> bool {
        let run_fits = match (&self.runs, run) {
            (None, _) => true,
            (Some(runs), Some(run)) => runs.contains(run),
            (Some(_), None) => false,
        };
        run_fits && self.types.as_ref().is_none_or(|types| types.contains(event))
    }
}

/// One follower of everything.
struct Follower {
    handle: Handle,
    place: u64,
    filter: Filter,
    ready: VecDeque<Told>,
    says_hello: bool,
    done: bool,
    head: watch::Receiver<u64>,
    notes: Option<broadcast::Receiver<Arc<Note>>>,
    stop: watch::Receiver<bool>,
    _place: Place,
}

/// Follow all runs
///
/// First `hello` with the `cursor` from which it goes on, then one message a record, in the order
/// in which they became durable: `id` its cursor, `event` its type, `data` `{runId, seq, line}`.
/// A message `gap` says that some were left out, and from where: list again.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "followAll",
    tag = "events", security(("token" = ["run.read"])),
    params(Wanted, Resumed),
    responses(
        (status = 200, description = "Events", body = String, content_type = "text/event-stream"),
        (status = 410, description = "What came after that place is not known any more"),
    ),
)]
async fn feed(
    State(door): State<Door>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Response> {
    let is_volatile = match wanted.volatile.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => return Err(Problem::bad_request("volatile is 1 or 0")),
    };
    let filter = Filter::read(&wanted)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let handle = door.handle.clone();
    let (mut head, notes) = (handle.feed().head(), handle.feed().notes());
    let place = match last.or(wanted.after.as_deref()) {
        Some(cursor) => known(&handle, cursor)?,
        None => *head.borrow_and_update(),
    };
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if !accepts.is_some_and(|kinds| kinds.contains("text/event-stream")) {
        return Err(Problem::bad_request("this is a stream: send `Accept: text/event-stream`"));
    }
    let follower = Follower {
        says_hello: true,
        place,
        filter,
        ready: VecDeque::new(),
        done: false,
        head,
        notes: is_volatile.then_some(notes),
        stop: door.stop.clone(),
        _place: Place::take(&door)?,
        handle,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let alive = KeepAlive::new().interval(Duration::from_millis(SSE_COMMENT_MS));
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

/// The place that a cursor means, if what came after it is known.
fn known(handle: &Handle, cursor: &str) -> Answer<u64> {
    let read = cursor.split_once('-').and_then(|(of, place)| Some((of, place.parse().ok()?)));
    let Some((of, place)) = read else {
        return Err(Problem::bad_request("that is no cursor of this stream"));
    };
    if of == handle.feed().life() && handle.feed().after(place, 1).is_ok() {
        return Ok(place);
    }
    let what = "what came after that place is not known any more";
    Err(Problem::new("cursor_gone", StatusCode::GONE, what)
        .next("list what you follow again, then follow without `after`"))
}

fn event_of(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

impl Follower {
    /// The next message; nothing when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.says_hello) {
            return Some(event_of("hello", &json!({ "cursor": self.cursor() })));
        }
        loop {
            while let Some(told) = self.ready.pop_front() {
                self.place += 1;
                if self.filter.takes(Some(&told.run), told.event) {
                    return Some(self.read(&told).await);
                }
            }
            if self.done {
                return None;
            }
            self.head.mark_unchanged();
            match self.handle.feed().after(self.place, EVENTS_PAGE_MAX) {
                Ok(told) if told.is_empty() => {
                    if let Some(note) = self.wait().await? {
                        return Some(event_of(note.event, &note.data));
                    }
                }
                Ok(told) => self.ready = told.into(),
                // It read too slowly.
                Err(_) => {
                    self.done = true;
                    return Some(self.gap());
                }
            }
        }
    }

    /// Waits for a record or a note. Nothing when the stream ends.
    async fn wait(&mut self) -> Option<Option<Arc<Note>>> {
        tokio::select! {
            changed = self.head.changed() => changed.ok().map(|()| None),
            note = passing(&mut self.notes) => {
                Some(note.filter(|note| self.filter.takes(note.run.as_ref(), note.event)))
            }
            () = stopped(&mut self.stop) => None,
        }
    }

    async fn read(&self, told: &Told) -> Event {
        let seq = told.seq;
        let line = self.handle.read(&told.run, move |look| Ok(line_at(look, seq))).await;
        // A run that was removed meanwhile, or cannot be read.
        let Ok(Some(line)) = line else { return self.gap() };
        let data = json!({ "runId": told.run, "seq": seq, "line": line });
        event_of(told.event, &data).id(self.cursor())
    }

    fn gap(&self) -> Event {
        event_of("gap", &json!({ "from": self.cursor() }))
    }

    fn cursor(&self) -> String {
        format!("{}-{}", self.handle.feed().life(), self.place)
    }
}

/// The next note; never without any. What was missed is no loss.
async fn passing(notes: &mut Option<broadcast::Receiver<Arc<Note>>>) -> Option<Arc<Note>> {
    let Some(notes) = notes else { return std::future::pending().await };
    match notes.recv().await {
        Ok(note) => Some(note),
        Err(RecvError::Lagged(_)) => None,
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

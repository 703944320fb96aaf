//! Traces for a collector: one span for each effect and one for the whole run, over OTLP.
//!
//! May not keep anything about a run. Invariant: whoever commits never waits for a collector, and
//! trace and span ids are functions of run and effect, so that a restart continues the same trace.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use crate::codecs::event::{Event, Record};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::{SPAN_BATCH_MAX, SPAN_QUEUE_MAX};
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::state::{End, RunState};
use crate::ports::telemetry::Metrics;
use crate::services::telemetry::Tracer;

/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(500);
/// How long one export may take.
const EXPORT_MAX: Duration = Duration::from_secs(10);

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("traces cannot be sent to {endpoint:?}: {why}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no thread left.
    #[error("the thread that sends traces cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Makes spans of committed records and sends them in batches, in a thread of its own.
pub struct Exporter {
    queue: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

/// The sending thread. Dropped without [`Sending::stop`] it goes on until the process ends.
pub struct Sending {
    queue: SyncSender<Message>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

enum Message {
    Span(Box<SpanData>),
    Stop,
}

impl Exporter {
    /// Begins to send to the collector at `endpoint`, such as `http://127.0.0.1:4318`.
    pub fn start(endpoint: &str, metrics: Arc<Metrics>) -> Result<(Arc<Self>, Sending), Error> {
        let wrong = |why: String| Error::Endpoint { endpoint: endpoint.to_owned(), why };
        let mut place = url::Url::parse(endpoint).map_err(|e| wrong(e.to_string()))?;
        if place.scheme() != "http" {
            return Err(wrong(
                "only http:// is supported; put a collector beside the daemon".into(),
            ));
        }
        if place.path() == "/" {
            place.set_path("/v1/traces");
        }
        let (queue, spans) = mpsc::sync_channel(SPAN_QUEUE_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopping) = (Arc::clone(&metrics), Arc::clone(&stop));
        // The client is made where it is used: it must not be made where requests are served.
        let (ready, made) = mpsc::sync_channel(1);
        let work = move || {
            let otlp = Otlp::builder().with_http().with_endpoint(place).with_timeout(EXPORT_MAX);
            match otlp.build() {
                Ok(otlp) => {
                    let _ = ready.send(None);
                    send_all(otlp, &spans, &stopping, &counted);
                }
                Err(e) => {
                    let _ = ready.send(Some(e.to_string()));
                }
            }
        };
        let thread = std::thread::Builder::new().name("traces".into()).spawn(work);
        let thread = thread.map_err(Error::Thread)?;
        match made.recv() {
            Ok(None) => {}
            Ok(Some(why)) => return Err(wrong(why)),
            Err(_) => return Err(wrong("the sender ended at once".into())),
        }
        let exporter = Self { queue: queue.clone(), metrics };
        Ok((Arc::new(exporter), Sending { queue, stop, thread }))
    }

    fn put(&self, span: SpanData) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            self.metrics.trace_spans.with(["dropped"]).one();
        }
    }
}

impl Sending {
    /// Sends what waits and ends.
    pub fn stop(self) {
        // A collector that does not answer keeps us for one more export, not for a full queue.
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.queue.send(Message::Stop);
        let _ = self.thread.join();
    }
}

impl Tracer for Exporter {
    fn committed(&self, run: &RunState, record: &Record) {
        match &record.event {
            Event::EffectResolved(resolved) => self.effect(run, resolved.effect_id, record.at),
            Event::EffectCancelled(gone) => self.effect(run, gone.effect_id, record.at),
            Event::RunCompleted(_)
            | Event::RunFailed(_)
            | Event::RunHalted(_)
            | Event::RunCancelled(_) => {
                if let Some((end, _)) = run.end {
                    self.put(run_span(run, end, record.at));
                }
            }
            _ => {}
        }
    }
}

impl Exporter {
    fn effect(&self, run: &RunState, id: EffectId, at: Timestamp) {
        if let Some(effect) = run.effect(id) {
            self.put(effect_span(&run.run_id, effect, at));
        }
    }
}

/// The trace context that the work for an effect goes on under, as W3C `traceparent`.
#[must_use]
pub fn traceparent_of(run: &RunId, effect: EffectId) -> String {
    format!("00-{}-{}-01", trace_id(run), span_id(run, Some(effect)))
}

/// The id of the span of an effect, or of the run itself.
#[must_use]
pub fn span_of(run: &RunId, effect: Option<EffectId>) -> String {
    span_id(run, effect).to_string()
}

fn trace_id(run: &RunId) -> TraceId {
    let digest = blake3::hash(&[b"trace", run.as_str().as_bytes()].concat());
    TraceId::from_bytes(first(digest.as_bytes()))
}

/// The span of an effect, or of the run itself.
fn span_id(run: &RunId, effect: Option<EffectId>) -> SpanId {
    let effect = effect.map_or_else(String::new, |id| id.to_string());
    // No id holds a slash: two pairs never give the same text.
    let digest = blake3::hash(format!("span/{run}/{effect}").as_bytes());
    SpanId::from_bytes(first(digest.as_bytes()))
}

/// The beginning of a digest; all zeros would be no id.
fn first<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&digest[..N]);
    if out == [0; N] { [1; N] } else { out }
}

fn effect_span(run: &RunId, effect: &Effect, at: Timestamp) -> SpanData {
    let status = match effect.status {
        EffectStatus::Error => Status::error(""),
        EffectStatus::Ok => Status::Ok,
        _ => Status::Unset,
    };
    let attributes = vec![
        KeyValue::new("dormouse.run_id", run.to_string()),
        KeyValue::new("dormouse.effect_id", effect.id.to_string()),
        KeyValue::new("dormouse.kind", effect.kind.clone()),
        KeyValue::new("dormouse.key", effect.key.clone()),
        KeyValue::new("dormouse.status", effect.status.name()),
        KeyValue::new("dormouse.epoch", i64::try_from(effect.epoch.0).unwrap_or(i64::MAX)),
    ];
    let ids = (span_id(run, Some(effect.id)), span_id(run, None));
    let name = format!("effect {}", effect.name).into();
    span(run, ids, name, (effect.requested_at, at), attributes, status)
}

fn run_span(run: &RunState, end: End, at: Timestamp) -> SpanData {
    let status = match end {
        End::Completed => Status::Ok,
        End::Failed => Status::error(""),
        End::Halted | End::Cancelled => Status::Unset,
    };
    let mut attributes = vec![
        KeyValue::new("dormouse.run_id", run.run_id.to_string()),
        KeyValue::new("dormouse.status", end.name()),
    ];
    if let Some(process) = &run.process {
        attributes.push(KeyValue::new("dormouse.process_id", process.process_id.clone()));
    }
    if let Some(parent) = &run.parent {
        attributes.push(KeyValue::new("dormouse.parent_run_id", parent.run_id.to_string()));
    }
    let ids = (span_id(&run.run_id, None), SpanId::INVALID);
    span(&run.run_id, ids, "run".into(), (run.created_at, at), attributes, status)
}

fn span(
    run: &RunId,
    (own, parent): (SpanId, SpanId),
    name: Cow<'static, str>,
    (from, to): (Timestamp, Timestamp),
    attributes: Vec<KeyValue>,
    status: Status,
) -> SpanData {
    let state = TraceState::default();
    SpanData {
        span_context: SpanContext::new(trace_id(run), own, TraceFlags::SAMPLED, false, state),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name,
        start_time: from.into(),
        end_time: to.into(),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: InstrumentationScope::builder("dormouse")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// Sends batches until it is told to stop.
fn send_all(mut otlp: Otlp, spans: &Receiver<Message>, stop: &AtomicBool, metrics: &Metrics) {
    otlp.set_resource(&Resource::builder_empty().with_service_name("dormouse").build());
    let mut goes_on = true;
    while goes_on {
        let mut batch = Vec::new();
        match spans.recv() {
            Ok(Message::Span(span)) => batch.push(*span),
            Ok(Message::Stop) | Err(_) => return,
        }
        while batch.len() < SPAN_BATCH_MAX {
            match spans.recv_timeout(GATHER) {
                Ok(Message::Span(span)) => batch.push(*span),
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    goes_on = false;
                    break;
                }
            }
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = match wait_for(otlp.export(batch)) {
            Ok(()) => "exported",
            Err(e) => {
                tracing::warn!(cause = %e, spans = count, "traces could not be sent");
                goes_on &= !stop.load(Ordering::Relaxed);
                "failed"
            }
        };
        metrics.trace_spans.with([result]).add(count);
    }
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end here: the client is a blocking one and must not meet a runtime.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_run_and_effect_alone() {
        let (one, two): (RunId, RunId) = ("r1".parse().unwrap(), "r2".parse().unwrap());
        let effect = EffectId::new;
        assert_eq!(traceparent_of(&one, effect(1)), traceparent_of(&one, effect(1)));
        assert_ne!(traceparent_of(&one, effect(1)), traceparent_of(&one, effect(2)));
        assert_ne!(trace_id(&one), trace_id(&two));
        assert_ne!(span_id(&one, None), span_id(&one, Some(effect(1))));
        let text = traceparent_of(&one, effect(1));
        assert_eq!(text.len(), 55);
        assert_eq!(text[3..35], trace_id(&one).to_string());
    }

    #[test]
    fn an_address_that_is_none_is_refused_at_once() {
        for bad in ["", "127.0.0.1:4318", "https://x", "grpc://x"] {
            let started = Exporter::start(bad, Arc::default());
            assert!(matches!(started, Err(Error::Endpoint { .. })), "{bad}");
        }
    }
}

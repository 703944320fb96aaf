//! Traces for a collector: a span for each attempt, each effect and the whole run, over OTLP.
//!
//! May not keep anything about a run: ids are those of `codecs::trace`, which a restart gives
//! again. Invariant: whoever commits never waits for a collector.

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

use crate::codecs::event::{Event, FailureClass, Record};
use crate::codecs::trace::RunTrace;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch};
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

    fn put(&self, run: &RunState, span: SpanData) {
        // Its caller keeps nothing of this trace: parts of it would be orphans.
        if !run.trace().is_sampled() {
            return;
        }
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
            Event::EffectAttemptFailed(over) => {
                self.attempt(run, over.effect_id, over.epoch, class_of(over.class), record.at);
            }
            Event::EffectResolved(over) => {
                self.attempt(run, over.effect_id, over.epoch, "ended", record.at);
                self.effect(run, over.effect_id, record.at);
            }
            Event::EffectCancelled(over) => {
                self.attempt(run, over.effect_id, over.epoch, "cancelled", record.at);
                self.effect(run, over.effect_id, record.at);
            }
            Event::RunCompleted(_)
            | Event::RunFailed(_)
            | Event::RunHalted(_)
            | Event::RunCancelled(_) => {
                if let Some((end, _)) = run.end {
                    self.put(run, run_span(run, end, record.at));
                }
            }
            _ => {}
        }
    }
}

impl Exporter {
    fn effect(&self, run: &RunState, id: EffectId, at: Timestamp) {
        if let Some(effect) = run.effect(id) {
            self.put(run, effect_span(run, effect, at));
        }
    }

    fn attempt(&self, run: &RunState, id: EffectId, epoch: Epoch, class: &str, at: Timestamp) {
        // An outcome without a claim had no attempt.
        if let Some(effect) = run.effect(id).filter(|_| epoch > Epoch(0)) {
            self.put(run, attempt_span(run, effect, epoch, class, at));
        }
    }
}

const fn class_of(class: FailureClass) -> &'static str {
    match class {
        FailureClass::NotBegun => "not_begun",
        FailureClass::Reported => "reported",
        FailureClass::Unknown => "unknown",
    }
}

fn attempt_span(
    run: &RunState,
    effect: &Effect,
    epoch: Epoch,
    class: &str,
    at: Timestamp,
) -> SpanData {
    // The fold may know of a later start already.
    let began = effect.started_at.filter(|_| effect.epoch == epoch).unwrap_or(at);
    let attributes = vec![
        KeyValue::new("dormouse.run_id", run.run_id.to_string()),
        KeyValue::new("dormouse.effect_id", effect.id.to_string()),
        KeyValue::new("dormouse.kind", effect.kind.clone()),
        KeyValue::new("dormouse.class", class.to_owned()),
        KeyValue::new("dormouse.epoch", i64::try_from(epoch.0).unwrap_or(i64::MAX)),
    ];
    let trace = run.trace();
    let ids = (trace.attempt_span(effect.id, epoch), Some(trace.effect_span(effect.id)));
    let name = format!("attempt {}", effect.name).into();
    span(trace, ids, name, (began, at), attributes, Status::Unset)
}

fn effect_span(run: &RunState, effect: &Effect, at: Timestamp) -> SpanData {
    let status = match effect.status {
        EffectStatus::Error => Status::error(""),
        EffectStatus::Ok => Status::Ok,
        _ => Status::Unset,
    };
    let attributes = vec![
        KeyValue::new("dormouse.run_id", run.run_id.to_string()),
        KeyValue::new("dormouse.effect_id", effect.id.to_string()),
        KeyValue::new("dormouse.kind", effect.kind.clone()),
        KeyValue::new("dormouse.key", effect.key.clone()),
        KeyValue::new("dormouse.status", effect.status.name()),
        KeyValue::new("dormouse.epoch", i64::try_from(effect.epoch.0).unwrap_or(i64::MAX)),
    ];
    let trace = run.trace();
    let ids = (trace.effect_span(effect.id), Some(trace.run_span()));
    let name = format!("effect {}", effect.name).into();
    span(trace, ids, name, (effect.requested_at, at), attributes, status)
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
    let trace = run.trace();
    let ids = (trace.run_span(), trace.caller_span());
    span(trace, ids, "run".into(), (run.created_at, at), attributes, status)
}

fn span(
    trace: RunTrace<'_>,
    (own, parent): ([u8; 8], Option<[u8; 8]>),
    name: Cow<'static, str>,
    (from, to): (Timestamp, Timestamp),
    attributes: Vec<KeyValue>,
    status: Status,
) -> SpanData {
    let (id, own) = (TraceId::from_bytes(trace.id()), SpanId::from_bytes(own));
    let state = TraceState::default();
    SpanData {
        span_context: SpanContext::new(id, own, TraceFlags::SAMPLED, false, state),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
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
    fn an_address_that_is_none_is_refused_at_once() {
        for bad in ["", "127.0.0.1:4318", "https://x", "grpc://x"] {
            let started = Exporter::start(bad, Arc::default());
            assert!(matches!(started, Err(Error::Endpoint { .. })), "{bad}");
        }
    }
}

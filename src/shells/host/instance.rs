//! One instance: an engine with its limits, the prelude and the author's modules inside.
//!
//! May not know pipes or processes. Invariant: a turn that ends within its limits has an empty job
//! queue afterwards; one that does not is never continued.

use super::meter::{Meter, Metered};
use super::modules::{ByTable, FromPinned, Modules, thrown_text};
use super::native::{self, Shared};
use super::prelude::{PRELUDE_MAIN, Prelude};
use super::protocol::{Feed, FromHost, HostLimits, LoadFailure, Start, TurnInput};
use crate::codecs::event::Profile;
use crate::ground::clock::thread_cpu_micros;
use crate::ground::limits::LOAD_CPU_MAX_MS;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Function, Module, Object, Promise, Runtime};
use std::cell::Cell;
use std::rc::Rc;

/// Stops code that runs too long: asked by the engine while it interprets.
#[derive(Default)]
struct Watch {
    max_ms: Cell<u64>,
    deadline_cpu_micros: Cell<u64>,
    late: Cell<bool>,
}

impl Watch {
    fn begin(&self, millis: u64) -> u64 {
        let now = thread_cpu_micros();
        self.max_ms.set(millis);
        self.deadline_cpu_micros.set(now.saturating_add(millis.saturating_mul(1000)));
        now
    }

    /// Whether the time is over; once it is, it stays over.
    fn over(&self) -> bool {
        if !self.late.get() && thread_cpu_micros() > self.deadline_cpu_micros.get() {
            self.late.set(true);
        }
        self.late.get()
    }
}

/// An engine with the prelude in it: what can be made before it is known for which run.
pub(super) struct Warm {
    // The context goes before the runtime that it lives in.
    context: Context,
    runtime: Runtime,
    meter: Rc<Meter>,
    watch: Rc<Watch>,
    shared: Rc<Shared>,
    profile: Profile,
}

impl Warm {
    /// Makes an engine ready for a run of this profile.
    pub(super) fn up(prelude: &Rc<Prelude>, profile: Profile) -> Result<Self, String> {
        let refused = |e: rquickjs::Error| format!("the engine refused: {e}");
        let (meter, watch) = (Meter::new(), Rc::new(Watch::default()));
        watch.begin(LOAD_CPU_MAX_MS);
        let runtime = Runtime::new_with_alloc(Metered(Rc::clone(&meter))).map_err(refused)?;
        let (ours, metered) = (Rc::clone(&watch), Rc::clone(&meter));
        runtime.set_interrupt_handler(Some(Box::new(move || metered.refused() || ours.over())));
        runtime.set_host_promise_rejection_tracker(Some(Box::new(track_rejection)));
        let none = Modules::new(Vec::new(), "");
        runtime.set_loader(ByTable(Rc::clone(&none)), FromPinned(none, Rc::clone(prelude)));
        // There is no garbage to look for while it is made.
        runtime.set_gc_threshold(usize::MAX);
        let context = Context::full(&runtime).map_err(refused)?;
        let warm = Self { context, runtime, meter, watch, shared: Shared::new(), profile };
        warm.context.with(|ctx| {
            native::install(&ctx, &warm.shared, profile).map_err(refused)?;
            load_prelude(&ctx)
        })?;
        let heap = usize::try_from(warm.meter.used_bytes()).unwrap_or(usize::MAX);
        warm.runtime.set_gc_threshold(heap + heap / 2);
        Ok(warm)
    }

    /// The rules that it is made for.
    pub(super) fn profile(&self) -> Profile {
        self.profile
    }
}

fn load_prelude(ctx: &Ctx<'_>) -> Result<(), String> {
    let refused = |e: rquickjs::Error| format!("the engine refused: {e}");
    let promise = Module::import(ctx, PRELUDE_MAIN).map_err(refused)?;
    while ctx.execute_pending_job() {}
    match promise.result::<Object<'_>>() {
        Some(Ok(namespace)) => match ctx.store_userdata(namespace) {
            Ok(_) => Ok(()),
            Err(_) => Err("the prelude has no place".to_owned()),
        },
        Some(Err(_)) => {
            let (text, stack) = thrown_text(&ctx.catch());
            Err(format!("the prelude failed: {text}\n{}", stack.unwrap_or_default()))
        }
        None => Err("the prelude did not load".to_owned()),
    }
}

/// An engine with a process in it.
pub(super) struct Instance {
    // The context goes before the runtime that it lives in.
    context: Context,
    _runtime: Runtime,
    meter: Rc<Meter>,
    watch: Rc<Watch>,
    shared: Rc<Shared>,
    modules: Rc<Modules>,
    limits: HostLimits,
}

/// Why a step of an instance went no further.
enum Stop {
    /// A limit: the instance is gone.
    Limit(Box<FromHost>),
    /// The engine refused: code, message, stack.
    Load(LoadFailure),
}

type Step<T> = Result<T, Stop>;

impl Instance {
    /// An instance for this start, with nothing loaded. Takes the modules out of it.
    pub(super) fn new(warm: Warm, prelude: &Rc<Prelude>, start: &mut Start) -> Self {
        let Warm { context, runtime, meter, watch, shared, .. } = warm;
        let limits = start.limits.clone();
        meter.limit_to(limits.heap_bytes_max);
        runtime.set_max_stack_size(usize::try_from(limits.stack_bytes_max).unwrap_or(0));
        let modules = Modules::new(std::mem::take(&mut start.modules), &start.entry);
        let loader = FromPinned(Rc::clone(&modules), Rc::clone(prelude));
        runtime.set_loader(ByTable(Rc::clone(&modules)), loader);
        shared.give_to(start);
        Self { context, _runtime: runtime, meter, watch, shared, modules, limits }
    }

    /// Bytes in use.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.meter.used_bytes()
    }

    /// What it may use.
    pub(super) fn limits(&self) -> &HostLimits {
        &self.limits
    }

    /// Takes the instance down, and says how many bytes stay behind. An engine that was refused
    /// memory may not survive that: it is left as it is to the end of the process.
    pub(super) fn end(self) -> u64 {
        let meter = Rc::clone(&self.meter);
        if meter.refused() {
            std::mem::forget(self);
        } else {
            drop(self);
        }
        meter.used_bytes()
    }

    /// Loads the code. Only after [`FromHost::Started`] can the instance run turns.
    pub(super) fn load(&self, start: &Start) -> FromHost {
        self.watch.begin(self.limits.load_cpu_max_ms);
        let loaded = self.context.with(|ctx| {
            let configure: Function<'_> = prelude(&ctx).get("configure").map_err(broken)?;
            configure.call::<_, ()>((native::start_text(start),)).map_err(broken)?;
            self.load_entry(&ctx, start)
        });
        let done = self.shared.take();
        match loaded {
            Ok(()) => FromHost::Started { warnings: done.warnings, logs: done.logs },
            Err(Stop::Limit(message)) => *message,
            Err(Stop::Load(failure)) => self.limit().unwrap_or(FromHost::LoadFailed(failure)),
        }
    }

    fn load_entry(&self, ctx: &Ctx<'_>, start: &Start) -> Step<()> {
        let Ok(promise) = Module::import(ctx, start.entry.as_str()) else {
            return Err(self.load_failure(ctx));
        };
        self.drain(ctx)?;
        let namespace = self.settled(ctx, &promise)?;
        let find: Function<'_> = prelude(ctx).get("findEntry").map_err(broken)?;
        let wanted = start.export_name.clone();
        let name = wanted.map_or_else(
            || rquickjs::Value::new_null(ctx.clone()),
            |name| {
                let text = rquickjs::String::from_str(ctx.clone(), &name);
                text.map_or_else(|_| rquickjs::Value::new_null(ctx.clone()), Into::into)
            },
        );
        let failure: Option<(String, String)> =
            find.call::<_, Option<Vec<String>>>((namespace, name)).map_err(broken)?.and_then(|f| {
                let mut parts = f.into_iter();
                Some((parts.next()?, parts.next()?))
            });
        failure.map_or(Ok(()), |(code, message)| {
            Err(Stop::Load(LoadFailure {
                code,
                message: format!("{}: {message}", start.entry),
                stack: None,
            }))
        })
    }

    fn settled<'js>(&self, ctx: &Ctx<'js>, promise: &Promise<'js>) -> Step<Object<'js>> {
        if promise.state() == PromiseState::Pending {
            return Err(Stop::Load(LoadFailure {
                code: "E_MODULE_ERROR".to_owned(),
                message: "a top-level await waits for something that never comes".to_owned(),
                stack: None,
            }));
        }
        match promise.result::<Object<'js>>() {
            Some(Ok(namespace)) => Ok(namespace),
            _ => Err(self.load_failure(ctx)),
        }
    }

    /// What went wrong while loading; the exception is pending.
    fn load_failure(&self, ctx: &Ctx<'_>) -> Stop {
        let thrown = ctx.catch();
        if let Some(limit) = self.limit() {
            return Stop::Limit(Box::new(limit));
        }
        let (text, stack) = describe(ctx, &thrown);
        // Authors know the built-in module by another name.
        let text = text.replace("'dormouse:sdk'", "'dormouse'");
        let known = self.modules.failure.take().filter(|(code, _)| text.contains(code));
        let (code, message) = known.map_or_else(
            || ("E_MODULE_ERROR".to_owned(), text),
            |(code, message)| (code.to_owned(), message),
        );
        Stop::Load(LoadFailure { code, message, stack })
    }

    /// Runs one turn. Nothing but a [`FromHost::Turn`] lets the instance go on.
    pub(super) fn turn(&self, input: &TurnInput) -> FromHost {
        let before = self.watch.begin(self.limits.turn_cpu_max_ms);
        let result = self.context.with(|ctx| self.run_turn(&ctx, input));
        let mut done = self.shared.take();
        done.cpu_micros = thread_cpu_micros().saturating_sub(before);
        if input.quiet {
            done.logs.clear();
        }
        match result {
            Ok(()) => FromHost::Turn(done),
            Err(Stop::Limit(message)) => *message,
            Err(Stop::Load(failure)) => FromHost::LoadFailed(failure),
        }
    }

    fn run_turn(&self, ctx: &Ctx<'_>, input: &TurnInput) -> Step<()> {
        let prelude = prelude(ctx);
        let turn = turn_object(ctx, input).map_err(broken)?;
        let begin: Function<'_> = prelude.get("begin").map_err(broken)?;
        let step: Function<'_> = prelude.get("step").map_err(broken)?;
        let finish: Function<'_> = prelude.get("finish").map_err(broken)?;
        let result = begin.call::<_, ()>((turn,));
        self.checked(ctx, result)?;
        loop {
            let result = step.call::<_, bool>(());
            let more = self.checked(ctx, result)?;
            self.drain(ctx)?;
            if !more {
                break;
            }
        }
        let result = finish.call::<_, ()>(());
        self.checked(ctx, result)
    }

    /// Passes on what the prelude answered, unless a limit was hit meanwhile.
    fn checked<T>(&self, ctx: &Ctx<'_>, result: rquickjs::Result<T>) -> Step<T> {
        if let Some(limit) = self.limit() {
            ctx.catch();
            return Err(Stop::Limit(Box::new(limit)));
        }
        result.map_err(|_| {
            let (text, stack) = thrown_text(&ctx.catch());
            internal(&format!("the prelude failed: {text}\n{}", stack.unwrap_or_default()))
        })
    }

    /// Runs jobs until none is left. A queue that never empties is not seen by the engine's
    /// interrupt, so the time is looked at here too.
    fn drain(&self, ctx: &Ctx<'_>) -> Step<()> {
        loop {
            let more = ctx.execute_pending_job();
            if let Some(limit) = self.limit() {
                return Err(Stop::Limit(Box::new(limit)));
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn limit(&self) -> Option<FromHost> {
        let limit = |name: &str, detail: String| FromHost::Limit { name: name.to_owned(), detail };
        if self.meter.refused() {
            let max = self.limits.heap_bytes_max;
            return Some(limit("memory", format!("heap_bytes_max: more than {max} bytes")));
        }
        let max = self.watch.max_ms.get();
        let late = || limit("cpu", format!("turn_cpu_max: more than {max} ms of CPU time"));
        self.watch.over().then(late)
    }
}

/// The namespace of the prelude's main module.
fn prelude<'js>(ctx: &Ctx<'js>) -> Object<'js> {
    ctx.userdata::<Object<'js>>().map_or_else(|| ctx.globals(), |prelude| (*prelude).clone())
}

/// Tells the prelude of a rejection without handler, or of a handler that came later.
#[allow(clippy::needless_pass_by_value)] // The engine's own signature.
fn track_rejection<'js>(
    ctx: Ctx<'js>,
    promise: rquickjs::Value<'js>,
    reason: rquickjs::Value<'js>,
    handled: bool,
) {
    if let Some(prelude) = ctx.userdata::<Object<'js>>()
        && let Ok(rejected) = prelude.get::<_, Function<'js>>("rejected")
        && rejected.call::<_, ()>((promise, reason, handled)).is_err()
    {
        ctx.catch();
    }
}

/// Name, message and stack as the prelude reads them: with hints, without its own frames.
fn describe<'js>(ctx: &Ctx<'js>, thrown: &rquickjs::Value<'js>) -> (String, Option<String>) {
    let described = prelude(ctx)
        .get::<_, Function<'js>>("describe")
        .and_then(|describe| describe.call::<_, Object<'js>>((thrown.clone(),)));
    match described {
        Ok(object) => thrown_text(object.as_value()),
        Err(_) => thrown_text(thrown),
    }
}

/// What the prelude's `begin` takes.
fn turn_object<'js>(ctx: &Ctx<'js>, input: &TurnInput) -> rquickjs::Result<Object<'js>> {
    let turn = Object::new(ctx.clone())?;
    #[allow(clippy::cast_precision_loss)] // Milliseconds of any year that a clock shows are exact.
    turn.set("clockMs", input.clock_micros.div_euclid(1000) as f64)?;
    turn.set("byKey", input.by_key)?;
    turn.set("liveAfter", input.live_after)?;
    turn.set("journaledOutputs", input.journaled_outputs)?;
    let marks: Vec<&str> = input.journaled_marks.iter().map(|(_, id)| id.as_str()).collect();
    turn.set("marks", serde_json::to_string(&marks).unwrap_or_default())?;
    match &input.feed {
        Feed::RunStarted => turn.set("feed", "started")?,
        Feed::Resolved { ordinal, value, error, attempts } => {
            turn.set("ordinal", *ordinal)?;
            turn.set("attempts", *attempts)?;
            if let Some(error) = error {
                turn.set("feed", "failed")?;
                turn.set("name", error.name.as_str())?;
                turn.set("message", error.message.as_str())?;
                if let Some(stack) = &error.stack {
                    turn.set("stack", stack.as_str())?;
                }
                if let Some(data) = &error.data {
                    turn.set("data", data.as_str())?;
                }
            } else {
                turn.set("feed", "resolved")?;
                if let Some(value) = value {
                    turn.set("value", value.as_str())?;
                }
            }
        }
        Feed::Cancelled { ordinal, reason } => {
            turn.set("feed", "cancelled")?;
            turn.set("ordinal", *ordinal)?;
            turn.set("reason", reason.as_str())?;
        }
        Feed::CancelRequested { reason } => {
            turn.set("feed", "cancel_requested")?;
            if let Some(reason) = reason {
                turn.set("reason", reason.as_str())?;
            }
        }
    }
    Ok(turn)
}

fn internal(message: &str) -> Stop {
    Stop::Load(LoadFailure { code: "E_HOST".to_owned(), message: message.to_owned(), stack: None })
}

#[allow(clippy::needless_pass_by_value)] // Stands where errors are mapped.
fn broken(error: rquickjs::Error) -> Stop {
    internal(&format!("the engine refused: {error}"))
}

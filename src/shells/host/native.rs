//! The Rust half of the prelude: what JavaScript cannot do, or not identically everywhere.
//!
//! May not know turns or limits of time. Invariant: every function is a function of its arguments
//! and of what the run was started with.

use super::freeze::freeze_reachable;
use super::protocol::{LogLine, Output, Request, Start, TaskBlob, TurnDone};
use crate::codecs::event::{ErrorInfo, Profile};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::digest::{Digest, hex};
use crate::ground::id::EffectId;
use crate::ground::limits::{
    ERROR_BYTES_MAX, JSON_DEPTH_MAX, PARALLEL_DEPTH_MAX, TURN_LOG_BYTES_MAX, TURN_LOG_LINES_MAX,
};
use crate::machines::effect::{key, policy};
use rquickjs::{Ctx, Exception, FromJs, Function, Object, Result, TypedArray, Value};
use sha2::Digest as _;
use std::cell::RefCell;
use std::rc::Rc;

/// What the prelude collects into, and what it may ask.
pub(super) struct Shared {
    given: RefCell<Given>,
    turn: RefCell<Collected>,
}

/// What the run was started with; nobody's before that is known.
struct Given {
    run_dir: String,
    value_bytes_max: usize,
    stream: key::Stream,
}

/// One turn while it runs.
#[derive(Default)]
struct Collected {
    done: TurnDone,
    /// Outputs with the number of the call that made each.
    outputs: Vec<(u64, Output)>,
    end: Option<Output>,
}

impl Shared {
    /// Nobody's yet.
    pub(super) fn new() -> Rc<Self> {
        let (run_dir, value_bytes_max) = (String::new(), 0);
        let given = Given { run_dir, value_bytes_max, stream: key::Stream::new("", 0) };
        Rc::new(Self { given: RefCell::new(given), turn: RefCell::default() })
    }

    /// From now on this run's.
    pub(super) fn give_to(&self, start: &Start) {
        *self.given.borrow_mut() = Given {
            run_dir: start.run_dir.clone(),
            value_bytes_max: usize::try_from(start.limits.value_bytes_max).unwrap_or(usize::MAX),
            stream: key::Stream::new(&start.seed_run_id, start.generation),
        };
    }

    /// Takes what was collected, outputs in call order, the end last.
    pub(super) fn take(&self) -> TurnDone {
        let Collected { mut done, mut outputs, end } = self.turn.take();
        outputs.sort_by_key(|(order, _)| *order);
        done.outputs = outputs.into_iter().map(|(_, output)| output).chain(end).collect();
        done
    }

    /// Text of the prelude as a checked value.
    fn json(&self, ctx: &Ctx<'_>, text: &str, what: &str) -> Result<Json> {
        let max = self.given.borrow().value_bytes_max;
        if text.len() > max {
            let size = text.len();
            let why = format!("value_bytes_max: {what} is {size} bytes of JSON, at most {max}");
            return Err(Exception::throw_range(ctx, &why));
        }
        let json = gate(text.as_bytes(), JSON_DEPTH_MAX, Surrogates::Lone)
            .map_err(|e| Exception::throw_range(ctx, &format!("json.depth_max: {what}: {e}")))?;
        // A cut emoji is common; nothing outside JavaScript can hold half of a pair.
        Ok(json.well_formed().into_owned())
    }

    fn optional(&self, ctx: &Ctx<'_>, text: Option<String>, what: &str) -> Result<Option<Json>> {
        text.map(|text| self.json(ctx, &text, what)).transpose()
    }
}

/// What the prelude is told about the run.
pub(super) fn start_text(start: &Start) -> String {
    let limits = &start.limits;
    let known: Vec<_> = start.known.iter().map(|e| (&e.key, e.ordinal)).collect();
    serde_json::json!({
        "runId": start.run_id,
        "runDir": start.run_dir,
        "cwd": start.cwd,
        "processId": start.process_id,
        "generation": start.generation,
        "clockMs": start.clock_micros.div_euclid(1000),
        "nextOrdinal": start.next_ordinal,
        "inputs": start.inputs.as_ref().map(Json::as_str),
        "carried": start.carried.as_ref().map(Json::as_str),
        "known": known,
        "knownMarks": start.known_marks,
        "limits": {
            "turnOutputs": limits.turn_outputs_max,
            "openEffects": limits.open_effects_max,
            "parallelDepth": PARALLEL_DEPTH_MAX,
            "logLines": TURN_LOG_LINES_MAX,
            "logBytes": TURN_LOG_BYTES_MAX,
        },
    })
    .to_string()
}

/// Makes the object that `native.js` picks up.
pub(super) fn install(ctx: &Ctx<'_>, shared: &Rc<Shared>, profile: Profile) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    native.set("strict", profile == Profile::Dormouse)?;
    native.set("version", env!("CARGO_PKG_VERSION"))?;
    identity(ctx, &native, shared)?;
    collecting(ctx, &native, shared)?;
    randomness(ctx, &native, shared)?;
    texts(ctx, &native)?;
    urls(ctx, &native)?;
    native.set("freeze", Function::new(ctx.clone(), freeze_reachable)?)?;
    ctx.globals().set("__dormouse_native", native)
}

/// Keys, digests, checks.
fn identity<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let me = Rc::clone(shared);
    let check =
        move |ctx: Ctx<'js>, text: String, what: String| me.json(&ctx, &text, &what).map(|_| ());
    native.set("check", Function::new(ctx.clone(), check)?)?;
    let me = Rc::clone(shared);
    let fits = move |text: String| text.len() <= me.given.borrow().value_bytes_max;
    native.set("fits", Function::new(ctx.clone(), fits)?)?;
    let me = Rc::clone(shared);
    let args_digest = move |ctx: Ctx<'js>, text: Option<String>| {
        let args = me.optional(&ctx, text, "the call")?;
        Result::Ok(key::args_digest(args.as_ref(), &me.given.borrow().run_dir).to_string())
    };
    native.set("argsDigest", Function::new(ctx.clone(), args_digest)?)?;
    let explicit = |name: String, user: String| key::explicit(&name, &user);
    native.set("explicitKey", Function::new(ctx.clone(), explicit)?)?;
    let counted = |scope: String, name: String, n: f64| key::counted(&scope, &name, whole(n));
    native.set("countedKey", Function::new(ctx.clone(), counted)?)?;
    let branch =
        |scope: String, group: f64, label: String| key::branch_scope(&scope, whole(group), &label);
    native.set("branchScope", Function::new(ctx.clone(), branch)?)?;
    let effect_id = |ordinal: u32| EffectId::new(ordinal).to_string();
    native.set("effectId", Function::new(ctx.clone(), effect_id)?)?;
    let me = Rc::clone(shared);
    let policy_error = move |ctx: Ctx<'js>, kind: String, text: Option<String>, throws: bool| {
        let options = me.optional(&ctx, text, "the options")?;
        let read = if throws { policy::read } else { policy::resolve };
        Result::Ok(read(&kind, None, options.as_ref()).err())
    };
    native.set("policyError", Function::new(ctx.clone(), policy_error)?)
}

/// A counter of the prelude: a whole number far below 2^53.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates; never negative.
fn whole(n: f64) -> u64 {
    n as u64
}

/// Outputs and side channels of a turn.
fn collecting<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let me = Rc::clone(shared);
    let request = move |ctx: Ctx<'js>, parts: Object<'js>| {
        let (order, request) = read_request(&me, &ctx, &parts)?;
        me.turn.borrow_mut().outputs.push((order, Output::Request(Box::new(request))));
        Result::Ok(())
    };
    native.set("request", Function::new(ctx.clone(), request)?)?;
    let me = Rc::clone(shared);
    let mark = move |order: f64, key: String, id: String| {
        me.turn.borrow_mut().outputs.push((whole(order), Output::Mark { key, id }));
    };
    native.set("mark", Function::new(ctx.clone(), mark)?)?;
    let me = Rc::clone(shared);
    let end = move |ctx: Ctx<'js>, parts: Object<'js>| {
        let end = read_end(&me, &ctx, &parts)?;
        me.turn.borrow_mut().end = Some(end);
        Result::Ok(())
    };
    native.set("end", Function::new(ctx.clone(), end)?)?;
    let me = Rc::clone(shared);
    let cancel = move |ordinal: u32, reason: String| {
        me.turn.borrow_mut().done.cancels.push((ordinal, reason));
    };
    native.set("cancel", Function::new(ctx.clone(), cancel)?)?;
    let me = Rc::clone(shared);
    let warn = move |text: String| me.turn.borrow_mut().done.warnings.push(text);
    native.set("warn", Function::new(ctx.clone(), warn)?)?;
    let me = Rc::clone(shared);
    let log = move |ctx: Ctx<'js>,
                    n: u32,
                    level: String,
                    label: Option<String>,
                    message: String,
                    data: Option<String>| {
        let data = me.optional(&ctx, data, "the log line")?;
        me.turn.borrow_mut().done.logs.push(LogLine { n, level, label, message, data });
        Result::Ok(())
    };
    native.set("log", Function::new(ctx.clone(), log)?)?;
    blobs(ctx, native, shared)
}

fn blobs<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let me = Rc::clone(shared);
    let text = move |dir: String, name: String, extension: String, text: String, hash: String| {
        me.keep_blob(&dir, &name, &extension, text.into_bytes(), &hash)
    };
    native.set("textBlob", Function::new(ctx.clone(), text)?)?;
    let me = Rc::clone(shared);
    let bytes =
        move |dir: String, name: String, extension: String, bytes: Vec<u8>, hash: String| {
            me.keep_blob(&dir, &name, &extension, bytes, &hash)
        };
    native.set("bytesBlob", Function::new(ctx.clone(), bytes)?)
}

impl Shared {
    fn keep_blob(&self, dir: &str, name: &str, ext: &str, content: Vec<u8>, hash: &str) -> String {
        let digest = match hash {
            "sha256" => hex(&sha2::Sha256::digest(&content)),
            _ => Digest::of(&content).hex(),
        };
        let path = format!("{dir}/{name}-{digest}.{ext}");
        self.turn.borrow_mut().done.blobs.push(TaskBlob { path: path.clone(), content });
        path
    }
}

/// A member of an object of the prelude; absent and undefined are nothing.
fn field<'js, T: FromJs<'js>>(parts: &Object<'js>, name: &str) -> Result<Option<T>> {
    let value: Value<'js> = parts.get(name)?;
    if value.is_undefined() || value.is_null() {
        Ok(None)
    } else {
        T::from_js(parts.ctx(), value).map(Some)
    }
}

fn text(parts: &Object<'_>, name: &str) -> Result<String> {
    Ok(field(parts, name)?.unwrap_or_default())
}

fn read_request(me: &Shared, ctx: &Ctx<'_>, parts: &Object<'_>) -> Result<(u64, Request)> {
    let ordinal: u32 = parts.get("ordinal")?;
    let def = me.json(ctx, &text(parts, "def")?, "the definition")?;
    let id = EffectId::new(ordinal).to_string();
    let def_digest = key::def_digest(&def, &id, &me.given.borrow().run_dir).to_string();
    let request = Request {
        ordinal,
        key: text(parts, "key")?,
        name: text(parts, "name")?,
        scope: text(parts, "scope")?,
        kind: text(parts, "kind")?,
        task_id: field(parts, "taskId")?,
        title: field(parts, "title")?,
        label: field(parts, "label")?,
        labels: parts.get("labels")?,
        def,
        def_digest,
        args: me.optional(ctx, field(parts, "args")?, "the arguments")?,
        args_digest: text(parts, "argsDigest")?,
        options: me.optional(ctx, field(parts, "options")?, "the options")?,
        cleanup: parts.get("cleanup")?,
        site: field(parts, "site")?,
    };
    Ok((whole(parts.get("order")?), request))
}

fn read_end(me: &Shared, ctx: &Ctx<'_>, parts: &Object<'_>) -> Result<Output> {
    let json = |name: &str| me.optional(ctx, field(parts, name)?, "the end of the run");
    Ok(match text(parts, "type")?.as_str() {
        "completed" => Output::Completed { output: json("output")?.unwrap_or_else(Json::null) },
        "halted" => Output::Halted { reason: text(parts, "reason")?, payload: json("payload")? },
        "continued" => Output::Continued {
            inputs: json("inputs")?,
            entry: field(parts, "entry")?,
            carry: json("carry")?,
        },
        _ => Output::Failed { error: read_error(me, ctx, &parts.get("error")?)? },
    })
}

fn read_error(me: &Shared, ctx: &Ctx<'_>, parts: &Object<'_>) -> Result<ErrorInfo> {
    let cut = |text: String| {
        if text.len() <= ERROR_BYTES_MAX / 4 {
            return text;
        }
        let mut end = ERROR_BYTES_MAX / 4;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}… (cut)", &text[..end])
    };
    let data: Option<String> = field(parts, "data")?;
    let data = data.filter(|text| text.len() <= ERROR_BYTES_MAX / 2);
    Ok(ErrorInfo {
        name: cut(text(parts, "name")?),
        message: cut(text(parts, "message")?),
        stack: field(parts, "stack")?.map(cut),
        data: data.and_then(|text| me.json(ctx, &text, "the error").ok()),
    })
}

fn randomness<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let me = Rc::clone(shared);
    let random = move |scope: String, n: f64| me.given.borrow().stream.number(&scope, whole(n));
    native.set("random", Function::new(ctx.clone(), random)?)?;
    let me = Rc::clone(shared);
    let uuid = move |scope: String, n: f64| me.given.borrow().stream.uuid(&scope, whole(n));
    native.set("uuid", Function::new(ctx.clone(), uuid)?)?;
    let me = Rc::clone(shared);
    let bytes = move |ctx: Ctx<'js>, scope: String, n: f64, length: u32| {
        let mut out = vec![0; usize::try_from(length.min(65_536)).unwrap_or(0)];
        me.given.borrow().stream.fill(&scope, whole(n), &mut out);
        TypedArray::new(ctx, out)
    };
    native.set("randomBytes", Function::new(ctx.clone(), bytes)?)
}

fn texts<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let duration = |text: String| {
        let duration = humantime::parse_duration(text.trim()).ok()?;
        Some(duration.as_secs_f64() * 1000.0)
    };
    native.set("site", Function::new(ctx.clone(), |stack: String| author_site(&stack))?)?;
    native.set("durationMs", Function::new(ctx.clone(), duration)?)?;
    native.set("decimal", Function::new(ctx.clone(), rounded_decimal)?)?;
    let encode = |ctx: Ctx<'js>, text: String| TypedArray::new(ctx, text.into_bytes());
    native.set("utf8Encode", Function::new(ctx.clone(), encode)?)?;
    let decode = |bytes: Vec<u8>, fatal: bool| {
        if fatal {
            return String::from_utf8(bytes).ok();
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    native.set("utf8Decode", Function::new(ctx.clone(), decode)?)
}

/// The first place in a stack that is not the prelude's: `file:line:column`.
fn author_site(stack: &str) -> Option<String> {
    stack.lines().find_map(|line| {
        // `at name (file:1:2)` or `at file:1:2`.
        let line = line.trim().strip_prefix("at ")?;
        let named = line.strip_suffix(')').and_then(|line| line.rsplit_once('('));
        let place = named.map_or(line, |(_, place)| place);
        let mut parts = place.rsplitn(3, ':');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let numbers = parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number);
        (numbers && !place.starts_with("dormouse:")).then(|| place.to_owned())
    })
}

/// Plain decimal text of a finite number that is not negative, rounded to at most `places` digits
/// after the point: halves go up, judged by the shortest digits that name the number.
fn rounded_decimal(number: f64, places: u32) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    // Digits d0 d1 d2 … with the point after position `exponent`.
    let mut digits: Vec<u8> =
        mantissa.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    let mut point = exponent + 1;
    if point < 1 {
        let zeros = usize::try_from(1 - point).unwrap_or(0);
        digits.splice(0..0, std::iter::repeat_n(0, zeros));
        point = 1;
    }
    let keep = usize::try_from(point + i64::from(places)).unwrap_or(usize::MAX);
    if keep < digits.len() {
        let up = digits[keep] >= 5;
        digits.truncate(keep);
        if up && round_up(&mut digits) {
            digits.insert(0, 1);
            point += 1;
        }
    }
    let point = usize::try_from(point).unwrap_or(1);
    let mut text: String = digits.iter().map(|d| char::from(b'0' + d)).collect();
    while text.len() < point {
        text.push('0');
    }
    if text.len() > point {
        text.insert(point, '.');
    }
    text
}

/// Adds one to the last digit; whether a carry runs out at the front.
fn round_up(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            return false;
        }
        *digit = 0;
    }
    true
}

fn urls<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let parse = |text: String, base: Option<String>| {
        let base = base.map(|base| url::Url::parse(&base)).transpose().ok()?;
        let parsed = url::Url::options().base_url(base.as_ref()).parse(&text).ok()?;
        Some(url_parts(&parsed))
    };
    native.set("urlParse", Function::new(ctx.clone(), parse)?)?;
    let set = |href: String, part: String, value: String| {
        use url::quirks;
        let mut parsed = url::Url::parse(&href).ok()?;
        let url = &mut parsed;
        // A part that cannot be set stays as it is, as on the web.
        match part.as_str() {
            "protocol" => drop(quirks::set_protocol(url, &value)),
            "username" => drop(quirks::set_username(url, &value)),
            "password" => drop(quirks::set_password(url, &value)),
            "host" => drop(quirks::set_host(url, &value)),
            "hostname" => drop(quirks::set_hostname(url, &value)),
            "port" => drop(quirks::set_port(url, &value)),
            "pathname" => quirks::set_pathname(url, &value),
            "search" => quirks::set_search(url, &value),
            _ => quirks::set_hash(url, &value),
        }
        Some(url_parts(&parsed))
    };
    native.set("urlSet", Function::new(ctx.clone(), set)?)?;
    let decode = |text: String| {
        let pairs: Vec<_> = url::form_urlencoded::parse(text.as_bytes()).collect();
        serde_json::to_string(&pairs).unwrap_or_default()
    };
    native.set("formDecode", Function::new(ctx.clone(), decode)?)?;
    let encode = |pairs: String| {
        let pairs: Vec<(String, String)> = serde_json::from_str(&pairs).unwrap_or_default();
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    native.set("formEncode", Function::new(ctx.clone(), encode)?)
}

fn url_parts(url: &url::Url) -> String {
    use url::quirks;
    serde_json::json!({
        "href": quirks::href(url),
        "origin": quirks::origin(url),
        "protocol": quirks::protocol(url),
        "username": quirks::username(url),
        "password": quirks::password(url),
        "host": quirks::host(url),
        "hostname": quirks::hostname(url),
        "port": quirks::port(url),
        "pathname": quirks::pathname(url),
        "search": quirks::search(url),
        "hash": quirks::hash(url),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_place_is_the_first_that_is_not_the_preludes() {
        let stack =
            "    at task (dormouse:task:3:1)\n    at step (src/main.js:12:7)\n    at x (a:1:1)";
        assert_eq!(author_site(stack).as_deref(), Some("src/main.js:12:7"));
        assert_eq!(author_site("    at lib/a b.js:4:2").as_deref(), Some("lib/a b.js:4:2"));
        assert_eq!(author_site("    at native\n"), None);
    }

    #[test]
    fn decimals_round_halves_up_by_their_shortest_digits() {
        for (number, places, text) in [
            (0.0, 3, "0"),
            (1234.5678, 3, "1234.568"),
            (1.005, 2, "1.01"),
            (2.5, 0, "3"),
            (0.5, 0, "1"),
            (0.0004, 3, "0.000"),
            (0.0005, 3, "0.001"),
            (999.9996, 3, "1000.000"),
            (1e21, 3, "1000000000000000000000"),
            (123_456_789.0, 3, "123456789"),
            (0.1, 0, "0"),
        ] {
            assert_eq!(rounded_decimal(number, places), text, "{number} {places}");
        }
    }
}

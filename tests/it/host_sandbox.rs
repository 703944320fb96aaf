//! The sandbox of a process: limits, globals, determinism.

use crate::host::*;
use dormouse::codecs::event::Profile::{self, Babysitter, Dormouse};
use dormouse::shells::host::process::HostError;
use dormouse::shells::host::protocol::{Feed, FromHost, Start};

fn limit_of(source: &str, change: impl Fn(&mut Start)) -> String {
    let mut start = start(Dormouse, source);
    start.limits.turn_cpu_max_ms = 150;
    start.limits.heap_bytes_max = 24 * 1024 * 1024;
    change(&mut start);
    let mut run = Driver::new(start);
    match run.answer(Feed::RunStarted).unwrap() {
        FromHost::Limit { name, .. } => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn endless_code_is_stopped_by_its_cpu_time() {
    for body in [
        "while (true) {}",
        "try { while (true) {} } catch { while (true) {} }",
        "for (;;) await null;",
        "const f = () => void Promise.resolve().then(f); f(); await new Promise(() => 1);",
        "const again = () => queueMicrotask(again); again();",
        "const again = () => setTimeout(again, 0); again(); await new Promise(() => 1);",
        "while (true) { try { await null; } catch {} }",
        "/(a+)+$/.test('a'.repeat(60) + 'b')",
        "[3, 1, 2].sort(() => { while (true); })",
        "JSON.stringify({toJSON() { while (true); }})",
        "ctx.log({toJSON() { while (true); }})",
        "const g = (function* () { while (true) yield 1 })(); for (const x of g);",
        "ctx.task({get build() { while (true); }})",
    ] {
        let source = format!("export async function process(inputs, ctx) {{ {body} }}");
        assert_eq!(limit_of(&source, |_| ()), "cpu", "{body}");
    }
}

#[test]
fn a_heap_without_end_is_stopped_even_if_the_error_is_caught() {
    for body in [
        "const all = []; while (true) all.push(new Array(1000).fill(1));",
        "const all = []; try { for (;;) all.push('x'.repeat(1e6) + all.length) } catch {} return 1",
        "try { new Uint8Array(100e6) } catch {} return 1;",
        "const all = []; for (;;) { try { while (true) all.push({}); } catch {} }",
    ] {
        let source = format!("export async function process(inputs, ctx) {{ {body} }}");
        assert_eq!(
            limit_of(&source, |start| start.limits.turn_cpu_max_ms = 5_000),
            "memory",
            "{body}"
        );
    }
}

#[test]
fn limits_hold_while_loading() {
    for (source, name) in [
        ("while (true) {}", "cpu"),
        ("const all = []; while (true) all.push([1, 2, 3]);", "memory"),
        ("for (;;) await null;", "cpu"),
    ] {
        let mut start = start(Dormouse, &format!("{source}; export const process = () => 1;"));
        start.limits.load_cpu_max_ms = 400;
        start.limits.heap_bytes_max = 16 * 1024 * 1024;
        let answer = load_answer(start);
        assert!(matches!(&answer, FromHost::Limit { name: n, .. } if n == name), "{answer:?}");
    }
}

#[test]
fn a_native_call_that_cannot_be_interrupted_is_killed_from_outside() {
    let source = "export async function process() {
        const text = 'a'.repeat(1 << 24);
        return text.indexOf('a'.repeat(1 << 23) + 'b');
    }";
    let mut start = start(Dormouse, source);
    start.limits.turn_cpu_max_ms = 100;
    let mut run = Driver::new(start);
    let input = turn(Feed::RunStarted);
    let message = dormouse::shells::host::protocol::ToHost::Turn(input);
    let error = run.host.call(&message, 100, 30_000).unwrap_err();
    assert!(matches!(error, HostError::Killed { cpu_ms } if cpu_ms >= 2_000), "{error:?}");
    assert!(run.host.call(&message, 100, 1_000).is_err());
}

#[test]
fn a_host_that_stops_answering_is_killed_and_one_that_dies_says_so() {
    let mut host = spawn();
    let pid = rustix::process::Pid::from_raw(i32::try_from(host.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let message = dormouse::shells::host::protocol::ToHost::Start(Box::new(start(Dormouse, "")));
    let error = host.call(&message, 100, 50).unwrap_err();
    assert!(matches!(error, HostError::TimedOut { .. }), "{error:?}");
    assert!(rustix::process::test_kill_process(pid).is_err());

    let mut host = spawn();
    let pid = rustix::process::Pid::from_raw(i32::try_from(host.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = host.call(&message, 100, 5_000).unwrap_err();
    assert!(matches!(&error, HostError::Died { status, .. } if status.contains('9')), "{error:?}");
}

#[test]
fn deep_recursion_is_a_range_error_to_the_author() {
    let body =
        "const f = (n) => n + f(n + 1); try { f(0) } catch (e) { return e instanceof RangeError; }";
    assert_eq!(evaluate(body), "true");
}

#[test]
fn code_from_text_does_not_run() {
    for code in [
        "eval('1')",
        "(0, eval)('1')",
        "globalThis.eval('1')",
        "new Function('return 1')()",
        "Function('return 1')()",
        "(() => {}).constructor('return 1')()",
        "(async () => {}).constructor('return 1')()",
        "(function* () {}).constructor('return 1')()",
        "(async function* () {}).constructor('return 1')()",
        "Object.getPrototypeOf(async () => {}).constructor('1')",
        "Reflect.construct((function () {}).constructor, ['return 1'])()",
        "new (class extends Function {})('return 1')()",
        "ctx.task.constructor('return 1')()",
        "console.log.constructor('return 1')()",
        "URL.constructor('return 1')()",
    ] {
        for profile in [Dormouse, Babysitter] {
            let body = format!(
                "try {{ {code}; return 'ran' }} catch (e) {{
                    return e instanceof EvalError ? 'refused' : String(e)
                }}"
            );
            assert_eq!(evaluate_in(profile, &body), "\"refused\"", "{code}");
        }
    }
}

#[test]
fn what_depends_on_the_machine_is_absent_and_errors_say_what_to_use() {
    let absent = "['WeakRef','FinalizationRegistry','Atomics','SharedArrayBuffer','WebAssembly',
        'performance','Intl','setInterval','setImmediate','fetch','XMLHttpRequest','WebSocket',
        'Worker','require','Buffer','__dirname','__filename','process','__dormouse_native','print',
        'std','os','navigator','global','window']";
    assert_eq!(evaluate(&format!("return {absent}.filter((n) => n in globalThis)")), "[]");
    for (code, hint) in [
        ("fetch('http://x')", "task"),
        ("require('fs')", "relative import"),
        ("Buffer.from('x')", "TextEncoder"),
        ("globalThis.process.cwd()", "undefined"),
        ("process_.env", "not defined"),
        ("__dirname + 1", "ctx.runDir"),
        ("setInterval(() => 1, 5)", "ctx.sleep"),
        ("globalThis.fetch('x')", "not a function"),
    ] {
        let source = format!("export default async function (inputs, ctx) {{ {code} }}");
        let done = Driver::new(start(Dormouse, &source)).begin();
        let error = failure(&done);
        assert!(error.message.contains(hint), "{code}: {}", error.message);
    }
}

#[test]
fn the_clock_is_the_runs() {
    let body = "const a = Date.now(); for (let i = 0; i < 1e5; i++); return [
        Date.now() - a, new Date().getTime() === ctx.now().getTime(), new Date().toISOString(),
        new Date(0).toISOString(), new Date(2026, 0, 2).toISOString(), Date.UTC(1970, 0, 2),
        new Date().getTimezoneOffset(), typeof Date(), new Date('2026-01-01') instanceof Date,
        Date.name, Date.length, new Date().constructor === Date, ctx.now() instanceof Date,
        new (class X extends Date {})() instanceof Date, Date.parse('2026-01-01T00:00'),
        new Date(1e12).toLocaleString(), new Date(1e12).toLocaleDateString('de-DE'),
        new Date(1e12).toString()]";
    assert_eq!(
        evaluate(body),
        "[0,true,\"2026-11-20T12:00:00.000Z\",\"1970-01-01T00:00:00.000Z\",\
         \"2026-01-02T00:00:00.000Z\",86400000,0,\"string\",true,\"Date\",7,true,true,true,\
         1767225600000,\"2001-09-09T01:46:40.000Z\",\"2001-09-09\",\
         \"Sun Sep 09 2001 01:46:40 GMT+0000 (Coordinated Universal Time)\"]"
    );
}

#[test]
fn draws_replay_and_differ_between_runs_and_generations() {
    let source = "export async function process(inputs, ctx) {
        const bytes = crypto.getRandomValues(new Uint8Array(4));
        const inside = await ctx.parallel.all([(b) => b.random(), (b) => b.random()]);
        return [Math.random(), Math.random(), ctx.random(), ctx.uuid(), crypto.randomUUID(),
            [...bytes], inside];
    }";
    let draw = |change: fn(&mut Start)| {
        let mut start = start(Dormouse, source);
        change(&mut start);
        output(&Driver::new(start).begin()).to_owned()
    };
    let first = draw(|_| ());
    assert_eq!(first, draw(|start| start.run_id = "fork".into()));
    assert_ne!(first, draw(|start| start.seed_run_id = "other".into()));
    assert_ne!(first, draw(|start| start.generation = 2));
    let values: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_ne!(values[0], values[1]);
    assert_ne!(values[3], values[4]);
    assert_ne!(values[6][0], values[6][1]);
}

#[test]
fn built_ins_are_frozen_in_the_dormouse_profile_only() {
    let body = "const tries = [
        () => { Array.prototype.map = null }, () => { Object.prototype.x = 1 },
        () => { Promise.prototype.then = 1 }, () => { Math.random = () => 1 },
        () => { Date.now = () => 1 }, () => { globalThis.Date = 1 }, () => { JSON.parse = 1 },
        () => { String.prototype.trim = 1 }, () => { Error.prototype.name = 'x' },
        () => { console.log = 1 }, () => { ctx.task = 1 }, () => { URL.prototype.href = 1 },
        () => { inputs.a.b = 2 }, () => { Array.prototype.filter.call = 1 },
        () => { delete URL.prototype.toJSON }];
    const code = (t) => { try { t(); return 0 } catch (e) { return 2 - (e instanceof TypeError) } };
    return tries.map(code).join('')";
    let with_inputs = |profile: Profile| {
        let source = format!("export async function process(inputs, ctx) {{ {body} }}");
        let mut start = start(profile, &source);
        start.inputs = Some(json(r#"{"a":{"b":1}}"#));
        output(&Driver::new(start).begin()).to_owned()
    };
    assert_eq!(with_inputs(Dormouse), "\"111111111111111\"");
    assert_eq!(with_inputs(Babysitter), "\"000011000111001\"");
}

#[test]
fn own_objects_may_still_have_members_named_like_built_in_ones() {
    let body = "class E extends Error {
            constructor(m) { super(m); this.name = 'E'; this.message += '!'; }
        }
        function Old() {} Old.prototype.toString = function () { return 'old' };
        Old.prototype.constructor = Old; Old.prototype = Object.create(Error.prototype);
        const e = new Error('x'); e.name = 'Named'; e.stack = 'none';
        const o = {}; o.toString = () => 'mine'; o.valueOf = () => 4; o.constructor = 1;
        const it = { next() { return {done: true} } };
        return [String(new E('m')), String(e), e.stack, `${o}`, o * 1, Object.keys(o),
            new E('m') instanceof E]";
    assert_eq!(
        evaluate(body),
        r#"["E: m!","Named: x","none","mine",4,["toString","valueOf","constructor"],true]"#
    );
}

#[test]
fn nothing_of_the_environment_leaks_into_a_host() {
    // The parent clears the environment; what the tests run under must not matter.
    let body = "return [new Date(2026, 6, 1).toISOString(), (1234.5).toLocaleString(),
        'ä'.localeCompare('z'),
        ['b', 'a', 'B', 'A', '_', '1'].sort((x, y) => x.localeCompare(y)).join('')]";
    assert_eq!(evaluate(body), r#"["2026-07-01T00:00:00.000Z","1,234.5",1,"_1aAbB"]"#);
}

#[test]
fn numbers_and_texts_for_people_are_the_same_everywhere() {
    let body = "const t = (f) => { try { return f() } catch (e) { return e.name } };
        return [
        (0).toLocaleString(), (1234567.891).toLocaleString('en-US'), (1e21).toLocaleString(),
        (-1234.5678).toLocaleString(), (0.00049).toLocaleString(), NaN.toLocaleString(),
        (1/0).toLocaleString(), (5).toLocaleString('en-US', {minimumFractionDigits: 2}),
        (1.005).toLocaleString(undefined, {maximumFractionDigits: 2}),
        (1234.5).toLocaleString('en-US', {maximumFractionDigits: 0}),
        t(() => (1).toLocaleString('de-DE')),
        t(() => (1).toLocaleString('en-US', {style: 'percent'})),
        (123456789012345678901234567890n).toLocaleString(), 'a'.localeCompare('b'),
        'a'.localeCompare('A'), 'resume'.localeCompare('Resume'), 'a-b'.localeCompare('a_b'),
        'x10'.localeCompare('x9'), 'same'.localeCompare('same')]";
    assert_eq!(
        evaluate(body),
        "[\"0\",\"1,234,567.891\",\"1,000,000,000,000,000,000,000\",\"-1,234.568\",\"0\",\"NaN\",\
         \"∞\",\"5.00\",\"1.01\",\"1,235\",\"RangeError\",\"RangeError\",\
         \"123,456,789,012,345,678,901,234,567,890\",-1,-1,-1,1,-1,0]"
    );
}

#[test]
fn the_pure_parts_of_the_web_platform_work() {
    for profile in [Dormouse, Babysitter] {
        let done = Driver::new(start(profile, &fixture("web.js"))).begin();
        assert_eq!(output(&done), "[]");
    }
}

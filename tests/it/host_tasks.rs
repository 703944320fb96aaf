//! Definitions, builders, values and identity of tasks, against a real process host.

use crate::host::*;
use dormouse::codecs::event::Profile::{Babysitter, Dormouse};
use dormouse::shells::host::protocol::{Output, TurnDone};

const DEFINE: &str = "import { defineTask } from 'dormouse';
    const t = defineTask('t', (args) => ({kind: 'agent', title: 'T'}));
    const sh = defineTask('sh', {kind: 'shell', shell: {command: 'ls', timeout: 7}});";

fn run(body: &str) -> Driver {
    run_in(Dormouse, body)
}

fn run_in(profile: dormouse::codecs::event::Profile, body: &str) -> Driver {
    let source = format!("{DEFINE} export async function process(inputs, ctx) {{ {body} }}");
    Driver::new(start(profile, &source))
}

fn defs(done: &TurnDone) -> Vec<serde_json::Value> {
    requests(done).into_iter().map(|request| request.def.to_value()).collect()
}

#[test]
fn every_form_of_definition_becomes_a_task() {
    let mut run = Driver::new(start(Babysitter, &fixture("task_forms.js")));
    assert_eq!(run.warnings, Vec::<String>::new());
    let done = run.begin();
    assert_eq!(
        keys(&done),
        [
            "plain#0",
            "later#0",
            "defaults#0",
            "object#0",
            "fixed#0",
            "static#0",
            "agent#0",
            "wrapped#0",
            "asked#0",
            "bare#0",
            "shell#0",
            "plain#1",
            "plain#2",
            "plain#3"
        ]
    );
    let kinds: Vec<_> = requests(&done).into_iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "agent",
            "agent",
            "node",
            "skill",
            "skill",
            "custom",
            "agent",
            "node",
            "breakpoint",
            "shell",
            "shell",
            "agent",
            "agent",
            "agent"
        ]
    );
    let ordinals: Vec<_> = requests(&done).into_iter().map(|r| r.ordinal).collect();
    assert_eq!(ordinals, (1..=14).collect::<Vec<_>>());
    let result: serde_json::Value = serde_json::from_str(output(&done)).unwrap();
    let bad = "InvalidTaskDefinitionError";
    assert_eq!(
        result["wrong"],
        serde_json::json!([
            bad,
            bad,
            bad,
            bad,
            bad,
            bad,
            format!("{bad} bad"),
            bad,
            "RangeError",
            "E_CTX_IN_BUILD",
            "Error",
            "Error",
            "TypeError",
            "TypeError"
        ])
    );
    assert_eq!(result["registry"], serde_json::json!([true, 15, true, false, 0]));
    assert_eq!(
        result["module"],
        serde_json::json!([true, true, false, 1, true, true, ["default"]])
    );
}

#[test]
fn definitions_are_completed_and_put_in_order() {
    let done = Driver::new(start(Babysitter, &fixture("task_forms.js"))).begin();
    let defs = defs(&done);
    assert_eq!(defs[2]["title"], "Own");
    assert_eq!(defs[3]["inputSchema"]["type"], "object");
    assert_eq!(defs[5]["review"]["deep"][0], 1);
    assert_eq!(defs[6]["agent"]["name"], "n");
    assert_eq!(defs[6]["agent"]["outputSchema"]["type"], "object");
    assert_eq!(defs[6]["labels"][0], "x");
    assert_eq!(defs[9]["shell"], serde_json::json!({"command": "ls", "expectedExitCode": 1}));
    assert!(defs[9].get("command").is_none());
    assert_eq!(requests(&done)[10].options.as_ref().unwrap().as_str(), r#"{"timeout":5}"#);
}

#[test]
fn a_builder_sees_its_effect_and_may_make_files() {
    let done = Driver::new(start(Dormouse, &fixture("task_ctx.js"))).begin();
    let seen = defs(&done)[0]["metadata"].clone();
    let hex = |text: &[u8]| dormouse::ground::digest::Digest::of(text).hex();
    assert_eq!(
        seen,
        serde_json::json!({
            "id": "e0001", "key": "look#0", "task": "look", "run": "r1",
            "dir": "/runs/r1/tasks/e0001", "tasks": "/runs/r1/tasks", "label": "seen",
            "labels": ["seen"], "args": {"n": 1}, "now": "2026-11-20T12:00:00.000Z",
            "rel": "tasks/e0001/a/b.txt", "refused": ["Error", "Error", "Error"], "frozen": true,
            "text": format!("tasks/e0001/blobs/no-te-s-{}.txt", hex(b"hello")),
            "json": format!("tasks/e0001/blobs/data-{}.json", hex(b"{\n  \"a\": 1\n}\n")),
            "forced": format!("tasks/e0001/blobs/s-{}.json", hex(b"\"x\"\n")),
            "bytes": format!("tasks/e0001/blobs/bin-{}.bin", hex(&[1, 2])),
        })
    );
    assert_eq!(done.blobs.len(), 4);
    assert_eq!(done.blobs[0].content, b"hello");
    assert_eq!(requests(&done)[0].labels, ["seen"]);
    let source = fixture("task_ctx.js").replace("\"dormouse\"", "\"@a5c-ai/babysitter-sdk\"");
    let done = Driver::new(start(Babysitter, &source)).begin();
    let text = defs(&done)[0]["metadata"]["text"].as_str().unwrap().to_owned();
    // SHA-256 of "hello".
    assert!(text.contains("-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e730"), "{text}");
}

#[test]
fn builders_make_definitions_of_their_kind() {
    let done = Driver::new(start(Dormouse, &fixture("builders.js"))).begin();
    let defs = defs(&done);
    let kinds: Vec<_> = defs.iter().map(|def| def["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "agent",
            "agent",
            "agent",
            "agent",
            "node",
            "shell",
            "skill",
            "breakpoint",
            "breakpoint",
            "orchestrator_task",
            "sleep"
        ]
    );
    assert_eq!(
        (defs[0]["title"].as_str(), defs[0]["agent"]["name"].as_str()),
        (Some("For x"), Some("n"))
    );
    assert_eq!(defs[1]["agent"], serde_json::json!({"name": "later", "prompt": "p"}));
    assert_eq!(
        (defs[1]["title"].as_str(), defs[1]["labels"][0].as_str()),
        (Some("agent"), Some("agent"))
    );
    assert_eq!(defs[2]["agent"]["responderType"], "auto");
    assert_eq!(defs[3]["agent"]["external"], true);
    assert_eq!(defs[4]["node"]["env"], serde_json::json!({"HOME": "/h"}));
    assert_eq!(defs[4]["node"]["timeoutMs"], 900_000);
    assert_eq!(defs[4]["metadata"]["redactedEnvKeys"], serde_json::json!(["API_TOKEN"]));
    assert_eq!(defs[4]["io"]["outputJsonPath"], "tasks/e0005/result.json");
    assert_eq!(requests(&done)[4].options.as_ref().unwrap().as_str(), r#"{"timeout":900000}"#);
    assert_eq!(defs[5]["metadata"]["redactedEnvKeys"], serde_json::json!(["MY_KEY"]));
    assert_eq!(defs[7]["breakpoint"], serde_json::json!({"expert": "me", "payload": {"who": "x"}}));
    assert_eq!(defs[8]["breakpoint"]["responderType"], "human");
    assert_eq!(defs[9]["metadata"]["payload"]["for"], "x");
    assert_eq!(defs[10]["sleep"]["targetEpochMs"], 1_798_761_600_000_i64);
    let bad = "InvalidTaskDefinitionError";
    assert_eq!(output(&done), format!("[\"{bad}\",\"{bad}\"]"));
}

#[test]
fn options_are_merged_and_never_enter_the_identity() {
    let body = "const d = defineTask('d',
            () => ({kind: 'agent', agent: {timeout: 3}, priority: 'high',
                policy: {retry: true, deadline: '1h'}}),
            {idempotent: true, deadline: '9h'});
        ctx.task(d, 1, {timeout: '5m', priority: 7, label: 'L'}); ctx.task(d, 1); ctx.task(sh);
        return await ctx.task(d, 1, {tiemout: 5})
            .catch((e) => e.name + e.message.includes('tiemout'))";
    let done = run(body).begin();
    let all = requests(&done);
    assert_eq!(
        all[0].options.as_ref().unwrap().to_value(),
        serde_json::json!({"timeout": "5m", "idempotent": true, "retry": true, "deadline": "1h",
            "priority": 7})
    );
    assert_eq!(all[1].options.as_ref().unwrap().to_value()["timeout"], 3);
    assert_eq!(all[0].args_digest, all[1].args_digest);
    assert_eq!(
        (all[0].label.as_deref(), all[0].labels.as_slice()),
        (Some("L"), &["L".to_owned()][..])
    );
    assert_eq!(all[2].options.as_ref().unwrap().as_str(), r#"{"timeout":7}"#);
    assert_eq!(output(&done), "\"TypeErrortrue\"");
    let done = run_in(Babysitter, "ctx.task(t, 1, {tiemout: 5, timeout: 2})").begin();
    assert_eq!(requests(&done)[0].options.as_ref().unwrap().as_str(), r#"{"timeout":2}"#);
}

#[test]
fn values_cross_as_json() {
    let body =
        "const args = {d: new Date(0), u: undefined, f() {}, n: NaN, a: [undefined, () => 1],
            m: new Map([[1, 2]]), z: -0, j: {toJSON: () => 'j'}};
        ctx.task(t, args); ctx.task(t); ctx.task(t, null);
        const cycle = {}; cycle.c = cycle;
        const out = [];
        for (const bad of [{b: 1n}, cycle]) out.push(await ctx.task(t, bad).catch((e) => e.name));
        return out";
    let done = run(body).begin();
    let all = requests(&done);
    assert_eq!(
        all[0].args.as_ref().unwrap().as_str(),
        r#"{"d":"1970-01-01T00:00:00.000Z","n":null,"a":[null,null],"m":{},"z":0,"j":"j"}"#
    );
    assert_eq!(all[1].args, None);
    assert!(all[1].args_digest.starts_with("b3:af1349b9"), "{}", all[1].args_digest);
    assert_eq!(all[2].args.as_ref().unwrap().as_str(), "null");
    assert_eq!(output(&done), r#"["TypeError","TypeError"]"#);
    assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
    assert!(done.warnings[0].contains("Map") && done.warnings[0].contains("main.js:"));
}

#[test]
fn values_beyond_the_limits_are_range_errors() {
    let source = format!(
        "{DEFINE} export async function process(inputs, ctx) {{
            const big = 'x'.repeat(2000); let deep = 1; for (let i = 0; i < 101; i++) deep = [deep];
            const out = [];
            for (const bad of [big, deep]) {{
                const text = (e) => e.name + ' ' + e.message.split(':')[0];
                out.push(await ctx.task(t, bad).catch(text))
            }}
            try {{ await ctx.breakpoint(big) }} catch (e) {{ out.push(e.name) }}
            ctx.log('l', big);
            return inputs.big ? big : out }}"
    );
    let mut start = start(Dormouse, &source);
    start.limits.value_bytes_max = 1000;
    let done = Driver::new(start.clone()).begin();
    assert_eq!(
        output(&done),
        r#"["RangeError value_bytes_max","RangeError json.depth_max","RangeError"]"#
    );
    start.inputs = Some(json(r#"{"big":true}"#));
    assert_eq!(failure(&Driver::new(start).begin()).name, "RangeError");
}

#[test]
fn an_explicit_key_is_one_effect_and_every_await_gets_its_own_copy() {
    let body = "const [a, b] = await Promise.all([ctx.task(t, {n: 1}, {key: 'k'}),
            ctx.task(t, {n: 1}, {stableKey: 'k'})]);
        const c = await ctx.task(t, {n: 1}, {key: 'k'}); a.list.push(9);
        const d = await ctx.task(t, {n: 2}, {key: 'k'}).catch((e) => [e.name, e.invocationKey]);
        return [a !== b, b.list, c.list, d]";
    let mut strict = run(body);
    assert_eq!(keys(&strict.begin()), ["t=k"]);
    let done = strict.resolve(1, r#"{"list":[1]}"#);
    assert_eq!(output(&done), r#"[true,[1],[1],["InvocationCollisionError","t=k"]]"#);
    let mut lax = run_in(Babysitter, body);
    lax.begin();
    let done = lax.resolve(1, r#"{"list":[1]}"#);
    assert_eq!(output(&done), r#"[true,[1],[1],{"list":[1]}]"#);
    assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
}

#[test]
fn a_shell_task_never_throws() {
    let mut run = run("const a = await ctx.task(sh); const b = await ctx.task(sh); return [a, b]");
    run.begin();
    run.fail(1, "ShellError", "exit 3", Some(r#"{"exitCode":3,"stdout":"o","stderr":"e"}"#));
    let done = run.resolve(2, r#"{"success":true,"exitCode":0}"#);
    assert_eq!(
        output(&done),
        "[{\"success\":false,\"exitCode\":3,\"stdout\":\"o\",\"stderr\":\"e\",\
         \"error\":\"exit 3\"},\
         {\"success\":true,\"exitCode\":0}]"
    );
}

#[test]
fn the_run_directory_does_not_enter_digests() {
    let body = "ctx.task(t, {p: ctx.runDir + '/x', q: ctx.artifactsDir});
        ctx.task(defineTask('u', (a, c) => ({kind: 'agent', dir: c.taskDir})))";
    let source = format!("{DEFINE} export async function process(inputs, ctx) {{ {body} }}");
    let digests = |dir: &str| {
        let mut start = start(Dormouse, &source);
        start.run_dir = dir.into();
        let done = Driver::new(start).begin();
        let all = requests(&done);
        (all[0].args_digest.clone(), all[0].args.clone(), all[1].def_digest.clone())
    };
    let (here, there) = (digests("/runs/r1"), digests("/elsewhere/r1"));
    assert_eq!((here.0, here.2), (there.0, there.2));
    assert_ne!(here.1, there.1);
}

#[test]
fn retrying_a_pending_call_in_a_loop_asks_once() {
    let body = "for (let i = 0; i < 3; i++) {
            try { return [i, await ctx.task(t, {i})] } catch (e) { ctx.log(e.name) } }";
    let mut run = run(body);
    assert_eq!(keys(&run.begin()), ["t#0"]);
    assert_eq!(keys(&run.fail(1, "Flaky", "x", None)), ["t#1"]);
    assert_eq!(output(&run.resolve(2, "7")), "[1,7]");
}

#[test]
fn calls_after_the_end_are_closed_and_unawaited_ones_stay_requested() {
    let body = "ctx.task(t, 1); Promise.resolve().then(() => {}).then(() => {}).then(() => {})
            .then(() => ctx.task(t, 2)).catch((e) => console.log(e.code)); return 'done'";
    let done = run(body).begin();
    assert_eq!(keys(&done), ["t#0"]);
    assert_eq!(output(&done), "\"done\"");
    assert_eq!(done.logs[0].message, "E_CTX_CLOSED");
}

#[test]
fn a_builder_may_not_ask_and_may_read_under_upstreams_rules() {
    let body = "const b = (f) => defineTask('b', () => ({kind: 'agent', x: f()}));
        const out = []; for (const f of [() => ctx.now(), () => ctx.uuid(), () => ctx.sleep(5),
            () => ctx.parallel.all([]), () => ctx.halt('x'), () => ctx.log('x')]) {
            const p = ctx.task(b(f)); out.push(await Promise.race([p, null]).catch((e) => e.code)) }
        return out";
    let code = "\"E_CTX_IN_BUILD\"";
    let strict = output(&run(body).begin()).to_owned();
    assert_eq!(strict, format!("[{code},{code},{code},{code},{code},null]"));
    let lax = output(&run_in(Babysitter, body).begin()).to_owned();
    assert_eq!(lax, format!("[null,null,{code},{code},{code},null]"));
}

#[test]
fn a_definition_that_takes_a_while_is_requested_after_the_return() {
    let body =
        "const slow = defineTask('slow', async () => { await null; return {kind: 'agent'} });
        ctx.task(slow); ctx.task(t); return 1";
    let done = run(body).begin();
    assert_eq!((keys(&done), output(&done)), (vec!["slow#0", "t#0"], "1"));
}

#[test]
fn texts_with_half_a_surrogate_pair_do_no_harm() {
    let body = "const odd = defineTask('o\\ud800', () => ({kind: 'k\\ud800', title: '\\ud800'}));
        ctx.task(odd, '\\ud800', {key: '\\ud800', label: '\\ud800'});
        ctx.breakpoint('\\ud800'); ctx.signal('\\ud800'); ctx.hook('\\ud800');
        throw new Error('\\ud800')";
    let done = run(body).begin();
    assert_eq!(keys(&done).len(), 4);
    assert_eq!(requests(&done)[0].args.as_ref().unwrap().as_str(), r#""\ufffd""#);
    assert_eq!(failure(&done).message, "\u{fffd}");
}

#[test]
fn rejections_without_handler_are_warnings() {
    let mut run = run("const p = ctx.task(t, 1); Promise.reject(new TypeError('lost'));
        await ctx.sleep(5); return await p.catch((e) => e.message)");
    let first = run.begin();
    assert_eq!(first.warnings.len(), 1);
    assert!(first.warnings[0].contains("TypeError: lost"), "{:?}", first.warnings);
    let second = run.fail(1, "Late", "handled later", None);
    assert!(second.warnings[0].contains("Late: handled later"), "{:?}", second.warnings);
    run.clock_micros += 5_000;
    assert_eq!(output(&run.resolve(2, "null")), "\"handled later\"");
}

#[test]
fn too_many_outputs_or_open_effects_fail_the_run() {
    for (outputs, open) in [(20, 10_000), (1_000, 20)] {
        let source = format!(
            "{DEFINE} export async function process(inputs, ctx) {{
                for (let i = 0; i < 25; i++) ctx.task(t, i).catch(() => 1); await ctx.sleep(5) }}"
        );
        let mut start = start(Dormouse, &source);
        start.limits.turn_outputs_max = outputs;
        start.limits.open_effects_max = open;
        let done = Driver::new(start).begin();
        let error = failure(&done);
        assert_eq!(error.name, "LimitError");
        assert_eq!(error.data.as_ref().unwrap().to_value()["limit"], "effects");
        assert_eq!(done.outputs.len(), 21);
    }
}

#[test]
fn thrown_things_that_are_no_errors_are_described() {
    for (thrown, name, message) in [
        ("'text'", "Error", "text"),
        ("null", "Error", "null"),
        ("{code: 5}", "NonError", "{\"code\":5}"),
        ("Object.create(null)", "NonError", "{}"),
        ("new Proxy({}, {get() { throw 1 }})", "Error", "something was thrown that cannot be read"),
    ] {
        let done = run(&format!("throw {thrown}")).begin();
        let Some(Output::Failed { error }) = done.outputs.last() else { panic!("{done:?}") };
        assert_eq!((error.name.as_str(), error.message.as_str()), (name, message), "{thrown}");
    }
}

//! Every member of `ctx`, against a real process host.

use crate::host::*;
use dormouse::codecs::event::Profile::{Babysitter, Dormouse};
use dormouse::shells::host::protocol::{Feed, Output};

fn process(body: &str) -> String {
    format!("export async function process(inputs, ctx) {{ {body} }}")
}

fn run(body: &str) -> Driver {
    Driver::new(start(Dormouse, &process(body)))
}

fn def(done: &dormouse::shells::host::protocol::TurnDone) -> serde_json::Value {
    requests(done)[0].def.to_value()
}

#[test]
fn ctx_is_frozen_and_says_what_the_run_is() {
    let mut start = start(
        Dormouse,
        &process(
            "return [Object.isFrozen(ctx), ctx.runId, ctx.runDir, ctx.artifactsDir, ctx.repoRoot,
            ctx.processId, ctx.generation, ctx.profile, ctx.carried, ctx.inputs === inputs,
            Object.isFrozen(inputs.a), ctx.state, ctx.memo, ctx.kv, ctx.bus, ctx.workspace,
            typeof ctx.task, ctx.waitForSignal.length]",
        ),
    );
    start.generation = 3;
    start.inputs = Some(json(r#"{"a":[1]}"#));
    start.carried = Some(json(r#"{"n":1}"#));
    let done = Driver::new(start).begin();
    assert_eq!(
        output(&done),
        "[true,\"r1\",\"/runs/r1\",\"/runs/r1/artifacts\",\"/repo\",\"main\",3,\"dormouse\",\
         {\"n\":1},true,true,null,null,null,null,null,\"function\",2]"
    );
}

#[test]
fn a_string_breakpoint_merges_its_details_and_routes_by_them() {
    let body = "const details = {expert: 'owner', tags: ['gate'], attempt: 1};
        const a = await ctx.breakpoint('Ship it?', details); const last = ctx.getBreakpointData;
        return [a.approved, a.response, last('breakpoint'), last('x')]";
    let mut run = Driver::new(start(Babysitter, &process(body)));
    let first = run.begin();
    assert_eq!(keys(&first), ["@bp:breakpoint#0"]);
    let def = def(&first);
    assert_eq!(def["kind"], "breakpoint");
    assert_eq!(def["title"], "Ship it?");
    let section = &def["breakpoint"];
    assert_eq!(section["expert"], "owner");
    assert_eq!(section["payload"]["attempt"], 1);
    assert_eq!(requests(&first)[0].labels, ["gate"]);
    assert_eq!(requests(&first)[0].kind, "breakpoint");
    let last = run.resolve(1, r#"{"approved":false,"response":"later"}"#);
    assert_eq!(output(&last), r#"[false,"later",{"approved":false,"response":"later"},null]"#);
}

#[test]
fn a_breakpoints_id_is_the_slug_of_its_label_and_options_beat_the_payload() {
    let body = "ctx.breakpoint({question: 'q', label: ' Ship v1.2 Now! ', expert: 'a', quorum: 9},
            {expert: ['b', 'c'], strategy: 'quorum', quorum: 2, timeout: '1h',
                onTimeout: 'reject'});
        ctx.breakpoint({title: 't', breakpointId: 'fixed'});
        ctx.checkpoint({title: 'c', tags: 'x'});";
    let done = run(body).begin();
    assert_eq!(keys(&done), ["@bp:ship-v1.2-now#0", "@bp:fixed#0", "@bp:breakpoint#0"]);
    let first = def(&done)["breakpoint"].clone();
    assert_eq!(first["expert"], serde_json::json!(["b", "c"]));
    assert_eq!((first["strategy"].as_str(), first["quorum"].as_u64()), (Some("quorum"), Some(2)));
    assert_eq!(first["onTimeout"], "reject");
    assert_eq!(requests(&done)[0].options.as_ref().unwrap().as_str(), r#"{"timeout":"1h"}"#);
    let third = requests(&done)[2].def.to_value();
    assert_eq!(third["breakpoint"]["checkpoint"], true);
    assert_eq!(third["labels"], serde_json::json!(["checkpoint", "x"]));
    assert_eq!(output(&done), "null");
}

#[test]
fn a_sleep_is_one_timer_with_an_absolute_target() {
    let body = "const before = ctx.now().getTime();
        const value = await ctx.sleep('300ms');
        await ctx.sleepUntil(ctx.now().getTime() + 500, {label: 'second'});
        await ctx.sleep(0); await ctx.sleepUntil(ctx.now()); await ctx.sleepUntil('2001-01-01');
        return [value === undefined, ctx.now().getTime() - before]";
    let mut run = run(body);
    let first = run.begin();
    assert_eq!(keys(&first), ["@sleep#0"]);
    assert_eq!(
        requests(&first)[0].args.as_ref().unwrap().as_str(),
        r#"{"targetEpochMs":1795176000300,"iso":"2026-11-20T12:00:00.300Z"}"#
    );
    assert_eq!(def(&first)["sleep"]["targetEpochMs"], 1_795_176_000_300_i64);
    run.clock_micros += 400_000;
    let second = run.resolve(1, "null");
    assert_eq!(keys(&second), ["@sleep#1"]);
    assert_eq!(requests(&second)[0].label.as_deref(), Some("second"));
    run.clock_micros += 500_000;
    assert_eq!(output(&run.resolve(2, "null")), "[true,900]");
}

#[test]
fn sleeps_to_nowhere_are_refused() {
    for target in
        ["sleepUntil('never')", "sleepUntil(-1)", "sleep('soon')", "sleep(-5)", "sleep(NaN)"]
    {
        let body = format!("try {{ await ctx.{target} }} catch (e) {{ return e.name }}");
        assert_eq!(evaluate(&body), "\"InvalidSleepTargetError\"", "{target}");
    }
}

#[test]
fn signals_hooks_children_and_orchestrators_are_requested() {
    let body = "const all = await Promise.all([
            ctx.signal('go', {correlationKey: 'k', timeout: '5m', default: {none: true}}),
            ctx.waitForSignal('go'), ctx.hook('on-x', {a: 1}), ctx.run('./child.js', {label: 'c'}),
            ctx.run({process: './other.js', exportName: 'go', processId: 'o', inputs: {n: 1}},
                {onParentEnd: 'abandon', detached: true}),
            ctx.orchestratorTask({q: 1}), ctx.subprocess({processPath: 'p.js', inputs: {z: 1}})]);
        return all";
    let mut run = run(body);
    let done = run.begin();
    assert_eq!(
        keys(&done),
        [
            "@signal:go#0",
            "@signal:go#1",
            "@hook:on-x#0",
            "@run:.%2Fchild.js#0",
            "@run:o#0",
            "@orch#0",
            "@run:p.js#0"
        ]
    );
    let defs: Vec<_> = requests(&done).into_iter().map(|r| r.def.to_value()).collect();
    assert_eq!(defs[0]["signal"]["correlationKey"], "k");
    assert_eq!(defs[0]["signal"]["default"]["none"], true);
    assert_eq!(defs[2]["hook"]["hookType"], "on-x");
    assert_eq!(defs[3]["run"]["process"], "./child.js");
    assert_eq!(defs[4]["run"]["onParentEnd"], "abandon");
    assert_eq!(defs[4]["run"]["detached"], true);
    assert_eq!(requests(&done)[4].args.as_ref().unwrap().as_str(), r#"{"n":1}"#);
    assert_eq!(defs[5]["orchestratorTask"]["payload"]["q"], 1);
    assert_eq!(requests(&done)[5].kind, "orchestrator_task");
    assert_eq!(defs[6]["run"]["process"], "p.js");
    for ordinal in 1..7 {
        run.resolve(ordinal, &ordinal.to_string());
    }
    assert_eq!(output(&run.resolve(7, "7")), "[1,2,3,4,5,6,7]");
}

#[test]
fn a_failed_hook_throws_only_when_asked_to() {
    let body = "const a = await ctx.hook('x', {}, {throwOnFailure: false});
        try { await ctx.hook('x', {}, {throwOnFailure: true}) }
        catch (e) { return [a.success, e.name] }";
    let mut run = run(body);
    run.begin();
    run.resolve(1, r#"{"success":false,"error":"bad"}"#);
    assert_eq!(output(&run.resolve(2, r#"{"success":false}"#)), r#"[false,"HookFailedError"]"#);
}

#[test]
fn posted_errors_become_the_classes_of_their_situation() {
    let body = "const { task, run, signal } = ctx; const seen = [];
        for (const call of [() => task(t), () => task(t), () => task(t), () => run('c.js'),
            () => signal('s'), () => task(t)]) {
            try { seen.push(await call()) } catch (e) {
                seen.push([e.constructor.name, e.name, e.message, e instanceof Error,
                    e.effectId, e.taskId, e.kind, e.attempts, e.data, e.timeoutMs, e.runId, e.state,
                    e.signal, e.reason].filter((x) => x !== undefined))
            }
        }
        return seen";
    let source = format!(
        "import {{ defineTask }} from 'dormouse'; const t = defineTask('t', {{kind: 'agent'}}); {}",
        process(body)
    );
    let mut run = Driver::new(start(Dormouse, &source));
    run.begin();
    run.fail(1, "Broken", "it broke", Some(r#"{"code":3}"#));
    run.fail(2, "TaskTimeoutError", "too slow", Some(r#"{"timeoutMs":5}"#));
    run.fail(3, "UncertainEffectError", "who knows", None);
    run.fail(4, "ChildRunError", "child failed", Some(r#"{"runId":"c1","state":"failed"}"#));
    run.fail(5, "SignalTimeoutError", "no signal", None);
    let done = run.turn(Feed::Cancelled { ordinal: 6, reason: "not needed".into() });
    assert_eq!(
        output(&done),
        "[[\"TaskError\",\"Broken\",\"it broke\",true,\"e0001\",\"t\",\"agent\",1,{\"code\":3}],\
         [\"TaskTimeoutError\",\"TaskTimeoutError\",\"too slow\",true,\"e0002\",\"t\",\"agent\",1,\
         {\"timeoutMs\":5},5],\
         [\"UncertainEffectError\",\"UncertainEffectError\",\"who knows\",true,\"e0003\",1],\
         [\"ChildRunError\",\"ChildRunError\",\"child failed\",true,\"e0004\",1,\"c1\",\"failed\"],\
         [\"SignalTimeoutError\",\"SignalTimeoutError\",\"no signal\",true,\"e0005\",1,\"s\"],\
         [\"EffectCancelledError\",\"EffectCancelledError\",\
         \"Effect e0006 cancelled: not needed\",true,\"e0006\",\"not needed\"]]"
    );
}

#[test]
fn log_lines_have_places_levels_and_data() {
    let body = "ctx.log('plain'); ctx.log('warn', 'text'); ctx.log('step', 'text', {n: 1});
        ctx.log('obj', {a: 1}); ctx.log({b: 2}); ctx.log(5); console.error('x', {y: 1}, [2]);
        const c = {}; c.c = c; ctx.log('cycle', c); console.log('%s', new Error('e'));
        return ctx.log('\\ud800')";
    let done = run(body).begin();
    let lines: Vec<_> = done
        .logs
        .iter()
        .map(|l| {
            let data = l.data.as_ref().map_or("-", |d| d.as_str());
            format!(
                "{} {} {} {:?} {data}",
                l.n,
                l.level,
                l.label.as_deref().unwrap_or("-"),
                l.message
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "0 info - \"plain\" -",
            "1 warn warn \"text\" -",
            "2 info step \"text\" {\"n\":1}",
            "3 info obj \"\" {\"a\":1}",
            "4 info - \"\" {\"b\":2}",
            "5 info - \"5\" -",
            "6 error - \"x {\\\"y\\\":1} [2]\" -",
            "7 info cycle \"\" null",
            "8 info - \"%s Error: e\" -",
            "9 info - \"\u{fffd}\" -",
        ]
    );
    assert_eq!(output(&done), "null");
}

#[test]
fn log_lines_beyond_the_limit_are_counted_and_quiet_turns_collect_none() {
    let mut loud = run("for (let i = 0; i < 1005; i++) ctx.log('line ' + i)");
    let done = loud.begin();
    assert_eq!(done.logs.len(), 1000);
    assert!(done.warnings.iter().any(|w| w.starts_with("5 log lines")), "{:?}", done.warnings);
    let mut quiet = run("ctx.log('x')");
    quiet.next.quiet = true;
    assert!(quiet.begin().logs.is_empty());
}

#[test]
fn halting_ends_the_run_even_if_the_author_catches_it() {
    let body = "ctx.sleep(5); try { ctx.halt('enough', {n: 1}) } catch (e) {
        try { await ctx.sleep(9) } catch (f) { ctx.log(f.message) } return e.name }";
    let done = run(body).begin();
    assert_eq!(keys(&done), ["@sleep#0"]);
    let Some(Output::Halted { reason, payload }) = done.outputs.last() else { panic!("{done:#?}") };
    assert_eq!(reason, "enough");
    assert_eq!(payload.as_ref().unwrap().as_str(), r#"{"n":1}"#);
    let bad = "const n = (f) => { try { f() } catch (e) { return e.name } };
        return [n(() => ctx.halt('')), n(() => ctx.halt('x', 5)), n(() => ctx.halt(5))]";
    assert_eq!(evaluate(bad), r#"["TypeError","TypeError","TypeError"]"#);
}

#[test]
fn a_returned_halt_counts_in_the_babysitter_profile_only() {
    let source = process("return {halt: true, phase: 'done'}");
    let done = Driver::new(start(Babysitter, &source)).begin();
    let halted =
        matches!(done.outputs.last(), Some(Output::Halted { reason, .. }) if reason == "done");
    assert!(halted && done.warnings.len() == 1, "{done:#?}");
    let done = Driver::new(start(Dormouse, &source)).begin();
    assert_eq!(output(&done), r#"{"halt":true,"phase":"done"}"#);
}

#[test]
fn going_on_as_new_needs_that_nothing_is_pending() {
    let body = "const p = ctx.sleep(5);
        try { await ctx.continueAsNew({n: 2}) } catch (e) { ctx.log(e.code) }
        await p; await ctx.continueAsNew({n: 2}, {entry: 'b.js#go', carry: [1]}); return 'never'";
    let mut run = run(body);
    assert_eq!(run.begin().logs[0].message, "E_CONTINUE_PENDING");
    let done = run.resolve(1, "null");
    let Some(Output::Continued { inputs, entry, carry }) = done.outputs.last() else {
        panic!("{done:#?}")
    };
    assert_eq!(inputs.as_ref().unwrap().as_str(), r#"{"n":2}"#);
    assert_eq!(entry.as_deref(), Some("b.js#go"));
    assert_eq!(carry.as_ref().unwrap().as_str(), "[1]");
}

#[test]
fn clean_up_runs_backwards_at_the_end_and_may_not_call() {
    let body = "ctx.onCleanup(() => ctx.log('no')); ctx.onCleanup(() => console.log('first'));
        ctx.onCleanup(async () => { await null; console.log('second'); await ctx.sleep(5) });
        await ctx.sleep(1); console.log('body')";
    let mut run = run(body);
    assert!(run.begin().logs.is_empty());
    run.clock_micros += 1_000;
    let done = run.resolve(1, "null");
    let lines: Vec<_> = done.logs.iter().map(|l| l.message.as_str()).collect();
    assert_eq!(lines, ["body", "second", "first", "no"]);
    assert!(done.warnings.iter().any(|w| w.contains("E_CTX_CLOSED")), "{:?}", done.warnings);
    assert_eq!(output(&done), "null");
}

#[test]
fn cancellation_rejects_what_is_not_shielded_in_request_order() {
    let body = "const seen = []; const note = (n) => (e) => { seen.push([n, e.name, e.reason]) };
        const kept = ctx.cancellation.shield((c) => c.sleep(50, {label: 'kept'}));
        const all = [ctx.sleep(10).catch(note(1)), ctx.signal('s').catch(note(2))];
        ctx.cancellation.promise.then((r) => seen.push(['raised', r]));
        await Promise.all(all);
        await ctx.sleep(5).catch(note(3));
        try { ctx.cancellation.throwIfRequested() } catch (e) { note(4)(e) }
        seen.push(await ctx.cancellation.shield(async () => {
            await ctx.sleep(7); return (await ctx.hook('undo')).done; }));
        await ctx.sleep(5).catch(note(5));
        await kept;
        return [ctx.cancellation.requested, seen]";
    let mut run = run(body);
    let first = run.begin();
    assert_eq!(
        requests(&first).iter().map(|r| r.cleanup).collect::<Vec<_>>(),
        [true, false, false]
    );
    let second = run.turn(Feed::CancelRequested { reason: Some("stop".into()) });
    assert_eq!(keys(&second), ["@sleep#2"]);
    assert!(requests(&second)[0].cleanup);
    run.clock_micros += 7_000;
    let third = run.resolve(4, "null");
    assert_eq!(keys(&third), ["@hook:undo#0"]);
    assert!(requests(&third)[0].cleanup);
    run.resolve(5, r#"{"done":"undone"}"#);
    let last = run.resolve(1, "null");
    assert_eq!(
        output(&last),
        "[true,[[\"raised\",\"stop\"],[1,\"RunCancelledError\",\"stop\"],\
         [2,\"RunCancelledError\",\"stop\"],[3,\"RunCancelledError\",\"stop\"],\
         [4,\"RunCancelledError\",\"stop\"],\"undone\",[5,\"RunCancelledError\",\"stop\"]]]"
    );
}

#[test]
fn giving_up_an_effect_asks_the_runtime_and_rejects_when_it_answers() {
    let body = "const p = ctx.signal('s'); const q = ctx.sleep(5);
        const winner = await Promise.race([p, q]); ctx.cancel(p, 'lost');
        return await p.catch((e) => e.message)";
    let mut run = run(body);
    run.begin();
    let done = run.resolve(2, "null");
    assert_eq!(done.cancels, [(1, "lost".to_owned())]);
    let done = run.turn(Feed::Cancelled { ordinal: 1, reason: "lost".into() });
    assert_eq!(output(&done), "\"Effect e0001 cancelled: lost\"");
}

#[test]
fn timers_of_the_web_are_durable() {
    let body = "const seen = []; const wait = (ms) => new Promise((r) => setTimeout(r, ms, ms));
        setTimeout(() => seen.push('zero'), 0); const id = setTimeout(() => seen.push('no'), 50);
        const id0 = setTimeout(() => seen.push('no'), 0); clearTimeout(id0); clearTimeout(999);
        seen.push(await wait(20)); clearTimeout(id); await wait(1); return seen";
    let mut run = run(body);
    let first = run.begin();
    assert_eq!(keys(&first), ["@sleep#0", "@sleep#1"]);
    assert_eq!(requests(&first)[1].label.as_deref(), Some("setTimeout"));
    run.clock_micros += 20_000;
    let second = run.resolve(2, "null");
    assert_eq!(second.cancels, [(1, "clearTimeout".to_owned())]);
    run.turn(Feed::Cancelled { ordinal: 1, reason: "clearTimeout".into() });
    run.clock_micros += 1_000;
    let last = run.resolve(3, "null");
    assert_eq!(output(&last), "[\"zero\",20]");
    assert!(last.warnings.is_empty(), "{:?}", last.warnings);
}

#[test]
fn patches_answer_true_live_and_as_journaled_in_a_replay() {
    let body = "const a = ctx.patched('p'); await ctx.sleep(5);
        const b = ctx.patched('q'); ctx.deprecatePatch('r'); return [a, ctx.patched('p'), b]";
    let mut live = run(body);
    let first = live.begin();
    assert!(
        matches!(&first.outputs[0], Output::Mark { key, id } if key == "@patch:p#0" && id == "p")
    );
    let last = live.resolve(1, "null");
    assert_eq!((last.outputs.len(), output(&last)), (3, "[true,true,true]"));

    // The journal has neither mark: the code was other code then.
    let mut old = run(body);
    old.next.live_after = false;
    old.next.journaled_outputs = 1;
    assert_eq!(old.begin().outputs.len(), 1);
    assert_eq!(output(&old.resolve(1, "null")), "[false,false,true]");

    // The append was interrupted: the mark stands, the request is new.
    let mut torn = run(body);
    torn.next.journaled_outputs = 1;
    torn.next.journaled_marks = vec![(0, "p".into())];
    assert_eq!(torn.begin().outputs.len(), 2);

    // After an accepted change of code.
    let mut start = start(Dormouse, &process(body));
    start.known_marks = vec!["p".into()];
    let mut accepted = Driver::new(start);
    accepted.next.by_key = true;
    assert_eq!(keys(&accepted.begin()), ["@sleep#0"]);
    accepted.next.by_key = true;
    assert_eq!(output(&accepted.resolve(1, "null")), "[true,true,false]");
}

#[test]
fn calls_bind_by_key_to_effects_that_are_known() {
    let mut start =
        start(Dormouse, &process("await ctx.sleep(9); await ctx.signal('s'); return 1"));
    let known = |key: &str, ordinal| dormouse::shells::host::protocol::KnownEffect {
        key: key.into(),
        ordinal,
    };
    start.known = vec![known("@signal:s#0", 4), known("gone#0", 5)];
    start.next_ordinal = 6;
    let mut run = Driver::new(start);
    run.next.by_key = true;
    assert_eq!(requests(&run.begin())[0].ordinal, 6);
    run.clock_micros += 9_000;
    assert_eq!(requests(&run.resolve(6, "null"))[0].ordinal, 4);
    assert_eq!(output(&run.resolve(4, "null")), "1");
}

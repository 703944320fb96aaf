//! Same journal, same requests: every prefix of a run's journal, opened anew and treated by the
//! outside as the whole run was, becomes the same journal again, record by record.

use crate::play::{Deed, Plan, Play, lines, posting, wrap, wrap_compatible};
use dormouse::machines::effect::post::PostStatus;
use dormouse::machines::replay::engine::Rest;
use dormouse::machines::replay::state::End;
use dormouse::services::runs::accept::{OnChange, OnRemoved};
use serde_json::json;

/// Plays a process to its end, then from every prefix of its journal.
fn check(what: &str, play: &Play, drive: impl Fn(&Play)) {
    play.go_on();
    drive(play);
    let trace = play.records();
    play.assert_checks(what);
    for count in 1..trace.len() {
        let place = format!("{what}, {count} of {} records", trace.len());
        let again = Play::prefix(play, &trace, count);
        again.assert_checks(&place);
        again.follow(&trace);
        let (found, wanted) = (again.records(), &trace);
        assert_eq!(lines(&found), lines(wanted), "{place}");
        assert!(found == *wanted, "{place}: records differ");
    }
}

fn check_body(what: &str, body: &str, drive: impl Fn(&Play)) {
    check(what, &Play::body(body), drive);
}

#[test]
fn steps_in_sequence_with_a_failing_one_that_is_caught() {
    let body = "const a = await ctx.task(t, 1);
        try { await ctx.task(u, { a }); } catch (e) { ctx.log(e.message); }
        const s = await ctx.task(sh, null);
        return { a, s, x: (await ctx.task(t, 2)).x };";
    check_body("sequence", body, |play| {
        play.post("t#0", json!("one"));
        play.fail("u#0", json!({ "name": "Oops", "message": "no" }));
        play.fail("sh#0", json!({ "message": "exit 1" }));
        play.post("t#1", json!({ "x": null }));
        assert_eq!(play.output()["a"], "one");
        assert_eq!(play.output()["s"]["success"], false);
    });
}

#[test]
fn branches_of_two_steps_and_nested_groups() {
    let body = "return ctx.parallel.map(['a', 'b', 'c'], async (x, i, branch) => {
            const first = await ctx.task(t, x);
            if (i === 1) return branch.parallel.all([() => ctx.task(u, 1), () => ctx.task(u, 2)]);
            return ctx.task(u, first);
        }, { maxConcurrency: 2 });";
    check_body("parallel", body, |play| {
        play.post("p0[1]/t#0", json!("B"));
        play.post("p0[1]/p0[1]/u#0", json!("B2"));
        play.post("p0[0]/t#0", json!("A"));
        play.put("p0[1]/p0[0]/u#0", json!("B1"));
        play.post("p0[0]/u#0", json!("A'"));
        play.post("p0[2]/t#0", json!("C"));
        play.post("p0[2]/u#0", json!("C'"));
        assert_eq!(play.output(), json!(["A'", ["B1", "B2"], "C'"]));
    });
}

#[test]
fn promises_raced_and_settled() {
    let body = "const slow = ctx.task(t, 'slow'), timer = ctx.sleep(60000);
        const first = await Promise.race([slow.then(() => 'task'), timer.then(() => 'timer')]);
        const all = await Promise.allSettled([ctx.task(u, 1), ctx.task(u, 2)]);
        const both = await Promise.all([slow, ctx.task(t, 'more')]);
        return { first, all: all.map((r) => r.status), both };";
    check_body("race", body, |play| {
        play.later(60_000);
        play.fail("u#1", json!({ "message": "no" }));
        play.post("u#0", json!(1));
        play.post("t#1", json!("more"));
        play.post("t#0", json!("slow"));
        assert_eq!(play.output()["first"], "timer");
    });
}

#[test]
fn tasks_that_nobody_awaits_are_drained() {
    let body = "ctx.task(t, 1); ctx.task(t, 2); ctx.sleep(1000); ctx.signal('never');
        await ctx.task(u); return 'done';";
    check_body("draining", body, |play| {
        assert_eq!(play.post("u#0", json!(1)), Rest::Waiting { draining: true });
        assert_eq!(play.open(), ["t#0", "t#1"]);
        play.post("t#1", json!(1));
        play.later(5_000);
        play.fail("t#0", json!({ "message": "late" }));
        assert_eq!(play.output(), json!("done"));
    });
    check_body("draining a failure", "ctx.task(t, 1); throw new Error('early');", |play| {
        assert_eq!(play.post("t#0", json!(1)), Rest::Ended(End::Failed));
    });
}

#[test]
fn breakpoints_in_a_loop_and_checkpoints() {
    let body = "let feedback;
        for (let attempt = 1; attempt <= 3; attempt++) {
            const a = await ctx.breakpoint({ title: 'Ok?', attempt, feedback });
            if (a.approved) break;
            feedback = a.response || a.feedback;
        }
        await ctx.checkpoint({ title: 'seen' });
        const late = await ctx.breakpoint('?', { timeout: 500, onTimeout: 'approve' });
        return { feedback, late };";
    check_body("breakpoints", body, |play| {
        play.post("@bp:breakpoint#0", json!({ "approved": false, "response": "why" }));
        play.post("@bp:breakpoint#1", json!({ "feedback": "still no" }));
        play.post("@bp:breakpoint#2", json!(true));
        play.later(500);
        assert_eq!(play.output()["late"]["respondedBy"], "timeout");
    });
    let how = Plan { non_interactive: true, ..Plan::default() };
    let play = Play::of(&wrap("return ctx.breakpoint('Ok?');"), how);
    check("non-interactive", &play, |play| assert_eq!(play.output()["approved"], true));
}

#[test]
fn sleeps_and_timers() {
    let body = "const at = [];
        const stamp = (name) => at.push(name + (ctx.now().getTime() - start));
        const start = ctx.now().getTime();
        setTimeout(() => stamp('timeout'), 700);
        const never = setTimeout(() => stamp('never'), 800); clearTimeout(never);
        await ctx.sleep('300ms'); stamp('a');
        await ctx.sleepUntil(start + 100); stamp('past');
        await Promise.all([ctx.sleep(1000), ctx.task(t)]); stamp('b');
        return at;";
    check_body("sleeps", body, |play| {
        play.later(350);
        play.later(100);
        play.post("t#0", json!(1));
        play.later(250);
        play.later(10_000);
        assert_eq!(play.output(), json!(["a350", "past350", "timeout700", "b10700"]));
    });
}

#[test]
fn signals_with_keys_timeouts_and_early_ones() {
    let body = "const any = ctx.signal('go'), one = ctx.signal('go', { correlationKey: 'k' });
        const two = ctx.signal('go', { timeout: 1000, default: 'none' });
        const early = await ctx.task(t);
        let gone; try { await ctx.signal('gone', { timeout: 50 }); } catch (e) { gone = e.name; }
        return [await any, await one, await two, gone, await ctx.signal('early')];";
    check_body("signals", body, |play| {
        play.signal("early", None, json!({ "n": 1 }));
        play.signal("go", Some("other"), json!("first"));
        play.send("go", Some("k"), json!("second"));
        play.send("go", Some("k"), json!("third"));
        play.go_on();
        play.post("t#0", json!(1));
        play.later(1_000);
        assert_eq!(
            play.output(),
            json!(["first", "second", "third", "SignalTimeoutError", { "n": 1 }])
        );
    });
}

const CHILDREN: &str = "
export async function child(inputs, ctx) { await ctx.sleep(100); return { got: inputs }; }
export async function failing(inputs, ctx) { throw new TypeError('child ' + inputs.n); }
export async function nested(inputs, ctx) {
    return [await ctx.run({ process: 'main.js', exportName: 'child', inputs: 'inner' })];
}
export async function large(inputs, ctx) { return inputs.part.repeat(70000); }
";

#[test]
fn child_runs() {
    let body = "const run = (exportName, inputs, o) =>
            ctx.run({ process: 'main.js', exportName, inputs }, o);
        const [a, d] = await Promise.all([run('child', 1), run('child', 2, { detached: true })]);
        let failed;
        try { await run('failing', { n: 3 }); } catch (e) { failed = [e.name, e.state]; }
        const n = await run('nested');
        const l = await run('large', { part: 'x' });
        const b = await run('child', 'y'.repeat(70000));
        return [a, d, failed, n, l.length, b.got.length];";
    let play = Play::source(&(wrap(body) + CHILDREN));
    check("children", &play, |play| {
        for _ in 0..4 {
            play.later(100);
        }
        assert_eq!(
            play.output(),
            json!([
                { "got": 1 }, { "runId": "run-1.e0002" }, ["ChildRunError", "failed"],
                [{ "got": "inner" }], 70_000, 70_000
            ])
        );
    });
}

#[test]
fn hooks_orchestrator_tasks_and_values_of_the_run() {
    let body = "const h = await ctx.hook('on-start', { a: 1 });
        const values = [ctx.random(), ctx.uuid(), Math.random(), crypto.randomUUID()];
        const o = await ctx.orchestratorTask({ values });
        const more = await ctx.parallel.map([1, 2], async () => {
            const r = ctx.random(); await ctx.task(t, r); return [r, ctx.uuid(), ctx.now()];
        });
        return { h, values, o, more, now: ctx.now() };";
    check_body("values", body, |play| {
        play.wait(1_500);
        play.post("@orch#0", json!({ "ok": 1 }));
        play.post("p0[1]/t#0", json!(1));
        play.wait(500);
        play.post("p0[0]/t#0", json!(1));
        assert_eq!(play.output()["h"]["success"], true);
    });
}

#[test]
fn patches_that_are_reached_live() {
    let body = "const a = ctx.patched('p1'); await ctx.task(t, a);
        const b = ctx.patched('p2'); ctx.deprecatePatch('p3'); const c = ctx.patched('p1');
        await ctx.task(t, b); return [a, b, c, ctx.patched('p4')];";
    check_body("patched", body, |play| {
        play.post("t#0", json!(1));
        play.post("t#1", json!(1));
        assert_eq!(play.output(), json!([true, true, true, true]));
    });
}

#[test]
fn generations() {
    let body = "const n = (ctx.carried?.n ?? 0) + 1;
        let bad; try { await ctx.task(t, { toJSON() { throw new Error('x'); } }); } catch {}
        const r = [ctx.random(), await ctx.task(t, n), ctx.generation];
        if (n < 3) { ctx.sleep(50); await ctx.continueAsNew({ n }, { carry: { n } })
            .catch((e) => e.code); }
        if (n < 3) { ctx.log('pending'); await ctx.sleep(60);
            await ctx.continueAsNew({ n }, { carry: { n } }); }
        return [inputs, r];";
    check_body("generations", body, |play| {
        play.post("t#0", json!(1));
        play.later(60);
        play.post("t#0", json!(2));
        play.later(60);
        play.post("t#0", json!(3));
        assert_eq!(play.output()[0], json!({ "n": 2 }));
    });
}

#[test]
fn ends_by_halting_throwing_and_cancelling() {
    let halted = "ctx.task(t); ctx.sleep(100); await ctx.task(u);
        ctx.halt('enough', { why: 'x' });";
    check_body("halt", halted, |play| {
        assert_eq!(play.post("u#0", json!(1)), Rest::Ended(End::Halted));
    });
    let stuck = "ctx.task(t).catch(() => {}); await new Promise(() => {});";
    check_body("stuck and cancelled", stuck, |play| {
        assert_eq!(play.cancel(), Rest::Ended(End::Cancelled));
    });
    let cleanup = "try { await ctx.parallel.all([ctx.task(t), ctx.sleep(1e6)]); } catch (e) {
            await ctx.cancellation.shield(async (c) => {
                await c.task(u, 'undo'); await ctx.task(u, 'undo more').catch(() => {});
            });
            throw new Error('after clean-up');
        }";
    check_body("cancelled with clean-up", cleanup, |play| {
        play.cancel();
        play.post("u#0", json!(1));
        assert_eq!(play.post("u#1", json!(1)), Rest::Ended(End::Cancelled));
    });
}

#[test]
fn effects_given_up_by_the_process_and_from_outside() {
    let body = "const a = ctx.task(t, 1), s = ctx.sleep(1e6), b = ctx.task(t, 2);
        ctx.cancel(a, 'no need'); ctx.cancel(s);
        const names = [];
        for (const p of [a, s, b]) await p.catch((e) => names.push(e.name));
        const r = await ctx.parallel.all([() => ctx.task(u, 1), () => ctx.task(u, 2)])
            .catch((e) => e.message);
        return [names, r];";
    check_body("given up", body, |play| {
        play.deed(Deed::CancelEffect(play.effect("t#1")));
        play.go_on();
        play.fail("p0[1]/u#0", json!({ "message": "second" }));
        let name = "EffectCancelledError";
        assert_eq!(play.output(), json!([[name, name, name], "second"]));
    });
}

#[test]
fn keys_and_large_values() {
    let body = "const big = 'ä'.repeat(40000);
        const a = await ctx.task(t, { big }, { key: 'one' });
        const b = await ctx.task(t, { big }, { key: 'one' });
        const s = ctx.signal('s'); const c = await ctx.checkpoint({ title: big });
        const odd = await ctx.task(u, 1, { onUncertain: 'retry' }).catch((e) => e.name);
        return [a.length, a === b, (await s).length, c, odd, big];";
    check_body("keys", body, |play| {
        play.post("t=one", json!("v".repeat(100_000)));
        play.signal("s", None, json!("w".repeat(80_000)));
        assert_eq!(play.output()[2], 80_000);
        assert_eq!(play.output()[4], "InvalidTaskDefinitionError");
    });
}

#[test]
fn definitions_that_take_turns_to_build() {
    let source = "import { defineTask } from 'dormouse';
        let open; const gate = new Promise((r) => { open = r; });
        const late = defineTask('late', async () => { await gate; return { kind: 'agent' }; });
        const bad = defineTask('bad', () => { throw new Error('bad'); });
        const t = defineTask('t', () => ({ kind: 'agent' }));
        export async function process(inputs, ctx) {
            const l = ctx.task(late);
            await ctx.task(bad).catch(() => {});
            await ctx.task(t); open();
            return [await l, await ctx.task(t)];
        }";
    check("slow builds", &Play::source(source), |play| {
        play.post("t#0", json!(1));
        play.post("late#0", json!(2));
        play.post("t#1", json!(3));
        assert_eq!(play.output(), json!([2, 3]));
    });
}

#[test]
fn steered_runs() {
    let body = "const s = ctx.sleep(100); await ctx.task(t); await s; return ctx.task(u);";
    check_body("pause", body, |play| {
        play.deed(Deed::Pause);
        assert_eq!(play.later(200), Rest::Paused);
        play.deed(Deed::Post(posting(play.effect("t#0"), PostStatus::Ok, json!(1))));
        play.deed(Deed::Note);
        assert_eq!(play.go_on(), Rest::Paused);
        play.deed(Deed::Resume);
        play.go_on();
        play.post("u#0", json!(2));
    });
    let body = "const v = await ctx.task(t); ctx.task(sh);
        if (!v.ok) throw new RangeError('not ok'); return ctx.task(u, v);";
    check("process error", &Play::source(&wrap_compatible(body)), |play| {
        assert_eq!(play.post("t#0", json!({ "ok": false })), Rest::Held);
        play.put("sh#0", json!(1));
        let effect = dormouse::ground::id::EffectId::new(1);
        play.deed(Deed::Recover(effect, "ok".into(), crate::play::json(&json!(true))));
        play.go_on();
        play.post("u#0", json!(2));
        assert_eq!(play.output(), json!(2));
    });
}

#[test]
fn accepted_code() {
    let before = wrap(
        "const old = ctx.patched('old'); const s = ctx.sleep(5000);
        const a = await ctx.task(t, 1); ctx.task(t, 'removed').catch(() => {});
        const b = await ctx.task(u, a); await s; return [a, b];",
    );
    let after = wrap(
        "const old = ctx.patched('old'), new_ = ctx.patched('new'); const s = ctx.sleep(5000);
        const z = await ctx.task(sh, 'inserted');
        const a = await ctx.task(t, 1);
        const b = await ctx.task(u, a);
        const later = ctx.patched('later'); await ctx.task(sh, later);
        await s; return [old, new_, later, z, a, b];",
    );
    for on_removed in [OnRemoved::Keep, OnRemoved::Cancel] {
        accept(&before, &after, on_removed);
    }
}

fn accept(before: &str, after: &str, on_removed: OnRemoved) {
    check("accept", &Play::source(before), |play| {
        play.wait(1_000);
        play.post("t#0", json!("A"));
        play.wait(1_000);
        play.deed(Deed::Accept(after.to_owned(), OnChange::Fail, Some(on_removed)));
        play.go_on();
        if on_removed == OnRemoved::Cancel {
            assert_eq!(play.open(), ["@sleep#0", "sh#0"]);
            play.post("sh#0", json!("Z"));
            play.post("u#0", json!("B"));
        } else {
            assert_eq!(play.open(), ["@sleep#0", "t#1", "u#0", "sh#0"]);
            play.post("u#0", json!("B"));
            play.post("sh#0", json!("Z"));
            play.post("t#1", json!("nobody asks"));
        }
        play.post("sh#1", json!(1));
        play.later(3_000);
        assert_eq!(play.output(), json!([true, false, true, "Z", "A", "B"]));
    });
}

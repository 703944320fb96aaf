//! Runs that are cancelled, halted, paused, held and drained.

use crate::play::{Deed, Play, json, seqs, wrap, wrap_compatible};
use dormouse::codecs::event::Event;
use dormouse::ground::id::EffectId;
use dormouse::machines::replay::engine::Rest;
use dormouse::machines::replay::state::End;
use dormouse::services::runs::steer::FinalStatus;
use serde_json::json as value;
use std::path::Path;

const WAITING: Rest = Rest::Waiting { draining: false };

/// Types of the records from `from` on.
fn check(what: &str, play: &Play, from: usize, types: &[&str]) {
    assert_eq!(play.types(from), types, "{what}");
    play.assert_checks(what);
}

fn held_reason(play: &Play) -> String {
    play.seen().state.held.map_or(String::new(), |h| h.reason)
}

#[test]
fn a_parked_run_is_cancelled() {
    let play = Play::body("ctx.sleep(1e6); await ctx.task(t); return 'never';");
    play.go_on();
    let before = play.records().len();
    assert_eq!(play.cancel(), Rest::Ended(End::Cancelled));
    let gone = "EFFECT_CANCELLED";
    check("parked", &play, before, &["RUN_CANCEL_REQUESTED", gone, gone, "RUN_CANCELLED"]);
    assert_eq!(play.go_on(), Rest::Ended(End::Cancelled));
    assert!(play.runs.cancel(&play.id, None, false).unwrap().repeat);
    assert_eq!(play.records().len(), before + 4, "nothing follows an end");
}

#[test]
fn a_bare_run_is_cancelled() {
    let play = Play::bare();
    assert_eq!(play.go_on(), Rest::Bare);
    assert_eq!(play.cancel(), Rest::Ended(End::Cancelled));
}

#[test]
fn a_run_that_drains_is_cancelled() {
    let play = Play::body("ctx.task(t); return 1;");
    assert_eq!(play.go_on(), Rest::Waiting { draining: true });
    assert_eq!(play.cancel(), Rest::Ended(End::Cancelled));
}

#[test]
fn clean_up_has_its_time_and_no_more() {
    let body = "try { await ctx.task(t); } catch (e) {
            for (;;) await ctx.cancellation.shield((c) => c.task(u)).catch(() => {});
        }";
    let play = Play::body(body);
    play.go_on();
    assert_eq!(play.cancel(), WAITING);
    assert_eq!(play.open(), ["u#0"]);
    assert_eq!(play.later(59_999), WAITING);
    let before = play.records().len();
    assert_eq!(play.later(1), Rest::Ended(End::Cancelled));
    // It is told once more, by the replay; what it then asks for has no time left.
    let gone = "EFFECT_CANCELLED";
    let types = [gone, "EFFECT_REQUESTED", gone, "RUN_CANCELLED"];
    check("the time is over", &play, before, &types);
    let play = Play::body(body);
    play.go_on();
    play.deed(Deed::Cancel { now: true });
    assert_eq!(play.go_on(), Rest::Ended(End::Cancelled));
    assert!(play.records().len() < 9, "{:?}", play.types(0));
}

#[test]
fn clean_up_that_is_done_in_time_ends_the_run() {
    let play = Play::body(
        "try { await ctx.task(t); } finally {
            await ctx.cancellation.shield((c) => c.task(u, 'undo'));
        }",
    );
    play.go_on();
    play.cancel();
    assert_eq!(play.post("u#0", value!(1)), Rest::Ended(End::Cancelled));
}

#[test]
fn halting_ends_at_once() {
    let play = Play::body("ctx.task(t); ctx.sleep(9); try { ctx.halt('why'); } catch {} return 1;");
    assert_eq!(play.go_on(), Rest::Ended(End::Halted));
    let gone = "EFFECT_CANCELLED";
    check("by the process", &play, 3, &[gone, gone, "RUN_HALTED"]);
    let play = Play::body("ctx.task(t); return ctx.task(u);");
    play.go_on();
    play.deed(Deed::Halt(FinalStatus::Failed));
    check("by an operator", &play, 3, &[gone, gone, "RUN_FAILED"]);
    assert_eq!(play.go_on(), Rest::Ended(End::Failed));
}

#[test]
fn what_an_end_record_cuts_is_reproduced_all_the_same() {
    for (what, body) in [
        ("message", "throw new Error('x'.repeat(100000));"),
        ("data", "const e = new Error('x'); e.data = 'y'.repeat(100000); throw e;"),
        ("reason", "ctx.halt('r'.repeat(5000), { big: 'z'.repeat(100000) });"),
        ("carry", "await ctx.continueAsNew({}, { carry: 'c'.repeat(100000) });"),
        ("output", "return 'o'.repeat(100000);"),
    ] {
        let play = Play::body(body);
        assert!(matches!(play.go_on(), Rest::Ended(_)), "{what}");
        play.assert_checks(what);
    }
}

#[test]
fn a_paused_run_takes_everything_in_and_tells_nobody() {
    let play = Play::body(
        "const s = ctx.sleep(100), g = ctx.signal('g'); const a = await ctx.task(t);
        return [a, await g, await s];",
    );
    play.go_on();
    play.deed(Deed::Pause);
    assert_eq!(play.later(100), Rest::Paused, "the timer is due");
    play.put("t#0", value!(1));
    play.send("g", None, value!(2));
    assert_eq!(play.go_on(), Rest::Paused);
    check(
        "paused",
        &play,
        5,
        &["EFFECT_RESOLVED", "EFFECT_RESOLVED", "SIGNAL_RECEIVED", "EFFECT_RESOLVED"],
    );
    play.deed(Deed::Resume);
    assert_eq!(play.go_on(), Rest::Ended(End::Completed));
    assert_eq!(play.output(), value!([1, 2, null]));
}

#[test]
fn an_error_of_the_process_holds_or_ends_the_run() {
    let body = "const v = await ctx.task(t); if (!v.ok) throw new Error('not ok'); return v.ok;";
    let play = Play::body(body);
    play.go_on();
    assert_eq!(play.post("t#0", value!({ "ok": 0 })), Rest::Ended(End::Failed));
    let play = Play::source(&wrap_compatible(body));
    play.go_on();
    assert_eq!(play.post("t#0", value!({ "ok": 0 })), Rest::Held);
    assert_eq!(held_reason(&play), "process_error");
    assert_eq!(play.go_on(), Rest::Held);
    play.deed(Deed::Resume);
    assert_eq!(play.go_on(), Rest::Held, "nothing has changed");
    assert_eq!(seqs(&play.records(), "RUN_HELD").len(), 2);
    play.deed(Deed::Recover(EffectId::new(1), "ok".into(), json(&value!(7))));
    assert_eq!(play.go_on(), Rest::Ended(End::Completed));
    assert_eq!(play.output(), value!(7));
    play.assert_checks("recovered");
}

#[test]
fn limits_hold_a_run_and_let_it_go_on() {
    let spin = "await ctx.task(t); const until = 1e12; let n = 0;
        while (n < until) { if (inputs.fast) break; n++; } return 'out';";
    for (limit, body) in [
        ("limit:cpu", spin),
        ("limit:memory", "await ctx.task(t); const a = []; for (;;) a.push('x'.repeat(99999));"),
    ] {
        let mut play = Play::body(body);
        play.runs.limits.turn_cpu_max_ms = 150;
        play.runs.limits.heap_bytes_max = 8 << 20;
        play.go_on();
        let before = play.records().len();
        assert_eq!(play.post("t#0", value!(1)), Rest::Held, "{limit}");
        assert_eq!(held_reason(&play), limit);
        assert_eq!(play.types(before), ["EFFECT_RESOLVED", "RUN_HELD"], "{limit}");
        play.deed(Deed::Note);
        play.deed(Deed::Resume);
        assert_eq!(play.go_on(), Rest::Held, "{limit}: the same turn again");
        play.deed(Deed::Halt(FinalStatus::Failed));
    }
}

#[test]
fn generations_that_do_nothing_come_to_an_end() {
    let play = Play::body("await ctx.continueAsNew({}, { carry: 1 });");
    assert_eq!(play.go_on(), Rest::Held);
    assert_eq!(held_reason(&play), "limit:generations");
    assert_eq!(play.seen().state.generation, 101);
}

#[test]
fn a_late_start_timeout_answers_what_nobody_has_begun() {
    let play = Play::body(
        "return ctx.task(t, 1, { startTimeout: 100 }).catch((e) => [e.name, e.timeoutMs]);",
    );
    play.go_on();
    assert_eq!(play.later(100), Rest::Ended(End::Completed));
    assert_eq!(play.output(), value!(["TaskTimeoutError", 100]));
}

const CHILD: &str = "
export async function child(inputs, ctx) {
    try { await ctx.task(t, 'child'); }
    finally { await ctx.cancellation.shield((c) => c.task(u, 'undo')); }
}
export async function looping(inputs, ctx) { for (;;); }
";

#[test]
fn children_go_with_their_parents() {
    let run = |rest: &str| {
        let body = format!("return ctx.run({{ process: 'main.js', exportName: 'child' }}{rest});");
        let play = Play::source(&(wrap(&body) + CHILD));
        play.go_on();
        assert_eq!(play.cancel(), Rest::Ended(End::Cancelled));
        play.runs.look("run-1.e0001").unwrap().state
    };
    let child = run("");
    assert!(child.cancel.is_some() && child.is_open(), "it cleans up");
    let child = run(", { onParentEnd: 'abandon' }");
    assert!(child.cancel.is_none() && child.is_open());
}

#[test]
fn a_child_that_is_busy_or_damaged_does_not_stop_its_parent() {
    let body = "ctx.run({ process: 'main.js', exportName: 'child' }); return ctx.task(u);";
    let play = Play::source(&(wrap(body) + CHILD));
    play.go_on();
    {
        let held = play.runs.open("run-1.e0001").unwrap();
        assert_eq!(play.post("u#0", value!(1)), Rest::Waiting { draining: true }, "busy");
        held.close().unwrap();
    }
    let journal = Path::new("/runs/run-1.e0001/journal");
    let names = play.runs.disk.open_dir(journal).unwrap().list().unwrap();
    play.disk.tamper(&journal.join(&names[0]), |bytes| bytes[200] ^= 1);
    assert_eq!(play.go_on(), Rest::Waiting { draining: true }, "damaged");
    assert_eq!(play.cancel(), Rest::Ended(End::Cancelled));
}

#[test]
fn a_child_that_is_held_keeps_its_parent_waiting() {
    let body = "return ctx.run({ process: 'main.js', exportName: 'looping' });";
    let mut play = Play::source(&(wrap(body) + CHILD));
    play.runs.limits.turn_cpu_max_ms = 100;
    assert_eq!(play.go_on(), WAITING);
    assert_eq!(play.go_on(), WAITING);
    let child = play.runs.look("run-1.e0001").unwrap();
    assert_eq!(child.state.held.unwrap().reason, "limit:cpu");
    play.runs.halt("run-1.e0001", "give up", FinalStatus::Failed).unwrap();
    assert_eq!(play.go_on(), Rest::Ended(End::Failed));
    match &play.records().last().unwrap().event {
        Event::RunFailed(failed) => assert_eq!(failed.error.name, "ChildRunError"),
        other => panic!("{other:?}"),
    }
}

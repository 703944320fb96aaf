//! Code that does not do what the journal says: found, reported, held, checked, accepted.

use crate::play::{Deed, Play, seqs, wrap, wrap_compatible};
use dormouse::codecs::event::Profile;
use dormouse::machines::replay::engine::Rest;
use dormouse::machines::replay::state::End;
use dormouse::services::runs::accept::{OnChange, OnRemoved};
use serde_json::json;

/// What was run: two steps and then two at once.
const BEFORE: &str = "const a = await ctx.task(t, 1);
    const p = ctx.task(t, { n: [2] }), q = ctx.task(u, 3);
    return [a, await p, await q];";

/// Runs `before` until its second turn is journaled.
fn played(before: &str) -> Play {
    let play = Play::source(before);
    play.go_on();
    play.post("t#0", json!("A"));
    play
}

/// Other code for the run is a divergence of this class, and nothing is appended but that.
fn check(class: &str, after: &str) {
    let play = played(&wrap(BEFORE));
    let before = play.records();
    let source = play.code(&wrap(after));
    let checked = play.runs.check(&play.id, Some(&source)).unwrap();
    let found = checked.divergence.as_ref().map(|d| d.class);
    assert_eq!((found, checked.strict, checked.held), (Some(class), false, None), "{after}");
    assert_eq!(play.records().len(), before.len(), "a check appends nothing");
    play.deed(Deed::Assign(wrap(after)));
    assert_eq!(play.go_on(), Rest::Held, "{class}");
    assert_eq!(play.types(before.len()), ["PROCESS_ASSIGNED", "RUN_HELD"], "{class}");
    let held = play.seen().state.held.unwrap();
    assert_eq!((held.reason.as_str(), held.class.as_deref()), ("diverged", Some(class)));
    let report = play.seen().dir.read_relative("state/divergence.json", 1 << 20).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["class"], class);
    if class == "args-changed" {
        assert_eq!(report["argsDiff"], json!([{ "path": "/n/0", "old": "2", "new": "4" }]));
    }
    // Posts are still taken; the old code takes them up.
    play.put("u#0", json!("C"));
    assert_eq!(play.go_on(), Rest::Held);
    play.deed(Deed::Assign(wrap(BEFORE)));
    play.go_on();
    assert_eq!(play.post("t#1", json!("B")), Rest::Ended(End::Completed), "{class}");
    assert_eq!(play.output(), json!(["A", "B", "C"]));
    play.assert_checks(class);
}

#[test]
fn every_class_is_found_and_holds_the_run() {
    for (class, after) in [
        ("missing", "const a = await ctx.task(t, 1); const p = ctx.task(t, { n: [2] }); await p;"),
        ("extra", "ctx.task(t, 1); ctx.task(u, 3); await ctx.sleep(1e9);"),
        (
            "extra",
            "const a = await ctx.task(t, 1); ctx.task(sh, 1);
             ctx.task(t, { n: [2] }); await ctx.task(u, 3);",
        ),
        (
            "args-changed",
            "const a = await ctx.task(t, 1); ctx.task(t, { n: [4] }); await ctx.task(u, 3);",
        ),
        (
            "kind-changed",
            "const a = await ctx.task(t, 1);
             const k = defineTask('t', () => ({ kind: 'node' }));
             ctx.task(k, { n: [2] }); await ctx.task(u, 3);",
        ),
        (
            "reordered",
            "const a = await ctx.task(t, 1); ctx.task(u, 3); await ctx.task(t, { n: [2] });",
        ),
        (
            "renamed",
            "const a = await ctx.task(t, 1); const k = task('other', 'agent');
             ctx.task(k, { n: [2] }); await ctx.task(u, 3);",
        ),
    ] {
        check(class, after);
    }
}

#[test]
fn another_outcome_is_a_divergence_of_a_run_that_has_ended() {
    let play = played(&wrap(BEFORE));
    play.post("t#1", json!("B"));
    assert_eq!(play.post("u#0", json!("C")), Rest::Ended(End::Completed));
    let other = BEFORE.replace("[a, await p, await q]", "[await q, await p, a]");
    let source = play.code(&wrap(&other));
    let checked = play.runs.check(&play.id, Some(&source)).unwrap();
    assert_eq!(checked.divergence.unwrap().class, "outcome-changed");
    assert!(checked.lines.iter().all(|l| l.change == "kept"), "{:?}", checked.lines);
    assert!(play.runs.plan_accept(&play.id, &source, OnChange::Keep, None).is_err());
}

#[test]
fn a_forced_assignment_keeps_the_profile() {
    let play = played(&wrap(BEFORE));
    play.deed(Deed::Assign(wrap_compatible(BEFORE)));
    assert_eq!(play.seen().state.process.unwrap().api, Profile::Dormouse);
}

#[test]
fn a_step_inserted_before_a_resolved_one_is_new_and_the_rest_is_kept() {
    let play = played(&wrap(BEFORE));
    let after = wrap(&format!("ctx.task(sh, 'new').catch(() => {{}}); {BEFORE}"));
    let source = play.code(&after);
    let checked = play.runs.check(&play.id, Some(&source)).unwrap();
    let changes: Vec<(&str, &str)> =
        checked.lines.iter().map(|l| (l.change, l.key.as_str())).collect();
    assert_eq!(changes, [("kept", "t#0"), ("kept", "t#1"), ("kept", "u#0"), ("new", "sh#0")]);
    assert!(!checked.strict);
    play.deed(Deed::Accept(after, OnChange::Fail, None));
    let before = play.records().len();
    play.go_on();
    assert_eq!(play.types(before), ["EFFECT_REQUESTED"], "one new request");
    play.post("u#0", json!("C"));
    play.post("t#1", json!("B"));
    play.post("sh#0", json!(0));
    assert_eq!(play.output(), json!(["A", "B", "C"]));
    play.assert_checks("accepted");
}

/// The value of a changed call after an accept.
fn accept_changed(on_change: OnChange) -> Option<serde_json::Value> {
    let play = played(&wrap(BEFORE));
    let after = wrap(&BEFORE.replace("ctx.task(t, 1)", "ctx.task(t, 100)"));
    if let Err(refused) = play.try_deed(Deed::Accept(after, on_change, None)) {
        assert_eq!(refused.trouble().code, "args_changed");
        return None;
    }
    play.go_on();
    for key in ["t#0", "t#1", "u#0"] {
        // A call that comes after one that is asked for anew binds to what it had.
        if play.open().iter().any(|o| o == key) {
            play.post(key, json!(format!("new {key}")));
        }
    }
    play.assert_checks("changed");
    Some(play.output())
}

#[test]
fn changed_calls_are_kept_asked_anew_or_refused() {
    for (on_change, wanted) in [
        (OnChange::Keep, Some(json!(["A", "new t#1", "new u#0"]))),
        (OnChange::Redo, Some(json!(["new t#0", "new t#1", "new u#0"]))),
        (OnChange::Fail, None),
    ] {
        assert_eq!(accept_changed(on_change), wanted, "{on_change:?}");
    }
}

#[test]
fn two_accepts_compose() {
    let play = played(&wrap(BEFORE));
    let step = |n: u32, rest: &str| format!("ctx.task(sh, {n}, {{ key: 'k{n}' }}); {rest}");
    let (first, second) = (step(1, BEFORE), step(2, &step(1, BEFORE)));
    for after in [first, second] {
        play.deed(Deed::Accept(wrap(&after), OnChange::Fail, None));
        play.go_on();
        play.assert_checks(&after);
    }
    assert_eq!(play.open(), ["t#1", "u#0", "sh=k1", "sh=k2"]);
    for key in ["sh=k2", "t#1", "sh=k1", "u#0"] {
        play.post(key, json!(key));
    }
    assert_eq!(play.output(), json!(["A", "t#1", "u#0"]));
}

#[test]
fn a_plan_that_new_calls_have_overtaken_is_refused() {
    let play = Play::source(&wrap(BEFORE));
    play.go_on();
    let source = play.code(&wrap(&format!("ctx.task(sh); {BEFORE}")));
    let planned = play.runs.plan_accept(&play.id, &source, OnChange::Fail, None).unwrap();
    play.post("t#0", json!("A"));
    let refused = play.runs.accept(&play.id, &source, &planned, None).unwrap_err();
    assert_eq!(refused.trouble().code, "plan_stale");
}

#[test]
fn a_run_whose_pinned_code_was_edited_is_damaged() {
    let play = played(&wrap(BEFORE));
    let before = play.records().len();
    let pinned = std::path::Path::new("/runs/run-1/process/main.js");
    play.disk.tamper(pinned, |bytes| bytes.push(b' '));
    let error = play.try_go_on().unwrap_err();
    assert_eq!(error.trouble().code, "J52");
    assert_eq!(seqs(&play.records(), "RUN_HELD").len(), 0);
    assert_eq!(play.records().len(), before);
}

#[test]
fn removed_pending_calls_are_waited_for_or_given_up() {
    for (on_removed, open) in
        [(OnRemoved::Keep, &["t#1", "u#0"][..]), (OnRemoved::Cancel, &["u#0"][..])]
    {
        let play = played(&wrap(BEFORE));
        let after = "const a = await ctx.task(t, 1); return [a, await ctx.task(u, 3)];";
        play.deed(Deed::Accept(wrap(after), OnChange::Fail, Some(on_removed)));
        play.go_on();
        assert_eq!(play.open(), open);
        let rest = play.post("u#0", json!("C"));
        if on_removed == OnRemoved::Keep {
            assert_eq!(rest, Rest::Waiting { draining: true });
            play.post("t#1", json!("ignored"));
        }
        assert_eq!(play.output(), json!(["A", "C"]));
    }
}

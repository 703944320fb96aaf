//! The table of transitions of an effect, row by row: each test is one row, named after it.
//!
//! A line reads: what somebody did, and what was recorded or refused. Rows that are memory alone
//! are here by what they leave untouched.

use dormouse::codecs::event::{
    CancelOutcome, EffectResolved, Event, OnUncertain, Policy, Retry, ReusedFrom, Status,
};
use dormouse::codecs::json::Json;
use dormouse::codecs::turn::Request;
use dormouse::ground::id::{EffectId, Epoch, Seq};
use dormouse::ground::limits::{CANCEL_GRACE_MS, CLEANUP_TIMEOUT_MS, RELEASES_MAX};
use dormouse::machines::effect::attempt::Report;
use dormouse::machines::effect::policy;
use dormouse::machines::replay::drafts;
use serde_json::json;

use crate::effect_story::{
    Story, failed, harmless, not_begun, probed, released, requested, retries, tried_again, unsure,
};
use crate::support::run_id;

fn once() -> Policy {
    Policy::default()
}

const SECOND: u64 = 1_000;

#[test]
fn t01_what_is_asked_for_waits_to_be_claimed() {
    let story = Story::asked(once());
    assert_eq!((story.status(), story.effect().ready_at()), ("requested", Some(story.now)));
}

#[test]
fn t02_what_runs_inside_is_started_at_once() {
    let mut story = Story::of(requested("http", once(), false));
    assert_eq!(story.claim("@daemon/boot"), "STARTED 1");
}

fn asked_with(options: &serde_json::Value) -> Request {
    Request {
        ordinal: 1,
        key: "k".into(),
        name: "k".into(),
        scope: String::new(),
        kind: "agent".into(),
        task_id: None,
        title: None,
        label: None,
        labels: Vec::new(),
        def: Json::of(&json!({ "kind": "agent" })),
        def_digest: String::new(),
        args: None,
        args_digest: String::new(),
        options: Some(Json::of(options)),
        cleanup: false,
        site: None,
    }
}

#[test]
fn t03_what_can_never_run_is_refused_in_the_same_commit() {
    let request = asked_with(&json!({ "priority": 5_000 }));
    let batch = drafts::requested(&request, Seq(1));
    let mut story = Story::of(batch[0].event.clone());
    story.append(batch[1].event.clone());
    assert_eq!(
        (story.status(), story.error().name.as_str()),
        ("error", "InvalidTaskDefinitionError")
    );
    assert_eq!(story.effect().ended.as_ref().unwrap().epoch, Epoch(0));
}

#[test]
fn t03_options_that_nobody_can_have_meant_are_refused_once_and_for_all_or_never() {
    for options in [
        json!({ "idempotencyKey": "" }),
        json!({ "timeout": 0 }),
        json!({ "retry": { "factor": 0.5 } }),
        json!({ "retry": { "maxAttempt": 3 } }),
    ] {
        let request = asked_with(&options);
        let batch = drafts::requested(&request, Seq(1));
        assert_eq!(batch.len(), 2, "{options}: the request and its refusal");
        let Event::EffectRequested(refused) = &batch[0].event else { panic!("{options}") };
        // Whoever died between the two records finishes that.
        assert!(drafts::refusal(&request, &refused.policy).is_some(), "{options}");
        // An older journal took it, and goes on with what it took.
        let taken = policy::read("agent", None, request.options.as_ref()).unwrap();
        assert!(drafts::refusal(&request, &taken).is_none(), "{options}");
    }
}

#[test]
fn t04_a_claim_starts_with_the_next_epoch() {
    let mut story = Story::asked(tried_again());
    assert_eq!(story.claim("w"), "STARTED 1");
    assert_eq!(story.report(1, &failed("E")), "FAILED 1 reported reported");
    assert_eq!(story.claim("w"), "refused: held", "before its delay is over");
    story.after(SECOND);
    assert_eq!(story.claim("v"), "STARTED 2");
    assert_eq!((story.effect().attempts, story.effect().worker.as_deref()), (2, Some("v")));
}

#[test]
fn t04_nothing_starts_in_a_run_that_is_stopped_or_given_up() {
    let mut paused = Story::asked(once());
    paused.pause();
    assert_eq!(paused.claim("w"), "refused: held");
    paused.resume();
    assert_eq!(paused.claim("w"), "STARTED 1");

    let mut cancelling = Story::asked(once());
    cancelling.cancel_run(false);
    assert_eq!(cancelling.claim("w"), "refused: held");

    let mut cleaning = Story::of(requested("agent", once(), true));
    cleaning.cancel_run(false);
    assert_eq!(cleaning.claim("w"), "STARTED 1", "clean-up goes on");

    let mut late = Story::asked(Policy { start_timeout_ms: Some(SECOND), ..once() });
    late.now = late.now.later_by(SECOND);
    assert_eq!(late.claim("w"), "refused: held", "its time is over");
}

#[test]
fn t04_only_what_somebody_outside_executes_is_claimed() {
    for kind in ["signal", "breakpoint", "hook"] {
        let mut story = Story::of(requested(kind, once(), false));
        assert_eq!(story.claim("w"), "refused: not_claimable", "{kind}");
    }
}

#[test]
fn t05_a_post_without_a_claim_ends_it_and_nothing_is_retried() {
    for (words, recorded) in [("ok 1", "OK 0"), ("error E", "ERROR 0 E")] {
        let mut story = Story::asked(tried_again());
        assert_eq!(story.post(words, 0), recorded);
    }
    let mut story = Story::asked(once());
    assert_eq!(story.post("unknown", 0), "refused: wrong_state", "nothing was started");
    assert_eq!(story.post("ok 1", 1), "refused: unknown_epoch");
}

#[test]
fn t06_a_late_value_counts_where_nobody_knew() {
    let closed = || {
        let mut story = Story::started(harmless());
        assert_eq!(story.report(1, &Report::Lapsed), "FAILED 1 unknown lease_expired");
        story
    };
    assert_eq!(closed().post("ok 1", 1), "OK 1");
    assert_eq!(closed().post("error E", 1), "refused: attempt_closed");
    assert_eq!(closed().post("unknown", 1), "refused: attempt_closed");
    let mut released = Story::started(once());
    released.report(1, &Report::Undelivered);
    assert_eq!(released.post("ok 1", 1), "refused: attempt_closed");
}

#[test]
fn t07_whoever_does_not_begin_in_time_is_not_waited_for() {
    let mut story = Story::asked(Policy { start_timeout_ms: Some(SECOND), ..once() });
    assert_eq!((story.wakes_in(), story.after(SECOND - 1)), (Some(1_000), "nothing".into()));
    assert_eq!(story.after(1), "ERROR 0 TaskTimeoutError");

    let mut backoff =
        Story::started(Policy { total_timeout_ms: Some(SECOND / 2), ..tried_again() });
    backoff.report(1, &failed("E"));
    assert_eq!(backoff.after(SECOND / 2), "ERROR 0 TaskTimeoutError", "delays count, too");
}

#[test]
fn t07_the_time_to_begin_counts_from_the_end_of_the_delay() {
    let mut story = Story::started(Policy { start_timeout_ms: Some(SECOND), ..tried_again() });
    story.after(9 * SECOND);
    assert_eq!(story.report(1, &failed("E")), "FAILED 1 reported reported");
    assert_eq!(story.wakes_in(), Some(1_000), "the end of the delay");
    assert_eq!(story.after(SECOND), "nothing");
    assert_eq!(story.wakes_in(), Some(1_000), "the limit after it");
    assert_eq!(story.after(SECOND), "ERROR 0 TaskTimeoutError");
}

#[test]
fn t08_what_nobody_began_goes_at_once() {
    let mut story = Story::asked(once());
    story.cancel_run(false);
    assert_eq!(story.after(0), "CANCELLED 0 not_begun");
    let mut tried = Story::started(harmless());
    tried.report(1, &Report::Lapsed);
    tried.cancel_run(false);
    assert_eq!(tried.after(0), "CANCELLED 1 unknown", "an attempt may have done something");
}

#[test]
fn t09_the_outcome_of_another_effect_is_taken_over() {
    let mut story = Story::asked(Policy { idempotency_key: Some("k".into()), ..once() });
    let reused_from = Some(ReusedFrom {
        run_id: "other".parse().unwrap(),
        effect_id: EffectId::new(3),
        seq: Seq(9),
        value_digest: None,
    });
    let bare = EffectResolved::bare(EffectId::new(1), Epoch(0), Status::Ok, "ledger");
    story.append(EffectResolved { reused_from, value: Some(Json::of(&1)), ..bare }.into());
    assert_eq!(story.status(), "ok");
}

#[test]
fn t10_what_may_have_been_done_elsewhere_is_uncertain_before_it_begins() {
    for cause in ["key_outcome_unknown", "forked", "repaired"] {
        let mut story = Story::asked(once());
        story.becomes_uncertain(cause);
        assert_eq!(story.claim("w"), "refused: effect_uncertain");
        assert_eq!(story.decide("retry", 0, false), "FAILED 0 unknown decided_retry", "{cause}");
        assert_eq!(story.claim("w"), "STARTED 1");
    }
}

#[test]
fn t11_a_value_with_the_present_epoch_ends_it() {
    assert_eq!(Story::started(once()).post("ok 1", 1), "OK 1");
}

#[test]
fn t12_a_reported_failure_is_tried_again_as_often_as_the_author_says() {
    let retry = Some(Retry { max_attempts: 3, ..retries() });
    let mut story = Story::started(Policy { retry, ..once() });
    for epoch in 1..3 {
        assert_eq!(story.post("error E", epoch), format!("FAILED {epoch} reported reported"));
        assert_eq!(story.wakes_in(), Some(1_000));
        story.after(SECOND);
        assert_eq!(story.claim("w"), format!("STARTED {}", epoch + 1));
    }
    assert_eq!(story.post("error Last", 3), "ERROR 3 AttemptsExhausted");
}

#[test]
fn t12_what_never_began_has_a_budget_of_its_own() {
    let retry = Some(Retry { max_attempts: 1, max_not_begun: 3, ..retries() });
    let mut story = Story::started(Policy { retry, ..once() });
    for epoch in 1..3 {
        assert_eq!(
            story.report(epoch, &not_begun()),
            format!("FAILED {epoch} not_begun not_begun")
        );
        story.after(SECOND);
        story.claim("w");
    }
    assert_eq!(story.report(3, &not_begun()), "ERROR 3 AttemptsExhausted");
    // Also where nobody asked for any repetition.
    assert_eq!(Story::started(once()).report(1, &not_begun()), "FAILED 1 not_begun not_begun");
}

#[test]
fn t13_what_is_final_or_not_to_be_retried_ends_it() {
    let named = |on: &[&str], not_on: &[&str]| {
        let words = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let retry = Some(Retry { on: words(on), not_on: words(not_on), ..retries() });
        Story::started(Policy { retry, ..once() })
    };
    assert_eq!(Story::started(once()).post("error E", 1), "ERROR 1 E", "the only attempt");
    assert_eq!(Story::started(tried_again()).post("final E", 1), "ERROR 1 E");
    assert_eq!(named(&["A"], &[]).post("error E", 1), "ERROR 1 E");
    assert_eq!(named(&["A"], &[]).post("error A", 1), "FAILED 1 reported reported");
    assert_eq!(named(&[], &["E"]).post("error E", 1), "ERROR 1 E");
    assert_eq!(named(&[], &["E"]).post("error A", 1), "FAILED 1 reported reported");
    let elapsed = Some(Retry { max_elapsed_ms: Some(999), ..retries() });
    let mut late = Story::started(Policy { retry: elapsed, ..once() });
    assert_eq!(late.post("error E", 1), "ERROR 1 E", "the next one would be too late");
}

#[test]
fn t13_the_last_error_tells_of_the_attempts_before() {
    let retry = Some(Retry { max_attempts: 7, ..retries() });
    let mut story = Story::started(Policy { retry, ..once() });
    for epoch in 1..7 {
        story.post(&format!("error E{epoch}"), epoch);
        story.after(SECOND);
        story.claim("w");
    }
    story.post("error E7", 7);
    let error = story.error();
    assert_eq!(error.message, "7 attempts failed; the last: no");
    let data = error.data.unwrap().to_value();
    let names: Vec<&str> = data["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["error"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["E3", "E4", "E5", "E6", "E7"]);
}

#[test]
fn t13_an_author_may_have_the_run_paused_instead() {
    let retry = Retry { max_attempts: 1, on_exhausted: Some("pause".into()), ..retries() };
    let mut story = Story::started(Policy { retry: Some(retry), ..once() });
    assert_eq!(story.post("error E", 1), "FAILED 1 reported reported; PAUSED attempts_exhausted");
    assert_eq!(story.claim("w"), "refused: held");
    story.resume();
    assert_eq!(story.claim("w"), "STARTED 2", "as many attempts again");
    assert_eq!(story.post("error E", 2), "FAILED 2 reported reported; PAUSED attempts_exhausted");
}

#[test]
fn t14_a_holder_that_does_not_know_leaves_it_uncertain() {
    assert_eq!(Story::started(once()).post("unknown", 1), "UNCERTAIN 1 worker_unsure");
    assert_eq!(Story::started(once()).report(1, &released(true)), "UNCERTAIN 1 worker_unsure");
    assert_eq!(Story::started(tried_again()).post("unknown", 1), "UNCERTAIN 1 worker_unsure");
    assert_eq!(Story::started(harmless()).post("unknown", 1), "FAILED 1 unknown worker_unsure");
    let hold = Policy { on_uncertain: OnUncertain::Hold, ..harmless() };
    assert_eq!(Story::started(hold).post("unknown", 1), "UNCERTAIN 1 worker_unsure");
}

#[test]
fn t15_a_heartbeat_changes_nothing() {
    let story = Story::started(once());
    assert_eq!((story.heartbeat(1), story.records.len()), ("alive".into(), 3));
}

#[test]
fn t16_what_is_given_back_unbegun_is_free_at_once() {
    let mut story = Story::started(once());
    for epoch in 1..=u64::from(RELEASES_MAX) {
        let recorded = format!("FAILED {epoch} not_begun released uncounted");
        assert_eq!(story.report(epoch, &released(false)), recorded);
        assert_eq!(story.claim("w"), format!("STARTED {}", epoch + 1));
    }
    let last = u64::from(RELEASES_MAX) + 1;
    assert_eq!(story.report(last, &released(false)), format!("ERROR {last} ReleasedTooOften"));
}

#[test]
fn t17_what_nobody_heard_of_was_not_begun() {
    let mut story = Story::started(once());
    assert_eq!(story.report(1, &Report::Undelivered), "FAILED 1 not_begun undelivered uncounted");
}

#[test]
fn t18_silence_leaves_it_uncertain_or_lets_it_be_tried_again() {
    assert_eq!(Story::started(once()).report(1, &Report::Lapsed), "UNCERTAIN 1 lease_expired");
    let retry = Some(Retry { max_attempts: 2, ..retries() });
    let mut twice = Story::started(Policy { retry, ..harmless() });
    assert_eq!(twice.report(1, &Report::Lapsed), "FAILED 1 unknown lease_expired");
    twice.after(SECOND);
    twice.claim("w");
    assert_eq!(twice.report(2, &Report::Lapsed), "UNCERTAIN 2 lease_expired", "no attempt is left");
    assert_eq!(twice.report(2, &Report::Lapsed), "nothing");
}

#[test]
fn t19_an_attempt_whose_time_is_over_is_not_known() {
    let over = Report::TimedOut { total: false };
    assert_eq!(Story::started(once()).report(1, &over), "UNCERTAIN 1 attempt_timeout");
    assert_eq!(Story::started(harmless()).report(1, &over), "FAILED 1 unknown attempt_timeout");
    let total = Policy { total_timeout_ms: Some(SECOND), ..harmless() };
    let mut story = Story::started(total);
    story.after(SECOND);
    assert_eq!(
        story.report(1, &Report::TimedOut { total: true }),
        "UNCERTAIN 1 attempt_timeout; ERROR 1 UncertainEffectError",
        "nothing follows the time of the whole"
    );
}

#[test]
fn t20_what_an_earlier_daemon_executed_is_not_known() {
    let mut story = Story::started(once());
    assert_eq!(story.report(1, &unsure("daemon_stopped")), "UNCERTAIN 1 daemon_stopped");
    let mut shell = Story::started(once());
    assert_eq!(shell.report(1, &not_begun()), "FAILED 1 not_begun not_begun", "no mark of a begin");
}

#[test]
fn t21_a_restart_alone_changes_nothing() {
    let mut story = Story::started(once());
    assert_eq!((story.after(86_400_000), story.status()), ("nothing".into(), "started"));
}

#[test]
fn t22_what_somebody_holds_is_nobody_elses() {
    let mut story = Story::asked(once());
    assert_eq!(story.claim("w/a"), "STARTED 1");
    assert_eq!(story.claim("w/a"), "again", "the same claim, whose answer was lost");
    for other in ["v/a", "w/b", "w"] {
        assert_eq!(story.claim(other), "refused: leased", "{other}");
    }
    story.report(1, &released(false));
    assert_eq!(story.claim("w/a"), "refused: attempt_closed", "no other work under that id");
    assert_eq!(story.claim("w/b"), "STARTED 2");
    let mut unnamed = Story::started(once());
    assert_eq!(unnamed.claim("w"), "refused: leased", "a claim without an id is not repeated");
}

#[test]
fn t23_an_older_epoch_changes_nothing() {
    let mut story = Story::started(once());
    story.report(1, &released(false));
    story.claim("v");
    for words in ["ok 1", "error E", "unknown"] {
        assert_eq!(story.post(words, 1), "refused: stale_lease");
    }
    assert_eq!(story.heartbeat(1), "refused: stale_lease");
    assert_eq!(story.report(1, &Report::Lapsed), "refused: stale_lease");
    assert_eq!(story.decide("done 1", 1, true), "refused: stale_lease");
    assert_eq!((story.status(), story.effect().epoch), ("started", Epoch(2)));
}

#[test]
fn t24_an_epoch_that_was_never_given_out_changes_nothing() {
    let mut story = Story::started(once());
    assert_eq!(story.post("ok 1", 2), "refused: unknown_epoch");
    assert_eq!(story.report(2, &Report::Lapsed), "refused: unknown_epoch");
    assert_eq!(story.heartbeat(2), "refused: unknown_epoch");
    assert_eq!(story.status(), "started");
}

#[test]
fn t25_what_is_abandoned_while_somebody_is_at_it_is_not_known() {
    let mut story = Story::started(once());
    story.given_up(CancelOutcome::Unknown);
    assert_eq!(story.post("ok 1", 1), "refused: effect_ended");
}

#[test]
fn t26_whoever_is_at_it_when_the_run_is_cancelled_is_heard_for_a_while() {
    let cancelling = || {
        let mut story = Story::started(tried_again());
        story.cancel_run(false);
        assert_eq!(story.after(CANCEL_GRACE_MS - 1), "nothing");
        story
    };
    assert_eq!(cancelling().post("ok 1", 1), "OK 1");
    assert_eq!(cancelling().post("error E", 1), "ERROR 1 E", "and is not tried again");
    let mut story = cancelling();
    assert_eq!(story.wakes_in(), Some(1));
    assert_eq!(story.after(1), "CANCELLED 1 unknown");

    let mut now = Story::started(once());
    now.cancel_run(true);
    assert_eq!(now.after(0), "CANCELLED 1 unknown");
    let mut cleaning = Story::asked(once());
    cleaning.cancel_run(false);
    assert_eq!(cleaning.after(0), "CANCELLED 0 not_begun");
}

#[test]
fn t26_clean_up_has_its_own_time() {
    let mut story = Story::of(requested("agent", once(), true));
    story.cancel_run(false);
    story.claim("w");
    let whole = u64::try_from(CLEANUP_TIMEOUT_MS).unwrap();
    assert_eq!(story.wakes_in(), Some(CLEANUP_TIMEOUT_MS));
    assert_eq!(story.after(whole - 1), "nothing");
    assert_eq!(story.after(1), "CANCELLED 1 unknown");
}

#[test]
fn t27_only_force_decides_over_a_holder() {
    let mut story = Story::started(once());
    assert_eq!(story.decide("retry", 1, false), "refused: wrong_state");
    assert_eq!(
        story.decide("retry", 1, true),
        "UNCERTAIN 1 declared_lost; FAILED 1 unknown decided_retry"
    );
    assert_eq!(Story::started(once()).decide("done 1", 1, true), "UNCERTAIN 1 declared_lost; OK 1");
}

#[test]
fn t28_a_late_post_with_the_present_epoch_counts() {
    assert_eq!(Story::uncertain(once()).post("ok 1", 1), "OK 1");
    assert_eq!(Story::uncertain(once()).post("error E", 1), "ERROR 1 E");
    assert_eq!(Story::uncertain(tried_again()).post("error E", 1), "FAILED 1 reported reported");
    assert_eq!(Story::uncertain(once()).post("unknown", 1), "repeat of 4", "as it stands");
    assert_eq!(Story::uncertain(once()).post("ok 1", 0), "refused: effect_uncertain");
    assert_eq!(Story::uncertain(once()).claim("v"), "refused: effect_uncertain");
}

#[test]
fn t29_a_holder_may_be_heard_again() {
    let story = Story::uncertain(once());
    assert_eq!((story.heartbeat(1), story.status()), ("alive".into(), "uncertain"));
}

#[test]
fn t30_somebody_decides_that_it_is_tried_again() {
    let mut story = Story::uncertain(once());
    assert_eq!(story.decide("retry", 1, false), "FAILED 1 unknown decided_retry");
    assert_eq!(story.decide("retry", 1, false), "repeat of 5");
    assert_eq!(story.decide("done 1", 1, false), "refused: wrong_state");
    assert_eq!(
        story.claim("v"),
        "STARTED 2",
        "at once, and although only one attempt was asked for"
    );
    assert_eq!(story.decide("retry", 1, false), "refused: stale_lease");
}

#[test]
fn t31_somebody_decides_how_it_ended() {
    let mut done = Story::uncertain(tried_again());
    assert_eq!(done.decide("done 1", 1, false), "OK 1");
    let mut failed = Story::uncertain(tried_again());
    assert_eq!(failed.decide("failed E", 1, false), "ERROR 1 E", "and it is not retried");
    let Event::EffectResolved(record) = &failed.records.last().unwrap().event else { panic!() };
    let decision = record.decision.as_ref().unwrap();
    assert_eq!((decision.reason.as_str(), decision.by.as_str()), ("looked", "operator:o"));
    assert_eq!(decision.evidence, Some(Json::of("ticket 7")));
}

#[test]
fn t32_a_conclusive_answer_of_the_outside_is_recorded_like_a_decision() {
    let answered = |answer: &str| Story::uncertain(probed(once())).probe(answer);
    assert_eq!(answered(r#"{"state":"done","value":7}"#), "OK 1");
    assert_eq!(answered(r#"{"state":"failed","error":{"name":"E","message":"m"}}"#), "ERROR 1 E");
    assert_eq!(answered(r#"{"state":"not_done"}"#), "FAILED 1 unknown probe_not_done");
    assert_eq!(answered(r#"{"state":"unsure"}"#), "nothing");
    let mut again = Story::uncertain(probed(tried_again()));
    again.probe(r#"{"state":"not_done"}"#);
    assert_eq!((again.wakes_in(), again.claim("v")), (Some(1_000), "refused: held".into()));
    again.after(SECOND);
    assert_eq!(again.claim("v"), "STARTED 2");
    assert_eq!(again.effect().idempotency_key(&run_id()), "demo-run/e0001", "over all");
}

#[test]
fn t32_what_did_not_happen_as_often_as_it_may_is_left_to_an_operator() {
    let retry = Retry { max_attempts: 9, max_not_begun: 2, ..retries() };
    let mut story = Story::asked(probed(Policy { retry: Some(retry), ..once() }));
    for epoch in 1..=3 {
        assert_eq!(story.claim("w"), format!("STARTED {epoch}"));
        story.report(epoch, &Report::Lapsed);
        let said = story.probe(r#"{"state":"not_done"}"#);
        let recorded = format!("FAILED {epoch} unknown probe_not_done");
        assert_eq!(said, if epoch < 3 { recorded } else { "nothing".into() });
        story.after(SECOND);
    }
    assert_eq!(story.status(), "uncertain");
}

#[test]
fn t32_the_outside_is_asked_when_whoever_was_silent_had_time_to_end() {
    let mut outside = Story::uncertain(probed(once()));
    assert_eq!(outside.wakes_in(), Some(60_000), "one more time of silence");
    assert_eq!((outside.after(60_000), outside.wakes_in()), ("nothing".into(), None));
    let inside = |kind: &str, policy: Policy| {
        let mut story = Story::of(requested(kind, policy, false));
        story.claim("@daemon/1");
        story.report(1, &unsure("transport"));
        story.effect().delayed_until().map(|at| at.millis() - story.now.millis())
    };
    assert_eq!(inside("http", probed(once())), Some(10_000));
    assert_eq!(inside("shell", probed(once())), Some(0));
    let mut policy = probed(once());
    policy.probe.as_mut().unwrap().after_ms = Some(1);
    assert_eq!(inside("http", policy), Some(1));
    assert_eq!(inside("http", once()), None);
}

#[test]
fn t33_the_outside_is_asked_before_anything_else_is_done() {
    let ask = |policy: Policy| {
        let mut story = Story::started(probed(policy));
        assert_eq!(story.report(1, &Report::Lapsed), "UNCERTAIN 1 lease_expired");
        assert_eq!(story.after(SECOND), "nothing");
        story
    };
    let on_uncertain = OnUncertain::Error;
    let mut error = ask(Policy { on_uncertain, ..once() });
    assert_eq!(error.leave_unanswered(), "ERROR 1 UncertainEffectError");
    assert_eq!(ask(harmless()).leave_unanswered(), "FAILED 1 unknown lease_expired");
    let on_uncertain = OnUncertain::Ask;
    for policy in [once(), Policy { on_uncertain, ..once() }] {
        assert_eq!(ask(policy).leave_unanswered(), "nothing");
    }
    let mut over = ask(Policy { total_timeout_ms: Some(5 * SECOND), ..once() });
    assert_eq!(over.after(5 * SECOND), "ERROR 1 UncertainEffectError", "its time is over");
}

#[test]
fn t33_whoever_does_not_want_to_wait_gets_an_error() {
    let error = Policy { on_uncertain: OnUncertain::Error, ..once() };
    assert_eq!(
        Story::started(error.clone()).report(1, &Report::Lapsed),
        "UNCERTAIN 1 lease_expired; ERROR 1 UncertainEffectError"
    );
    let mut crashed = Story::started(error);
    crashed.becomes_uncertain("lease_expired");
    assert_eq!(crashed.after(0), "ERROR 1 UncertainEffectError", "also after a crash in between");
    assert_eq!(crashed.error().data.unwrap().to_value()["outcome"], "unknown");

    let mut total = Story::uncertain(Policy { total_timeout_ms: Some(SECOND), ..once() });
    assert_eq!((total.wakes_in(), total.after(SECOND - 1)), (Some(1_000), "nothing".into()));
    assert_eq!(total.after(1), "ERROR 1 UncertainEffectError");
    let mut patient = Story::uncertain(once());
    assert_eq!((patient.wakes_in(), patient.after(86_400_000)), (None, "nothing".into()));
}

#[test]
fn t34_what_is_uncertain_goes_at_once() {
    let mut story = Story::uncertain(once());
    story.cancel_run(false);
    assert_eq!(story.after(0), "CANCELLED 1 unknown");
}

#[test]
fn t35_the_same_again_is_told_so() {
    let mut posted = Story::started(once());
    posted.post("ok 1", 1);
    assert_eq!(posted.post("ok 1", 1), "repeat of 4");
    assert_eq!(posted.post("ok 1", 0), "repeat of 4", "whoever names no epoch says the same");
    let mut decided = Story::uncertain(once());
    decided.decide("done 1", 1, false);
    assert_eq!(decided.decide("done 1", 1, false), "repeat of 5");
    let mut retried = Story::started(tried_again());
    retried.post("error E", 1);
    assert_eq!(retried.post("error E", 1), "repeat of 4", "the answer was lost");
    assert_eq!(retried.post("error F", 1), "refused: already_posted");
}

#[test]
fn t36_anything_else_is_too_late() {
    let mut story = Story::started(once());
    story.post("ok 1", 1);
    assert_eq!(story.post("ok 2", 1), "refused: effect_ended");
    assert_eq!(story.post("error E", 1), "refused: effect_ended");
    assert_eq!(story.decide("done 2", 1, true), "refused: effect_ended");
    assert_eq!(story.decide("retry", 1, true), "refused: effect_ended");
    assert_eq!(story.claim("w"), "refused: effect_ended");
    assert_eq!(story.report(1, &released(false)), "refused: effect_ended");
    assert_eq!(story.heartbeat(1), "refused: effect_ended");
}

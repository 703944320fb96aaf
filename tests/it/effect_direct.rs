//! Claims, reports and decisions on a run on disk, where no daemon serves the root.

use dormouse::codecs::json::Json;
use dormouse::ground::id::{EffectId, Epoch};
use dormouse::ground::limits::CANCEL_GRACE_MS;
use dormouse::machines::effect::attempt::Report;
use dormouse::machines::effect::claim::Claim;
use dormouse::machines::effect::decide::{Choice, Decision};
use dormouse::machines::effect::life::EffectStatus;
use dormouse::machines::effect::post::PostStatus;
use dormouse::machines::replay::engine::Rest;
use dormouse::machines::replay::state::End;
use dormouse::services::runs::Error;
use dormouse::services::runs::attempt::{Directive, TaskClaim};
use dormouse::services::runs::post::{Output, Posted, Posting};
use serde_json::{Value, json};

use crate::play::{Play, posting};

const COMPLETED: Rest = Rest::Ended(End::Completed);

/// A run that waits for one task with these options, and tells how it ended.
fn waiting(options: &str) -> Play {
    let call = format!("ctx.task(t, 1, {options})");
    let play = Play::body(&format!("return {call}.catch((e) => [e.name, e.attempts, e.message]);"));
    play.go_on();
    play
}

const E1: EffectId = EffectId::new(1);

fn asked(worker: &str) -> Claim {
    let worker = worker.to_owned();
    Claim { worker, ttl_ms: 60_000, claim_id: None, target: None, slots: Vec::new() }
}

fn claim(play: &Play, worker: &str) -> Result<TaskClaim, Error> {
    play.runs.claim(&play.id, E1, &asked(worker))
}

fn post(play: &Play, epoch: u64, status: PostStatus, value: Value) -> Result<Posted, Error> {
    let epoch = Some(Epoch(epoch));
    let posting = match status {
        PostStatus::Unknown => Posting { status, value: None, ..Posting::ok(E1, Json::null()) },
        _ => posting(E1, status, value),
    };
    play.runs.post(&play.id, Posting { epoch, ..posting })
}

fn code<T>(result: Result<T, Error>) -> &'static str {
    result.err().map_or("done", |e| e.trouble().code)
}

fn decision(what: Choice) -> Decision {
    let reason = "looked".to_owned();
    Decision { what, epoch: Epoch(1), reason, evidence: None, force: false }
}

#[test]
fn a_worker_gets_all_that_the_run_knows_of_the_task() {
    let play = waiting("{ timeout: 5000, deadline: '1m', retry: true }");
    let task = claim(&play, "w").unwrap();
    assert_eq!((task.epoch, task.attempt, task.repeat), (Epoch(1), 1, false));
    assert_eq!((task.key.as_str(), task.kind.as_str()), ("t#0", "agent"));
    assert_eq!(task.idempotency_key, "run-1/e0001");
    assert_eq!(task.policy.attempt_timeout_ms, Some(5_000));
    assert_eq!(task.deadline, Some(play.now().later_by(60_000)));
    assert!(task.definition.is_some() && task.args.is_some() && task.previous.is_empty());
    assert_eq!(play.types(0).last(), Some(&"EFFECT_STARTED"), "and it stands in the journal");
    assert_eq!(code(claim(&play, "v")), "leased");
    let posted = post(&play, 1, PostStatus::Ok, json!("done")).unwrap();
    assert_eq!((posted.status, posted.state), (PostStatus::Ok, EffectStatus::Ok));
    assert_eq!(play.go_on(), COMPLETED);
    assert_eq!(play.output(), json!("done"));
}

#[test]
fn a_failed_attempt_is_tried_again_and_the_process_sees_the_last() {
    let play = waiting("{ retry: { maxAttempts: 2, jitter: 0 } }");
    claim(&play, "w").unwrap();
    let error = json!({ "name": "Flaky", "message": "no" });
    let printed = Posting {
        epoch: Some(Epoch(1)),
        stdout: Some(Output::Content(b"so far".to_vec())),
        ..posting(E1, PostStatus::Error, error.clone())
    };
    let posted = play.runs.post(&play.id, printed).unwrap();
    assert_eq!((posted.status, posted.state), (PostStatus::Error, EffectStatus::Requested));
    assert_eq!(posted.stdout_ref.as_deref(), Some("tasks/e0001/stdout-1.log"));
    let repeat = post(&play, 1, PostStatus::Error, error.clone()).unwrap();
    assert_eq!((repeat.repeat, repeat.seq), (true, posted.seq));
    assert_eq!(code(claim(&play, "w")), "held");
    assert_eq!(play.later(1_000), Rest::Waiting { draining: false });
    let task = claim(&play, "w").unwrap();
    assert_eq!((task.epoch, task.previous[0].cause.as_str()), (Epoch(2), "reported"));
    post(&play, 2, PostStatus::Error, error).unwrap();
    assert_eq!(play.go_on(), COMPLETED);
    let last = "2 attempts failed; the last: no";
    assert_eq!(play.output(), json!(["AttemptsExhausted", 2, last]));
}

#[test]
fn a_refused_post_is_kept_beside_the_task() {
    let play = waiting("{}");
    claim(&play, "w").unwrap();
    let given_back = Report::Released { began: false, reason: Some("no time".into()) };
    let ended = play.runs.end_attempt(&play.id, E1, Epoch(1), &given_back);
    assert_eq!(ended.unwrap(), EffectStatus::Requested);
    claim(&play, "v").unwrap();
    let stale = post(&play, 1, PostStatus::Ok, json!(1)).unwrap_err();
    assert_eq!(stale.trouble().code, "stale_lease");
    let kept = stale.trouble().next.iter().any(|n| n.contains("tasks/e0001/stale/1-"));
    assert!(kept, "{:?}", stale.trouble().next);
}

#[test]
fn what_nobody_knows_is_decided() {
    let play = waiting("{}");
    claim(&play, "w").unwrap();
    let posted = post(&play, 1, PostStatus::Unknown, Value::Null).unwrap();
    assert_eq!((posted.status, posted.state), (PostStatus::Unknown, EffectStatus::Uncertain));
    let decide = |what| play.runs.decide(&play.id, E1, &decision(what));
    let done = decide(Choice::Done(Json::of("found"))).unwrap();
    assert_eq!((done.status, done.repeat), (EffectStatus::Ok, false));
    let again = decide(Choice::Done(Json::of("found"))).unwrap();
    assert_eq!((again.seq, again.repeat), (done.seq, true));
    assert_eq!(code(decide(Choice::Retry)), "effect_ended");
    assert_eq!(play.go_on(), COMPLETED);
    assert_eq!(play.output(), json!("found"));
}

#[test]
fn evidence_has_to_fit_into_a_record() {
    let play = waiting("{}");
    claim(&play, "w").unwrap();
    let evidence = Some(Json::of(&"x".repeat(70_000)));
    let decision = Decision { evidence, force: true, ..decision(Choice::Retry) };
    assert_eq!(code(play.runs.decide(&play.id, E1, &decision)), "value_too_large");
}

#[test]
fn an_idempotency_key_needs_a_daemon_to_start_and_none_to_post() {
    let play = waiting("{ idempotencyKey: 'order-7' }");
    let refused = claim(&play, "w").unwrap_err();
    assert_eq!(refused.trouble().code, "no_daemon");
    assert!(matches!(refused, Error::NotFound(_)), "exit 3");
    play.put("t#0", json!(7));
    assert_eq!(play.go_on(), COMPLETED);
}

#[test]
fn who_is_at_it_is_not_passed_over_by_a_cancel() {
    let play = waiting("{}");
    claim(&play, "w").unwrap();
    let cancel = |abandon| play.runs.cancel_effect(&play.id, E1, None, abandon);
    assert_eq!(code(cancel(false)), "leased");
    assert_eq!(code(cancel(true)), "done");
    assert_eq!(code(post(&play, 1, PostStatus::Ok, json!(1))), "effect_ended");
}

#[test]
fn t26_the_holder_of_what_the_process_gave_up_is_heard_for_a_while() {
    let body = "const a = ctx.task(t, 1, { retry: true });
        await ctx.signal('go'); ctx.cancel(a, 'no need');
        return a.catch((e) => [e.name, e.message]);";
    let cancelled = || {
        let play = Play::body(body);
        play.go_on();
        claim(&play, "w").unwrap();
        play.signal("go", None, Value::Null);
        play
    };
    let play = cancelled();
    let mut run = play.runs.open(&play.id).unwrap();
    run.go_on().unwrap();
    let beat = run.heartbeat(E1, Epoch(1)).unwrap();
    assert_eq!((beat.directive, beat.reason.as_deref()), (Directive::Cancel, Some("no need")));
    assert_eq!(run.wake_at(), Some(play.now().later_by(CANCEL_GRACE_MS)));
    let error = json!({ "name": "Stopped" });
    let stopped = Posting { epoch: Some(Epoch(1)), ..posting(E1, PostStatus::Error, error) };
    assert_eq!(run.post(stopped).unwrap().state, EffectStatus::Error, "and it is not tried again");
    run.close().unwrap();

    let silent = cancelled();
    assert_eq!(silent.later(CANCEL_GRACE_MS - 1), Rest::Waiting { draining: false });
    assert_eq!(silent.later(1), COMPLETED);
    let name = "EffectCancelledError";
    assert_eq!(silent.output(), json!([name, "Effect e0001 cancelled: no need"]));
}

#[test]
fn t37_a_delay_is_cut_short_once() {
    let play = waiting("{ retry: { maxAttempts: 3, jitter: 0 } }");
    claim(&play, "w").unwrap();
    post(&play, 1, PostStatus::Error, json!({})).unwrap();
    let mut run = play.runs.open(&play.id).unwrap();
    assert_eq!(code(run.claim(E1, &asked("w"))), "held");
    run.retry_now(E1).unwrap();
    assert!(run.ready_at(E1).unwrap() <= play.now());
    assert_eq!(run.claim(E1, &asked("w")).unwrap().epoch, Epoch(2));
    assert_eq!(code(run.retry_now(E1)), "wrong_state");
    let error = Posting { epoch: Some(Epoch(2)), ..posting(E1, PostStatus::Error, json!({})) };
    run.post(error).unwrap();
    assert_eq!(code(run.claim(E1, &asked("w"))), "held", "the next delay counts again");
    run.close().unwrap();
}

#[test]
fn a_failed_shell_task_is_a_value_once_nothing_is_left_to_try() {
    let play = Play::body(
        "const s = defineTask('s', () => ({ kind: 'shell', title: 's', shell: { command: 'x' } }));
         return (await ctx.task(s, 1, { retry: { maxAttempts: 2, jitter: 0 } })).exitCode;",
    );
    play.go_on();
    let error = json!({ "message": "no", "data": { "exitCode": 3 } });
    for (epoch, state, is_value) in
        [(1, EffectStatus::Requested, false), (2, EffectStatus::Ok, true)]
    {
        claim(&play, "w").unwrap();
        let posted = post(&play, epoch, PostStatus::Error, error.clone()).unwrap();
        assert_eq!((posted.state, posted.normalised_shell_failure), (state, is_value));
        play.wait(5_000);
    }
    assert_eq!(play.go_on(), COMPLETED);
    assert_eq!(play.output(), json!(3));
}

//! Questions to the outside about effects whose outcome nobody knows: when they are asked, what an
//! answer makes of the effect, and what comes before any answer. Time is the test's.

#![allow(clippy::disallowed_methods, reason = "these tests read the files of a run")]

use crate::executor_shell::{Place, all, only};
use crate::yard::Yard;
use dormouse::daemon::Daemon;
use dormouse::daemon::config::{Config, Requests};
use dormouse::ground::id::{EffectId, Epoch, RunId};
use dormouse::machines::effect::life::Effect;
use dormouse::services::manager::{Flow, Handle, Sign, Wanted, Wish};
use dormouse::services::runs::post::Posting;
use dormouse::services::runs::{Error, Result};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long somebody may be silent.
const TTL_MS: i64 = 6_000;
/// How often something is looked at that is on its way.
const LOOKS_MAX: usize = 20_000;
/// How long a question may take that must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that tells the test what it is asked, and answers what the test says.
struct Outside {
    port: u16,
    asked: Receiver<String>,
    says: Sender<(u16, String)>,
}

impl Outside {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ((heard, asked), (says, said)) = (channel(), channel::<(u16, String)>());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if heard.send(head(&mut stream)).is_err() {
                    return;
                }
                let Ok((status, body)) = said.recv() else { return };
                let length = body.len();
                // Whoever asked may be gone.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\
                     content-type: application/json\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { port, asked, says }
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until it is asked, and gives what for.
    fn asked(&self) -> String {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    fn says(&self, status: u16, body: &Value) {
        self.says.send((status, body.to_string())).unwrap();
    }

    #[track_caller]
    fn was_not_asked(&self) {
        assert_eq!(self.asked.try_recv().ok(), None);
    }

    /// A policy that has it asked.
    fn probe(&self, more: &Value) -> Value {
        let url = format!("{}/about?key=${{idempotencyKey}}", self.origin());
        let def = json!({ "url": url, "notDoneStatus": [404] });
        let mut probe = json!({ "kind": "http", "def": def });
        probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        probe
    }
}

fn head(stream: &mut TcpStream) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// A daemon whose effects ask the outside.
struct Site {
    outside: Outside,
    yard: Yard,
    daemon: Option<Daemon>,
    run: RunId,
}

const TASK: EffectId = EffectId::new(1);

impl Site {
    /// A run that waits for a task with these options.
    fn of(outside: Outside, options: &Value) -> Self {
        let (yard, run) = (Yard::new(), "r".parse().unwrap());
        let mut site = Self { outside, yard, daemon: None, run };
        site.serve();
        let body = "return await ctx.task(t, {}, inputs);";
        site.yard.run(&site.handle(), "r", body, options);
        site
    }

    fn serve(&mut self) {
        let mut config = Config::default();
        config.inbox.enabled = false;
        let allow_origins = vec![self.outside.origin()];
        config.executors.http = Some(Requests { allow_origins, ca_file: None });
        self.daemon = Some(Daemon::start(&self.yard.runs, &config).unwrap());
    }

    fn restart(&mut self) {
        self.daemon.take().unwrap().stop().unwrap();
        self.serve();
    }

    fn handle(&self) -> Handle {
        self.daemon.as_ref().unwrap().handle()
    }

    /// The same, with a task that a worker began and said nothing of any more.
    fn lapsed(probe: &Value, more: &Value) -> Self {
        let outside = Outside::new();
        let mut options = json!({ "probe": outside.probe(probe) });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let site = Self::of(outside, &options);
        site.claim().unwrap();
        site.pass(TTL_MS + TTL_MS / 2);
        site.until("uncertain");
        site
    }

    fn claim(&self) -> Result<u64> {
        let wanted = Wanted {
            worker: "w".into(),
            kinds: Vec::new(),
            agents: Vec::new(),
            offers: Vec::new(),
            runs: Vec::new(),
            max: 1,
            ttl_ms: TTL_MS.unsigned_abs(),
            claim_id: None,
            by: "client:w".into(),
        };
        let given = self.yard.wait(self.handle().claim_one(&self.run, TASK, wanted))?;
        assert_eq!(given.task.idempotency_key, "r/e0001");
        Ok(given.task.epoch.0)
    }

    fn beat(&self) {
        let sign = Sign {
            run: self.run.clone(),
            effect: TASK,
            epoch: Epoch(1),
            ttl_ms: None,
            progress: None,
            worker: Some("w".into()),
        };
        let all = self.yard.wait(self.handle().renew(vec![sign])).unwrap();
        all.into_iter().next().unwrap().unwrap();
    }

    fn post(&self, epoch: u64) {
        let posting =
            Posting { epoch: Some(Epoch(epoch)), ..Posting::ok(TASK, json_of(&json!(5))) };
        let handle = self.handle();
        let act = handle.deed(&self.run, "worker:w", Flow::Outcome, |r| r.post(posting));
        self.yard.wait(act).unwrap();
    }

    /// Lets time pass in steps that nobody takes for the daemon's own sleep.
    fn pass(&self, ms: i64) {
        for _ in 0..ms / 2_000 {
            self.jump(2_000);
        }
        self.jump(ms % 2_000);
    }

    fn jump(&self, ms: i64) {
        self.yard.clock.by_millis(ms);
        // The answer to the second comes after what the first has led to.
        for _ in 0..2 {
            self.yard.wait(self.handle().figures()).unwrap();
        }
    }

    fn effect(&self) -> Effect {
        let look = self.handle();
        let seen = look.read(&self.run, |look| Ok(look.state.effect(TASK).cloned().unwrap()));
        self.yard.wait(seen).unwrap()
    }

    /// Waits until the task stands there.
    #[track_caller]
    fn until(&self, status: &str) -> Effect {
        self.sees(|effect, _| effect.status.name() == status)
    }

    /// Waits until `why` says something.
    #[track_caller]
    fn says(&self, words: &str) {
        self.sees(|_, why| why.contains(words));
    }

    #[track_caller]
    fn sees(&self, is_there: impl Fn(&Effect, &str) -> bool) -> Effect {
        let mut last = (self.effect(), String::new());
        for _ in 0..LOOKS_MAX {
            let why = self.yard.wait(self.handle().why(&self.run)).unwrap();
            last = (self.effect(), format!("{why:?}"));
            if is_there(&last.0, &last.1) {
                return last.0;
            }
            std::thread::yield_now();
        }
        panic!("never: {last:#?}");
    }

    fn records(&self, kind: &str) -> Vec<Value> {
        let records = self.yard.records(&self.run);
        let of_kind = records.iter().filter(|r| r.event.name() == kind);
        of_kind.map(|r| serde_json::to_value(r.event.data()).unwrap()).collect()
    }

    fn kept(&self, n: u32) -> Value {
        let path = self.yard.runs.root.join(format!("r/tasks/e0001/probe-{n}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

fn json_of(value: &Value) -> dormouse::codecs::json::Json {
    dormouse::codecs::json::Json::of(value)
}

#[test]
fn t32_what_was_done_outside_is_the_outcome() {
    let site = Site::lapsed(&json!({}), &json!({}));
    site.says("the outside is asked at");
    site.pass(TTL_MS - 1_000);
    site.outside.was_not_asked();
    site.pass(1_000);
    let asked = site.outside.asked();
    assert!(asked.starts_with("GET /about?key=r"), "{asked}");
    site.says("is being asked");
    site.outside.says(200, &json!({ "state": "done", "value": { "serial": 1.50 } }));
    site.until("ok");
    let resolved = &site.records("EFFECT_RESOLVED")[0];
    assert_eq!((&resolved["by"], &resolved["epoch"]), (&json!("probe"), &json!(1)));
    assert_eq!(resolved["value"], json!({ "serial": 1.5 }));
    assert_eq!(site.kept(1)["state"], "done");
    assert_eq!(site.records("EFFECT_STARTED").len(), 1);
}

#[test]
fn t32_what_was_not_done_is_done_by_the_next_attempt_under_the_same_key() {
    for (status, body) in [(200, json!({ "state": "not_done" })), (404, json!("no such page"))] {
        let site = Site::lapsed(&json!({ "after": 0 }), &json!({}));
        site.outside.asked();
        site.outside.says(status, &body);
        site.until("requested");
        let failed = &site.records("EFFECT_ATTEMPT_FAILED")[0];
        assert_eq!((&failed["cause"], &failed["by"]), (&json!("probe_not_done"), &json!("probe")));
        site.pass(1_000);
        assert_eq!(site.claim().unwrap(), 2);
    }
}

#[test]
fn t32_what_failed_outside_is_an_error() {
    let site = Site::lapsed(&json!({ "after": 0 }), &json!({}));
    site.outside.asked();
    let error = json!({ "name": "CardRefused", "message": "no money" });
    site.outside.says(200, &json!({ "state": "failed", "error": error }));
    site.until("error");
    assert_eq!(site.records("EFFECT_RESOLVED")[0]["error"], error);
}

#[test]
fn t32_whoever_does_not_know_is_asked_three_times_and_then_an_operator_decides() {
    let site = Site::lapsed(&json!({ "after": 0 }), &json!({}));
    for (n, body) in [json!({ "state": "unsure" }), json!("<p>"), json!(7)].iter().enumerate() {
        site.outside.asked();
        site.outside.says(200, body);
        let asked = ["asked once", "asked 2 times", "find out, and decide; it was asked 3 times"];
        site.says(asked[n]);
        site.pass(4_000);
    }
    site.pass(300_000);
    site.outside.was_not_asked();
    assert_eq!(site.effect().status.name(), "uncertain");
    assert_eq!(site.kept(3)["why"], "the answer is no object");
    assert!(site.records("EFFECT_RESOLVED").is_empty());
    let handle = site.handle();
    let asked = std::thread::scope(|scope| {
        let asks = scope.spawn(|| site.yard.wait(handle.probe(&site.run, TASK, Epoch(1), wish())));
        site.outside.asked();
        site.outside.says(200, &json!({ "state": "done", "value": 3 }));
        asks.join().unwrap().unwrap()
    });
    assert_eq!((asked.answer, asked.status.name()), ("done", "ok"));
    assert_eq!(asked.file.as_deref(), Some("tasks/e0001/probe-4.json"));
    assert_eq!(site.kept(4)["wish"], json!({ "by": "operator:o", "reason": "it matters" }));
    assert_eq!(site.kept(3)["wish"], json!(null), "nobody but time wanted that");
}

/// Why an operator has the outside asked.
fn wish() -> Wish {
    Wish { by: "operator:o".into(), reason: "it matters".into() }
}

#[test]
fn t29_a_sign_of_life_beats_a_question() {
    let site = Site::lapsed(&json!({}), &json!({}));
    site.pass(TTL_MS - 2_000);
    site.beat();
    site.pass(4_000);
    site.outside.was_not_asked();
    let refused =
        site.yard.wait(site.handle().probe(&site.run, TASK, Epoch(1), wish())).unwrap_err();
    assert_eq!(refused.trouble().code, "leased");
    // It is silent again: as long as that may mean life, and as long again.
    site.pass(2 * TTL_MS - 4_000 + 2_000);
    site.outside.asked();
    // And speaks while the outside does: what is heard of the outside counts for nothing.
    site.beat();
    site.outside.says(200, &json!({ "state": "not_done" }));
    site.says("the outside is asked at");
    assert_eq!(site.effect().status.name(), "uncertain");
}

#[test]
fn t28_a_late_post_beats_a_question() {
    let site = Site::lapsed(&json!({ "after": 0 }), &json!({}));
    site.outside.asked();
    site.post(1);
    site.outside.says(200, &json!({ "state": "not_done" }));
    let resolved = site.records("EFFECT_RESOLVED");
    assert_eq!((&resolved[0]["value"], &resolved[0]["by"]), (&json!(5), &json!("worker:w")));
    site.until("ok");
}

#[test]
fn t33_an_error_comes_after_the_last_question() {
    let site =
        Site::lapsed(&json!({ "after": 0, "maxAttempts": 1 }), &json!({ "onUncertain": "error" }));
    site.outside.asked();
    assert!(site.records("EFFECT_RESOLVED").is_empty());
    site.outside.says(500, &json!({}));
    site.until("error");
    assert_eq!(site.records("EFFECT_RESOLVED")[0]["error"]["name"], "UncertainEffectError");
}

#[test]
fn c12_a_daemon_that_ends_before_the_answer_asks_again() {
    let mut site = Site::lapsed(&json!({ "after": 0 }), &json!({}));
    site.outside.asked();
    site.restart();
    // Whoever asked first is gone; nobody has to look at the run for the next question to come.
    site.outside.says(200, &json!({ "state": "not_done" }));
    site.outside.asked();
    site.outside.says(200, &json!({ "state": "done", "value": 1 }));
    site.until("ok");
    assert!(site.records("EFFECT_ATTEMPT_FAILED").is_empty());
}

#[test]
fn nobody_is_asked_whom_the_author_did_not_name() {
    let site = Site::of(Outside::new(), &json!({}));
    assert_eq!(site.claim().unwrap(), 1);
    let ask = |epoch| site.yard.wait(site.handle().probe(&site.run, TASK, Epoch(epoch), wish()));
    let code = |refused: Result<_>| -> &'static str {
        let refused: Error = Result::<dormouse::services::manager::Probed>::unwrap_err(refused);
        refused.trouble().code
    };
    assert_eq!((code(ask(1)), code(ask(2))), ("wrong_state", "unknown_epoch"));
    site.pass(TTL_MS + TTL_MS / 2);
    site.until("uncertain");
    assert_eq!(code(ask(1)), "no_probe");
}

const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const call = defineTask("call", (def) => ({ title: "Something", ...def }));
export async function process(inputs, ctx) {
  return await ctx.task(call, inputs.def, inputs.options);
}
"#;

/// A daemon that is killed in the middle of a request that must not be made twice.
fn killed(answer: &Value) -> (Place, crate::daemon_cli::Daemon, Outside) {
    let (place, work, outside) = (Place::new(PROCESS), Outside::new(), Outside::new());
    let origins = format!("{:?}", [work.origin(), outside.origin()]);
    let config = format!("[executors.http]\nenabled = true\nallow_origins = {origins}\n");
    let daemon = place.serve(&config);
    let http = json!({ "method": "POST", "url": format!("{}/pay", work.origin()), "json": 1 });
    let options = json!({ "probe": outside.probe(&json!({ "after": 0 })) });
    place.create("r", &json!({ "def": { "kind": "http", "http": http }, "options": options }));
    let request = work.asked();
    assert!(request.to_ascii_lowercase().contains("idempotency-key: r/e0001"), "{request}");
    drop(daemon);
    let daemon = place.serve(&config);
    let asked = outside.asked();
    assert!(asked.starts_with("GET /about?key=r"), "{asked}");
    // What the first daemon asked is not heard any more.
    work.says(200, &json!({}));
    outside.says(200, answer);
    if answer["state"] == "not_done" {
        let again = work.asked();
        assert!(again.to_ascii_lowercase().contains("idempotency-key: r/e0001"), "{again}");
        work.says(200, &json!({ "serial": 2 }));
    }
    let events = place.ended("r");
    work.was_not_asked();
    let uncertain = only(&events, "EFFECT_UNCERTAIN");
    assert_eq!(uncertain["cause"], "daemon_stopped");
    (place, daemon, outside)
}

#[test]
fn e07_a_request_that_a_killed_daemon_had_made_is_not_made_again() {
    let (place, daemon, _outside) = killed(&json!({ "state": "done", "value": { "serial": 1 } }));
    let events = place.events("r");
    assert_eq!(all(&events, "EFFECT_STARTED").len(), 1);
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"], json!({ "serial": 1 }));
    let shown = place.cli.run("task show r e0001").ok().json();
    assert_eq!(shown["probe"], json!(["tasks/e0001/probe-1.json"]));
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn e07_a_request_that_a_killed_daemon_had_not_made_is_made_under_the_same_key() {
    let (place, daemon, _outside) = killed(&json!({ "state": "not_done" }));
    let events = place.events("r");
    let started = all(&events, "EFFECT_STARTED");
    assert_eq!((&started[0]["epoch"], &started[1]["epoch"]), (&json!(1), &json!(2)));
    assert_eq!(started[0]["idempotencyKey"], started[1]["idempotencyKey"]);
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"]["body"], json!({ "serial": 2 }));
    assert_eq!(daemon.stop().0, 0);
}

/// A run whose task may have happened, and a person is asked.
fn asking(place: &Place) {
    let def = json!({ "kind": "agent", "agent": { "name": "a", "prompt": "p" }, "title": "Pay" });
    place.create("r", &json!({ "def": def, "options": { "onUncertain": "ask" } }));
    place.cli.run("run iterate r").ok();
    place.cli.run("task claim r e0001 --worker w").ok();
    place.cli.run("task post r e0001 --epoch 1 --status unknown").ok();
}

#[test]
fn t33_a_person_is_asked_what_happened_and_the_answer_is_a_decision() {
    for serves in [false, true] {
        let place = Place::new(PROCESS);
        let daemon = serves.then(|| place.serve(""));
        asking(&place);
        let listed = place.cli.run("breakpoint list --json").ok().json();
        let asked = &listed["breakpoints"][0];
        assert_eq!((&asked["runId"], &asked["effectId"]), (&json!("r"), &json!("e0001")));
        assert_eq!(asked["payload"]["options"], json!(["retry", "done", "failed"]));
        assert_eq!(asked["payload"]["epoch"], 1);
        assert!(asked["question"].as_str().unwrap().contains("\"Pay\""), "{asked}");
        let why = place.cli.run("why r --json").ok().json();
        let unblock = &why["reasons"][0]["unblock"][1];
        assert_eq!(unblock, "dormouse breakpoint approve r e0001 --epoch 1 --option retry");
        place.cli.run("breakpoint approve r e0001 --option retry").exits(2);
        place.cli.run("breakpoint approve r e0001 --epoch 1").exits(2);
        place.cli.run("breakpoint approve r e0001 --epoch 2 --option retry").exits(4);
        place.cli.run("breakpoint approve r e0001 --epoch 1 --option done --response 7").ok();
        let events = place.events("r");
        let resolved = only(&events, "EFFECT_RESOLVED");
        assert_eq!((&resolved["value"], &resolved["epoch"]), (&json!(7), &json!(1)));
        assert_eq!(resolved["decision"]["decision"], "done");
        assert_eq!(all(&events, "EFFECT_REQUESTED").len(), 1, "its process hears of nothing else");
        let listed = place.cli.run("breakpoint list --json").ok().json();
        assert_eq!(listed["breakpoints"], json!([]));
        drop(daemon);
    }
}

/// What became of a post without a claim to a command.
fn posted(config: &str) -> (Place, crate::cli::Ran) {
    let place = Place::new(PROCESS);
    let daemon = place.serve(config);
    let def = json!({ "kind": "shell", "argv": ["true"] });
    place.create("r", &json!({ "def": def, "options": {} }));
    place.cli.run("run iterate r").ok();
    let ran = place.cli.run("task post r e0001 --status ok --value-inline 1");
    drop(daemon);
    (place, ran)
}

#[test]
fn t05_what_the_daemon_executes_is_not_posted() {
    let (_place, ran) = posted(
        "[executors.shell]\nenabled = true\nallow = \"any\"\n[limits.kind.shell]\nconcurrency = 0",
    );
    ran.exits(4).says("not_postable").says("dormouse task cancel");
}

#[test]
fn t04_what_the_daemon_executes_is_not_claimed_and_hides_nothing_that_is() {
    let place = Place::new(PROCESS);
    let mut daemon = place.serve(
        "[executors.shell]\nenabled = true\nallow = [\"true\"]\n\
         [limits.key.none]\nconcurrency = 0",
    );
    let def = |program| json!({ "kind": "shell", "argv": [program] });
    let none = json!({ "limitKeys": ["none"] });
    place.create("inside", &json!({ "def": def("true"), "options": none }));
    place.create("held", &json!({ "def": def("sh"), "options": {} }));
    daemon.hears("held_policy");
    let refused = place.cli.run("task claim inside e0001 --worker w");
    refused.exits(4).says("not_claimable");
    let claim = "task claim --kind shell --worker w --max 9 --wait 20s --json";
    let given = place.cli.run(claim).ok().json();
    assert_eq!(given["tasks"].as_array().unwrap().len(), 1, "{given}");
    assert_eq!(given["tasks"][0]["runId"], "held");
    place.cli.run("task claim --kind shell --worker w --wait 0s").exits(1);
    drop(daemon);
}

#[test]
fn t05_what_nobody_may_execute_here_is_posted() {
    let held = "[executors.shell]\nenabled = true\nallow = []";
    for config in [held, ""] {
        let (place, ran) = posted(config);
        ran.ok();
        let events = place.events("r");
        assert_eq!(only(&events, "EFFECT_RESOLVED")["epoch"], 0, "{config}");
    }
}

/// The policy of a request that a daemon with this configuration journaled.
fn policy(config: &str, def: &Value) -> (Place, Value) {
    let place = Place::new(PROCESS);
    let daemon = place.serve(config);
    place.create("r", &json!({ "def": def, "options": {} }));
    // It may have been executed already.
    place.cli.run("run iterate r");
    drop(daemon);
    let policy = only(&place.events("r"), "EFFECT_REQUESTED")["policy"].clone();
    (place, policy)
}

#[test]
fn policies_hold_what_executors_know_and_stay_when_those_are_gone() {
    let command = json!({ "kind": "shell", "argv": ["true"] });
    let on = "[executors.shell]\nenabled = true\nallow = []\n[executors.http]\nenabled = true\n";
    let (place, of_command) = policy(on, &command);
    assert_eq!(of_command["attemptTimeoutMs"], 600_000);
    assert_eq!(of_command["retry"]["maxNotBegun"], 3);
    let post = json!({ "kind": "http", "http": { "url": "http://127.0.0.1:1", "method": "PUT" } });
    let (_place, of_request) = policy(on, &post);
    assert_eq!(
        (&of_request["attemptTimeoutMs"], &of_request["idempotent"]),
        (&json!(30_000), &json!(false))
    );
    let (_place, of_nobody) = policy("", &command);
    assert_eq!(of_nobody.get("attemptTimeoutMs"), None);
    // Another configuration replays it, and changes nothing of what was frozen.
    let daemon = place.serve("");
    place.cli.run("task post r e0001 --status ok --value-inline 1").ok();
    let events = place.ended("r");
    assert_eq!(only(&events, "RUN_COMPLETED")["output"], 1);
    assert!(all(&events, "RUN_HELD").is_empty());
    drop(daemon);
}

#[test]
fn t13_a_run_that_is_paused_for_want_of_attempts_gets_as_many_again() {
    let place = Place::new(PROCESS);
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = \"any\"");
    let retry = json!({ "maxAttempts": 2, "initial": 0, "onExhausted": "pause" });
    let def = json!({ "kind": "shell", "argv": ["sh", "-c", "exit 1"] });
    place.create("r", &json!({ "def": def, "options": { "retry": retry } }));
    for attempts in [2, 4] {
        // What a daemon has just taken is in its log before it is in a journal.
        let mut events = Vec::new();
        while all(&events, "RUN_PAUSED").len() < attempts / 2 {
            place.cli.run("run iterate r");
            events = place.events("r");
        }
        assert_eq!(all(&events, "EFFECT_STARTED").len(), attempts);
        let paused = all(&events, "RUN_PAUSED")[attempts / 2 - 1];
        let why = (&paused["reason"], &paused["effectId"]);
        assert_eq!(why, (&json!("attempts_exhausted"), &json!("e0001")));
        place.cli.run("run resume r").ok();
    }
    drop(daemon);
}

#[test]
fn an_operator_has_the_outside_asked() {
    let place = Place::new(PROCESS);
    let said = place.cli.file("said.json", r#"{"state":"unsure"}"#);
    let def = json!({ "kind": "agent", "agent": { "name": "a", "prompt": "p" } });
    let ask = json!({ "kind": "shell", "def": { "argv": ["cat", said] }, "after": "1h" });
    place.create("r", &json!({ "def": def, "options": { "probe": ask } }));
    place.cli.run("run iterate r").ok();
    place.cli.run("task claim r e0001 --worker w").ok();
    place.cli.run("task post r e0001 --epoch 1 --status unknown").ok();
    let decide = "task decide r e0001 probe --epoch 1 --reason ask --json";
    place.cli.run(decide).exits(3).says("no_daemon");
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = \"any\"");
    let unsure = place.cli.run(decide).exits(1).json();
    assert_eq!(
        (&unsure["state"], &unsure["probe"]["answer"]),
        (&json!("uncertain"), &json!("unsure"))
    );
    fs::write(&said, r#"{"state":"done","value":[7]}"#).unwrap();
    let done = place.cli.run(decide).ok().json();
    assert_eq!((&done["state"], &done["probe"]["answer"]), (&json!("ok"), &json!("done")));
    assert_eq!(done["probe"]["file"], "tasks/e0001/probe-2.json");
    let events = place.ended("r");
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"], json!([7]));
    let files = fs::read_dir(place.cli.root().join("r/tasks/e0001")).unwrap();
    let left =
        files.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().contains("asking"));
    assert_eq!(left.count(), 0, "what asking took is cleared away");
    drop(daemon);
}

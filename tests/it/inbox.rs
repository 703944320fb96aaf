//! The inbox: outcomes and signals as files, posted once, filed away, refused with a reason.

#![allow(clippy::disallowed_methods, reason = "tests put files where the program finds them")]

use crate::cli::Cli;
use crate::yard::Yard;
use dormouse::codecs::event::{Event, Status};
use dormouse::ground::id::RunId;
use dormouse::services::inbox::{Inbox, Options, Tally};
use dormouse::services::manager::{Flow, Handle};
use dormouse::services::runs::open::OpenRun;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

const ONE_TASK: &str = "return await ctx.task(t, {});";
const TWO_SIGNALS: &str =
    "const a = await ctx.signal('go'); const b = await ctx.signal('go'); return [a, b];";

fn open(handle: &Handle) -> Inbox {
    Inbox::open(handle.clone(), Options { watch: false, ..Options::default() }).unwrap()
}

fn ok(run: &RunId, effect: &str, value: &Value) -> String {
    json!({ "runId": run, "effectId": effect, "status": "ok", "value": value }).to_string()
}

fn tally(posted: usize, repeated: usize, refused: usize, later: usize) -> Tally {
    Tally { posted, repeated, refused, later, left: 0 }
}

/// What stands beside a refused file.
fn problem(yard: &Yard, stem: &str) -> Value {
    let path = yard.inbox().join(format!("refused/{stem}.problem.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn ended(yard: &Yard, handle: &Handle, run: &RunId) -> Option<&'static str> {
    yard.rests(handle, run);
    yard.runs.look(run.as_str()).unwrap().state.end.map(|(end, _)| end.name())
}

#[test]
fn outcomes_and_signals_are_posted_and_filed_away() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let task = yard.run(&handle, "task", ONE_TASK, &json!({}));
    let failing = yard.run(&handle, "failing", ONE_TASK, &json!({}));
    let signal = yard.run(&handle, "signal", TWO_SIGNALS, &json!({}));
    let mut inbox = open(&handle);
    yard.drop_in("a.json", ok(&task, "e0001", &json!({ "big": 1.10 })));
    let error = json!({ "name": "E", "message": "no" });
    let body = json!({ "runId": failing, "effectId": "e0001", "status": "error", "error": error,
        "stdout": "printed", "startedAt": "yesterday", "metadata": { "m": 1 } });
    yard.drop_in("b.json", body.to_string());
    yard.drop_in("c.json", json!({ "runId": signal, "signal": "go", "payload": 1 }).to_string());
    yard.drop_in("d.json", json!({ "runId": signal, "signal": "go", "payload": 2 }).to_string());
    for name in [".hidden.json", "half.json.tmp", "half.part", "notes.txt"] {
        yard.drop_in(name, "{");
    }
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(4, 0, 0, 0));
    assert_eq!(yard.names("done"), ["a.json", "b.json", "c.json", "d.json"]);
    assert_eq!(yard.names("refused"), Vec::<String>::new());
    assert_eq!(yard.names(""), [".hidden.json", "done", "half.json.tmp", "half.part", "notes.txt"]);
    for run in [&task, &signal] {
        assert_eq!(ended(&yard, &handle, run), Some("completed"));
    }
    assert_eq!(ended(&yard, &handle, &failing), Some("failed"));
    let seen = yard.runs.look("signal").unwrap();
    let output = seen.records.iter().find_map(|r| match &r.event {
        Event::RunCompleted(c) => c.output.as_ref().map(|o| o.as_str().to_owned()),
        _ => None,
    });
    assert_eq!(output.as_deref(), Some("[1,2]"), "signals arrive in the order of their names");
    let posted = yard.records(&task).into_iter().find_map(|r| match &r.event {
        Event::EffectResolved(resolved) => Some(resolved.clone()),
        _ => None,
    });
    let posted = posted.unwrap();
    assert_eq!((posted.by.as_str(), posted.status), ("client:inbox", Status::Ok));
    assert_eq!(posted.value.unwrap().as_str(), r#"{"big":1.1}"#);
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 0, 0, 0));
    manager.stop().unwrap();
}

#[test]
fn f2_what_is_no_letter_is_refused_with_a_reason_and_never_waited_for() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let run = yard.run(&handle, "r", ONE_TASK, &json!({}));
    let mut inbox = open(&handle);
    let at = |name: &str| yard.inbox().join(name);
    let good = ok(&run, "e0001", &json!(1));
    fs::write(at("outside"), &good).unwrap();
    symlink(at("outside"), at("symlink.json")).unwrap();
    symlink("/nowhere", at("dangling.json")).unwrap();
    fs::hard_link(at("outside"), at("hardlink.json")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(at("socket.json")).unwrap();
    fs::create_dir(at("dir.json")).unwrap();
    let huge = fs::File::create(at("huge.json")).unwrap();
    huge.set_len(Options::default().file_bytes_max + 1).unwrap();
    yard.drop_in("empty.json", "");
    yard.drop_in("bytes.json", b"\xff\xfe{}");
    yard.drop_in("deep.json", "[".repeat(101));
    yard.drop_in("unknown-field.json", good.replace("\"status\"", "\"x\":1,\"status\""));
    yard.drop_in("twice.json", good.replace("\"status\"", "\"status\":\"ok\",\"status\""));
    yard.drop_in("no-run.json", ok(&"absent".parse().unwrap(), "e0001", &json!(1)));
    yard.drop_in("no-effect.json", ok(&run, "e0009", &json!(1)));
    yard.drop_in("newer.json", good.replace("\"status\"", "\"epoch\":7,\"status\""));
    let mut expected = vec![
        ("symlink", "file_refused"),
        ("dangling", "file_refused"),
        ("hardlink", "inbox_file_refused"),
        ("fifo", "file_refused"),
        ("socket", "file_refused"),
        ("dir", "file_refused"),
        ("huge", "inbox_file_refused"),
        ("empty", "inbox_file_refused"),
        ("bytes", "inbox_file_refused"),
        ("deep", "inbox_file_refused"),
        ("unknown-field", "inbox_file_refused"),
        ("twice", "inbox_file_refused"),
        ("no-run", "run_not_found"),
        ("no-effect", "effect_not_found"),
        ("newer", "unknown_epoch"),
    ];
    // Only root can give files away.
    yard.drop_in("foreign.json", &good);
    if std::os::unix::fs::chown(at("foreign.json"), Some(12_345), None).is_ok() {
        expected.push(("foreign", "inbox_file_refused"));
    } else {
        fs::remove_file(at("foreign.json")).unwrap();
    }
    let before = yard.records(&run).len();
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 0, expected.len(), 0));
    for (stem, code) in &expected {
        let said = problem(&yard, stem);
        assert_eq!(said["code"], *code, "{stem}: {said}");
        assert!(said["detail"].as_str().unwrap().len() > 5, "{stem}: {said}");
        assert!(yard.inbox().join(format!("refused/{stem}.json")).symlink_metadata().is_ok());
    }
    assert_eq!(yard.names(""), ["outside", "refused"]);
    assert_eq!(yard.records(&run).len(), before);
    yard.drop_in("good.json", good);
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1, 0, 0, 0));
    manager.stop().unwrap();
}

#[test]
fn a_crash_between_posting_and_filing_away_is_harmless() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let task = yard.run(&handle, "task", ONE_TASK, &json!({}));
    let signal = yard.run(&handle, "signal", TWO_SIGNALS, &json!({}));
    let mut inbox = open(&handle);
    yard.drop_in("t.json", ok(&task, "e0001", &json!(1)));
    yard.drop_in("s.json", json!({ "runId": signal, "signal": "go" }).to_string());
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(2, 0, 0, 0));
    let before = (yard.records(&task), yard.records(&signal));
    for name in ["t.json", "s.json"] {
        fs::rename(yard.inbox().join("done").join(name), yard.inbox().join(name)).unwrap();
    }
    // Whoever comes after the crash begins anew.
    let mut inbox = open(&handle);
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 2, 0, 0));
    assert_eq!((yard.records(&task), yard.records(&signal)), before);
    assert_eq!(yard.names("done"), ["s.json", "t.json"]);
    // Another outcome under the same name is not the same file.
    yard.drop_in("t.json", ok(&task, "e0001", &json!(2)));
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 0, 1, 0));
    assert_eq!(problem(&yard, "t")["code"], "effect_ended");
    manager.stop().unwrap();
}

#[test]
fn a_paused_run_takes_outcomes_and_an_ended_one_repeats() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let run = yard.run(&handle, "r", ONE_TASK, &json!({}));
    yard.wait(handle.deed(&run, "operator:test", Flow::Outcome, OpenRun::pause)).unwrap();
    let mut inbox = open(&handle);
    yard.drop_in("a.json", ok(&run, "e0001", &json!(1)));
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1, 0, 0, 0));
    assert_eq!(ended(&yard, &handle, &run), None);
    yard.wait(handle.deed(&run, "operator:test", Flow::Outcome, |run| run.resume(None))).unwrap();
    assert_eq!(ended(&yard, &handle, &run), Some("completed"));
    yard.drop_in("b.json", ok(&run, "e0001", &json!(1)));
    yard.drop_in("c.json", json!({ "runId": run, "signal": "late" }).to_string());
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 1, 1, 0));
    assert_eq!(problem(&yard, "c")["code"], "run_ended");
    manager.stop().unwrap();
}

#[test]
fn what_cannot_be_posted_now_waits_and_keeps_nobody_else() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let free = yard.run(&handle, "free", ONE_TASK, &json!({}));
    let full = yard.run(&handle, "full", "await ctx.signal('never');", &json!({}));
    yard.wait(handle.deed(&full, "operator:test", Flow::Outcome, |run| {
        for _ in 0..1_000 {
            let note = dormouse::services::runs::steer::Signal {
                name: "other".into(),
                correlation_key: None,
                signal_id: None,
                payload: dormouse::codecs::json::Json::null(),
            };
            run.signal(note)?;
        }
        run.pause()
    }))
    .unwrap();
    let mut inbox = open(&handle);
    yard.drop_in("a.json", json!({ "runId": full, "signal": "other" }).to_string());
    yard.drop_in("b.json", ok(&free, "e0001", &json!(1)));
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1, 0, 0, 1));
    assert_eq!(yard.names(""), ["a.json", "done"]);
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 0, 0, 1));
    manager.stop().unwrap();
}

#[test]
fn a_thousand_files_at_once() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let body = "const all = Array.from({ length: 50 }, (_, n) => () => ctx.task(t, { n }));
        return (await ctx.parallel.all(all)).length;";
    let mut runs = Vec::new();
    for n in 0..20 {
        let run = yard.run(&handle, &format!("r{n}"), body, &json!({}));
        yard.wait(handle.deed(&run, "operator:test", Flow::Outcome, OpenRun::pause)).unwrap();
        runs.push(run);
    }
    let mut inbox = open(&handle);
    for (n, run) in runs.iter().enumerate() {
        for e in 1..=50 {
            let name = format!("{n}-{e}.json");
            yard.drop_in(&name, ok(run, &format!("e{e:04}"), &json!(e)));
        }
    }
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1_000, 0, 0, 0));
    assert_eq!(yard.names("done").len(), 1_000);
    for run in &runs {
        assert!(yard.runs.look(run.as_str()).unwrap().state.open.is_empty());
    }
    manager.stop().unwrap();
}

#[test]
fn without_hints_the_scan_finds_what_lies_there() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let run = yard.run(&handle, "r", ONE_TASK, &json!({}));
    let mut head = handle.follow(&run);
    let options = Options { watch: false, scan_every_ms: 1, ..Options::default() };
    let running = Inbox::start(handle.clone(), options).unwrap();
    yard.drop_in("a.json", ok(&run, "e0001", &json!(1)));
    yard.wait(head.changed()).unwrap();
    running.stop();
    assert_eq!(yard.names("done"), ["a.json"]);
    manager.stop().unwrap();
}

#[test]
fn a_hint_is_enough_when_scans_are_far_apart() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let first = yard.run(&handle, "first", ONE_TASK, &json!({}));
    let second = yard.run(&handle, "second", ONE_TASK, &json!({}));
    let (mut one, mut two) = (handle.follow(&first), handle.follow(&second));
    // Making this folder later would be a hint of its own.
    fs::create_dir_all(yard.inbox().join("done")).unwrap();
    yard.drop_in("a.json", ok(&first, "e0001", &json!(1)));
    let options = Options { scan_every_ms: 86_400_000, ..Options::default() };
    let running = Inbox::start(handle.clone(), options).unwrap();
    // The only scan for a day has listed the folder before this answers.
    yard.wait(one.changed()).unwrap();
    yard.drop_in("b.json", ok(&second, "e0001", &json!(1)));
    yard.wait(two.changed()).unwrap();
    running.stop();
    assert_eq!(yard.names("done"), ["a.json", "b.json"]);
    manager.stop().unwrap();
}

#[test]
fn what_was_dealt_with_is_kept_for_a_week() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let run = yard.run(&handle, "r", ONE_TASK, &json!({}));
    let mut inbox = open(&handle);
    yard.drop_in("a.json", ok(&run, "e0001", &json!(1)));
    yard.drop_in("b.json", "no letter");
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1, 0, 1, 0));
    let day = 24 * 60 * 60 * 1000;
    yard.clock.by_millis(7 * day - day / 2);
    yard.wait(inbox.pass()).unwrap();
    assert_eq!(yard.names("done"), ["a.json"]);
    assert_eq!(yard.names("refused"), ["b.json", "b.problem.json"]);
    yard.clock.by_millis(day);
    yard.wait(inbox.pass()).unwrap();
    assert_eq!(yard.names("done").len() + yard.names("refused").len(), 0);
    manager.stop().unwrap();
}

/// Lets a command end by itself, as a service manager does.
pub(crate) fn terminate(child: &std::process::Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

/// Waits until a file is there, which another process makes.
pub(crate) fn appears(path: &std::path::Path) {
    for _ in 0..6_000 {
        if path.symlink_metadata().is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} did not appear", path.display());
}

#[test]
fn the_daemon_looks_after_the_inbox() {
    let cli = Cli::waiting();
    let served = cli.start("serve");
    let inbox = cli.root().join(".dormouse/inbox");
    appears(&inbox);
    let body = json!({ "runId": "r", "effectId": "e0001", "status": "ok", "value": { "n": 1 } });
    let written = cli.file("written", body.to_string());
    fs::rename(written, inbox.join("x.json")).unwrap();
    appears(&inbox.join("done/x.json"));
    terminate(&served);
    let output = served.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = cli.run("task list r --pending --json").ok().json();
    assert!(shown.to_string().contains("e0002") && !shown.to_string().contains("e0001"), "{shown}");
}

#[test]
fn an_inbox_that_was_removed_or_replaced_is_looked_after_again() {
    let yard = Yard::new();
    let manager = yard.manager();
    let handle = manager.handle();
    let first = yard.run(&handle, "first", ONE_TASK, &json!({}));
    let second = yard.run(&handle, "second", ONE_TASK, &json!({}));
    let mut inbox = open(&handle);
    fs::remove_dir_all(yard.inbox()).unwrap();
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 0, 0, 0));
    yard.drop_in("a.json", ok(&first, "e0001", &json!(1)));
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1, 0, 0, 0));
    fs::rename(yard.inbox(), yard.inbox().with_file_name("old")).unwrap();
    fs::create_dir(yard.inbox()).unwrap();
    yard.drop_in("b.json", ok(&second, "e0001", &json!(1)));
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(1, 0, 0, 0));
    assert_eq!(yard.names("done"), ["b.json"]);
    manager.stop().unwrap();
}

#[test]
fn a_name_that_is_long_or_not_utf8_is_refused_with_a_reason() {
    use std::os::unix::ffi::OsStrExt as _;
    let yard = Yard::new();
    let manager = yard.manager();
    let mut inbox = open(&manager.handle());
    let long = "x".repeat(245);
    yard.drop_in(&format!("{long}.json"), "{");
    fs::write(yard.inbox().join(std::ffi::OsStr::from_bytes(b"odd\xff.json")), "{}").unwrap();
    assert_eq!(yard.wait(inbox.pass()).unwrap(), tally(0, 0, 2, 0));
    assert_eq!(yard.names(""), ["refused"]);
    let refused = yard.names("refused");
    assert_eq!(refused.len(), 4, "{refused:?}");
    let problems: Vec<_> = refused.iter().filter(|name| name.ends_with(".problem.json")).collect();
    assert_eq!(problems.len(), 2, "{refused:?}");
    let said = problem(&yard, "odd\u{fffd}");
    assert!(said["detail"].as_str().unwrap().contains("not UTF-8"), "{said}");
    manager.stop().unwrap();
}

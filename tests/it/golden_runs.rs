//! Journals that earlier versions wrote: every version opens them, reproduces them strictly, and
//! writes the same again. `UPDATE_GOLDEN=1` rewrites them; do so only for a new format version,
//! beside the old ones.

#![allow(clippy::disallowed_methods, reason = "this test keeps its own data")]

use crate::play::{Deed, Play, lines, wrap};
use dormouse::codecs::format::line::encode;
use dormouse::codecs::format::line::genesis;
use dormouse::ground::id::Seq;
use dormouse::machines::replay::engine::Rest;
use dormouse::ports::disk::Disk;
use dormouse::services::runs::accept::OnChange;
use dormouse::services::runs::fork::NewFork;
use dormouse::services::runs::replay::Verdict;
use dormouse::services::runs::view;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/runs/v1").join(name)
}

/// The journal as one file.
fn journal(play: &Play) -> String {
    let mut sum = genesis(&play.id.parse().unwrap());
    let mut text = String::new();
    for record in play.records() {
        let (bytes, next) = encode(record.seq, record.at, &record.event, sum);
        assert_eq!(next, record.sum);
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        sum = next;
    }
    text
}

/// What is shown of a run.
fn status(play: &Play) -> Value {
    let state = play.seen().state;
    json!({
        "state": view::state_name(&state), "nativeState": view::native_state(&state),
        "reasons": view::reasons(&state), "pendingByKind": view::pending_by_kind(&state),
        "generation": state.generation, "head": state.head,
    })
}

/// A run directory on a memory disk, as it stands in the fixtures.
fn opened(name: &str) -> Play {
    let play = Play::source(&std::fs::read_to_string(place(name).join("main.js")).unwrap());
    let text = std::fs::read(place(name).join("journal.jsonl")).unwrap();
    let journal = Path::new("/runs/run-1/journal");
    let names = play.disk.open_dir(journal).unwrap().list().unwrap();
    play.disk.tamper(&journal.join(&names[0]), |bytes| *bytes = text);
    play
}

fn check(name: &str, body: &str, drive: impl Fn(&Play)) {
    let source = wrap(body);
    let play = Play::source(&source);
    play.go_on();
    drive(&play);
    let (text, shown) = (journal(&play), status(&play));
    let shown = format!("{}\n", serde_json::to_string_pretty(&shown).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(place(name)).unwrap();
        std::fs::write(place(name).join("main.js"), &source).unwrap();
        std::fs::write(place(name).join("journal.jsonl"), &text).unwrap();
        std::fs::write(place(name).join("status.json"), &shown).unwrap();
    }
    let read = |file: &str| std::fs::read_to_string(place(name).join(file)).unwrap();
    assert_eq!(read("journal.jsonl"), text, "{name}: written today");
    let old = opened(name);
    assert_eq!(lines(&old.records()), lines(&play.records()), "{name}");
    assert_eq!(read("status.json"), format!("{:#}\n", status(&old)), "{name}");
    // The code that was accepted is not beside the journal; what a limit held is not reproduced.
    if name != "accepted" {
        if name != "held" {
            old.assert_checks(name);
            let replayed = old.runs.replay(&old.id, None, None).unwrap();
            assert_eq!(replayed.verdict, Verdict::Identical, "{name}: {replayed:#?}");
            fork_everywhere(name, &old);
        }
        let before = old.records().len();
        old.go_on();
        assert_eq!(old.records().len(), before, "{name}: nothing is left to do");
    }
}

/// A fork at every record but the end has the records up to there, and replays.
fn fork_everywhere(name: &str, play: &Play) {
    let seen = play.seen();
    let end = seen.state.end.map_or(seen.records.len() as u64, |(_, seq)| seq.0 - 1);
    for at in 1..=end {
        let run_id = format!("at-{at}").parse().unwrap();
        let new = NewFork { run_id, at: Seq(at), edits: Vec::new(), rerun: Vec::new() };
        let forked = play.runs.fork(&play.id, &new);
        assert!(forked.is_ok(), "{name} at {at}: {forked:?}");
        let made = play.runs.look(new.run_id.as_str()).unwrap();
        let shared = usize::try_from(at).unwrap();
        for (one, other) in made.records[..shared].iter().zip(&seen.records) {
            assert_eq!((one.at, &one.event), (other.at, &other.event), "{name} at {at}");
        }
        assert_eq!(made.records[shared].event.name(), "RUN_FORKED_FROM", "{name} at {at}");
        let replayed = play.runs.replay(new.run_id.as_str(), None, None).unwrap();
        assert_eq!(replayed.verdict, Verdict::Identical, "{name} at {at}: {replayed:#?}");
    }
}

#[test]
fn a_run_of_every_sort_opens_and_replays() {
    check("sequence", "return [await ctx.task(t, 1), await ctx.task(sh, 2)];", |play| {
        play.post("t#0", json!({ "x": 1.50 }));
        play.fail("sh#0", json!({ "message": "exit 1" }));
    });
    check(
        "parallel-parked",
        "return ctx.parallel.map([1, 2],
            async (n, i, b) => [await b.task(t, n), await b.task(u)]);",
        |play| {
            play.post("p0[1]/t#0", json!("one"));
        },
    );
    check(
        "waits",
        "const s = ctx.signal('go', { correlationKey: 'k' }); await ctx.sleep(100);
        await ctx.checkpoint('seen'); const b = await ctx.breakpoint('ok?');
        return [b, await s, ctx.random(), ctx.uuid(), ctx.patched('p')];",
        |play| {
            play.later(100);
            play.signal("go", Some("k"), json!(null));
            play.post("@bp:breakpoint#1", json!(true));
        },
    );
    check(
        "generations-cancelled",
        "if (ctx.generation < 2) await ctx.continueAsNew({ n: 2 }, { carry: [1] });
        try { await ctx.task(t); } finally {
            await ctx.cancellation.shield((c) => c.task(u, 'undo'));
        }",
        |play| {
            play.cancel();
            play.post("u#0", json!(0));
        },
    );
    check("halted", "ctx.task(t); await ctx.task(u); ctx.halt('why', { a: 1 });", |play| {
        play.post("u#0", json!(0));
    });
    check("held", "await ctx.task(t); for (;;);", |play| {
        let mut runs = play.runs.clone();
        runs.limits.turn_cpu_max_ms = 50;
        play.put("t#0", json!(0));
        let mut run = runs.open(&play.id).unwrap();
        assert_eq!(run.go_on().unwrap().rest, Rest::Held);
        run.close().unwrap();
    });
    check("accepted", "return ctx.task(t);", |play| {
        let after = wrap("await ctx.task(u); return ctx.task(t);");
        play.deed(Deed::Accept(after, OnChange::Fail, None));
        play.go_on();
    });
}

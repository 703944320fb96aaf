//! Forking a run and comparing it with its source, as an operator does.
//!
//! Invariant under test: the source keeps every byte; what it did is not done again by itself; what
//! is refused, or killed halfway, leaves no run.

#![allow(clippy::disallowed_methods, reason = "these tests start the program and read its files")]

use crate::cli::{Cli, Tree, same_tree};
use crate::daemon_cli::Daemon;
use serde_json::{Value, json};

/// What stands below the run `r`.
fn source(cli: &Cli) -> Tree {
    cli.tree().into_iter().filter(|(path, _)| path.starts_with("runs/r/")).collect()
}

fn types(cli: &Cli, run: &str) -> Vec<String> {
    let events = cli.run(&format!("run events {run} --json")).ok().json();
    let events = events["events"].as_array().unwrap().clone();
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

fn output(cli: &Cli, run: &str) -> Value {
    cli.run(&format!("run iterate {run} --json")).json()["output"].clone()
}

#[test]
fn a_fork_shares_the_past_and_goes_its_own_way() {
    let cli = Cli::completed();
    let before = source(&cli);
    let made = cli.run("run fork r --at 6 --id f --json").ok().json();
    assert_eq!((&made["runId"], &made["uncertain"]), (&json!("f"), &json!([])));
    assert_eq!((&made["forkedFrom"]["runId"], &made["head"]), (&json!("r"), &json!(7)));
    let kept = |run: &str| cli.run(&format!("run events {run} --json")).json()["events"].clone();
    let (old, new) = (kept("r"), kept("f"));
    for at in 0..6 {
        let bare = |event: &Value| (event["at"].clone(), event["data"].clone());
        assert_eq!(bare(&old[at]), bare(&new[at]), "record {at}");
    }
    // The breakpoint that was pending there is decided otherwise, here only.
    cli.run("breakpoint reject f e0003").ok();
    assert_eq!(output(&cli, "f"), json!({ "goal": "g", "n": 1, "built": true, "approved": false }));
    for line in ["run check f", "run replay f", "journal verify f", "fsck f"] {
        cli.run(line).ok();
    }
    let shown = cli.run("run diff r f").exits(1);
    for words in ["both have records 1 to 6", "b was forked from a at record 6", "e0003 ok"] {
        assert!(shown.out.contains(words), "{}", shown.out);
    }
    assert_eq!(cli.run("run diff r f --json").json()["shared"], 6);
    let json = std::fs::read(cli.root().join("f/run.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["forkedFrom"]["seq"], 6);
    same_tree(&before, &source(&cli), "the source");
    // A fork of a fork that does the same again is told from it by its name alone.
    cli.run("run fork f --at 7 --id g").ok();
    cli.run("breakpoint reject g e0003").ok();
    cli.run("run iterate g").ok();
    assert!(cli.run("run diff f g").ok().out.contains("the runs are the same"));
    assert_eq!(types(&cli, "g").iter().filter(|name| *name == "RUN_FORKED_FROM").count(), 2);
}

#[test]
fn what_the_source_went_on_with_waits_for_a_decision() {
    let cli = Cli::completed();
    // Record 4 asks for e0002, which has its outcome in the source since.
    let made = cli.run("run fork r --at 4 --id f --json").ok().json();
    assert_eq!(made["uncertain"], json!(["e0002"]));
    cli.run("run iterate f").ok();
    assert_eq!(types(&cli, "f")[4..], ["RUN_FORKED_FROM", "EFFECT_UNCERTAIN"]);
    cli.run("task post f e0002 --status ok --value-inline {\"success\":true}").exits(4);
    cli.run("task decide f e0002 retry --epoch 0 --reason looked").ok();
    cli.run("task post f e0002 --status ok --value-inline {\"success\":true}").ok();
    cli.run("run iterate f").ok();
    // Who says so beforehand is not asked.
    let made = cli.run("run fork r --at 4 --id h --rerun e0002 --json").ok().json();
    assert_eq!(made["uncertain"], json!([]));
    cli.run("task post h e0002 --status ok --value-inline {\"success\":true}").ok();
    cli.run("run check h").ok();
    // What was undecided in a fork is undecided in a fork of it, wherever that leaves.
    for (at, id) in [(4, "f4"), (5, "f5"), (6, "f6")] {
        let made = cli.run(&format!("run fork f --at {at} --id {id} --json")).ok().json();
        assert_eq!(made["forkedFrom"]["runId"], "f");
        let shown = cli.run(&format!("run show {id} --json")).json();
        assert_eq!(shown["tasks"][1]["status"], "uncertain", "{shown}");
        assert_eq!(shown["forkedFrom"]["seq"], at);
    }
    // What nobody has begun is asked for in both.
    let cli = Cli::waiting();
    let made = cli.run("run fork r --at 2 --id f --json").ok().json();
    assert_eq!(made["uncertain"], json!([]));
    cli.run("task post f e0001 --status ok --value-inline {\"n\":2}").ok();
    cli.run("task post r e0001 --status ok --value-inline {\"n\":3}").ok();
}

const DEPENDS: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (n) => ({ kind: "agent", title: `t ${n}` }));
export async function process(inputs, ctx) {
  let n = 1;
  try { n = await ctx.task(t, n); } catch { n = -1; }
  return { n, last: await ctx.task(t, n), id: ctx.runId, dice: ctx.random() };
}
"#;

/// Run `r` of that process: its first task came to 5, the second waits.
fn depending() -> Cli {
    let cli = Cli::new();
    cli.file("p.js", DEPENDS);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    cli.run("task post r e0001 --status ok --value-inline 5").ok();
    cli.run("run iterate r").ok();
    cli
}

#[test]
fn an_edited_outcome_is_what_the_process_sees_from_there_on() {
    let cli = depending();
    // At record 4 the process has asked with the old value.
    let before = cli.tree();
    let refused = cli.run("run fork r --at 4 --id f --edit e0001=6").exits(7).says("fork_diverges");
    assert!(refused.err.contains("the same with --at 3"), "{}", refused.err);
    same_tree(&before, &cli.tree(), "a refused fork");
    cli.file("six.json", "6");
    cli.run("run fork r --at 3 --id f --edit e0001=@six.json").ok();
    cli.run("run iterate f").ok();
    for run in ["r", "f"] {
        cli.run(&format!("task post {run} e0002 --status ok --value-inline 0")).ok();
    }
    let (old, new) = (output(&cli, "r"), output(&cli, "f"));
    assert_eq!((&old["n"], &new["n"]), (&json!(5), &json!(6)));
    // To its process the fork is the run that it was.
    assert_eq!((&old["id"], &old["dice"]), (&new["id"], &new["dice"]));
    cli.run("run replay f").ok();
    let told = cli.run("run diff r f --json").exits(1).json();
    assert_eq!(
        (&told["shared"], &told["firstDifference"]["b"]["type"]),
        (&json!(3), &json!("EFFECT_REQUESTED"))
    );
    assert_eq!(told["effects"][0]["b"]["edited"], true);
    let kept = cli.run("run events f --json").json();
    assert_eq!(kept["events"][2]["data"]["value"], 5, "the recorded outcome stays");
}

#[test]
fn a_failure_can_be_edited_away() {
    let cli = Cli::new();
    cli.file("p.js", DEPENDS);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    cli.file("error.json", r#"{"name":"Error","message":"no"}"#);
    cli.run("task post r e0001 --status error --error error.json").ok();
    cli.run("run iterate r").ok();
    cli.run("run fork r --at 3 --id f --edit e0001=7").ok();
    cli.run("run iterate f").ok();
    cli.run("task post f e0002 --status ok --value-inline 0").ok();
    assert_eq!(output(&cli, "f")["n"], 7);
}

#[test]
fn words_that_make_no_sense_make_no_run() {
    let cli = Cli::completed();
    cli.run("run create --run-id bare").ok();
    let before = cli.tree();
    for (line, exit, says) in [
        ("run fork r --at 99", 3, "record_not_found"),
        ("run fork nobody --at 1", 3, "run_not_found"),
        ("run fork r --at 8", 6, "--at 7"),
        ("run fork r --at 6 --id r", 4, "run_exists"),
        ("run fork r --at 6 --id .x", 2, "run_id_invalid"),
        ("run fork r --at 6 --edit e0001", 2, "EFFECT=JSON"),
        ("run fork r --at 6 --edit e0001={", 2, "not JSON"),
        ("run fork r --at 6 --edit e0001=@none.json", 3, "file_not_found"),
        ("run fork r --at 6 --edit e0003=1", 2, "fork_invalid"),
        ("run fork r --at 6 --edit e0009=1", 2, "fork_invalid"),
        ("run fork r --at 6 --edit e0001=1 --edit e0001=2", 2, "fork_invalid"),
        ("run fork r --at 6 --rerun e0001", 2, "fork_invalid"),
        ("run fork r --at 0", 2, "0"),
        ("run diff r nobody", 3, "run_not_found"),
    ] {
        cli.run(line).exits(exit).says(says);
        same_tree(&before, &cli.tree(), line);
    }
    cli.run("run diff r r").ok();
    // A bare run has nothing to replay, and can be forked.
    cli.run("run fork bare --at 1 --id bare2").ok();
    cli.run("run assign-process bare2 --entry process.js").ok();
}

#[test]
fn beside_a_daemon_no_fork_is_made() {
    let cli = Cli::waiting();
    let daemon = Daemon::start(&cli, &[]);
    cli.run("run fork r --at 2 --id f").exits(4).says("daemon_owns_root");
    assert_eq!(daemon.stop().0, 0);
    cli.run("run fork r --at 2 --id f").ok();
}

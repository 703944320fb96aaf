//! Changed code, recovered errors and raised limits, as an operator meets them.
//!
//! Invariant under test: a run that is held says why, appends nothing else, and goes on when what
//! held it is gone.

use crate::cli::Cli;

const V1: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (a) => ({ kind: "agent", title: `t ${a}` }));
export async function process(inputs, ctx) { return [await ctx.task(t, 1), await ctx.task(t, 2)] }
"#;

/// V1 with another task before the first.
const INSERTED: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (a) => ({ kind: "agent", title: `t ${a}` }));
const first = defineTask("first", () => ({ kind: "agent", title: "first" }));
export async function process(inputs, ctx) {
  return [await ctx.task(first), await ctx.task(t, 1), await ctx.task(t, 2)];
}
"#;

/// A run of V1 whose first task has its outcome and whose second waits.
fn half_way() -> Cli {
    let cli = Cli::new();
    cli.file("v1.js", V1);
    cli.file("v2.js", INSERTED);
    cli.run("run create --entry v1.js --run-id r").ok();
    cli.run("run iterate r").ok();
    cli.run(r#"task post r e0001 --status ok --value-inline "one""#).ok();
    cli.run("run iterate r").ok();
    cli
}

#[test]
fn check_names_what_is_new_and_writes_nothing() {
    let cli = half_way();
    let before = cli.tree();
    cli.run("run check r").ok();
    let check = cli.run("run check r --entry v2.js --json").exits(7).json();
    let lines = check["calls"].as_array().unwrap();
    let of = |change: &str| lines.iter().filter(|l| l["change"] == change).count();
    assert_eq!(of("new"), 1, "{lines:#?}");
    assert_eq!(cli.tree(), before);
}

#[test]
fn accepted_code_keeps_old_outcomes_and_asks_only_for_what_is_new() {
    let cli = half_way();
    cli.run("run accept r --entry v2.js --on-removed keep").exits(1);
    cli.run("run accept r --entry v2.js --on-removed keep --yes").ok();
    let report = cli.run("run iterate r --json").json();
    let waiting: Vec<_> =
        report["nextActions"].as_array().unwrap().iter().map(|a| a["taskId"].clone()).collect();
    assert_eq!(waiting, ["t", "first"]);
    cli.run(r#"task post r e0003 --status ok --value-inline "zero""#).ok();
    cli.run(r#"task post r e0002 --status ok --value-inline "two""#).ok();
    let report = cli.run("run iterate r --json").json();
    assert_eq!(report["output"].to_string(), r#"["zero","one","two"]"#);
    cli.run("run check r").ok();
}

#[test]
fn forced_code_that_does_not_reproduce_the_journal_holds_the_run() {
    let cli = half_way();
    cli.run("run assign-process r --entry v2.js").exits(4).says("--force");
    cli.run("run assign-process r --entry v2.js --force").ok();
    let held = cli.run("run iterate r --json").exits(7).json();
    assert_eq!(
        (held["status"].as_str(), held["reason"].as_str()),
        (Some("held"), Some("diverged"))
    );
    assert_eq!(held["divergence"]["observed"]["key"], "first#0");
    // Posts are still taken, and the old code still fits.
    cli.run(r#"task post r e0002 --status ok --value-inline "two""#).ok();
    cli.run("run assign-process r --entry v1.js --force").ok();
    assert_eq!(cli.run("run iterate r --json").json()["output"].to_string(), r#"["one","two"]"#);
}

#[test]
fn an_edited_pinned_file_is_never_executed() {
    let cli = half_way();
    let pinned = cli.root().join("r/process/v1.js");
    std::fs::write(&pinned, V1.replace("t ${a}", "T ${a}")).unwrap();
    let held = cli.run("run iterate r --json").exits(5).json();
    assert_eq!((held["status"].as_str(), held["case"].as_str()), (Some("held"), Some("J52")));
    std::fs::write(&pinned, V1).unwrap();
    cli.run("run iterate r").ok();
}

#[test]
fn an_error_of_a_process_written_for_the_sdk_holds_it_until_it_is_recovered() {
    let cli = Cli::new();
    let process = V1.replace("\"dormouse\"", "\"@a5c-ai/babysitter-sdk\"").replace(
        "return [",
        "const a = await ctx.task(t, 0); if (!a.ok) throw new Error('not ok'); return [",
    );
    cli.file("p.js", process);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    cli.run(r#"task post r e0001 --status ok --value-inline {"ok":false}"#).ok();
    assert_eq!(cli.run("run iterate r --json").exits(1).json()["reason"], "process_error");
    // Without a change the same happens again, and it ends.
    cli.run("run recover r").ok();
    assert_eq!(cli.run("run iterate r --json").exits(1).json()["reason"], "process_error");
    cli.run("run recover r --patch-effect e0001:ok=true").ok();
    assert_eq!(cli.run("run iterate r --json").json()["nextActions"][0]["effectId"], "e0002");
    cli.run("run check r").ok();
}

#[test]
fn a_run_held_by_a_limit_goes_on_when_the_limit_is_raised() {
    let cli = Cli::new();
    cli.file(
        "p.js",
        "export function process() { let x = 0; for (let i = 0; i < 3e7; i++) x += i; return 1 }",
    );
    cli.run("run create --entry p.js --run-id r").ok();
    let held = cli.run("--turn-cpu-max 10ms run iterate r --json").exits(6).json();
    assert_eq!(held["reason"], "limit:cpu");
    cli.run("run resume r").ok();
    assert_eq!(cli.run("--turn-cpu-max 60s run iterate r --json").json()["output"], 1);
}

#[test]
fn a_held_run_can_still_be_cancelled() {
    let cli = half_way();
    cli.run("run assign-process r --entry v2.js --force").ok();
    cli.run("run iterate r").exits(7);
    cli.run("run cancel r").ok();
    assert_eq!(cli.run("run iterate r --json").exits(1).json()["status"], "cancelled");
}

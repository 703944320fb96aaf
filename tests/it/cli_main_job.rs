//! The main job on the command line: from `run create` to the end of a run, with the JSON that
//! orchestrators read, and every exit code.

#![allow(clippy::disallowed_methods, reason = "these tests read the program's files")]

use crate::cli::{Cli, Ran, keys_of, same_tree};
use serde_json::{Value, json};
use std::fs;

const REPORT: &str = "iteration iterationCount status action reason count nextActions output \
                      warnings metadata nativeState reasons generation head wakeAt";
const ACTION: &str = "effectId invocationKey kind label labels taskDef args taskId stepId \
                      taskDefRef inputsRef requestedAt schedulerHints status epoch title";
const TASK: &str = "effectId taskId stepId invocationKey status kind label labels taskDefRef \
                    inputsRef resultRef stdoutRef stderrRef requestedAt resolvedAt attempts epoch \
                    leasedBy title";
const POSTED: &str = "status normalizedShellFailure committed stdoutRef stderrRef resultRef \
                      effectId repeat seq state runState warnings";
const STATUS: &str = "state reason payload lastEvent pendingByKind pendingEffectsSummary \
                      needsMoreIterations metadata completionProof runId runDir processId \
                      nativeState reasons wakeAt overdue leases generation createdAt parent tags";
const VERIFIED: &str = "verdict case head records finding notes segments";

/// The members of a value that a test is about, as compact JSON.
fn pick(value: &Value, names: &[&str]) -> String {
    let parts = names.iter().map(|name| value.pointer(name).unwrap_or(&Value::Null).to_string());
    parts.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_run_from_its_creation_to_its_end() {
    let cli = Cli::new();
    cli.file("process.js", crate::cli::PROCESS);
    cli.file("inputs.json", r#"{"goal":"g"}"#);
    let line = "run create --entry process.js --inputs inputs.json --run-id r --json";
    let created = cli.run(line).ok().json();
    let keys = "runId runDir entry processId profile digest existed warnings";
    assert_eq!(keys_of(&created), keys);
    assert_eq!(created["runDir"], json!(cli.root().join("r")));
    let some = pick(&created, &["/runId", "/entry", "/processId", "/profile", "/existed"]);
    assert_eq!(some, r#""r" "process/process.js" "process" "dormouse" false"#);

    let first = cli.run("run iterate r --json").ok().json();
    assert_eq!(keys_of(&first), REPORT);
    assert_eq!(pick(&first, &["/status", "/reason", "/count"]), r#""waiting" "agent-pending" 1"#);
    let action = &first["nextActions"][0];
    assert_eq!(keys_of(action), ACTION);
    let names = ["/effectId", "/invocationKey", "/kind", "/label", "/labels", "/taskId", "/args"];
    let expected = r#""e0001" "plan#0" "agent" "Plan it" ["first"] "plan" {"goal":"g"}"#;
    assert_eq!(pick(action, &names), expected);
    assert_eq!(action["taskDef"]["agent"]["prompt"], "p");
    assert_eq!(cli.run("run iterate r --json").ok().json()["head"], first["head"], "nothing new");

    let pending = cli.run("task list r --pending --json").ok().json();
    assert_eq!(keys_of(&pending), "tasks");
    assert_eq!(keys_of(&pending["tasks"][0]), TASK);

    let post = r#"task post r e0001 --status ok --value-inline {"n":1} --json"#;
    let posted = cli.run(post).ok().json();
    assert_eq!(keys_of(&posted), POSTED);
    let committed = "resultRef stdoutRef stderrRef startedAt finishedAt";
    assert_eq!(keys_of(&posted["committed"]), committed);
    assert_eq!(pick(&posted, &["/status", "/repeat", "/seq"]), r#""ok" false 3"#);
    assert_eq!(posted["resultRef"], "tasks/e0001/result.json");

    cli.run("run:iterate r --json").ok();
    let fail =
        cli.fed("task:post r e0002 --status error --error - --json", b"Error: it broke").ok();
    assert_eq!(pick(&fail.json(), &["/status", "/normalizedShellFailure"]), r#""ok" true"#);
    let asked = cli.run("run iterate r --json").ok().json();
    let names = ["/reason", "/nextActions/0/label", "/nextActions/0/title"];
    assert_eq!(pick(&asked, &names), r#""breakpoint-waiting" "breakpoint" "Ship it?""#);
    cli.fed("task post r e0003 --status ok --value - --json", br#"{"approved":true}"#).ok();

    let done = cli.run("run iterate r --json").ok().json();
    assert_eq!(keys_of(&done), REPORT);
    let output = r#"{"goal":"g","n":1,"built":false,"approved":true}"#;
    let names = ["/status", "/reason", "/output", "/nextActions"];
    assert_eq!(pick(&done, &names), format!(r#""completed" "completed" {output} []"#));
    assert_eq!(cli.run("task list r --pending --json").ok().json()["tasks"], json!([]));
    let verified = cli.run("journal verify r --json").ok().json();
    assert_eq!(keys_of(&verified), VERIFIED);
    assert_eq!(pick(&verified, &["/verdict", "/case", "/head/seq"]), r#""clean" "J00" 8"#);
    assert_eq!(keys_of(&verified["head"]), "seq sum");
}

#[test]
fn what_can_be_seen_of_a_run() {
    let cli = Cli::waiting();
    let before = cli.tree();
    let status = cli.run("run status r --json").ok().json();
    assert_eq!(keys_of(&status), STATUS);
    let names = ["/state", "/nativeState", "/pendingByKind", "/lastEvent/type"];
    assert_eq!(pick(&status, &names), r#""waiting" "parked" {"agent":1} "EFFECT_REQUESTED""#);
    let events = cli.run("run events r --json").ok().json();
    assert_eq!(keys_of(&events), "events metadata");
    assert_eq!(keys_of(&events["events"][0]), "seq type recordedAt data sum");
    let newest = cli.run("run events r --json --reverse --limit 1").ok().json();
    assert_eq!(newest["events"][0]["seq"], 2);
    let none = cli.run("run events r --json --filter-type effect_resolved").ok().json();
    assert_eq!(none["metadata"], json!({ "total": 2, "matching": 0 }));
    assert_eq!(cli.run("run:events r --json --since 1").ok().json()["events"][0]["seq"], 2);
    let show = cli.run("run show r --json").ok().json();
    assert_eq!(show["tasks"][0]["effectId"], "e0001");
    let task = cli.run("task show r e0001 --json").ok().json();
    let members =
        "effect task args policy result largeResult attempts lease state logs stale probe wake";
    assert_eq!(keys_of(&task), members);
    let listed = cli.run("run list --json").ok().json();
    assert_eq!(listed["runs"][0]["runId"], "r");
    assert_eq!(cli.run("run list --state completed --json").ok().json()["runs"], json!([]));
    assert_eq!(cli.run("breakpoint list --json").ok().json()["breakpoints"], json!([]));
    assert_eq!(cli.run("journal show r --json").ok().out.lines().count(), 2);
    same_tree(&before, &cli.tree(), "looking");
}

#[test]
fn what_people_read() {
    let cli = Cli::waiting();
    let list = cli.run("task list r").ok();
    let rows: Vec<String> =
        list.out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows, ["EFFECT KIND STATUS TASK LABEL", "e0001 agent requested plan Plan it"]);
    cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
    let drive = cli.run("run drive r").ok();
    assert_eq!(drive.out, "run r is waiting: shell-pending\n  e0002  shell        Build\n");
    assert_eq!(drive.err, "next: dormouse task post r e0002 --status ok --value-inline JSON\n");
    let post = cli.run("task post r e0002 --status error").ok();
    assert_eq!(post.out, "outcome ok of effect e0002 is posted (record 5)\n");
    let told = "the error of a shell task is stored as a value with success: false\n";
    assert_eq!(post.err, told);
    let drive = cli.run("run drive r").ok();
    assert_eq!(drive.out, "run r is waiting: breakpoint-waiting\n  e0003  breakpoint   Ship it?\n");
    let list = cli.run("task list r --kind BREAKPOINT").ok();
    assert!(list.out.contains("Ship it?"), "{list:?}");
    cli.run("breakpoint approve r e0003").ok();
    let done = cli.run("run drive r").ok();
    let output = r#"{"goal":"g","n":1,"built":false,"approved":true}"#;
    assert_eq!(done.out, format!("run r is completed: completed\n  output: {output}\n"));
}

#[test]
fn a_run_is_named_by_id_by_its_beginning_or_by_its_directory() {
    let cli = Cli::waiting();
    cli.run("run create --run-id alpha-one").ok();
    cli.run("run create --run-id alpha-two").ok();
    let id = |line: &str| cli.run(line).ok().json()["runId"].as_str().unwrap().to_owned();
    assert_eq!(id("run status alpha-o --json"), "alpha-one");
    let many = cli.run("run status alpha --json").exits(2).error();
    assert_eq!(many["code"], "run_ambiguous");
    let text = many["message"].as_str().unwrap();
    assert!(text.contains("alpha-one") && text.contains("alpha-two"), "{text}");
    let near = cli.run("run status alpha-tow --json").exits(3).error();
    assert_eq!(near["nextSteps"], json!(["did you mean alpha-two?", "dormouse run list"]));
    let absolute = cli.root().join("r").display().to_string();
    for path in ["runs/r", "./runs/r/", "runs/../runs/r", absolute.as_str()] {
        assert_eq!(id(&format!("run status {path} --json")), "r");
        cli.run(&format!("run iterate {path}")).ok();
    }
    let unknown = cli.run("run status runs/nothing --json").exits(3).error();
    assert_eq!(unknown["code"], "run_not_found");
}

#[test]
fn a_copied_run_directory_works_outside_any_root() {
    let cli = Cli::waiting();
    let copy = cli.path("elsewhere/other-name");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    let mut copy_it = std::process::Command::new("cp");
    assert!(copy_it.arg("-a").arg(cli.root().join("r")).arg(&copy).status().unwrap().success());
    fs::remove_dir_all(cli.root()).unwrap();
    let name = "elsewhere/other-name";
    let verified = cli.run(&format!("journal verify {name} --json")).ok().json();
    assert_eq!(verified["verdict"], "clean");
    assert_eq!(cli.run(&format!("run status {name} --json")).ok().json()["runId"], "r");
    let post = "--status ok --value-inline";
    cli.run(&format!(r#"task post {name} e0001 {post} {{"n":1}}"#)).ok();
    cli.run(&format!("run iterate {name}")).ok();
    cli.run(&format!("task post {name} e0002 {post} {{}}")).ok();
    cli.run(&format!("run iterate {name}")).ok();
    cli.run(&format!("breakpoint approve {name} e0003")).ok();
    let done = cli.run(&format!("run iterate {name} --json")).ok().json();
    assert_eq!(done["status"], "completed");
    assert!(!cli.root().exists(), "a run outside a root needs no root");
}

#[test]
fn a_bare_run_says_what_it_needs() {
    let cli = Cli::new();
    cli.file("process.js", crate::cli::PROCESS);
    let created = cli.run("run create --run-id bare --json").ok().json();
    assert_eq!(pick(&created, &["/entry", "/processId"]), r#""bare-run" null"#);
    for verb in ["iterate", "drive"] {
        let refused = cli.run(&format!("run {verb} bare --json")).exits(1).error();
        assert_eq!(refused["code"], "run_is_bare");
        let next = "dormouse run assign-process bare --entry FILE";
        assert_eq!(refused["nextSteps"], json!([next]), "{verb}");
    }
    assert_eq!(cli.run("run status bare --json").ok().json()["state"], "created");
    cli.file("in.json", r#"{"goal":"g"}"#);
    let line = "run:assign-process bare --entry process.js --inputs in.json --json";
    let assigned = cli.run(line).ok().json();
    assert_eq!(pick(&assigned, &["/runId", "/processId", "/assigned"]), r#""bare" "process" true"#);
    let first = cli.run("run iterate bare --json").ok().json();
    assert_eq!(pick(&first, &["/nextActions/0/args"]), r#"{"goal":"g"}"#);
    let again = cli.run("run assign-process bare --entry process.js --json").exits(4).error();
    assert_eq!(again["code"], "process_assigned");
}

#[test]
fn the_same_key_gives_the_same_run() {
    let cli = Cli::new();
    cli.file("process.js", crate::cli::PROCESS);
    cli.file("a.json", r#"{"goal":"a"}"#);
    cli.file("b.json", r#"{"goal":"b"}"#);
    let create = |inputs: &str, key: &str| {
        let line = "run create --entry process.js --json --inputs";
        cli.run(&format!("{line} {inputs} --idempotency-key {key}"))
    };
    let first = create("a.json", "k1").ok().json();
    let before = cli.tree();
    let again = create("a.json", "k1").ok().json();
    assert_eq!(again["runId"], first["runId"]);
    assert_eq!(pick(&again, &["/existed"]), "true");
    assert_eq!(create("b.json", "k1").exits(4).error()["code"], "run_exists");
    same_tree(&before, &cli.tree(), "asking again");
    assert_ne!(create("a.json", "k2").ok().json()["runId"], first["runId"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let cli = Cli::waiting();
    let before = cli.tree();
    for line in [
        "run create --entry process.js --dry-run --json",
        "run create --entry process.js --runs-root fresh --dry-run",
        r#"task post r e0001 --status ok --value-inline {"n":1} --dry-run --json"#,
        "run halt r --dry-run --json",
        "run rebuild-state r --dry-run --json",
    ] {
        let dry = cli.run(line).ok();
        assert_eq!(dry.json()["dryRun"], true, "{line}");
        same_tree(&before, &cli.tree(), line);
    }
    assert_eq!(cli.run("run repair-journal r --dry-run --json").ok().json()["dryRun"], true);
    same_tree(&before, &cli.tree(), "repair-journal --dry-run");
}

/// Drives one process that takes no inputs as far as it goes.
fn played(source: &str) -> (Cli, Ran) {
    let cli = Cli::new();
    cli.file("p.js", source);
    cli.run("run create --entry p.js --run-id r").ok();
    let ran = cli.run("run iterate r --json");
    (cli, ran)
}

#[test]
fn an_end_has_its_exit_code() {
    for (source, code, status, reason) in [
        ("export const process = () => 1;", 0, "completed", "completed"),
        ("export const process = () => { throw new Error('no') };", 1, "failed", "failed"),
        ("export const process = (i, ctx) => ctx.halt('enough', {a: 1});", 1, "halted", "enough"),
        ("export const process = () => { for (;;); };", 6, "held", "limit:cpu"),
    ] {
        let (cli, ran) = played(source);
        let report = ran.exits(code).json();
        assert_eq!(pick(&report, &["/status", "/reason"]), format!("{status:?} {reason:?}"));
        let again = cli.run("run iterate r --json").exits(code).json();
        assert_eq!(again["head"], report["head"], "an end is final");
        cli.run("journal verify r").ok();
    }
}

#[test]
fn a_cancelled_and_a_halted_run_end() {
    let cli = Cli::waiting();
    cli.run("run cancel r --reason enough --json").ok();
    let report = cli.run("run iterate r --json").exits(1).json();
    assert_eq!(report["status"], "cancelled");
    let cli = Cli::waiting();
    let halted = cli.run("run halt r --reason enough --final-status FAILED --json").ok().json();
    let keys = "runDir halted finalStatus reason completionProof alreadyTerminal event";
    assert_eq!(keys_of(&halted), keys);
    let before = cli.tree();
    let again = cli.run("run:halt r --json").ok().json();
    assert_eq!(again["alreadyTerminal"], "RUN_FAILED");
    same_tree(&before, &cli.tree(), "a second halt");
    assert_eq!(cli.run("run status r --json").ok().json()["reason"], "enough");
}

#[test]
fn a_paused_run_takes_posts_and_waits() {
    let cli = Cli::waiting();
    cli.run("run pause r --json").ok();
    let post = r#"task post r e0001 --status ok --value-inline {"n":1}"#;
    cli.run(post).ok();
    let paused = cli.run("run iterate r --json").ok().json();
    assert_eq!(pick(&paused, &["/status", "/reason"]), r#""waiting" "paused""#);
    cli.run("run resume r --json").ok();
    assert_eq!(cli.run("run iterate r --json").ok().json()["reason"], "shell-pending");
}

#[test]
fn damage_is_exit_5_and_divergence_is_exit_7() {
    let cli = Cli::waiting();
    let journal = cli.root().join("r/journal/0000000001.jsonl");
    let whole = fs::read(&journal).unwrap();
    fs::write(&journal, &whole[..whole.len() - 9]).unwrap();
    let note = cli.root().join("r/run.lock");
    // Without the note nobody vouches for the record: a tail that was never acknowledged.
    fs::write(&note, "").unwrap();
    fs::remove_dir_all(cli.root().join("r/state")).unwrap();
    let torn = cli.run("journal verify r --json").exits(5).json();
    assert_eq!(pick(&torn, &["/verdict", "/case", "/head/seq"]), r#""torn" "J11" 1"#);
    let mended = cli.run("run iterate r --json").ok().json();
    assert_eq!(mended["nextActions"][0]["effectId"], "e0001", "asked again, once");
    assert_eq!(cli.run("journal verify r --json").ok().json()["verdict"], "clean");

    let mut bent = fs::read(&journal).unwrap();
    let place = bent.iter().position(|b| *b == b'"').unwrap() + 30;
    bent[place] ^= 1;
    fs::write(&journal, &bent).unwrap();
    let damaged = cli.run("journal verify r --json").exits(5).json();
    assert_eq!(damaged["verdict"], "damaged");
    let held = cli.run("run iterate r --json").exits(5);
    assert_eq!(pick(&held.json(), &["/status", "/reason"]), r#""held" "damaged""#);
    assert_eq!(cli.run("run status r --json").exits(5).error()["category"], "RUNTIME");

    let cli = Cli::waiting();
    cli.file("other.js", "export const process = (i, ctx) => ctx.sleep('1h');");
    cli.run("run check r --entry other.js --json").exits(7);
    cli.run("run check r --json").ok();
}

#[test]
fn the_root_is_a_flag_a_variable_or_the_default() {
    let cli = Cli::new();
    let create = |args: &[&str]| {
        let mut command = cli.command(&[&["run", "create", "--json"], args].concat());
        command.env("DORMOUSE_RUNS_ROOT", cli.path("variable"));
        let created = Ran::of("run create", &command.output().unwrap()).ok().json();
        created["runDir"].as_str().unwrap().to_owned()
    };
    let below = |name: &str| cli.path(name).display().to_string();
    assert!(create(&[]).starts_with(&below("variable")));
    assert!(create(&["--runs-root", &below("flag")]).starts_with(&below("flag")));
    assert!(create(&["--runs-dir", &below("old")]).starts_with(&below("old")));
    let mut bare = cli.command(&["run", "create", "--json"]);
    bare.env_remove("DORMOUSE_RUNS_ROOT");
    let created = Ran::of("run create", &bare.output().unwrap()).ok().json();
    assert!(created["runDir"].as_str().unwrap().starts_with(&below(".dormouse/runs")));
    // A relative root names an absolute run directory.
    let mut relative = cli.command(&["run", "create", "--json", "--runs-root", "near"]);
    let created = Ran::of("run create", &relative.output().unwrap()).ok().json();
    assert!(created["runDir"].as_str().unwrap().starts_with(&below("near")));
}

#[test]
fn a_closed_pipe_is_silent_and_a_full_one_is_not() {
    let cli = Cli::waiting();
    for line in ["run events r", "run status r --json", "run events r --follow", "run watch r"] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut child = cli.start(line);
        drop(child.stdout.take());
        let ran = Ran::of(line, &child.wait_with_output().unwrap()).ok();
        assert_eq!(ran.err, "", "{line}");
        let mut full = cli.command(&args);
        full.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
        let ran = Ran::of(line, &full.output().unwrap()).exits(74);
        assert!(ran.err.contains("standard output cannot be written"), "{ran:?}");
    }
}

#[test]
fn a_process_that_computes_ends_with_the_command_that_is_killed() {
    let cli = Cli::new();
    cli.file("p.js", "export const process = () => { for (;;); };");
    cli.run("run create --entry p.js --run-id r").ok();
    let mut child = cli.start("run iterate r --turn-cpu-max 1h");
    let id = child.id();
    let children = || fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    while children().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "iterate ended by itself");
    }
    let host = children().trim().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    let left = || fs::read_to_string(format!("/proc/{host}/stat")).unwrap_or_default();
    while left().contains("(dormouse)") && !left().contains(") Z ") {}
    cli.run("journal verify r").ok();
}

#[test]
fn an_interrupted_command_leaves_a_run_that_goes_on() {
    let cli = Cli::new();
    cli.file("p.js", "export const process = (i, ctx) => ctx.sleep('1h');");
    cli.run("run create --entry p.js --run-id r").ok();
    let mut child = cli.start("run drive r");
    // The run waits for its timer as soon as its state says so.
    let waits = || cli.run("run status r --json").ok().json()["state"] == "waiting";
    while !waits() {
        assert!(child.try_wait().unwrap().is_none(), "drive ended by itself");
    }
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args(["-INT", &child.id().to_string()]).status().unwrap().success());
    Ran::of("run drive r", &child.wait_with_output().unwrap()).exits(130);
    let report = cli.run("run iterate r --json --lock-timeout 0s").ok().json();
    assert_eq!(pick(&report, &["/reason", "/head/seq"]), r#""sleep-waiting" 2"#);
    cli.run("journal verify r").ok();
}

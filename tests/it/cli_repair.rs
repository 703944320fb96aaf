//! Damaged journals, mended with nothing but what the tools print.
//!
//! Invariant under test: a plan is shown before anything changes, what is removed is kept, and the
//! run goes on to the same end.

use std::fs;
use std::path::PathBuf;

use crate::cli::Cli;

/// A run that has taken in one outcome and waits for the next.
fn under_way() -> Cli {
    let cli = Cli::waiting();
    cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
    cli.run("run iterate r").ok();
    cli
}

fn journal(cli: &Cli) -> PathBuf {
    cli.root().join("r/journal/0000000001.jsonl")
}

/// Changes the journal's bytes, and forgets who vouched for them if `vouched` is false.
fn harm(cli: &Cli, vouched: bool, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(journal(cli)).unwrap();
    change(&mut bytes);
    fs::write(journal(cli), bytes).unwrap();
    if !vouched {
        fs::remove_file(cli.root().join("r/run.lock")).unwrap();
        fs::remove_dir_all(cli.root().join("r/state")).unwrap();
    }
}

fn quarantined(cli: &Cli) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cli.root().join("r/quarantine")) else { return Vec::new() };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with("-before")).collect()
}

#[test]
fn a_torn_tail_that_nobody_vouches_for_is_mended_without_asking() {
    let cli = under_way();
    harm(&cli, false, |bytes| bytes.truncate(bytes.len() - 30));
    let verified = cli.run("journal verify r --json").exits(5).json();
    assert_eq!(
        (verified["verdict"].as_str(), verified["case"].as_str()),
        (Some("torn"), Some("J11"))
    );
    // The next command that writes sets the tail aside and asks for the lost request again.
    cli.run("run iterate r").ok();
    assert_eq!(quarantined(&cli).len(), 1);
    cli.run("journal verify r").ok();
    let events = cli.run("run events r --filter-type JOURNAL_REPAIRED --json").json();
    assert_eq!(events["events"][0]["data"]["case"], "J11");
    let tasks = cli.run("task list r --pending --json").json();
    assert_eq!(tasks["tasks"][0]["effectId"], "e0002");
}

#[test]
fn an_acknowledged_record_is_not_cut_without_a_word() {
    let cli = under_way();
    harm(&cli, true, |bytes| bytes.truncate(bytes.len() - 30));
    let before = cli.tree();
    assert_eq!(cli.run("journal verify r --json").exits(5).json()["case"], "J15");
    assert_eq!(cli.run("run iterate r --json").exits(5).json()["reason"], "damaged");
    let plan = cli.run("run repair-journal r --json").exits(1).json();
    assert_eq!((plan["plan"].as_str(), plan["dryRun"].as_bool()), (Some("P5"), Some(true)));
    cli.run("run repair-journal r --yes").exits(6).says("--accept-loss");
    assert_eq!(cli.tree(), before, "looking and refusing change nothing");

    let mended = cli.run("run repair-journal r --yes --accept-loss unknown --json").json();
    assert_eq!(mended["repaired"], true);
    assert_eq!(quarantined(&cli).len(), 1);
    cli.run("journal verify r").ok();
    cli.run("run iterate r").ok();
    let tasks = cli.run("task list r --pending --json").json();
    assert_eq!(tasks["tasks"][0]["effectId"], "e0002");
}

#[test]
fn what_was_open_across_a_loss_is_uncertain_and_takes_an_answer_that_says_so() {
    let cli = under_way();
    // The request of the second task survives, its outcome does not.
    cli.run(r#"task post r e0002 --status ok --value-inline {"success":true}"#).ok();
    harm(&cli, true, |bytes| bytes.truncate(bytes.len() - 30));
    cli.run("run repair-journal r --yes --accept-loss unknown").ok();
    cli.run("run iterate r").ok();
    let tasks = cli.run("task list r --pending --json").json();
    assert_eq!(tasks["tasks"][0]["status"], "uncertain");
    cli.run(r#"task post r e0002 --status ok --value-inline {"success":true}"#)
        .exits(4)
        .says("epoch 0");
    cli.run(r#"task post r e0002 --epoch 0 --status ok --value-inline {"success":true}"#).ok();
    cli.run("run iterate r").ok();
    cli.run("breakpoint approve r e0003").ok();
    assert_eq!(cli.run("run iterate r --json").json()["output"]["approved"], true);
    cli.run("run check r").ok();
}

#[test]
fn a_flipped_bit_in_the_middle_is_found_and_cut_with_everything_after_it() {
    let cli = under_way();
    harm(&cli, true, |bytes| {
        let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 100;
        bytes[second] ^= 1;
    });
    assert_eq!(cli.run("journal verify r --json").exits(5).json()["verdict"], "damaged");
    let plan = cli.run("run repair-journal r --json").exits(1).json();
    let lost = plan["journal"]["droppedCorrupt"].as_u64().unwrap();
    cli.run(&format!("run repair-journal r --yes --accept-loss {}", lost + 1))
        .exits(6)
        .says("loses");
    cli.run(&format!("run repair-journal r --yes --accept-loss {lost}")).ok();
    cli.run("journal verify r").ok();
    cli.run("run iterate r").ok();
    // The request itself was lost: asked for again, it may have been done before.
    let tasks = cli.run("task list r --pending --json").json();
    assert_eq!(tasks["tasks"][0]["effectId"], "e0001");
    assert_eq!(tasks["tasks"][0]["status"], "uncertain");
}

#[test]
fn a_sound_journal_needs_nothing() {
    let cli = under_way();
    let before = cli.tree();
    cli.run("run repair-journal r").ok();
    cli.run("run repair-journal r --yes").ok();
    assert_eq!(cli.tree(), before);
}

#[test]
fn derived_files_are_made_anew_from_the_journal() {
    let cli = Cli::completed();
    let before = cli.tree();
    for derived in ["state", "tasks"] {
        fs::remove_dir_all(cli.root().join("r").join(derived)).unwrap();
    }
    for derived in ["run.json", "inputs.json"] {
        fs::remove_file(cli.root().join("r").join(derived)).unwrap();
    }
    cli.run("run rebuild-state r").ok();
    let differences: Vec<_> =
        before.iter().filter(|(path, what)| cli.tree().get(*path) != Some(*what)).collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn verify_advises_what_mends_the_case() {
    let cli = Cli::waiting();
    let dir = cli.root().join("r");
    let entry = dir.join("process/process.js");
    let code = fs::read(&entry).unwrap();
    fs::remove_file(&entry).unwrap();
    fs::write(&entry, "changed").unwrap();
    let verified = cli.run("journal verify r").exits(5).says("--from COPY");
    assert!(verified.err.contains("run repair-journal r"), "{verified:?}");
    fs::write(&entry, code).unwrap();
    fs::rename(dir.join("journal"), dir.join("elsewhere")).unwrap();
    let verified = cli.run("journal verify r").exits(5).says("--from COPY");
    assert!(verified.err.contains("run repair-journal r"), "{verified:?}");
}

#[test]
fn a_repair_is_taken_back_until_the_run_goes_on() {
    let cli = under_way();
    harm(&cli, true, |bytes| bytes.truncate(bytes.len() - 30));
    cli.run("repair undo r").exits(3).says("no repair");
    cli.run("run repair-journal r --yes --accept-loss unknown").ok();
    let listed = cli.run("repair list r --json").json();
    assert_eq!(
        (&listed["repairs"][0]["case"], &listed["repairs"][0]["isUndone"]),
        (&"J15".into(), &false.into())
    );

    // A copy that rotted is not put back.
    let kept = cli.root().join("r").join(listed["repairs"][0]["folder"].as_str().unwrap());
    let copy = kept.join("journal/0000000001.jsonl");
    let whole = fs::read(&copy).unwrap();
    fs::write(&copy, b"rot").unwrap();
    let before = cli.tree();
    cli.run("repair undo r").exits(5).says("other bytes");
    assert_eq!(cli.tree(), before);
    fs::write(&copy, whole).unwrap();

    cli.run("repair undo r").ok();
    assert_eq!(cli.run("journal verify r --json").exits(5).json()["case"], "J15");
    cli.run("repair undo r").exits(3).says("no repair");

    cli.run("run repair-journal r --yes --accept-loss unknown").ok();
    cli.run("run iterate r").ok();
    let before = cli.tree();
    cli.run("repair undo r").exits(4).says("would be lost");
    assert_eq!(cli.tree(), before);
}

#[test]
fn taking_a_repair_back_survives_its_own_death() {
    let cli = under_way();
    harm(&cli, true, |bytes| bytes.truncate(bytes.len() - 30));
    let damaged = journal_and_witnesses(&cli);
    cli.run("run repair-journal r --yes --accept-loss unknown").ok();
    let folder = cli.run("repair list r --json").json()["repairs"][0]["folder"].clone();
    let kept = cli.root().join("r").join(folder.as_str().unwrap());
    // As if it had died after the first file.
    fs::rename(kept.join("before.json"), kept.join("undoing.json")).unwrap();
    fs::remove_file(cli.root().join("r/journal/0000000004.jsonl")).unwrap();
    cli.run("repair undo r").ok();
    assert_eq!(journal_and_witnesses(&cli), damaged);
}

fn journal_and_witnesses(cli: &Cli) -> Vec<(String, String)> {
    let files = cli.tree().into_iter().filter_map(|(path, what)| {
        let (mode, bytes) = what.split_once(' ')?;
        let is_kept = path.contains("r/journal") || path.contains("r/state");
        (is_kept && mode != "directory").then(|| (path, bytes.to_owned()))
    });
    files.collect()
}

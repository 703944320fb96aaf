//! The check of everything names every defect that is planted, writes nothing, and finds none where
//! none is.
//!
//! Invariant under test: one planted defect, one label; following what is printed, to the letter,
//! makes the check clean, the run replays as before, and undo gives the same bytes back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::cli::Cli;
use dormouse::codecs::format::line;

/// A run that has taken in one outcome, too large for a record, and waits for the next, in a root
/// with an index.
fn under_way() -> Cli {
    let cli = Cli::waiting();
    let large = format!(r#"{{"n":1,"pad":"{}"}}"#, "x".repeat(70_000));
    cli.args(&["task", "post", "r", "e0001", "--status", "ok", "--value-inline", &large]).ok();
    cli.run("run iterate r").ok();
    cli.run("index rebuild").ok();
    cli
}

/// How a defect is planted; the first path is the run's directory, the second the root's own.
type Plant = fn(&Path, &Path);

/// What helps.
enum Cure {
    /// Nothing has to be done.
    None,
    /// The command that the check prints, and the one that this prints.
    Printed,
    /// The same; records go.
    Loss,
    /// The same with a copy of the run that was made before.
    Copy,
    /// Somebody does by hand what is printed in words; the third path is a copy of the root.
    Hand(fn(&Path, &Path, &Path)),
}

fn journal(run: &Path) -> std::path::PathBuf {
    run.join("journal/0000000001.jsonl")
}

fn edit(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    // A new file, as an editor makes it: pinned code is shared by link and must not change.
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Nobody vouches for records any more.
fn unwitnessed(run: &Path) {
    fs::remove_file(run.join("run.lock")).unwrap();
    fs::remove_dir_all(run.join("state")).unwrap();
}

fn lines(run: &Path, change: impl FnOnce(&mut Vec<String>)) {
    edit(&journal(run), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let mut all: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut all);
        *bytes = all.concat().into_bytes();
    });
}

fn mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

/// A sealed or checksummed file is flipped where its content stands.
fn flip(file: &Path) {
    edit(file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

/// The journal in as many segments as there are names, one record in each but the last.
fn split(run: &Path) {
    let bytes = fs::read(journal(run)).unwrap();
    let all: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    for (n, line) in all[..2].iter().enumerate() {
        fs::write(run.join(format!("journal/{:010}.jsonl", n + 1)), line).unwrap();
    }
    fs::write(run.join("journal/0000000003.jsonl"), all[2..].concat()).unwrap();
}

/// A record more, with a right sum over this body.
fn forge(run: &Path, body: impl FnOnce(u64) -> String) {
    edit(&journal(run), |bytes| {
        let last = bytes[..bytes.len() - 1].rsplit(|b| *b == b'\n').next().unwrap();
        let (_, sum) = line::split(&[last, b"\n"].concat()).unwrap();
        let body = body(bytes.split(|b| *b == b'\n').count() as u64);
        let sum = line::chain(sum, body.as_bytes());
        bytes.extend(format!("{body},\"sum\":\"{sum}\"}}\n").bytes());
    });
}

fn the_blob(run: &Path) -> std::path::PathBuf {
    fs::read_dir(run.join("blobs")).unwrap().next().unwrap().unwrap().path()
}

/// Label, severity, what helps, how it is planted.
type Defect = (&'static str, &'static str, Cure, Plant);

const DEFECTS: &[Defect] = &[
    ("J02", "damage", Cure::Copy, |run, _| fs::remove_dir_all(run.join("journal")).unwrap()),
    ("J03", "mendable", Cure::Printed, |run, _| {
        fs::write(run.join("journal/0000000005.jsonl"), "").unwrap();
        unwitnessed(run);
    }),
    ("J10", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| {
            bytes.pop();
        });
        unwitnessed(run);
    }),
    ("J11", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| bytes.truncate(bytes.len() - 30));
        unwitnessed(run);
    }),
    ("J12", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| {
            let at = bytes.len() - 60;
            bytes[at] ^= 1;
        });
        unwitnessed(run);
    }),
    ("J13", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| bytes.extend([0; 100]));
    }),
    ("J14", "damage", Cure::Loss, |run, _| {
        edit(&journal(run), |bytes| bytes.extend(b"one\ntwo\nthree\n"));
        unwitnessed(run);
    }),
    ("J15", "damage", Cure::Loss, |run, _| {
        edit(&journal(run), |bytes| bytes.truncate(bytes.len() - 30));
    }),
    ("J15", "damage", Cure::Copy, |run, _| {
        edit(&journal(run), |bytes| bytes.truncate(bytes.len() - 30));
    }),
    ("J20", "damage", Cure::Loss, |run, _| flip_second(run)),
    ("J20", "damage", Cure::Copy, |run, _| flip_second(run)),
    ("J20", "damage", Cure::Copy, |run, _| edit(&journal(run), |bytes| bytes[100] ^= 1)),
    ("J21", "damage", Cure::Loss, |run, _| {
        lines(run, |lines| {
            lines.remove(2);
        });
    }),
    ("J20", "damage", Cure::Printed, |run, _| lines(run, |lines| lines.swap(1, 2))),
    ("J21", "damage", Cure::Printed, |run, _| {
        lines(run, |lines| lines.insert(2, lines[1].clone()));
    }),
    ("J22", "damage", Cure::Copy, |run, _| {
        let other = Cli::waiting();
        other.run("run create --run-id s").ok();
        fs::copy(journal(&other.root().join("s")), journal(run)).unwrap();
    }),
    ("J23", "damage", Cure::Loss, |run, _| {
        forge(run, |seq| {
            let at = "2036-11-20T12:00:00.000000Z";
            format!(r#"{{"seq":{seq},"at":"{at}","type":"OPERATOR_NOTE","data":{{ }}"#)
        });
    }),
    ("J24", "damage", Cure::Loss, |run, _| {
        forge(run, |seq| {
            let at = "2036-11-20T12:00:00.000000Z";
            let data = r#"{"by":"operator:x"}"#;
            format!(r#"{{"seq":{seq},"at":"{at}","type":"RUN_RESUMED","data":{data}"#)
        });
    }),
    ("J30", "damage", Cure::Copy, |run, _| {
        split(run);
        fs::remove_file(run.join("journal/0000000002.jsonl")).unwrap();
    }),
    ("J31", "damage", Cure::Printed, |run, _| {
        fs::rename(journal(run), run.join("journal/0000000002.jsonl")).unwrap();
    }),
    ("J32", "damage", Cure::Copy, |run, _| {
        split(run);
        fs::write(run.join("journal/0000000002.jsonl"), "").unwrap();
    }),
    ("J33", "damage", Cure::Loss, |run, _| {
        let mut second = fs::read(journal(run)).unwrap();
        second.drain(..=second.iter().position(|b| *b == b'\n').unwrap());
        second[100] ^= 1;
        fs::write(run.join("journal/0000000002.jsonl"), second).unwrap();
    }),
    ("J34", "note", Cure::None, |run, _| {
        fs::write(run.join("journal/.0000000001.jsonl.tmp-1-1"), "x").unwrap();
    }),
    ("J50", "damage", Cure::Copy, |run, _| fs::remove_file(the_blob(run)).unwrap()),
    ("J51", "damage", Cure::Copy, |run, _| {
        let blob = the_blob(run);
        edit(&blob, |bytes| bytes[9] ^= 1);
    }),
    ("J52", "damage", Cure::Copy, |run, _| {
        edit(&run.join("process/process.js"), |bytes| bytes.extend(b"\n// other"));
    }),
    // The root stores the code of its runs by digest.
    ("J52", "damage", Cure::Printed, |run, meta| {
        let lock = fs::read(run.join("process/process.lock.json")).unwrap();
        let lock: Value = serde_json::from_slice(&lock).unwrap();
        fs::create_dir_all(meta.join("code")).unwrap();
        let stored = lock["digest"].as_str().unwrap().trim_start_matches("b3:");
        fs::rename(run.join("process"), meta.join("code").join(stored)).unwrap();
    }),
    (
        "J61",
        "damage",
        Cure::Hand(|run, _, _| {
            fs::remove_file(run.join("run.json")).unwrap();
            fs::rename(run.join("state/elsewhere.json"), run.join("run.json")).unwrap();
        }),
        |run, _| {
            fs::rename(run.join("run.json"), run.join("state/elsewhere.json")).unwrap();
            symlink("state/elsewhere.json", run.join("run.json")).unwrap();
        },
    ),
    (
        "J62",
        "damage",
        Cure::Hand(|run, _, copy| {
            fs::copy(copy.join("r/run.json"), run.join("run.json")).unwrap();
        }),
        |run, _| reword(&run.join("run.json"), "\"formatVersion\": 1", "\"formatVersion\": 2"),
    ),
    ("D01", "mendable", Cure::Printed, |run, _| fs::remove_file(run.join("run.json")).unwrap()),
    ("D02", "mendable", Cure::Printed, |run, _| reword(&run.join("run.json"), "false", "true")),
    ("D03", "mendable", Cure::Printed, |run, _| {
        fs::write(run.join("inputs.json"), "{\"other\":1}\n").unwrap();
    }),
    ("D04", "mendable", Cure::Printed, |run, _| {
        fs::remove_file(run.join("tasks/e0002/task.json")).unwrap();
    }),
    ("D05", "mendable", Cure::Printed, |run, _| flip(&run.join("state/cache.mpk"))),
    ("D07", "mendable", Cure::Printed, |run, _| {
        fs::write(run.join("state/state.json"), "{").unwrap();
    }),
    ("D09", "note", Cure::None, |run, _| fs::create_dir(run.join("tasks/e0099")).unwrap()),
    ("D10", "note", Cure::None, |run, _| {
        fs::write(run.join("blobs").join("0".repeat(64)), "x").unwrap();
    }),
    ("D11", "note", Cure::None, |run, _| fs::write(run.join("blobs/notes.txt"), "x").unwrap()),
    ("D12", "note", Cure::None, |run, _| fs::write(run.join("notes.txt"), "x").unwrap()),
    ("D13", "note", Cure::None, |run, _| {
        fs::create_dir(run.parent().unwrap().join("elsewhere")).unwrap();
    }),
    ("D14", "note", Cure::None, |run, _| fs::write(run.join(".run.json.tmp-1-1"), "x").unwrap()),
    ("D15", "note", Cure::None, |run, _| {
        reword(&run.join("run.lock"), "\"closed\"", "\"open\"");
    }),
    ("D17", "mendable", Cure::Printed, |run, _| {
        mode(&run.join("tasks/e0002/task.json"), 0o666);
    }),
    ("D18", "note", Cure::None, |run, _| {
        fs::create_dir(run.join("process-0123456789abcdef")).unwrap();
    }),
    ("D19", "mendable", Cure::Printed, |_, meta| {
        fs::create_dir_all(meta.join("code").join("a".repeat(64))).unwrap();
    }),
    ("D20", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("touched")).unwrap();
        fs::write(meta.join("touched/r"), "").unwrap();
    }),
    ("D21", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("staging/x-01234567-89")).unwrap();
    }),
    ("D22", "mendable", Cure::Printed, |_, meta| {
        fs::write(meta.join("tokens.json"), "{}").unwrap();
        mode(&meta.join("tokens.json"), 0o644);
    }),
    (
        "D24",
        "mendable",
        Cure::Hand(|_, meta, _| fs::remove_file(meta.join("limits.json")).unwrap()),
        |_, meta| fs::write(meta.join("limits.json"), "{").unwrap(),
    ),
    (
        "R1",
        "damage",
        Cure::Hand(|_, meta, copy| {
            fs::copy(copy.join(".dormouse/root.json"), meta.join("root.json")).unwrap();
        }),
        |_, meta| flip(&meta.join("root.json")),
    ),
    (
        "R3",
        "damage",
        Cure::Hand(|_, meta, _| fs::remove_dir(meta.join("root.lock")).unwrap()),
        |_, meta| {
            fs::remove_file(meta.join("root.lock")).unwrap();
            fs::create_dir(meta.join("root.lock")).unwrap();
        },
    ),
    ("R5", "damage", Cure::Hand(|run, _, _| mode(run.parent().unwrap(), 0o755)), |run, _| {
        mode(run.parent().unwrap(), 0o777);
    }),
    (
        "D25",
        "damage",
        Cure::Hand(|_, meta, _| fs::remove_file(meta.join("archive/x.dormouse")).unwrap()),
        |_, meta| {
            fs::create_dir_all(meta.join("archive")).unwrap();
            fs::write(meta.join("archive/x.dormouse"), "dormouse-export/1\n").unwrap();
        },
    ),
    ("D26", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("removed")).unwrap();
        fs::write(meta.join("removed/r"), "").unwrap();
    }),
    ("D27", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("removed")).unwrap();
        fs::write(meta.join("removed/x"), "").unwrap();
    }),
    ("X4", "mendable", Cure::Printed, |_, meta| fs::write(meta.join("index.db"), "junk").unwrap()),
    ("X6", "mendable", Cure::Printed, |run, _| copy(run, &run.with_file_name("s"))),
    ("X7", "mendable", Cure::Printed, |run, _| fs::remove_dir_all(run).unwrap()),
];

fn flip_second(run: &Path) {
    edit(&journal(run), |bytes| {
        let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 100;
        bytes[second] ^= 1;
    });
}

fn reword(file: &Path, from: &str, to: &str) {
    edit(file, |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace(from, to).into_bytes();
    });
}

fn copy_tree(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// A run that nobody told the index about: its id stands in its records, so it is made elsewhere.
fn copy(run: &Path, to: &Path) {
    let other = Cli::waiting();
    other.run("run create --run-id s").ok();
    copy_tree(&other.root().join("s"), to);
    assert!(run.exists());
}

fn labels(report: &Value) -> BTreeSet<String> {
    report["counts"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_sound_root_has_no_defect_and_nothing_is_written() {
    let cli = under_way();
    let before = cli.tree();
    let report = cli.run("fsck --json").ok().json();
    assert_eq!(report["defects"], Value::Array(vec![]), "{report:#}");
    assert_eq!((report["runs"].as_u64(), report["worst"].is_null()), (Some(1), true));
    cli.run("fsck").ok();
    cli.run("fsck r").ok();
    assert_eq!(cli.tree(), before);
}

#[test]
fn every_planted_defect_is_named_and_what_is_printed_mends_it() {
    let template = under_way();
    let truth = told(&template);
    let (todo, missed) = (Mutex::new(DEFECTS.iter()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = todo.lock().unwrap().next();
            let Some(defect) = next else { break };
            let tried = std::panic::catch_unwind(|| try_one(defect, &template, &truth));
            if tried.is_err() {
                missed.lock().unwrap().push(defect.0);
            }
        }
    };
    // Most of the time goes by waiting for syncs.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed:?}");
}

fn try_one((label, severity, cure, plant): &Defect, template: &Cli, truth: &[Value]) {
    let (cli, backup) = (Cli::new(), template.root());
    copy_tree(&backup, &cli.root());
    let (run, meta) = (cli.root().join("r"), cli.root().join(".dormouse"));
    plant(&run, &meta);
    let (before, planted) = (cli.tree(), picture(&cli));
    let exit = match *severity {
        "note" => 0,
        "mendable" => 1,
        _ => 5,
    };
    let report = cli.run("fsck --json").exits(exit).json();
    assert_eq!(cli.tree(), before, "{label}: looking changes nothing");
    let defects = report["defects"].as_array().unwrap();
    let found = defects.iter().find(|defect| defect["label"] == *label);
    let found = found.unwrap_or_else(|| panic!("{label}: {report:#}"));
    assert_eq!(found["severity"], *severity, "{label}");
    cli.run(&format!("explain {label}")).ok();
    let next = found["next"][0].as_str().unwrap_or_default();
    match cure {
        Cure::None => return,
        Cure::Hand(mend) => {
            assert!(!next.is_empty(), "{label}: {found:#}");
            mend(&run, &meta, &backup);
        }
        Cure::Printed | Cure::Loss => follow(&cli, next),
        // Whoever has a copy loses nothing by it, whatever else would mend the run.
        Cure::Copy => {
            let with_copy = next.replace(" --from COPY", "");
            follow(&cli, &format!("{with_copy} --from {}", backup.display()));
        }
    }
    let after = cli.run("fsck --json").exits(0).json();
    assert!(!labels(&after).contains(*label), "{label}: {after:#}");
    if *label != "X7" {
        cli.run("run check r").ok();
        let kept = told(&cli);
        assert_eq!(kept, truth[..kept.len()], "{label}: another history");
        let nobody_was_told = matches!(*label, "J11" | "J12");
        let is_whole = kept.len() == truth.len();
        assert_eq!(is_whole, !matches!(cure, Cure::Loss) && !nobody_was_told || is_beyond(label));
    }
    if next.contains("repair-journal") {
        cli.run("repair undo r").ok();
        let differs: Vec<_> = planted.iter().filter(|file| !picture(&cli).contains(file)).collect();
        assert!(differs.is_empty(), "{label}: {differs:#?}");
        let more = picture(&cli).into_iter().filter(|file| !planted.contains(file));
        // Whoever locks a run makes the file for it.
        let more: Vec<_> = more.filter(|(path, _)| !path.ends_with("run.lock")).collect();
        assert!(more.is_empty(), "{label}: {more:#?}");
        let again = cli.run("fsck --json").exits(exit).json();
        assert!(labels(&again).contains(*label), "{label}: {again:#}");
    }
}

/// What is lost are bytes that were planted behind the last record.
fn is_beyond(label: &str) -> bool {
    matches!(label, "J14" | "J23" | "J24" | "J33")
}

/// What the journal tells, without what repairs added.
fn told(cli: &Cli) -> Vec<Value> {
    let events = cli.run("run events r --json").json()["events"].as_array().unwrap().clone();
    let is_told = |event: &Value| {
        !matches!(event["type"].as_str().unwrap(), "JOURNAL_REPAIRED" | "EFFECT_UNCERTAIN")
    };
    let told = events.into_iter().filter(is_told);
    told.map(|event| serde_json::json!([event["seq"], event["type"], event["data"]])).collect()
}

/// Runs a command that was printed; one that only shows a plan prints the one that does it.
fn follow(cli: &Cli, next: &str) {
    let Some(command) = next.strip_prefix("dormouse ") else {
        assert!(next.starts_with("chmod") || next.starts_with("rm -r"), "no command: {next}");
        let done = std::process::Command::new("sh").args(["-c", next]).status();
        return assert!(done.unwrap().success());
    };
    if command == "audit" {
        return drop(cli.run("audit").exits(1));
    }
    if !command.starts_with("run repair-journal") {
        return drop(cli.run(command).ok());
    }
    let shown = cli.run(command).exits(1);
    let next = shown.err.lines().rev().find_map(|line| line.strip_prefix("next: dormouse "));
    cli.run(next.unwrap_or_else(|| panic!("{shown:?}"))).ok();
}

/// The files of the run, byte for byte, without what was set aside. An editor's copy has another
/// mode, which nobody restores.
fn picture(cli: &Cli) -> Vec<(String, String)> {
    let files = cli.tree().into_iter().filter_map(|(path, what)| {
        let (mode, bytes) = what.split_once(' ')?;
        let is_ours = path.contains("/r/") && !path.contains("quarantine") && mode != "directory";
        is_ours.then(|| (path, bytes.to_owned()))
    });
    files.collect()
}

#[test]
fn a_run_is_checked_by_itself_wherever_it_stands() {
    let cli = under_way();
    let away = tempfile::tempdir().unwrap();
    let there = away.path().join("r");
    copy_tree(&cli.root().join("r"), &there);
    cli.run(&format!("fsck {}", there.display())).ok();
    flip(&journal(&there));
    let report = cli.run(&format!("fsck {} --json", there.display())).exits(5).json();
    assert_eq!(report["worst"], "damage");
    cli.run("fsck nobody").exits(3);
    cli.run(&format!("fsck {}", cli.root().display())).ok();
}

#[test]
fn one_damaged_run_hides_no_other() {
    let cli = under_way();
    cli.run("run create --run-id s").ok();
    flip(&journal(&cli.root().join("r")));
    fs::remove_file(cli.root().join("s/run.json")).unwrap();
    let report = cli.run("fsck --json").exits(5).json();
    let of = |run: &str| report["defects"].as_array().unwrap().iter().any(|d| d["runId"] == run);
    assert!(of("r") && of("s"), "{report:#}");
    assert_eq!(report["runs"], 2);
    let quiet = cli.run("fsck --quiet --json").exits(5).json();
    assert!(quiet["defects"].as_array().unwrap().iter().all(|d| d["severity"] != "note"));
}

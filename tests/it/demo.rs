//! The demo: the first thing anyone runs. In an empty directory, with nobody there to ask.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str], dir: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.arg("demo").args(args).current_dir(dir).env_clear();
    command.env("TMPDIR", dir).env("HOME", dir.join("home"));
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

#[test]
fn the_demo_survives_its_kills_and_leaves_a_run_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let done = demo(&["--json"], dir.path());
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["completed"], true);
    assert_eq!(said["verdict"], "clean");
    assert_eq!(said["output"]["outcome"], "promoted");
    assert_eq!(said["output"]["risk"], 0.011, "a replay draws the same numbers on any machine");
    let kills = said["kills"].as_array().unwrap();
    assert_eq!(kills.len(), 2);
    assert_eq!(said["killedPid"], kills[0]["pid"]);
    for kill in kills {
        assert_eq!(kill["signal"], 9);
        assert!(kill["headAfter"].as_u64() >= kill["headBefore"].as_u64());
    }
    // A step without an exit code is one that was killed.
    let steps = said["steps"].as_array().unwrap();
    assert_eq!(steps.iter().filter(|s| s["exitCode"].is_null()).count(), 2);

    let run = said["runDir"].as_str().unwrap();
    let verify = Command::new(env!("CARGO_BIN_EXE_dormouse"))
        .args(["journal", "verify", run, "--json"])
        .output()
        .unwrap();
    assert!(verify.status.success());
    let verdict: Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!(verdict["verdict"], "clean");
    assert!(!dir.path().join("home").exists(), "the user's own root is not touched");
}

#[test]
fn the_demo_tells_its_story_without_colours_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let done = demo(&["--clean"], dir.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let story = String::from_utf8(done.stdout).unwrap();
    for line in ["$ kill -9 ", "the demo approves", "nothing lost", "--clean"] {
        assert!(story.contains(line), "{line} is missing in\n{story}");
    }
    assert!(!story.contains('\u{1b}'));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

//! The doctor says what is well and what is not, and leaves nothing behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::cli::Cli;

fn sign<'a>(report: &'a Value, name: &str) -> &'a Value {
    let signs = report["signs"].as_array().unwrap();
    signs.iter().find(|sign| sign["name"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

#[test]
fn a_sound_machine_is_well_and_nothing_is_left_behind() {
    let cli = Cli::waiting();
    let before = cli.tree();
    let report = cli.run("doctor --json").ok().json();
    let mut after = cli.tree();
    // The place for scratch files may stay, empty.
    after.retain(|path, _| !path.ends_with("/staging") || before.contains_key(path));
    assert_eq!(after, before);
    for name in ["clock", "hosts", "root", "root.json", "rename", "locks", "filesystem", "sync"] {
        assert_ne!(sign(&report, name)["health"], "ill", "{name}");
    }
    for sign in report["signs"].as_array().unwrap() {
        assert_eq!(sign["health"] == "well", sign["next"].is_null(), "{sign:#}");
    }
    cli.run("doctor").ok();
}

#[test]
fn what_is_ill_is_named_with_what_to_do() {
    let cli = Cli::waiting();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = cli.file("taken.toml", format!("[http]\nlisten = \"{address}\"\n"));
    let line = format!("doctor --json --config {}", config.display());
    assert_eq!(sign(&cli.run(&line).exits(1).json(), "port")["health"], "ill");
    drop(taken);
    cli.run(&line).ok();

    fs::set_permissions(cli.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let report = cli.run("doctor --json").exits(1).json();
    assert_eq!(sign(&report, "root")["health"], "ill");
    assert!(sign(&report, "root")["seen"].as_str().unwrap().contains("R5"), "{report:#}");
    fs::set_permissions(cli.root(), fs::Permissions::from_mode(0o700)).unwrap();

    let file = cli.root().join(".dormouse/root.json");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, "{}").unwrap();
    assert_eq!(sign(&cli.run("doctor --json").exits(1).json(), "root.json")["health"], "ill");
    fs::write(&file, whole).unwrap();
    cli.run("doctor").ok();
}

#[test]
fn a_root_that_is_not_there_is_no_illness() {
    let cli = Cli::new();
    assert_eq!(sign(&cli.run("doctor --json").ok().json(), "root")["health"], "weak");
    assert!(!cli.root().exists());
}

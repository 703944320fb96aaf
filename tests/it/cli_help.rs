//! The help of every command, frozen on purpose: a change of the command line shows as a change of
//! `fixtures/help/`. `UPDATE_GOLDEN=1` writes the files anew.

#![allow(clippy::disallowed_methods, reason = "these tests read and write their golden files")]

use crate::cli::{Cli, Ran};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/help")
}

fn help(cli: &Cli, words: &[String]) -> String {
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.push("--help");
    // The values of variables are shown; only their names belong to the surface.
    let mut command = cli.command(&args);
    command.env_remove("DORMOUSE_RUNS_ROOT").env("COLUMNS", "100");
    let ran = Ran::of(&args.join(" "), &command.output().unwrap()).ok();
    assert_eq!(ran.err, "", "{args:?}");
    ran.out
}

/// The names in the list of commands of a help text, with what is said about each.
fn listed(text: &str) -> Vec<(String, String)> {
    let list = text.split("\nCommands:\n").nth(1).unwrap_or("");
    let lines = list.lines().take_while(|line| !line.is_empty());
    let entry = |line: &str| {
        let (name, about) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        (name.to_owned(), about.trim().to_owned())
    };
    lines.filter(|line| !line.starts_with("   ")).map(entry).filter(|(n, _)| n != "help").collect()
}

/// Every command with its help, those that only hold others included.
fn surface(cli: &Cli) -> Vec<(Vec<String>, String)> {
    let mut todo = vec![Vec::new()];
    let mut all = Vec::new();
    while let Some(words) = todo.pop() {
        let text = help(cli, &words);
        for (name, about) in listed(&text) {
            assert!(!about.is_empty(), "{words:?} {name} says nothing about itself");
            let fits = about.len() <= 80 && !about.ends_with('.');
            assert!(fits && about.starts_with(char::is_uppercase), "{words:?} {name}: {about:?}");
            todo.push(words.iter().cloned().chain([name]).collect());
        }
        all.push((words, text));
    }
    all.sort();
    all
}

#[test]
fn the_help_of_every_command_is_what_it_was() {
    let cli = Cli::new();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names = BTreeSet::new();
    for (words, text) in surface(&cli) {
        let name = format!("{}.txt", [&["dormouse".to_owned()], &words[..]].concat().join("-"));
        let path = golden().join(&name);
        names.insert(name);
        if update {
            fs::create_dir_all(golden()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, text, "{}: UPDATE_GOLDEN=1 if this is meant", path.display());
    }
    let there = fs::read_dir(golden()).unwrap().map(|e| e.unwrap().file_name());
    let there: BTreeSet<String> = there.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(there, names, "a help text of a command that is gone");
}

#[test]
fn every_command_speaks_json_and_shows_how_it_is_used() {
    let cli = Cli::new();
    let all = surface(&cli);
    assert!(all.len() > 30, "{}", all.len());
    for (words, text) in &all {
        assert!(text.contains("\n      --json"), "{words:?} lacks --json");
        assert!(text.contains("Usage: dormouse"), "{words:?} lacks its usage");
        let shown = text.lines().all(|line| line.chars().count() <= 100);
        assert!(shown, "{words:?}: a line is longer than 100 columns");
        // With --json a usage error is one object, whatever the command.
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.extend(["--no-such-flag", "--json"]);
        let error = cli.args(&args).exits(2).error();
        assert_eq!(error["code"], "usage", "{args:?}");
    }
    let colons = all.iter().filter(|(words, _)| words.len() == 2);
    for (words, text) in colons {
        let spelled = words.join(":");
        assert_eq!(&help(&cli, &[spelled]), text, "the colon spelling is the same command");
    }
}

#[test]
fn every_exit_code_is_in_the_help() {
    let text = help(&Cli::new(), &[]);
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "70 ", "74 ", "130 "] {
        assert!(text.contains(&format!(" {code}")), "{code}");
    }
}

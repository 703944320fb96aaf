//! Workflow documents that are refused: each with all that is wrong with it, frozen on purpose.
//! `UPDATE_GOLDEN=1` writes the texts anew.

#![allow(clippy::disallowed_methods, reason = "these tests read and write their golden files")]

use crate::cli::Cli;
use dormouse::codecs::outline::Notation;
use dormouse::machines::workflow::cron::findings;
use dormouse::machines::workflow::finding::Finding;
use dormouse::machines::workflow::signatures::Signatures;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn documents(folder: &str) -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/workflows").join(folder);
    let mut all: Vec<_> = fs::read_dir(top).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|path| {
        let name = path.display().to_string();
        Notation::of(&name).is_some() && !name.ends_with(".story.json")
    });
    all.sort();
    assert!(!all.is_empty());
    all
}

/// Compares a text with its golden file, or writes it.
pub(crate) fn golden(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, text).unwrap();
    }
    let known = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(known, text, "{}", path.display());
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    for path in documents("refused") {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let findings = findings(&text, Notation::of(name).unwrap(), &Signatures::new(), false);
        assert!(findings.iter().any(Finding::is_error), "{name}");
        let told: Vec<String> = findings.iter().map(|f| f.print(name, &text)).collect();
        golden(&path.with_extension("findings.txt"), &(told.join("\n\n") + "\n"));
    }
}

/// The codes in the sources of the reader and of the planner.
fn codes() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machines/workflow");
    let mut codes = BTreeSet::new();
    let mut open: Vec<PathBuf> = vec![folder];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let fits = |c: char| c.is_ascii_uppercase() || c == '-';
        let words = text.split('"').skip(1).step_by(2);
        let words = words.filter_map(|w| w.split([':', ' ']).next());
        let is_code = |w: &&str| {
            let prefix = w.starts_with("E-") || w.starts_with("W-");
            prefix && w.len() > 3 && w.chars().all(fits)
        };
        codes.extend(words.filter(is_code).map(str::to_owned));
    }
    codes
}

#[test]
fn every_finding_is_explained_and_nothing_else() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workflows.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let told: BTreeSet<String> = rows
        .map(|(code, _)| code.to_owned())
        .filter(|code| code.starts_with("E-") || code.starts_with("W-"))
        .collect();
    let used = codes();
    assert!(used.contains("E-CYCLE") && used.contains("W-RACE"));
    assert_eq!(told, used);
}

#[test]
fn the_refused_documents_show_most_errors() {
    let all: BTreeSet<&str> = documents("refused")
        .iter()
        .flat_map(|path| {
            let name = path.display().to_string();
            let (text, notation) =
                (fs::read_to_string(path).unwrap(), Notation::of(&name).unwrap());
            findings(&text, notation, &Signatures::new(), false)
        })
        .map(|finding: Finding| finding.code)
        .collect();
    assert!(all.len() > 35, "{all:?}");
}

const GOOD: &str = r#"{"apiVersion":"aether/v1","kind":"Workflow","metadata":{"name":"good"},
"spec":{"entrypoint":"main","templates":[{"task":{"name":"main","executor":{"type":"work"}}}]}}"#;

#[test]
fn validate_says_it_with_its_exit_code() {
    let cli = Cli::new();
    let good = cli.file("good.json", GOOD);
    let bad = cli.file("bad.json", GOOD.replace("executor", "executer"));
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let ran = cli.args(&["workflow", "validate", &good]).exits(0);
    assert!(ran.out.ends_with("good.json: valid\n"), "{}", ran.out);
    let ran = cli.args(&["workflow", "validate", &good, &bad]).exits(6);
    assert!(ran.out.contains("did you mean \"executor\"?"), "{}", ran.out);
    let ran = cli.args(&["--json", "workflow", "validate", &bad]).exits(6);
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["valid"], false);
    let first = &told["findings"][1];
    assert_eq!(first["code"], "E-UNKNOWN-FIELD");
    assert_eq!(first["pointer"], "/spec/templates/0/task/executer");
    assert_eq!((first["line"].as_u64(), first["severity"].as_str()), (Some(2), Some("error")));
    let more = GOOD.replace("\"executor\"", "\"more\":1,\"executor\"");
    let more = cli.file("more.json", more).display().to_string();
    cli.args(&["workflow", "validate", &more]).exits(6);
    let lenient = format!("{more}#lenient");
    let ran = cli.args(&["workflow", "validate", &lenient]).exits(0);
    assert!(ran.out.contains("warning[E-UNKNOWN-FIELD]"), "{}", ran.out);
    cli.args(&["run", "create", "--entry", &more]).exits(6);
    cli.args(&["run", "create", "--entry", &lenient, "--run-id", "l"]).exits(0);
    cli.run("run drive l").exits(0);
    let shown = cli.run("--json run show l --snapshot").exits(0).json();
    assert_eq!(shown["x-dormouse"]["strictness"], "lenient");
    cli.args(&["run", "create", "--entry", &format!("{more}#other")]).exits(6);
    let odd = cli.file("odd.txt", GOOD).display().to_string();
    cli.args(&["workflow", "validate", &odd]).exits(2);
    cli.args(&["workflow", "validate", "/nowhere/x.json"]).exits(3);
    let schema = cli.args(&["workflow", "schema"]).exits(0);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert_eq!(schema["properties"]["kind"]["enum"][0], "Workflow");
}

#[test]
fn documents_are_drawn_and_played_through() {
    let cli = Cli::new();
    let good = cli.file("good.json", GOOD).display().to_string();
    let drawn = cli.args(&["workflow", "graph", &good]).exits(0);
    assert_eq!(drawn.out, "good (default)\n\ntask main ← entry\n  work\n");
    let svg = cli.args(&["workflow", "graph", &good, "--format", "svg"]).exits(0);
    assert!(svg.out.starts_with("<svg "), "{}", svg.out);
    let outcomes = cli.file("outcomes.json", r#"{"main": {"n": 1}}"#).display().to_string();
    let first = cli.args(&["workflow", "plan", &good]).exits(0);
    assert!(first.out.contains("asks main (work) {}\n"), "{}", first.out);
    assert!(first.out.ends_with("waits for ~deadline, main\n"), "{}", first.out);
    let whole = cli.args(&["--json", "workflow", "plan", &good, "--outcomes", &outcomes]).exits(0);
    let whole: serde_json::Value = serde_json::from_str(&whole.out).unwrap();
    assert_eq!((&whole["ended"], &whole["turns"][1]["end"]["n"]), (&true.into(), &1.into()));
    let bad = cli.file("bad.json", GOOD.replace("executor", "executer")).display().to_string();
    cli.args(&["workflow", "plan", &bad]).exits(6);
    cli.args(&["workflow", "graph", &bad]).exits(6);
}

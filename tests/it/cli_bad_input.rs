//! What the command line refuses: the exit code, what the message names, and that nothing on disk
//! has changed by it.

#![allow(clippy::disallowed_methods, reason = "these tests prepare and look at files")]

use crate::cli::{Cli, Ran, same_tree};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One refusal: the command line, its exit code, its code, and a part of its text.
type Refusal<'a> = (&'a str, i32, &'a str, &'a str);

/// Refuses one command line: nothing on standard output, one object on standard error, the disk as
/// it was. The same without `--json` says the same in words.
#[track_caller]
fn refuses(cli: &Cli, (line, exit, code, part): Refusal) {
    let before = cli.tree();
    let ran = cli.run(&format!("{line} --json"));
    assert_eq!(ran.code, exit, "{ran:?}");
    let error = ran.error();
    same_tree(&before, &cli.tree(), line);
    assert_eq!(error["code"], code, "{line}: {error}");
    let (what, next) = (error["message"].as_str().unwrap(), error["nextSteps"].to_string());
    assert!(what.contains(part) || next.contains(part), "{line}: {error} lacks {part:?}");
    assert!(!what.is_empty() && !what.contains('\n'), "{error}");
    let text = cli.run(line).exits(exit);
    assert_eq!(text.out, "", "{line}");
    // Wrapped lines of a usage error differ from the one line of the object.
    assert!(code == "usage" || text.err.contains(what), "{line}: {}", text.err);
}

#[track_caller]
fn table(cli: &Cli, rows: &[Refusal]) {
    let wrong: Vec<Refusal> = rows
        .iter()
        .filter(|row| catch_unwind(AssertUnwindSafe(|| refuses(cli, **row))).is_err())
        .copied()
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sources that cannot become a process.
const SOURCES: &[(&str, &str)] = &[
    ("common.js", "const fs = require('fs'); module.exports.process = () => 1;"),
    ("node.js", "import fs from 'node:fs';\nexport const process = () => fs;"),
    ("broken.js", "export const process = () => {"),
    ("enum.ts", "enum Colour { Red }\nexport const process = () => Colour.Red;"),
    ("bare.js", "import x from 'left-pad';\nexport const process = () => x;"),
    ("missing.js", "import x from './nowhere.js';\nexport const process = () => x;"),
    ("escape.js", "import x from '../../../../etc/passwd';\nexport const process = () => x;"),
    ("throws.js", "throw new Error('at the top');\nexport const process = () => 1;"),
    ("value.js", "export const process = 1;"),
    ("nothing.js", "export const other = () => 1;"),
    ("empty.js", ""),
    ("binary.js", "\u{0}\u{1}export const process = () => 1;"),
    ("text.js", "export const process = () => 'never ends"),
    ("data.json", "{}"),
];

#[test]
fn code_that_cannot_run_creates_no_run() {
    let cli = Cli::with_run();
    for (name, source) in SOURCES {
        cli.file(name, source);
    }
    fs::create_dir(cli.path("directory")).unwrap();
    symlink("process.js", cli.path("link.js")).unwrap();
    symlink("/etc/passwd", cli.path("outside.js")).unwrap();
    symlink("round.js", cli.path("round.js")).unwrap();
    let mut wrong = Vec::new();
    let create = |entry: &str| format!("run create --entry {entry}");
    for (entry, exit, code, part) in [
        ("none.js", 3, "E_MODULE_NOT_FOUND", "none.js"),
        ("none/none.js", 3, "E_MODULE_NOT_FOUND", "none/none.js"),
        ("process.js/x.js", 3, "E_MODULE_NOT_FOUND", "process.js/x.js"),
        ("round.js", 3, "E_MODULE_NOT_FOUND", "round.js"),
        ("directory", 6, "E_MODULE_DIRECTORY", "directory"),
        ("process.js#nope", 6, "E_EXPORT_NOT_FOUND", "nope"),
        ("process.js#notAFunction", 6, "E_EXPORT_NOT_FUNCTION", "notAFunction"),
        ("value.js", 6, "E_EXPORT_NOT_FUNCTION", "process"),
        ("nothing.js", 6, "E_EXPORT_NOT_FOUND", "other"),
        ("empty.js", 6, "E_EXPORT_NOT_FOUND", "process"),
        ("common.js", 6, "E_COMMONJS", "common.js"),
        ("node.js", 6, "E_IMPORT_NODE", "node.js:1"),
        ("broken.js", 6, "E_SYNTAX", "broken.js"),
        ("enum.ts", 6, "E_TS_SYNTAX", "enum.ts:1"),
        ("bare.js", 6, "E_IMPORT_BARE", "left-pad"),
        ("missing.js", 3, "E_MODULE_NOT_FOUND", "./nowhere.js"),
        ("escape.js", 6, "E_IMPORT_ESCAPE", "escape.js:1"),
        ("outside.js", 6, "E_SYNTAX", "passwd:1"),
        ("text.js", 6, "E_SYNTAX", "text.js:1"),
        ("throws.js", 6, "E_MODULE_ERROR", "at the top"),
        ("binary.js", 6, "E_SYNTAX", "binary.js"),
        ("data.json", 6, "E_ENTRY", "data.json"),
        ("#process", 6, "E_ENTRY", "#process"),
    ] {
        let row = AssertUnwindSafe(|| refuses(&cli, (&create(entry), exit, code, part)));
        wrong.extend(catch_unwind(row).err().map(|_| entry));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    for flag in ["--process-root none", "--library-root none --entry bare.js", "--process-id="] {
        let ran = cli.run(&format!("run create --entry process.js {flag} --json"));
        assert!(ran.code != 0, "{ran:?}");
    }
    cli.run("run create --entry link.js").ok();
}

#[test]
fn a_refused_creation_makes_no_root() {
    let cli = Cli::new();
    cli.file("throws.js", "throw new Error('at the top');\nexport const process = () => 1;");
    let error = cli.run("run create --entry throws.js --json").exits(6).error();
    assert_eq!(error["code"], "E_MODULE_ERROR");
    assert!(!cli.root().exists(), "a refused creation makes no root");
}

/// Texts that are not JSON, with a part of what is said about them.
const NOT_JSON: &[(&[u8], &str)] = &[
    (b"", "ends"),
    (b"{\"a\":1,\"a\":2}", "\"a\""),
    (b"{\"a\":1", "missing"),
    (b"[1,2", "missing"),
    (b"{\"a\":NaN}", "5"),
    (b"{\"a\":1}{", "7"),
    (b"{a:1}", "1"),
    (b"'text'", "0"),
    (b"[1,]", "3"),
    (b"\"\xff\xfe\"", "UTF-8"),
    (b"\"\\ud800\"", "surrogate"),
    (b"\xef\xbb\xbf{}", "0"),
    (b"01", "1"),
    (b"1e999999", ""),
    (b"\"\n\"", "1"),
];

#[test]
fn values_that_are_not_json_are_refused_wherever_they_come_from() {
    let cli = Cli::waiting();
    let deep = "[".repeat(101) + &"]".repeat(101);
    let mut cases: Vec<(&[u8], &str)> = NOT_JSON.to_vec();
    cases.push((deep.as_bytes(), "100"));
    for (bytes, part) in cases {
        cli.file("value", bytes);
        let before = cli.tree();
        for line in [
            "run create --entry process.js --inputs value --json",
            "run create --entry process.js --inputs - --json",
            "run assign-process r --entry process.js --inputs value --json",
            "task post r e0001 --status ok --value value --json",
            "task post r e0001 --status ok --value - --json",
            "run signal r go --value value --json",
        ] {
            let ran = cli.fed(line, bytes);
            let shown = String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(ran.code, 2, "{line} {shown}: {ran:?}");
            let error = ran.error();
            let what = error["message"].as_str().unwrap();
            assert!(what.contains("is not JSON") && what.contains(part), "{shown}: {what}");
            assert!(what.contains("--inputs") || what.contains("--value"), "{what}");
        }
        same_tree(&before, &cli.tree(), "a bad value");
    }
    let inline = ["task", "post", "r", "e0001", "--status", "ok", "--json", "--value-inline"];
    for text in ["", " ", "{", "nope"] {
        let error = cli.args(&[&inline[..], &[text]].concat()).exits(2).error();
        assert!(error["message"].as_str().unwrap().contains("--value-inline"), "{error}");
    }
}

#[test]
fn values_without_end_are_refused_without_reading_them() {
    let cli = Cli::waiting();
    let big = fs::File::create(cli.path("big.json")).unwrap();
    big.set_len(1 << 40).unwrap();
    let limit = "value_bytes_max";
    table(
        &cli,
        &[
            ("run create --inputs big.json", 6, "value_too_large", limit),
            ("run create --inputs /dev/zero", 6, "value_too_large", limit),
            ("task post r e0001 --status ok --value big.json", 6, "value_too_large", limit),
            ("task post r e0001 --status error --error big.json", 6, "value_too_large", limit),
            (
                "task post r e0001 --status ok --value-inline {} --stdout-file big.json",
                6,
                "value_too_large",
                limit,
            ),
            ("run signal r go --value big.json", 6, "value_too_large", limit),
            ("run create --inputs none.json", 3, "file_not_found", "none.json"),
            ("run create --inputs runs", 2, "usage", "--inputs"),
            ("task post r e0001 --status ok --value none", 3, "file_not_found", "none"),
        ],
    );
    cli.file("big.js", "");
    fs::File::options().write(true).open(cli.path("big.js")).unwrap().set_len(1 << 40).unwrap();
    refuses(&cli, ("run create --entry big.js", 6, "E_MODULE_LIMIT", "big.js"));
}

#[test]
fn ids_that_are_none_are_refused() {
    let cli = Cli::waiting();
    let long = "a".repeat(65);
    for id in ["../x", "a/b", ".hidden", "..", &long, "", "a b", "ä", "a\nb", "-"] {
        let args = ["run", "create", "--json", &format!("--run-id={id}")];
        let before = cli.tree();
        let ran = cli.args(&args);
        if id == "-" {
            continue;
        }
        let error = ran.exits(2).error();
        assert_eq!(error["code"], "run_id_invalid", "{id:?}");
        let what = error["message"].as_str().unwrap();
        assert!(id.is_empty() || id.contains('\n') || what.contains(id), "{id:?}: {what}");
        same_tree(&before, &cli.tree(), id);
    }
    table(
        &cli,
        &[
            ("run create --run-id r", 4, "run_exists", "dormouse run show r"),
            ("run create --entry process.js --run-id r", 4, "run_exists", "run r"),
            ("run status nothing", 3, "run_not_found", "dormouse run list"),
            ("run iterate nothing", 3, "run_not_found", "nothing"),
            ("run status ../x", 3, "run_not_found", "../x"),
            ("run status runs", 3, "run_not_found", "runs"),
            ("journal verify nothing", 3, "run_not_found", "nothing"),
            ("task post nothing e0001 --status error", 3, "run_not_found", "nothing"),
            ("task post r e0009 --status error", 3, "effect_not_found", "dormouse task list r"),
            ("task post r e0002 --status error", 3, "effect_not_found", "dormouse task list r"),
            ("task show r e0002", 3, "effect_not_found", "the last effect of this run is e0001"),
            ("task cancel r e0002", 3, "effect_not_found", "e0002"),
            ("breakpoint approve r e0002", 3, "effect_not_found", "e0002"),
            ("breakpoint approve r e0001", 2, "usage", "kind agent"),
            ("task post r x1 --status error", 2, "usage", "x1"),
            ("task post r e9 --status error", 2, "usage", "it looks like e0001"),
            ("task post r e99999999999 --status error", 2, "usage", "e99999999999"),
            ("task show r E0001", 2, "usage", "E0001"),
            ("run recover r --patch-effect e0001", 2, "usage", "EFFECT:PATH=JSON"),
            ("run recover r --patch-effect e0001:a..b=1", 2, "usage", "EFFECT:PATH=JSON"),
            ("run recover r --patch-effect e0001:a=b", 2, "usage", "--patch-effect"),
            ("run resume r", 4, "not_stopped", "run r"),
            ("run check nothing", 3, "run_not_found", "nothing"),
            ("explain nonsense", 3, "code_not_found", "nonsense"),
        ],
    );
    let empty = cli.args(&["run", "status", "", "--json"]).exits(2).error();
    assert_eq!(empty["code"], "run_id_invalid");
}

#[test]
fn words_that_are_no_commands_are_refused_with_what_is_near() {
    let cli = Cli::waiting();
    table(
        &cli,
        &[
            ("rum list", 2, "usage", "'run'"),
            ("run lst", 2, "usage", "'list'"),
            ("run:iterat r", 2, "usage", "'iterate'"),
            ("task:pst r e0001", 2, "usage", "'post'"),
            ("run iterate r --jsn", 2, "usage", "--json"),
            ("run iterate", 2, "usage", "<RUN>"),
            ("run iterate r extra", 2, "usage", "extra"),
            ("run create --entry", 2, "usage", "--entry"),
            ("task post r e0001", 2, "usage", "--status"),
            ("task post r e0001 --status maybe", 2, "usage", "ok, error"),
            ("task post r e0001 --status ok --value a --value-inline 1", 2, "usage", "--value"),
            ("task post r e0001 --status error --value-inline 1", 2, "usage", "--error FILE"),
            ("task post r e0001 --status ok --error x", 2, "usage", "--value FILE"),
            ("task post r e0001 --status error --stdout-ref a --stdout-file b", 2, "usage", "ref"),
            ("task post r e0001 --status error --epoch x", 2, "usage", "--epoch"),
            ("run events r --limit 0", 2, "usage", "0"),
            ("run halt r --final-status maybe", 2, "usage", "completed, failed"),
            ("run list --lock-timeout soon", 2, "usage", "--lock-timeout"),
            ("run list --runs-root=", 2, "usage", "--runs-root"),
            ("run create --idempotency-key=", 2, "usage", "--idempotency-key"),
            ("run create --tag=", 2, "usage", "--tag"),
            ("run signal r go --signal-id=", 2, "usage", "--signal-id"),
            ("task post r e0001 --status error --started-at noon", 2, "usage", "2026-11-20T12"),
            ("task post r e0009 --status error --dry-run", 3, "effect_not_found", "e0001"),
        ],
    );
}

#[test]
fn posts_that_do_not_fit_are_refused_and_kept_as_evidence() {
    let cli = Cli::waiting();
    let ok = "task post r e0001 --status ok --value-inline";
    let row = |rest: &str| format!("{ok} {rest}");
    refuses(&cli, (&row(r#"{"n":"x"}"#), 6, "value_invalid", "n to be number, got string"));
    refuses(&cli, (&row(r#"{"m":1}"#), 6, "value_invalid", "n"));
    refuses(&cli, (&row("7"), 6, "value_invalid", "object"));
    refuses(&cli, (&row(r#"{"n":1} --epoch 1"#), 4, "unknown_epoch", "1"));
    let key = row(r#"{"n":1} --invocation-key plan#1"#);
    refuses(&cli, (&key, 4, "invocation_key_mismatch", "plan#0"));
    let reference = row(r#"{"n":1} --stdout-ref tasks/none.log"#);
    refuses(&cli, (&reference, 3, "file_not_found", "tasks/none.log"));
    let escape = row(r#"{"n":1} --stdout-ref ../../inputs.json"#);
    refuses(&cli, (&escape, 6, "file_refused", "inside the run directory"));
    let missing = "task post r e0001 --status ok";
    refuses(&cli, (missing, 2, "value_missing", "--value-inline JSON"));
    let stale = cli.root().join("r/tasks/e0001/stale");
    let kept: Vec<_> = fs::read_dir(&stale).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(kept.len() >= 5, "{kept:?}");

    let first = cli.run(&row(r#"{"n":1} --json"#)).ok().json();
    let before = cli.tree();
    let again = cli.run(&row(r#"{"n":1} --json"#)).ok().json();
    assert_eq!((&again["repeat"], &again["seq"]), (&true.into(), &first["seq"]));
    assert_eq!(again["committed"], first["committed"]);
    same_tree(&before, &cli.tree(), "an equal post");
    refuses(&cli, (&row(r#"{"n":2}"#), 4, "effect_ended", "dormouse task show r e0001"));
    refuses(&cli, ("task post r e0001 --status error", 4, "effect_ended", "e0001"));
    refuses(&cli, ("task cancel r e0001", 4, "effect_ended", "e0001"));
}

#[test]
fn a_finished_run_takes_no_posts() {
    let cli = Cli::completed();
    table(
        &cli,
        &[
            ("task post r e0001 --status ok --value-inline 2", 4, "effect_ended", "e0001"),
            ("run signal r go", 4, "run_ended", "completed"),
            ("run cancel r", 4, "run_ended", "completed"),
            ("run pause r", 4, "run_ended", "completed"),
            ("run resume r", 4, "run_ended", "completed"),
            ("run assign-process r --entry process.js --force", 4, "run_ended", "completed"),
            ("run accept r --entry process.js --yes", 4, "run_ended", "completed"),
        ],
    );
    let same = r#"task post r e0001 --status ok --value-inline {"n":1} --json"#;
    assert_eq!(cli.run(same).ok().json()["repeat"], true);
}

#[test]
fn some_effects_are_not_posted() {
    let cli = Cli::new();
    cli.file("child.js", "export const process = (i, ctx) => ctx.signal('never');");
    let source = "import './child.js';\nexport const process = (i, ctx) => Promise.all([\
                  ctx.signal('go'), ctx.run('./child.js'), ctx.breakpoint({ question: 'q' })]);";
    cli.file("p.js", source);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    let ok = "--status ok --value-inline";
    table(
        &cli,
        &[
            (&format!("task post r e0001 {ok} 1"), 4, "not_postable", "dormouse run signal r NAME"),
            (&format!("task post r e0002 {ok} 1"), 4, "not_postable", "child"),
            (&format!("task post r e0003 {ok} \"no\""), 6, "value_invalid", "approved"),
            (&format!("task post r e0003 {ok} null"), 6, "value_invalid", "approved"),
        ],
    );
    let odd = cli.run(&format!("task post r e0003 {ok} {{\"response\":\"x\"}} --json")).ok();
    assert!(odd.json()["warnings"][0].as_str().unwrap().contains("approved"), "{odd:?}");
}

#[test]
fn links_in_the_place_of_files_are_refused() {
    for name in ["run.json", "journal", "journal/0000000001.jsonl", "run.lock"] {
        let cli = Cli::waiting();
        let path = cli.root().join("r").join(name);
        let real = cli.path("real");
        fs::rename(&path, &real).unwrap();
        symlink(&real, &path).unwrap();
        let before = cli.tree();
        for line in ["run iterate r", "task post r e0001 --status error", "run halt r"] {
            let ran = cli.run(line);
            assert!(matches!(ran.code, 5 | 6), "{name}: {ran:?}");
            assert!(ran.err.contains("[J61]") || ran.err.contains("[R3]"), "{name}: {ran:?}");
            assert!(ran.err.contains(name), "{name}: {ran:?}");
            same_tree(&before, &cli.tree(), &format!("{line} with a linked {name}"));
        }
    }
    let cli = Cli::waiting();
    fs::rename(cli.root().join("r"), cli.path("real")).unwrap();
    symlink(cli.path("real"), cli.root().join("r")).unwrap();
    table(
        &cli,
        &[
            ("run iterate r", 6, "J61", "not a plain directory"),
            ("run status r", 6, "J61", "not a plain directory"),
            ("run status runs/r", 6, "J61", "not a plain directory"),
            ("run create --run-id r", 4, "run_exists", "run r"),
        ],
    );
}

#[test]
fn roots_that_cannot_be_used_are_refused() {
    let cli = Cli::with_run();
    cli.file("file", "text");
    fs::create_dir(cli.path("open")).unwrap();
    fs::set_permissions(cli.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    for (line, codes) in [
        ("run create --runs-root file", &[2, 6][..]),
        ("run list --runs-root file", &[2, 6]),
        ("run create --runs-root file/below", &[2, 6]),
        ("run create --runs-root /proc/none", &[2, 3, 6, 74]),
        ("run create --runs-root /sys", &[2, 6, 74]),
        ("run create --runs-root open", &[6]),
    ] {
        let before = cli.tree();
        let ran = cli.run(&format!("{line} --json"));
        assert!(codes.contains(&ran.code), "{ran:?}");
        ran.error();
        same_tree(&before, &cli.tree(), line);
    }
}

#[test]
fn words_that_are_no_text_are_refused_or_taken_as_they_are() {
    let cli = Cli::waiting();
    let odd = OsStr::from_bytes(b"\xff");
    for args in [&["run", "status"][..], &["run", "create", "--run-id"], &["task", "show", "r"]] {
        let mut command = cli.command(args);
        let ran = Ran::of("", &command.arg(odd).arg("--json").output().unwrap());
        assert_eq!(ran.exits(2).error()["code"], "usage", "{args:?}");
    }
    // A path may have any name.
    let mut create = cli.command(&["run", "create", "--runs-root"]);
    Ran::of("run create", &create.arg(odd).output().unwrap()).ok();
    assert!(cli.dir.path().join(odd).is_dir());
}

#[test]
fn looking_makes_no_root() {
    let cli = Cli::new();
    assert_eq!(cli.run("run list --json").ok().out, "{\"runs\":[]}\n");
    cli.run("breakpoint list").ok();
    cli.run("run status r").exits(3);
    cli.run("journal verify r").exits(3);
    cli.run("run iterate r").exits(3);
    cli.run("task post r e0001 --status error").exits(3);
    assert!(cli.tree().is_empty(), "{:?}", cli.tree());
}

#[test]
fn another_user_cannot_write_and_is_told_so() {
    let cli = Cli::with_run();
    let root = cli.root();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o500)).unwrap();
    let create = cli.run("run create --json");
    // The superuser may write everywhere.
    if create.code != 0 {
        assert_eq!(create.exits(74).error()["code"], "storage_failed");
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
}

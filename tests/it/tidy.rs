//! The house rules, as tests: floors, homes of dangerous calls, headers, line and function length.
//!
//! Reads sources as text. Invariant: a rule that is written in `docs/architecture.md` and can be
//! checked here is checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who starts processes.
const STARTERS: &[&str] = &[
    "src/shells/host/",
    // Runners are children that outlive this process, and their commands are anybody's.
    "src/shells/runner/",
    "src/shells/command.rs",
    "src/shells/piped.rs",
    "src/shells/trial.rs",
    "src/doors/cli/demo/stage.rs",
    "src/doors/cli/worker/child.rs",
];

/// The floors, lowest first. A module imports only from floors before its own.
const FLOORS: &[&str] =
    &["ground", "codecs", "machines", "ports", "shells", "services", "daemon", "doors"];

/// Names no module may have: they say nothing about what is inside.
const BANNED_MODULES: &[&str] = &["utils", "util", "common", "types", "helpers", "misc", "error"];

/// Functions longer than this are refused.
const FUNCTION_LINES_MAX: usize = 70;
/// The ratchet: the longest function that exists. Lower it when you can, never raise it.
const LONGEST_FUNCTION_LINES: usize = 70;

const COLUMNS_MAX: usize = 100;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The text before the inline tests, without comment lines.
    fn code(&self) -> String {
        let before = self.text.split("#[cfg(test)]").next().unwrap_or("");
        let code = before.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.collect::<Vec<_>>().join("\n")
    }

    /// `floor::module` of a file below `src/`.
    fn module(&self) -> Option<(String, String)> {
        let mut parts = self.path.strip_prefix("src").ok()?.iter();
        let floor = parts.next()?.to_str()?.to_owned();
        let module = parts.next()?.to_str()?.trim_end_matches(".rs").to_owned();
        FLOORS.contains(&floor.as_str()).then_some((floor, module))
    }
}

fn collect(dir: &Path, extensions: &[&str], out: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, extensions, out);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            let text = fs::read_to_string(&path).unwrap();
            out.push(Source { path, text });
        }
    }
}

fn sources(roots: &[&str], extensions: &[&str]) -> Vec<Source> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut out = Vec::new();
    for root in roots {
        collect(Path::new(root), extensions, &mut out);
    }
    assert!(!out.is_empty());
    out
}

/// Every `crate::floor::module` a source names, in code.
fn imports(source: &Source) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for tail in source.code().split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let floor = word(tail);
        let Some(rest) = tail[floor.len()..].strip_prefix("::") else { continue };
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or("");
            found.extend(group.split(',').map(|m| (floor.clone(), word(m.trim()))));
        } else {
            found.insert((floor, word(rest)));
        }
    }
    found.retain(|(floor, _)| FLOORS.contains(&floor.as_str()));
    found
}

#[test]
fn imports_point_down() {
    let height = |floor: &str| FLOORS.iter().position(|f| *f == floor).unwrap();
    for source in sources(&["src"], &["rs"]) {
        let Some((floor, _)) = source.module() else { continue };
        for (target, module) in imports(&source) {
            assert!(
                height(&target) <= height(&floor),
                "{}: floor {floor} may not import {target}::{module}",
                source.name(),
            );
        }
    }
}

#[test]
fn no_cycles_between_modules_of_one_floor() {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources(&["src"], &["rs"]) {
        let Some((floor, module)) = source.module() else { continue };
        for (target, inner) in imports(&source) {
            if target == floor && inner != module && !module.starts_with("mod") {
                let to = edges.entry(format!("{floor}::{module}")).or_default();
                to.insert(format!("{floor}::{inner}"));
            }
        }
    }
    for start in edges.keys() {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![start]);
        while let Some(node) = todo.pop() {
            for next in edges.get(node).into_iter().flatten() {
                assert!(next != start, "{start} and {node} import each other");
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
    }
}

#[test]
fn dangerous_calls_stay_in_their_homes() {
    for (call, homes) in [
        ("std::fs", &["src/ports/disk/", "src/ports/process.rs"][..]),
        ("rustix::fs", &["src/ports/disk/"][..]),
        ("SystemTime", &["src/ground/clock.rs"][..]),
        ("Instant::now", &["src/ground/clock.rs"][..]),
        ("clock_gettime", &["src/ground/clock.rs"][..]),
        ("Command::new", STARTERS),
        ("println!", &["src/doors/"][..]),
        ("eprintln!", &["src/doors/"][..]),
        ("todo!", &[][..]),
        ("unimplemented!", &[][..]),
        ("dbg!", &[][..]),
        ("unsafe ", &["src/shells/host/", "src/shells/runner/child.rs"][..]),
    ] {
        for source in sources(&["src"], &["rs"]) {
            let name = source.name();
            if homes.iter().any(|home| name.starts_with(home)) {
                continue;
            }
            let code = source.code();
            let found = code.lines().find(|line| line.contains(call));
            assert!(found.is_none(), "{name}: {call} has another home: {found:?}");
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    for source in sources(&["src", "tests/it", "benches"], &["rs"]) {
        let name = source.name();
        assert!(source.text.starts_with("//!"), "{name} does not begin with //!");
        let header: String = source.text.lines().take_while(|l| l.starts_with("//!")).collect();
        let rooted = name.starts_with("src/") && source.module().is_some();
        assert!(!rooted || header.contains("nvariant"), "{name} states no invariant");
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        assert!(!BANNED_MODULES.contains(&stem), "{name}: a name that says nothing");
    }
}

#[test]
fn lines_fit() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "tests/it", "benches"], &["rs", "js"]) {
        for (number, line) in source.text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX || line.trim_end() != line {
                wrong.push(format!("{}:{}", source.name(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "longer than {COLUMNS_MAX} columns or space at the end: {wrong:#?}");
}

/// Lines of each function: from its `fn` to the brace that closes at the same indentation.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let head = bare.split("fn ").next().unwrap_or("");
        let is_fn = bare.contains("fn ")
            && head.split_whitespace().all(|w| {
                w.starts_with("pub")
                    || matches!(w, "const" | "async" | "unsafe" | "in" | "crate::machines)")
            });
        if !is_fn || bare.starts_with("//") {
            continue;
        }
        let indent = line.len() - bare.len();
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|l| *l == closing).map_or(1, |n| n + 1);
        let ends = |l: &&&str| l.ends_with('{') || l.ends_with(';') || l.ends_with('}');
        let signature_end = lines[start..].iter().find(ends);
        if signature_end.is_some_and(|l| l.ends_with('{')) {
            let name =
                bare.split("fn ").nth(1).unwrap_or("").split(['(', '<']).next().unwrap_or("");
            found.push((name.to_owned(), length));
        }
    }
    found
}

#[test]
fn functions_can_be_seen_whole() {
    let mut longest = (0, String::new());
    // Tables of cases in tests are data, and may be long.
    for source in sources(&["src", "benches"], &["rs"]) {
        for (name, length) in functions(&source) {
            let place = format!("{} {name}", source.name());
            assert!(length <= FUNCTION_LINES_MAX, "{place} has {length} lines");
            longest = longest.max((length, place));
        }
    }
    println!("longest function: {} lines ({})", longest.0, longest.1);
    assert!(longest.0 <= LONGEST_FUNCTION_LINES, "the longest function grew: {longest:?}");
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let roots = ["src", "docs", "fixtures", "runs-example", "benches"];
    for source in sources(&roots, &["rs", "js", "ts", "md", "json", "jsonl"]) {
        for word in ["/work/", "/root/", "/home/", "shared/reference", "babysitter-interop"] {
            assert!(!source.text.contains(word), "{} mentions {word}", source.name());
        }
    }
}

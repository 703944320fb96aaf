//! The documentation says what the sources say: codes, events, limits, links.
//!
//! Reads sources and pages as text. Invariant: a code without a page, a page without a code and a
//! link that leads nowhere fail here.

use dormouse::shells::commit_log::label::{LABELS, RUN_CASES};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a run is held: told like a code. Limits of hosts get their names at run time.
const HELD: &[&str] =
    &["diverged", "process_error", "host_failed", "limit:cpu", "limit:memory", "limit:journal"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap()
}

fn files(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

/// The sources without their inline tests and comments.
fn sources() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    files(&top().join("src"), "rs", &mut paths);
    files(&top().join("src"), "js", &mut paths);
    paths.retain(|path| !path.ends_with("tests.rs"));
    let code = |path: &Path| -> String {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or("");
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    paths.iter().map(|path| (path.display().to_string(), code(path))).collect()
}

/// The text literals that follow `before`, layout aside.
fn literals_after(text: &str, before: &str) -> Vec<String> {
    let after = text.split(before).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
    after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

/// All text literals that have no blank and no escape in them.
fn words(text: &str) -> Vec<String> {
    let odd = text.split('"').skip(1).step_by(2);
    odd.filter(|w| !w.is_empty() && !w.contains([' ', '\\', '{', '\n']))
        .map(str::to_owned)
        .collect()
}

fn is_label(word: &str) -> bool {
    let digits = word.strip_prefix(['J', 'R']).unwrap_or("");
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}

fn is_e_code(word: &str) -> bool {
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    word.strip_prefix("E_").is_some_and(|rest| rest.chars().all(upper))
}

/// Every code that a failure can carry.
fn used() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (path, code) in sources() {
        codes.extend(literals_after(&code, "Trouble::new("));
        codes.extend(literals_after(&code, "tracing::error!(code ="));
        codes.extend(literals_after(&code, "tracing::error!(%run, code ="));
        codes.extend(literals_after(&code, "self.hold("));
        codes.extend(
            ["[W1]", "[W2]", "[W3]", "[W4]"]
                .iter()
                .filter(|label| code.contains(**label))
                .map(|label| label.trim_matches(['[', ']']).to_owned()),
        );
        codes.extend(words(&code).into_iter().filter(|w| is_label(w) || is_e_code(w)));
        if path.contains("src/doors/cli") {
            codes.extend(literals_after(&code, "code:"));
        }
        if path.contains("src/doors/cli") || path.contains("src/services") {
            codes.extend(literals_after(&code, "Trouble { code:"));
            codes.extend(literals_after(&code, "Failure { exit: Exit::NotFound, code:"));
        }
        if path.contains("src/doors/http") {
            codes.extend(literals_after(&code, "Problem::new("));
            codes.extend(literals_after(&code, "Self::new("));
            codes.extend(literals_after(&code, "if damaged {"));
        }
        if path.ends_with("runs/trouble.rs") {
            codes.extend(literals_after(&code, "=> ("));
            codes.extend(literals_after(&code, "Kind::NoSpace =>"));
            codes.extend(literals_after(&code, "Kind::NotFound =>"));
            codes.extend(literals_after(&code, "_ =>"));
            codes.extend(literals_after(&code, "{ code:"));
            codes.extend(literals_after(&code, "NoSpace {"));
            codes.extend(literals_after(&code, "else {"));
        }
    }
    codes.extend(dormouse::shells::journal::scan::CASES.iter().map(|c| c.label().to_owned()));
    codes.extend(LABELS.iter().map(|label| label.as_str().to_owned()));
    codes.extend(RUN_CASES.iter().map(|case| case.as_str().to_owned()));
    codes.extend(dormouse::services::fsck::defect::FLAWS.iter().map(|f| f.label().to_owned()));
    codes.extend(HELD.iter().map(|reason| (*reason).to_owned()));
    codes
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let text = read("docs/errors.md");
    let pages: Vec<&str> =
        text.split("\n## ").skip(1).filter_map(|page| Some(page.split_once('\n')?.0)).collect();
    let unique: BTreeSet<String> = pages.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(unique.len(), pages.len(), "a code has two pages");
    let used = used();
    // The scan must not become blind.
    for known in ["lost_wake", "lock_lost", "W4", "limit:generations", "limit:journal"] {
        assert!(used.contains(known), "{known} was not found in the sources");
    }
    for known in ["run_exists", "stale_lease", "disk_full", "unknown_field", "E_IMPORT_NODE", "J52"]
    {
        assert!(used.contains(known), "{known} was not found in the sources");
    }
    let missing: Vec<_> = used.difference(&unique).collect();
    assert!(missing.is_empty(), "codes without a section in docs/errors.md: {missing:?}");
    let orphaned: Vec<_> = unique.difference(&used).collect();
    assert!(orphaned.is_empty(), "sections without a code in src: {orphaned:?}");
}

#[test]
fn every_label_has_a_section_in_the_repair_page() {
    let text = read("docs/repair.md");
    for case in dormouse::shells::journal::scan::CASES {
        assert!(text.contains(&format!("\n## {case}")), "docs/repair.md lacks {case}");
    }
    for plan in ["P1", "P2", "P3", "P5"] {
        assert!(text.contains(&format!("\n## {plan}")), "docs/repair.md lacks {plan}");
    }
}

#[test]
fn every_event_type_stands_in_the_formats() {
    let text = read("docs/formats.md");
    for name in dormouse::codecs::event::EVENT_TYPES {
        assert!(text.contains(&format!("`{name}`")), "docs/formats.md lacks {name}");
    }
}

#[test]
fn every_limit_stands_in_its_page_once() {
    let (code, page) = (read("src/ground/limits.rs"), read("docs/limits.md"));
    let names: Vec<&str> =
        code.split("pub const ").skip(1).filter_map(|rest| Some(rest.split_once(':')?.0)).collect();
    assert!(names.len() > 20);
    for name in names {
        let cell = format!("`{name}`");
        let rows = page.lines().filter(|l| l.split('|').nth(1).is_some_and(|c| c.contains(&cell)));
        assert_eq!(rows.count(), 1, "rows of {name} in docs/limits.md");
    }
}

/// The targets of the Markdown links of a page, code aside.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let after = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    after.map(str::to_owned).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).any(|a| a == wanted)
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = vec![top().join("README.md"), top().join("runs-example/README.md")];
    files(&top().join("docs"), "md", &mut pages);
    let mut found = 0;
    for page in &pages {
        for link in links(&fs::read_to_string(page).unwrap()) {
            if link.contains("://") {
                continue;
            }
            found += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            let anchored = fragment.is_empty() || has_anchor(&target, fragment);
            assert!(anchored, "{}: {link}: no such heading", page.display());
        }
    }
    assert!(found > 10);
}

#[test]
fn pages_fit_and_speak_of_this_project_only() {
    let mut pages = vec![top().join("README.md")];
    files(&top().join("docs"), "md", &mut pages);
    for page in &pages {
        for (n, line) in fs::read_to_string(page).unwrap().lines().enumerate() {
            let place = format!("{}:{}", page.display(), n + 1);
            assert!(line.chars().count() <= 120, "{place}: longer than 120 columns");
        }
    }
    assert!(read("README.md").lines().count() <= 200);
}

#[test]
fn the_tests_that_guarantees_name_exist() {
    let page = read("docs/guarantees.md");
    let mut sources = Vec::new();
    files(&top().join("src"), "rs", &mut sources);
    files(&top().join("tests"), "rs", &mut sources);
    let all: String = sources.iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    let mut named = 0;
    for paragraph in page.split("\n\n").filter(|p| p.starts_with("Tests:")) {
        for name in paragraph.split('`').skip(1).step_by(2) {
            named += 1;
            assert!(all.contains(&format!("fn {name}(")), "no test is called {name}");
        }
    }
    assert!(named > 20);
}

//! Pinning, over the trees in `fixtures/modules`: which files a process consists of, and which
//! processes are refused with what text.

#![allow(clippy::disallowed_methods, reason = "this test is the reader of its own fixtures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use dormouse::codecs::event::Profile;
use dormouse::ground::digest::Digest;
use dormouse::shells::pin::{
    EntrySpec, FileKind, PinError, PinLock, PinRequest, PinnedGraph, SourceReader, VerifyError, pin,
};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Sources on the real disk.
pub(crate) struct OnDisk;

impl SourceReader for OnDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        match fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(FileKind::File(found.len())),
            Ok(found) if found.is_dir() => Ok(FileKind::Directory),
            Ok(_) => Ok(FileKind::Missing),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(FileKind::Missing)
            }
            Err(e) => Err(e),
        }
    }
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Some(entry.ok()?.file_name().into_string());
        Ok(fs::read_dir(directory)?.filter_map(name).filter_map(Result::ok).collect())
    }
}

/// Sources in memory: path → content. No links.
struct InMemory(BTreeMap<PathBuf, Vec<u8>>);

impl InMemory {
    fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| (PathBuf::from(path), text.as_bytes().to_vec());
        Self(files.iter().map(file).collect())
    }
}

impl SourceReader for InMemory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        Ok(match self.0.get(path) {
            Some(content) => FileKind::File(content.len() as u64),
            None if self.0.keys().any(|key| key.starts_with(path)) => FileKind::Directory,
            None => FileKind::Missing,
        })
    }
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let below = self.0.keys().filter_map(|key| key.strip_prefix(directory).ok());
        let first = |path: &Path| path.iter().next()?.to_str().map(str::to_owned);
        let mut names: Vec<_> = below.filter_map(first).collect();
        names.dedup();
        Ok(names)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/modules")
}

fn request(entry: &str) -> PinRequest {
    let spec = EntrySpec::parse(entry).unwrap();
    PinRequest::of(EntrySpec { path: fixtures().join(spec.path), ..spec })
}

fn graph(entry: &str) -> PinnedGraph {
    pin(&OnDisk, &request(entry)).unwrap_or_else(|e| panic!("{e}"))
}

fn paths(graph: &PinnedGraph) -> Vec<&str> {
    graph.files.iter().map(|file| file.path.as_str()).collect()
}

fn edges<'g>(graph: &'g PinnedGraph, path: &str) -> Vec<(&'g str, &'g str)> {
    let file = graph.file(path).unwrap();
    file.edges.iter().map(|edge| (edge.specifier.as_str(), edge.path.as_str())).collect()
}

/// Loads the graph again from nothing but its lock and its files.
fn again(graph: &PinnedGraph) -> PinnedGraph {
    let lock = PinLock::read(graph.lock().print().as_bytes()).unwrap();
    let process = graph.process_ref(None);
    PinnedGraph::verify(&lock, &process, &mut |path| Ok(graph.file(path).unwrap().bytes.clone()))
        .unwrap()
}

#[test]
fn a_graph_holds_what_the_entry_reaches() {
    let plain = graph("plain/processes/build.js#process");
    assert_eq!(
        paths(&plain),
        ["lib/plan-impl.mjs", "lib/plan.js", "lib/rules.json", "processes/build.js"]
    );
    assert_eq!(plain.entry, "processes/build.js");
    assert_eq!(plain.export_name.as_deref(), Some("process"));
    assert_eq!(plain.api, Profile::Dormouse);
    assert_eq!(plain.warnings, [""; 0]);
    assert_eq!(edges(&plain, "lib/plan.js"), [("./plan-impl", "lib/plan-impl.mjs")]);
    assert_eq!(plain.process_ref(None).process_id, "build");
    let entry = plain.modules().into_iter().find(|m| m.path == plain.entry).unwrap();
    assert!(entry.source.starts_with("import { defineTask }"));
    assert_eq!(entry.imports.len(), 2, "built-in modules are not resolved to files");
}

#[test]
fn typescript_is_found_by_the_names_that_authors_write() {
    let typed = graph("typescript/main.ts");
    assert_eq!(
        edges(&typed, "main.ts"),
        [
            ("./helper.js", "helper.ts"),
            ("./data", "data.json"),
            ("./kit", "kit/index.ts"),
            ("./last.mjs", "last.mts"),
        ]
    );
    assert_eq!(edges(&typed, "kit/index.ts"), [("./steps", "kit/steps.mts")]);
    assert_eq!(edges(&typed, "kit/steps.mts"), [("../helper", "helper.ts")]);
    assert!(typed.file("helper.ts").unwrap().bytes.ends_with(b"`step ${n}`;\n"), "not stripped");
}

#[test]
fn the_sdk_anywhere_in_the_graph_selects_the_profile() {
    let sdk = graph("sdk/.a5c/processes/review.mjs");
    assert_eq!(sdk.api, Profile::Babysitter);
    assert_eq!(paths(&sdk), ["processes/review.mjs", "processes/tasks.js"]);
    assert_eq!(paths(&graph("cycle/a.js")), ["a.js", "b.js"]);
}

#[test]
fn child_runs_share_the_pinned_copy() {
    let parent = graph("children/parent.js");
    assert_eq!(paths(&parent), ["child/checks.js", "parent.js"]);
    assert_eq!(parent.api, Profile::Dormouse, "what a child imports does not count");
    assert_eq!(parent.warnings.len(), 1, "{:?}", parent.warnings);
    assert!(parent.warnings[0].starts_with("parent.js:3:42: \"./child/gone.js\" does not exist"));
    assert_eq!(parent.resolve("parent.js", "./child/checks.js"), Some("child/checks.js"));
    assert_eq!(parent.resolve("parent.js", "./child/gone.js"), None);
    let child = parent.with_entry("child/checks.js", None).unwrap();
    assert_eq!(child.api, Profile::Babysitter);
    assert_eq!(child.digest, parent.digest);
    assert!(parent.with_entry("child/gone.js", None).is_none());
}

#[test]
fn computed_imports_are_pinned_by_pattern() {
    let mut wanted = request("computed/process.js");
    let found = pin(&OnDisk, &wanted).unwrap();
    assert_eq!(paths(&found), ["fixed.js", "process.js"]);
    assert!(found.warnings[0].starts_with("process.js:2:22: a computed import()"));
    for pattern in ["steps/*.js", "./steps/?.js", "**/*.js"] {
        wanted.extra = vec![pattern.to_owned()];
        let found = pin(&OnDisk, &wanted).unwrap();
        let all = ["fixed.js", "process.js", "steps/a.js", "steps/b.js", "steps/deep/shared.js"];
        assert_eq!(paths(&found), all, "{pattern}");
        assert_eq!(found.resolve("process.js", "./steps/b.js"), Some("steps/b.js"));
    }
    for (pattern, why) in [("../*.js", "leaves"), ("/x", "leaves"), ("steps/*.ts", "no file")] {
        wanted.extra = vec![pattern.to_owned()];
        let error = pin(&OnDisk, &wanted).unwrap_err();
        assert_eq!(error.code, "E_PIN_GLOB");
        assert!(error.message.contains(why), "{error}");
    }
}

#[test]
fn the_library_is_pinned_beside_the_process() {
    let mut wanted = request("library/process.js");
    wanted.library_root = Some(fixtures().join("library-root"));
    let found = pin(&OnDisk, &wanted).unwrap();
    let place = "node_modules/@a5c-ai/babysitter-library";
    let library = ["least.js", "loops/rounds.js"].map(|path| format!("{place}/{path}"));
    assert_eq!(paths(&found), [library[0].as_str(), library[1].as_str(), "process.js"]);
    let again = again(&found);
    assert_eq!(again.files, found.files);
}

#[test]
fn refusals_say_where_why_and_what_instead() {
    let rows = [
        ("node-fs.js", "node-fs.js:2:16: E_IMPORT_NODE: \"node:fs\"", "JSON or relative import"),
        ("node-path.js", "node-path.js:1:22: E_IMPORT_NODE: \"path\"", "import.meta.url"),
        ("node-os.js", "node-os.js:1:50: E_IMPORT_NODE: \"node:os\"", "shell or node task"),
        ("node-crypto.js", "node-crypto.js:1:39: E_IMPORT_NODE: \"crypto\"", "ctx.uuid"),
        ("node-other.js", "node-other.js:1:18: E_IMPORT_NODE", "not available in processes"),
        ("bare.js", "bare.js:1:15: E_IMPORT_BARE: \"lodash\"", "relative path"),
        ("url.js", "url.js:1:15: E_IMPORT_BARE: \"https://example.org/x.js\"", "relative path"),
        ("subpath.js", "subpath.js:1:28: E_IMPORT_SUBPATH", "defineTask, agentTask"),
        ("library.js", "library.js:1:24: E_IMPORT_LIBRARY", "library_root"),
        ("missing.js", "missing.js:1:24: E_MODULE_NOT_FOUND", "did you mean helper.js?"),
        ("directory.js", "directory.js:1:24: E_MODULE_DIRECTORY: \"./parts\"", "name the file"),
        ("escape.js", "escape.js:1:22: E_IMPORT_ESCAPE", "--process-root"),
        ("text.js", "text.js:1:19: E_MODULE_KIND: \"./notes.txt\" is not a module", ".json files"),
        ("attribute.js", "attribute.js:1:24: E_IMPORT_ATTRIBUTE", "remove"),
        ("commonjs.js", "parts/old.js:1:16: E_COMMONJS: `require`", "import"),
        ("syntax.js", "parts/broken.js:2:13: E_SYNTAX", ""),
        ("enum.ts", "enum.ts:1:1: E_TS_SYNTAX: an enum cannot be erased", "as const"),
        ("json.js", "parts/broken.json:2:11: E_SYNTAX: not valid JSON", "no comments"),
    ];
    for (entry, starts, names) in rows {
        let said = pin(&OnDisk, &request(&format!("refused/{entry}"))).unwrap_err().to_string();
        assert!(said.starts_with(starts), "{said}\nwanted {starts}");
        assert!(said.contains(names), "{said}\nwanted {names}");
    }
    let all = fs::read_dir(fixtures().join("refused")).unwrap();
    let modules = all.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|end| end == "js" || end == "ts")
    });
    assert_eq!(modules.count(), rows.len(), "every refused fixture has a row");
}

#[test]
fn entries_that_are_no_modules_are_refused() {
    for (entry, code, names) in [
        ("plain/processes/biuld.js", "E_MODULE_NOT_FOUND", "did you mean build.js?"),
        ("computed", "E_MODULE_DIRECTORY", "computed/process.js?"),
        ("plain/processes", "E_MODULE_DIRECTORY", "name the file"),
        ("plain/lib/rules.json", "E_ENTRY", "data, not code"),
        ("refused/notes.txt", "E_MODULE_KIND", "not a module"),
    ] {
        let error = pin(&OnDisk, &request(entry)).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(names), "{error}");
    }
}

#[test]
fn the_process_root_is_the_nearest_marked_directory() {
    let source = "export const process = () => 1;";
    let rooted = |mark: &str, entry: &str| {
        let reader = InMemory::of(&[(mark, ""), (entry, source)]);
        let request = PinRequest::of(EntrySpec::parse(entry).unwrap());
        pin(&reader, &request).unwrap().root
    };
    for mark in ["/a/.git/HEAD", "/a/.a5c/x", "/a/dormouse.toml", "/a/package.json"] {
        assert_eq!(rooted(mark, "/a/b/c/p.js"), "/a", "{mark}");
    }
    assert_eq!(rooted("/a/b/c/package.json", "/a/b/c/p.js"), "/a/b/c");
    assert_eq!(rooted("/a/other.toml", "/a/b/c/p.js"), "/a/b/c", "no mark: its own directory");

    // Without a mark the root is as wide as the imports need, and that is said.
    let tree = [("/a/shared/x.js", "export const x = 1;"), ("/a/b/p.js", "")];
    let mut files: Vec<(&str, &str)> = tree.to_vec();
    files[1].1 = "import { x } from \"../shared/x.js\"; export const process = () => x;";
    let reader = InMemory::of(&files);
    let wide = pin(&reader, &PinRequest::of(EntrySpec::parse("/a/b/p.js").unwrap())).unwrap();
    assert_eq!((wide.root.as_str(), wide.entry.as_str()), ("/a", "b/p.js"));
    assert!(wide.warnings[0].contains("no project root"), "{:?}", wide.warnings);

    let mut wanted = request("plain/processes/build.js");
    wanted.root = Some(fixtures());
    assert_eq!(pin(&OnDisk, &wanted).unwrap().entry, "plain/processes/build.js");
    wanted.root = Some(fixtures().join("plain/processes"));
    assert_eq!(pin(&OnDisk, &wanted).unwrap_err().code, "E_IMPORT_ESCAPE");
    wanted.root = Some(fixtures().join("cycle"));
    assert_eq!(pin(&OnDisk, &wanted).unwrap_err().code, "E_IMPORT_ESCAPE");
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    fs::create_dir_all(at("root/lib")).unwrap();
    fs::write(at("secret.js"), "export const x = 1;").unwrap();
    fs::write(at("root/lib/inner.js"), "export const x = 1;").unwrap();
    fs::write(at("root/package.json"), "{}").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(at(to), at(name)).unwrap();
    let pin_with = |import: &str| {
        let text = format!("import {{ x }} from \"{import}\";\nexport const process = () => x;");
        fs::write(at("root/p.js"), text).unwrap();
        pin(&OnDisk, &PinRequest::of(EntrySpec { path: at("root/p.js"), export_name: None }))
    };
    link("secret.js", "root/out.js");
    let error = pin_with("./out.js").unwrap_err();
    assert!(error.to_string().starts_with("p.js:1:19: E_IMPORT_ESCAPE"), "{error}");
    link("root/lib", "root/inside");
    let inside = pin_with("./inside/inner.js").unwrap();
    assert_eq!(paths(&inside), ["inside/inner.js", "p.js"]);
    // The root itself may be reached through a link, and an entry too.
    link("root", "alias");
    link("root/p.js", "entry.js");
    for path in ["alias/p.js", "entry.js"] {
        let found = pin(&OnDisk, &PinRequest::of(EntrySpec { path: at(path), export_name: None }));
        assert_eq!(found.unwrap().digest, inside.digest);
    }
}

#[test]
fn nothing_takes_the_place_of_the_lock() {
    let source = "import a from './process.lock.json';\nexport const process = () => a;";
    let reader = InMemory::of(&[("/r/p.js", source), ("/r/process.lock.json", "{}")]);
    let request = PinRequest::of(EntrySpec::parse("/r/p.js").unwrap());
    let error = pin(&reader, &request).unwrap_err();
    assert_eq!((error.code, error.site.unwrap().line), ("E_MODULE_READ", 1));
}

#[test]
fn graphs_are_bounded() {
    let mut files = vec![("/r/package.json".to_owned(), String::new())];
    let mut main = String::new();
    for n in 0..512 {
        files.push((format!("/r/m{n}.js"), String::new()));
        main.push_str("import './m");
        main.push_str(&n.to_string());
        main.push_str(".js';\n");
    }
    files.push(("/r/p.js".to_owned(), main));
    let rows: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let request = PinRequest::of(EntrySpec::parse("/r/p.js").unwrap());
    let error = pin(&InMemory::of(&rows), &request).unwrap_err();
    assert_eq!(error.code, "E_MODULE_LIMIT");
    assert!(error.message.contains("module_files_max"), "{error}");

    let large = format!("export const x = '{}';", "x".repeat(16 * 1024 * 1024));
    let error = pin(&InMemory::of(&[("/r/p.js", &large)]), &request).unwrap_err();
    assert!(error.message.contains("module_bytes_max"), "{error}");
}

#[test]
fn equal_sources_have_equal_digests_wherever_they_lie() {
    let source = "export const process = () => 1;";
    let one = InMemory::of(&[("/a/package.json", ""), ("/a/p.js", source)]);
    let two = InMemory::of(&[("/b/c/package.json", ""), ("/b/c/p.js", source)]);
    let pinned = |reader: &InMemory, path: &str| {
        pin(reader, &PinRequest::of(EntrySpec::parse(path).unwrap())).unwrap()
    };
    let (one, two) = (pinned(&one, "/a/p.js"), pinned(&two, "/b/c/p.js"));
    assert_ne!(one.root, two.root);
    assert_eq!(one.digest, two.digest);
    let hex = Digest::of(source.as_bytes()).hex();
    let line = format!("p.js\0{}\0{hex}\n", source.len());
    assert_eq!(one.digest, Digest::of(line.as_bytes()));
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_stops_to_be() {
    let mut reader = InMemory::of(&[("/r/p.js", "import './q.js';")]);
    let latin1 = b"export const a = 1;\nexport const b = \"\xff\";\n";
    reader.0.insert(PathBuf::from("/r/q.js"), latin1.to_vec());
    let request = PinRequest::of(EntrySpec::parse("/r/p.js").unwrap());
    let error = pin(&reader, &request).unwrap_err();
    assert!(error.to_string().starts_with("q.js:2:19: E_MODULE_UTF8"), "{error}");
}

#[test]
fn a_byte_order_mark_is_kept_in_the_copy_and_not_run() {
    let reader = InMemory::of(&[("/r/p.js", "\u{feff}export const process = () => 1;")]);
    let found = pin(&reader, &PinRequest::of(EntrySpec::parse("/r/p.js").unwrap())).unwrap();
    assert!(found.files[0].bytes.starts_with(b"\xef\xbb\xbf"));
    assert!(found.modules()[0].source.starts_with("export"));
}

#[test]
fn a_pinned_copy_loads_without_its_origin() {
    for entry in ["plain/processes/build.js", "typescript/main.ts", "children/parent.js"] {
        let found = graph(entry);
        let loaded = again(&found);
        assert_eq!(loaded.modules(), found.modules());
        assert_eq!((&loaded.files, loaded.digest), (&found.files, found.digest));
        assert_eq!((&loaded.entry, loaded.api), (&found.entry, found.api));
    }
}

#[test]
fn a_changed_copy_is_not_run() {
    let found = graph("plain/processes/build.js");
    let lock = found.lock();
    let process = found.process_ref(None);
    let bytes = |path: &str| found.file(path).unwrap().bytes.clone();
    let mut edited = |path: &str| {
        let mut bytes = bytes(path);
        if path == "lib/plan.js" {
            bytes[0] ^= 1;
        }
        Ok(bytes)
    };
    match PinnedGraph::verify(&lock, &process, &mut edited).unwrap_err() {
        VerifyError::Mismatch { path, .. } => assert_eq!(path, "lib/plan.js"),
        other => panic!("{other}"),
    }
    let mut gone = |path: &str| match path {
        "lib/rules.json" => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(bytes(path)),
    };
    let error = PinnedGraph::verify(&lock, &process, &mut gone).unwrap_err().to_string();
    assert_eq!(error, "pin-mismatch: lib/rules.json: cannot be read");

    let mut other = process;
    other.digest = Digest::of(b"other");
    let error = PinnedGraph::verify(&lock, &other, &mut |path| Ok(bytes(path))).unwrap_err();
    assert!(matches!(error, VerifyError::OtherProcess { .. }), "{error}");
}

#[test]
fn a_lock_has_one_form_and_is_checked() {
    let reader = InMemory::of(&[("/r/package.json", ""), ("/r/p.js", "export default () => 1;")]);
    let wanted = PinRequest::of(EntrySpec::parse("/r/p.js#default").unwrap());
    let lock = pin(&reader, &wanted).unwrap().lock();
    let text = lock.print();
    assert_eq!(
        text,
        format!(
            "{{\n  \"version\": 1,\n  \"root\": \"/r\",\n  \"entry\": \"p.js\",\n  \
             \"exportName\": \"default\",\n  \"api\": \"dormouse\",\n  \"files\": [\n    {{\n      \
             \"path\": \"p.js\",\n      \"bytes\": 23,\n      \"digest\": \"{}\"\n    }}\n  ],\n  \
             \"digest\": \"{}\"\n}}\n",
            lock.files[0].digest, lock.digest
        )
    );
    assert_eq!(PinLock::read(text.as_bytes()).unwrap(), lock);
    for (from, to, why) in [
        ("\"version\": 1", "\"version\": 2", "version 2"),
        ("\"bytes\": 23", "\"bytes\": 24", "its files give"),
        ("\"path\": \"p.js\"", "\"path\": \"../p.js\"", "not a path for"),
        ("\"path\": \"p.js\"", "\"path\": \"q.js\"", "not among the files"),
        ("\"api\"", "\"apis\"", "unknown field"),
        ("\"version\": 1,", "\"version\": 1", "at byte"),
    ] {
        let error = PinLock::read(text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("pin-mismatch: process.lock.json: "), "{error}");
        assert!(error.contains(why), "{error}\nwanted {why}");
    }
}

#[test]
fn errors_without_a_place_print_without_one() {
    let error: PinError = EntrySpec::parse("").unwrap_err();
    assert!(error.to_string().starts_with("E_ENTRY: "));
}

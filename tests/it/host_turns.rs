//! Turns through a real process host.

use crate::host::*;
use dormouse::codecs::event::Profile::{Babysitter, Dormouse};
use dormouse::shells::host::protocol::Feed;
use std::fmt::Write as _;

#[test]
fn a_task_is_requested_and_its_value_comes_back() {
    let mut run = Driver::new(start(Babysitter, &fixture("one_task.js")));
    let first = run.begin();
    assert_eq!(keys(&first), ["greet#0"]);
    let request = requests(&first)[0];
    assert_eq!(request.ordinal, 1);
    assert_eq!(request.kind, "agent");
    assert_eq!(request.title.as_deref(), Some("Greet"));
    assert_eq!(request.labels, ["a", "b"]);
    assert_eq!(request.args.as_ref().unwrap().as_str(), r#"{"who":"you"}"#);
    assert_eq!(
        request.def.to_value()["io"]["inputJsonPath"].as_str(),
        Some("tasks/e0001/inputs.json")
    );
    assert!(request.site.as_deref().unwrap().starts_with("main.js:"), "{:?}", request.site);
    let last = run.resolve(1, r#"{"text":"hello"}"#);
    assert_eq!(output(&last), r#"{"said":"hello","at":"2026-11-20T12:00:00.000Z"}"#);
    assert!(last.warnings.is_empty());
}

#[test]
fn what_a_process_throws_is_its_failure() {
    let source = "export async function process(inputs, ctx) {
        class Mine extends Error {
            constructor(m) { super(m); this.name = 'Mine'; this.data = {x: 1}; }
        }
        throw new Mine('no');
    }";
    for profile in [Dormouse, Babysitter] {
        let done = Driver::new(start(profile, source)).begin();
        let error = failure(&done);
        assert_eq!((error.name.as_str(), error.message.as_str()), ("Mine", "no"));
        assert_eq!(error.data.as_ref().unwrap().as_str(), r#"{"x":1}"#);
        assert!(error.stack.as_deref().unwrap().contains("main.js:5:"), "{:?}", error.stack);
    }
}

#[test]
fn modules_load_from_what_was_pinned_and_from_nothing_else() {
    let mut start = start(Dormouse, &fixture("modules.js"));
    let double = ("./lib/double.js", "src/lib/double.js");
    start.modules[0] = module(
        "src/main.js",
        &fixture("modules.js"),
        &[
            double,
            ("./lib/typed.ts", "src/lib/typed.ts"),
            ("./data.json", "src/data.json"),
            ("./lib/lazy.js", "src/lib/lazy.js"),
        ],
    );
    start.entry = "src/main.js".into();
    for (path, source) in [
        ("src/lib/double.js", "export const double = (n) => 2 * n;"),
        ("src/lib/typed.ts", "export const typed = (n: number): number => n as number;"),
        ("src/data.json", "{\"list\": [1, \"\\u2028</script>\\\"\"]}"),
        (
            "src/lib/lazy.js",
            "export const value = 7; export const meta = [import.meta.url, import.meta.main];",
        ),
    ] {
        start.modules.push(module(path, source, &[]));
    }
    let done = Driver::new(start).begin();
    let seen: serde_json::Value = serde_json::from_str(output(&done)).unwrap();
    assert_eq!(
        seen,
        serde_json::json!({
            "double": 4, "typed": 2, "data": {"list": [1, "\u{2028}</script>\""]}, "same": true,
            "frozen": "TypeError", "early": "awaited", "lazy": 7, "sameModule": true,
            "missing": ["E_IMPORT_NOT_PINNED", "E_IMPORT_NOT_PINNED: ./lib/none.js, imported by \
                src/main.js, is not among the pinned modules of this run"],
            "bare": "E_IMPORT_NOT_PINNED", "inner": "E_IMPORT_NOT_PINNED",
            "meta": ["dormouse:///src/main.js", true, ["main", "url"]],
            "lib": ["dormouse:///src/lib/lazy.js", false],
        })
    );
}

#[test]
fn the_entry_is_found_as_the_profile_says() {
    let load = |profile, source: &str, export: Option<&str>| {
        let mut start = start(profile, source);
        start.export_name = export.map(str::to_owned);
        Driver::load(start).map(|mut run| {
            let warnings = run.warnings.len();
            (output(&run.begin()).to_owned(), warnings)
        })
    };
    let ok = |n: &str| Ok((n.to_owned(), 0));
    let both = "export const process = () => 1; export default () => 2; export const x = () => 3;";
    assert_eq!(load(Dormouse, both, None), ok("1"));
    assert_eq!(load(Dormouse, both, Some("default")), ok("2"));
    assert_eq!(load(Dormouse, both, Some("x")), ok("3"));
    assert_eq!(load(Dormouse, "export default () => 2", None), ok("2"));
    assert_eq!(load(Dormouse, "export default { process: async () => 4 }", None), ok("4"));
    assert_eq!(load(Babysitter, both, Some("gone")), Ok(("1".to_owned(), 1)));
    for (source, export, code, text) in [
        (both, Some("gone"), "E_EXPORT_NOT_FOUND", "default, process, x"),
        ("export const a = 1", None, "E_EXPORT_NOT_FOUND", "exports a"),
        ("1", None, "E_EXPORT_NOT_FOUND", "exports nothing"),
        ("export const process = 5", None, "E_EXPORT_NOT_FUNCTION", "process"),
        ("export default {}", None, "E_EXPORT_NOT_FUNCTION", "default"),
        ("export const x = ;", None, "E_MODULE_ERROR", "SyntaxError"),
        ("import { nope } from 'dormouse'", None, "E_MODULE_ERROR", "nope"),
        ("import './gone.js'", None, "E_IMPORT_NOT_PINNED", "./gone.js"),
        ("throw new RangeError('top')", None, "E_MODULE_ERROR", "RangeError: top"),
        ("await new Promise(() => 1)", None, "E_MODULE_ERROR", "top-level await"),
        ("require('fs')", None, "E_MODULE_ERROR", "relative import"),
        ("ctx.task()", None, "E_MODULE_ERROR", "ctx"),
    ] {
        let failure = load(Dormouse, source, export).unwrap_err();
        assert_eq!(failure.code, code, "{source}: {failure:?}");
        assert!(failure.message.contains(text), "{source}: {failure:?}");
        assert!(!failure.message.contains("dormouse:"), "{source}: {failure:?}");
    }
}

#[test]
fn a_task_id_defined_twice_is_a_warning_and_both_handles_work() {
    let source = "import { defineTask } from 'dormouse';
        const [a, b] = [1, 2].map((n) => defineTask('x', {kind: 'agent', n}));
        export async function process(inputs, ctx) { ctx.task(a); ctx.task(b); ctx.task('x') }";
    let mut run = Driver::new(start(Dormouse, source));
    assert_eq!(run.warnings.len(), 1);
    let done = run.begin();
    assert_eq!(keys(&done), ["x#0", "x#1", "x#2"]);
    let n: Vec<_> =
        requests(&done).iter().map(|r| r.def.to_value()["n"].as_u64().unwrap()).collect();
    assert_eq!(n, [1, 2, 2]);
}

#[test]
fn the_same_inputs_give_the_same_outputs_in_every_host() {
    let source = fixture("everything.js");
    let drive = || {
        let mut run = Driver::new(start(Babysitter, &source));
        let mut said = vec![run.begin()];
        for ordinal in 1..=6 {
            run.clock_micros += 1_234_567;
            said.push(run.resolve(ordinal, &format!("{{\"n\":{ordinal}}}")));
        }
        said
    };
    let first = drive();
    assert!(output(first.last().unwrap()).len() > 100);
    for _ in 0..10 {
        assert_eq!(drive(), first);
    }
}

/// Run by the test below, in other surroundings.
#[test]
fn what_everything_says() {
    let mut run = Driver::new(start(Babysitter, &fixture("everything.js")));
    let mut said = format!("{:?}", run.begin());
    for ordinal in 1..=6 {
        let value = format!("{{\"n\":{ordinal}}}");
        write!(said, "{:?}", run.resolve(ordinal, &value)).unwrap();
    }
    println!("said {}", dormouse::ground::digest::Digest::of(said.as_bytes()));
}

#[test]
fn surroundings_do_not_matter() {
    let say = |zone: &str, language: &str| {
        #[allow(clippy::disallowed_methods)] // The test starts itself again.
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host_turns::what_everything_says", "--nocapture"])
            .env("TZ", zone)
            .env("LANG", language)
            .env("LC_ALL", language)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split("said ").nth(1).unwrap().chars().take(67).collect::<String>()
    };
    let here = say("UTC", "C");
    assert!(here.starts_with("b3:"));
    assert_eq!(here, say("Asia/Tokyo", "tr_TR.UTF-8"));
    assert_eq!(here, say("America/Lima", "de_DE.UTF-8"));
}

#[test]
fn large_values_pass() {
    let body = "const all = []; for (let i = 0; i < inputs.n; i++) {
            all.push(ctx.orchestratorTask('x'.repeat(inputs.size))) }
        return (await Promise.all(all)).map((v) => v.length)";
    let source = format!("export async function process(inputs, ctx) {{ {body} }}");
    let mut start = start(Dormouse, &source);
    start.inputs = Some(json(r#"{"n":1,"size":1000000}"#));
    let mut run = Driver::new(start);
    assert_eq!(requests(&run.begin())[0].args.as_ref().unwrap().as_str().len(), 1_000_002);
    let value = format!("\"{}\"", "é".repeat(2_000_000));
    assert_eq!(output(&run.resolve(1, &value)), "[2000000]");
}

#[test]
fn outcomes_that_nobody_waits_for_change_nothing() {
    let source = "export async function process(inputs, ctx) {
        const first = await ctx.signal('a'); return [first, await ctx.signal('b')] }";
    let mut run = Driver::new(start(Dormouse, source));
    run.begin();
    let nothing = run.resolve(7, "1");
    assert!(nothing.outputs.is_empty() && nothing.warnings.is_empty(), "{nothing:?}");
    run.resolve(1, "1");
    assert!(run.resolve(1, "2").outputs.is_empty());
    assert_eq!(output(&run.resolve(2, "3")), "[1,3]");
    assert!(run.turn(Feed::CancelRequested { reason: None }).outputs.is_empty());
}

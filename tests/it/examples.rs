//! The examples that people are told to run: pinned as their README says, and played to their end
//! in a real host with the answers that the README suggests.

#![allow(clippy::disallowed_methods, reason = "this test reads the examples themselves")]

use crate::host::{Driver, json, output, requests, start};
use crate::pin_graph::OnDisk;
use dormouse::codecs::event::Profile;
use dormouse::codecs::source::strip_types;
use dormouse::shells::host::protocol::{Output, Start, TurnDone};
use dormouse::shells::pin::{EntrySpec, PinRequest, PinnedGraph, pin};
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runs-example")
}

fn pinned(entry: &str) -> PinnedGraph {
    let spec = EntrySpec { path: top().join(entry), export_name: None };
    let wanted = PinRequest { root: Some(top()), ..PinRequest::of(spec) };
    pin(&OnDisk, &wanted).unwrap_or_else(|e| panic!("{e}"))
}

/// Starts a pinned process in a host.
fn play(graph: &PinnedGraph, inputs: &str) -> Driver {
    // The host strips types as well; what is stripped twice stays what it is.
    let mut modules = graph.modules();
    for module in &mut modules {
        module.source = strip_types(&module.path, &module.source).unwrap();
    }
    Driver::new(Start {
        entry: graph.entry.clone(),
        modules,
        inputs: Some(json(inputs)),
        ..start(graph.api, "")
    })
}

fn inputs(example: &str) -> String {
    fs::read_to_string(top().join(example).join("inputs.json")).unwrap()
}

/// What a turn asks for, as `number kind name`.
fn asked(done: &TurnDone) -> Vec<String> {
    let line = |r: &&dormouse::shells::host::protocol::Request| {
        format!("{} {} {}", r.ordinal, r.kind, r.task_id.as_deref().unwrap_or(&r.name))
    };
    requests(done).iter().map(line).collect()
}

#[test]
fn the_examples_are_pinned_as_the_readme_says() {
    for (entry, others, api) in [
        ("canary/process.js", &[][..], Profile::Dormouse),
        ("feature/process.js", &[][..], Profile::Babysitter),
        ("pipeline/process.ts", &["pipeline/quality.ts", "pipeline/rules.json"], Profile::Dormouse),
        ("incident/process.js", &["incident/checks.js"], Profile::Dormouse),
        ("release/process.js", &[], Profile::Dormouse),
    ] {
        let found = pinned(entry);
        assert_eq!(found.api, api, "{entry}");
        assert_eq!(found.warnings, [""; 0], "{entry}");
        let mut all = vec![entry];
        all.extend(others);
        all.sort_unstable();
        assert_eq!(found.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), all);
        let readme = fs::read_to_string(top().join("README.md")).unwrap();
        assert!(readme.contains(&format!("--entry runs-example/{entry} ")), "{entry}");
        let inputs = Path::new(entry).with_file_name("inputs.json");
        assert!(readme.contains(&format!("--inputs runs-example/{}", inputs.display())));
    }
}

#[test]
fn a_feature_goes_through_a_second_round() {
    let mut run = play(&pinned("feature/process.js"), &inputs("feature"));
    assert_eq!(asked(&run.begin()), ["1 agent plan-feature"]);
    assert_eq!(asked(&run.resolve(1, r#"{"steps":["a"]}"#)), ["2 agent build-feature"]);
    let built = r#"{"summary":"CSV export","files":["src/csv.js"]}"#;
    assert_eq!(asked(&run.resolve(2, built)), ["3 agent review-change"]);
    let rework = run.resolve(3, r#"{"verdict":"rework","findings":["no tests"]}"#);
    assert_eq!(asked(&rework), ["4 agent build-feature"]);
    assert_eq!(asked(&run.resolve(4, built)), ["5 agent review-change"]);
    let approval = run.resolve(5, r#"{"verdict":"approve","findings":[]}"#);
    assert_eq!(asked(&approval), ["6 breakpoint @bp:feature.approve"]);
    let done = run.resolve(6, r#"{"approved":true}"#);
    assert_eq!(output(&done), r#"{"status":"approved","rounds":2,"summary":"CSV export"}"#);
}

#[test]
fn a_pipeline_keeps_every_source_with_its_own_batch() {
    let mut run = play(&pinned("pipeline/process.ts"), &inputs("pipeline"));
    assert_eq!(asked(&run.begin()), ["1 node extract", "2 node extract", "3 node extract"]);
    let refunds = run.resolve(2, r#"{"name":"refunds","rows":40}"#);
    assert_eq!(asked(&refunds), ["4 node clean"]);
    assert!(requests(&refunds)[0].args.as_ref().unwrap().as_str().contains("refunds"));
    assert_eq!(asked(&run.resolve(1, r#"{"name":"orders","rows":900}"#)), ["5 node clean"]);
    assert_eq!(asked(&run.resolve(3, r#"{"name":"partner-feed","rows":120}"#)), ["6 node clean"]);
    run.resolve(4, r#"{"name":"refunds","rows":30,"dropped":10}"#);
    run.resolve(5, r#"{"name":"orders","rows":890,"dropped":10}"#);
    let question = run.resolve(6, r#"{"name":"partner-feed","rows":120}"#);
    assert_eq!(asked(&question), ["7 breakpoint @bp:pipeline.bad-batches"]);
    assert!(requests(&question)[0].def.as_str().contains("refunds: 25 % dropped, 30 rows left"));
    assert_eq!(asked(&run.resolve(7, r#"{"approved":true}"#)), ["8 node load"]);
    let done = run.resolve(8, r#"{"rows":1010}"#);
    assert_eq!(output(&done), r#"{"day":"2026-11-20","loaded":1010,"rejected":["refunds"]}"#);
}

#[test]
fn an_incident_is_watched_and_the_access_revoked() {
    let graph = pinned("incident/process.js");
    let mut run = play(&graph, &inputs("incident"));
    let first = run.begin();
    assert_eq!(asked(&first)[0].split(' ').take(2).collect::<Vec<_>>(), ["1", "run"]);
    assert_eq!(asked(&run.resolve(1, r#"{"failing":["/cart"]}"#)), ["2 node break-glass-access"]);
    assert_eq!(asked(&run.resolve(2, "{}")), ["3 agent page-on-call"]);
    assert_eq!(asked(&run.resolve(3, "{}")), ["4 signal @signal:mitigated"]);
    assert_eq!(asked(&run.resolve(4, r#"{"by":"ann"}"#)), ["5 sleep @sleep"]);
    run.clock_micros += 2_000_000;
    assert_eq!(requests(&run.resolve(5, "null"))[0].kind, "run");
    let back = run.resolve(6, r#"{"failing":["/cart"]}"#);
    assert_eq!(asked(&back), ["7 node break-glass-access"]);
    assert!(output(&run.resolve(7, "{}")).contains(r#""outcome":"came back""#));

    let checks = graph.with_entry("incident/checks.js", None).unwrap();
    let mut run = play(&checks, r#"{"endpoints":["/health","/cart"]}"#);
    assert_eq!(asked(&run.begin()), ["1 node probe", "2 node probe"]);
    run.resolve(1, r#"{"ok":true}"#);
    assert_eq!(output(&run.resolve(2, r#"{"ok":false}"#)), r#"{"failing":["/cart"]}"#);
}

#[test]
fn a_cancelled_incident_still_revokes_the_access() {
    use dormouse::shells::host::protocol::Feed;
    let mut run = play(&pinned("incident/process.js"), &inputs("incident"));
    run.begin();
    run.resolve(1, r#"{"failing":["/cart"]}"#);
    run.resolve(2, "{}");
    let cancelled = run.turn(Feed::CancelRequested { reason: Some("false alarm".into()) });
    assert_eq!(asked(&cancelled), ["4 node break-glass-access"]);
    assert!(requests(&cancelled)[0].cleanup);
}

#[test]
fn a_release_that_is_refused_is_halted() {
    let mut run = play(&pinned("release/process.js"), &inputs("release"));
    assert_eq!(asked(&run.begin()), ["1 shell tag-is-free"]);
    assert_eq!(asked(&run.resolve(1, r#"{"success":true,"exitCode":1}"#)), ["2 shell test"]);
    let good = r#"{"success":true,"exitCode":0,"stdout":"app-1.4.0.tgz"}"#;
    assert_eq!(asked(&run.resolve(2, good)), ["3 shell pack"]);
    assert_eq!(asked(&run.resolve(3, good)), ["4 breakpoint @bp:release.publish"]);
    let end = run.resolve(4, r#"{"approved":false,"response":"not on a Friday"}"#);
    match end.outputs.last() {
        Some(Output::Halted { reason, payload }) => {
            assert_eq!(reason, "release refused");
            assert!(payload.as_ref().unwrap().as_str().contains("not on a Friday"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pinned_typescript_runs_by_the_resolutions_of_its_pin() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/modules");
    let spec = EntrySpec { path: fixtures.join("typescript/main.ts"), export_name: None };
    let graph = pin(&OnDisk, &PinRequest::of(spec)).unwrap();
    let mut run = play(&graph, "{}");
    let done = run.begin();
    let titles: Vec<_> = requests(&done).iter().filter_map(|r| r.title.as_deref()).collect();
    assert_eq!(titles, ["step 12", "step 13", "step 17"]);
}

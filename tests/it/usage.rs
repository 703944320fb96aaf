//! What a root takes on disk adds up, and shared files count once.

use std::fs;

use crate::cli::Cli;

#[test]
fn every_byte_is_counted_once_and_by_what_it_is_for() {
    let cli = Cli::waiting();
    cli.run("run create --run-id bare").ok();
    fs::create_dir(cli.root().join("r/blobs")).unwrap();
    fs::write(cli.root().join("r/blobs/one"), vec![0; 50_000]).unwrap();
    // A second name for the same bytes takes no room.
    fs::hard_link(cli.root().join("r/blobs/one"), cli.root().join("r/blobs/two")).unwrap();
    let usage = cli.run("du --json").ok().json();
    assert_eq!(usage["runs"][0]["runId"], "r", "the largest comes first");
    assert_eq!(usage["runs"][0]["kinds"]["blobs"], 50_000);
    let journal = fs::metadata(cli.root().join("bare/journal/0000000001.jsonl")).unwrap().len();
    assert_eq!(usage["runs"][1]["kinds"]["journal"], journal);
    let sum = |value: &serde_json::Value| -> u64 {
        value.as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum()
    };
    assert_eq!(usage["bytes"], sum(&usage["root"]) + sum(&usage["kinds"]));
    let one = cli.run("du r --json").ok().json();
    assert_eq!(one["runs"].as_array().unwrap().len(), 1);
    assert_eq!(cli.run("du --top 1 --json").ok().json()["bytes"], usage["bytes"]);
    cli.run("du --top 1").ok();
    cli.run("du nobody").exits(3);
}

//! The fuzz targets without a fuzzer: what was found before, and seeds that are changed at random.
//!
//! `DORMOUSE_FUZZ_SEEDS=DIR` writes the seeds for `cargo fuzz run TARGET DIR/TARGET`. Everything
//! random follows from one seed and the number of the attempt. Invariant: a target that panics on
//! some bytes is caught here, and the message has these bytes.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use dormouse::codecs::event::Event;

use crate::storm::full_size;
use crate::workflow_documents::documents;
use dormouse::services::torture::dice::Dice;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own for the fuzzer")]
pub(crate) mod targets;

/// Attempts for each target.
const ATTEMPTS: u64 = 400;
/// Longest input.
const BYTES_MAX: usize = 20_000;

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The same bytes for every way in which a target takes them.
fn in_ways(ways: &[u8], bytes: &[u8]) -> Vec<Vec<u8>> {
    ways.iter().map(|way| [&[*way], bytes].concat()).collect()
}

fn journals() -> Vec<Vec<u8>> {
    let runs = files(&place("fixtures/runs/v1"));
    runs.iter().map(|run| fs::read(run.join("journal.jsonl")).unwrap()).collect()
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

fn events() -> Vec<Vec<u8>> {
    let of_line = |line: Vec<u8>| {
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let name = value["type"].as_str().unwrap();
        let event = Event::decode(name, &value["data"].to_string()).unwrap();
        format!("{name}\n{}", event.data().as_str()).into_bytes()
    };
    journals().iter().flat_map(|journal| lines(journal)).map(of_line).collect()
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const AGENTS: &str = "agents:\n  helper:\n    type: langchain\n    external:\n      url: \
    https://a.example/x\n      timeout: 90s\n    retry: { maxAttempts: 3 }\n  b: {type: echo}\n";

const REQUESTS: &[(&str, &str)] = &[
    ("GET /v1/runs?limit=2&state=open", ""),
    ("GET /v1/runs/r/events?after=3", ""),
    ("GET /v1/events?after=1-2", ""),
    ("GET /v1/why/r/e0001", ""),
    ("POST /v1/runs", r#"{"runId":"r","inputs":{"a":[1,2.50]}}"#),
    ("POST /v1/tasks/r/e0001/post", r#"{"epoch":1,"status":"ok","value":{"n":1}}"#),
    ("POST /v1/tasks/claim", r#"{"worker":"w","kinds":["agent"],"max":2,"waitMs":0}"#),
    ("POST /v1/runs/r/signals", r#"{"name":"go","payload":{"a":1},"signalId":"x"}"#),
    ("POST /v1/runs/r/cancel", r#"{"reason":"no"}"#),
    ("POST /v1/tasks/r/e0001/decide", r#"{"what":"retry","epoch":1,"reason":"r"}"#),
];

fn requests() -> Vec<Vec<u8>> {
    let whole = |(line, body): &(&str, &str)| {
        crate::served::raw(line, "Host: x\r\nContent-Type: application/json\r\n", body.as_bytes())
    };
    REQUESTS.iter().map(whole).collect()
}

const EXPRESSIONS: &[&str] = &[
    "inputs.a == 'x'",
    "tasks.first.outputs.n > 3 && size(tasks.first.outputs.list) < 2",
    "workflow.arguments.names.map(n, n + '!').exists(n, n.startsWith('a'))",
    "inputs['a-b'][0] != \"1\" || (true ? 1 : 2) in [1, 2.5, 'x']",
    "true",
];

const NAMES: &[&str] = &[
    "run-1",
    "e0001",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "2026-11-20T12:00:00.000000Z",
    "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    "00112233445566778899aabbccddeeff",
    "10/s",
    "1h30m",
    "0000000000000001.dlog",
    "{{tasks.a.outputs.parameters.x}}",
];

const URLS: &[&str] = &[
    "https://example.com/a?b#c",
    "http://127.0.0.1:1/",
    "http://[::ffff:10.0.0.1]/",
    "http://0x7f.1/",
    "http://user@host:80",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let every_file = |folder: &str, extension: &str| {
        let all = files(&place(folder)).into_iter();
        let wanted = all.filter(|path| path.extension().is_some_and(|e| e == extension));
        wanted.map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    let log = || crate::rot::log_bytes(1);
    match target {
        "agents_yaml" => {
            texts(&[AGENTS, "agents: [{id: a, type: external, endpoint: 'http://x'}]"])
        }
        "config_toml" => {
            let settings = dormouse::daemon::config::Settings::default();
            let rows = settings.rows().into_iter();
            let rows = rows.map(|(key, value, _)| format!("{key} = {value}\n"));
            vec![rows.collect::<String>().into_bytes(), b"[limits.global]\nmax = 3\n".to_vec()]
        }
        "event" => events(),
        "expression" => texts(EXPRESSIONS),
        "http_request" => requests(),
        "journal_line" => {
            let all = journals().iter().map(|j| lines(j).remove(0)).collect::<Vec<_>>();
            all.iter().flat_map(|line| in_ways(&[0], line)).collect()
        }
        "journal_open" => {
            let ways: &[&[u8]] = &[&[0, 0], &[1, 0], &[3, 0], &[13, 3]];
            let all = journals();
            all.iter().flat_map(|j| ways.iter().map(|way| [way, &j[..]].concat())).collect()
        }
        "json_gate" => {
            let all =
                events().into_iter().map(|e| e.splitn(2, |b| *b == b'\n').last().unwrap().into());
            all.flat_map(|json: Vec<u8>| in_ways(&[128, 129], &json)).collect()
        }
        "lock_note" => {
            let note = r#"{"v":1,"pid":7,"boot":"b","state":"open","seq":3}"#;
            texts(&[note, "garbage"])
        }
        "log_payload" => vec![log()[2 * 4096 + 64..3 * 4096].to_vec()],
        "log_scan" => {
            in_ways(&[0, 1], &log()).into_iter().chain(in_ways(&[2, 3], &log()[8192..])).collect()
        }
        "names" => texts(NAMES),
        "root_json" => in_ways(&[0, 1], &crate::rot::root_json_bytes()),
        "run_json" => texts(&[r#"{"runId":"run-1","formatVersion":1,
            "createdAt":"2026-11-20T12:00:00.000000Z","tags":["a"],"nonInteractive":false}"#]),
        "segment_header" => in_ways(&[0, 1], &log()[..8192]),
        "source" => every_file("fixtures/processes", "js"),
        "state_cache" => in_ways(&[0, 1], &crate::rot::state_cache_bytes()),
        "turn" => vec![
            rmp_serde::to_vec_named(&dormouse::codecs::turn::Message {
                instance: 1,
                say: dormouse::codecs::turn::ToHost::Drop,
            })
            .unwrap(),
        ],
        "url_guard" => texts(URLS),
        "workflow_document" => {
            let all = [documents("runs"), documents("refused")].concat();
            let way = |path: &PathBuf| u8::from(path.extension().is_some_and(|e| e == "json"));
            all.iter()
                .flat_map(|p| in_ways(&[way(p), way(p) + 26], &fs::read(p).unwrap()))
                .collect()
        }
        other => panic!("{other} has no seeds"),
    }
}

/// Bytes that stand at borders.
const ODD: &[u8] =
    &[0, 1, 9, 10, 32, 34, 44, 47, 58, 91, 92, 93, 123, 125, 127, 128, 192, 237, 255];

/// Changes a seed in one to six places.
fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let pick = |dice: &mut Dice| &seeds[usize::try_from(dice.below(seeds.len() as u64)).unwrap()];
    let mut bytes = pick(dice).clone();
    for _ in 0..=dice.below(6) {
        let below =
            |dice: &mut Dice, end: usize| usize::try_from(dice.below(end as u64 + 1)).unwrap();
        let at = below(dice, bytes.len());
        let end = (at + below(dice, 30)).min(bytes.len());
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = ODD[below(dice, ODD.len() - 1)],
            2 => bytes.insert(at, ODD[below(dice, ODD.len() - 1)]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].repeat(1 + below(dice, 20));
                bytes.splice(at..at, again);
            }
            5 => {
                let other = pick(dice);
                let from = below(dice, other.len());
                let to = (from + below(dice, 200)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => {
                let number = ["0", "-1", "1e400", "18446744073709551616", "9223372036854775807"];
                bytes.splice(at..at, number[below(dice, 4)].bytes());
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// Feeds one input; says which, if the target does not hold.
fn feed((name, target): targets::Target, bytes: &[u8], which: &str) -> Result<(), String> {
    let fed = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    fed.map_err(|_| format!("{name}, {which}: {:?}", String::from_utf8_lossy(bytes)))
}

/// The first changed seed, if any, on which a target does not hold.
fn attempts(target: targets::Target, attempts: u64) -> Result<(), String> {
    let seeds = seeds(target.0);
    for (n, seed) in seeds.iter().enumerate() {
        feed(target, seed, &format!("seed {n}"))?;
    }
    for n in 0..attempts {
        let bytes = changed(&seeds, &mut Dice::of(n, target.0));
        feed(target, &bytes, &format!("attempt {n}"))?;
    }
    Ok(())
}

#[test]
fn s08_what_was_found_stays_mended() {
    let mut fed = 0;
    for folder in files(&place("fuzz/findings")) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let target = targets::TARGETS.iter().find(|(known, _)| *known == name).unwrap();
        for path in files(&folder) {
            feed(*target, &fs::read(&path).unwrap(), &path.display().to_string()).unwrap();
            fed += 1;
        }
    }
    println!("{fed} findings of fuzzers");
}

#[test]
fn s08_no_format_and_no_parser_gives_way_to_changed_seeds() {
    let wanted = if full_size() { ATTEMPTS * 150 } else { ATTEMPTS };
    let next = std::sync::Mutex::new(targets::TARGETS.iter());
    let work = || {
        let mut failed = Vec::new();
        loop {
            let Some(target) = next.lock().unwrap().next() else { return failed };
            // A request takes a connection.
            let wanted = if target.0 == "http_request" { wanted / 3 } else { wanted };
            failed.extend(attempts(*target, wanted).err());
        }
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let two = [scope.spawn(work), scope.spawn(work)];
        two.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn s08_a_panic_behind_a_rare_branch_is_found() {
    // What holds for all seeds and does not for a number that stands where a text should.
    let planted: targets::Target = ("event", |data| {
        let text = String::from_utf8_lossy(data);
        assert!(!text.contains("\"by\":1"), "planted");
    });
    let found = attempts(planted, ATTEMPTS * 60).unwrap_err();
    assert!(found.starts_with("event, attempt"), "{found}");
}

#[test]
fn every_target_has_its_file_and_seeds() {
    for (name, _) in targets::TARGETS {
        let text = fs::read_to_string(place(&format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("dormouse_fuzz::{name}(data)")), "{name}");
        let seeds = seeds(name);
        if let Some(folder) = std::env::var_os("DORMOUSE_FUZZ_SEEDS") {
            let folder = Path::new(&folder).join(name);
            fs::create_dir_all(&folder).unwrap();
            for (n, seed) in seeds.iter().enumerate() {
                fs::write(folder.join(format!("seed-{n}")), seed).unwrap();
            }
        }
    }
    assert_eq!(files(&place("fuzz/fuzz_targets")).len(), targets::TARGETS.len());
}

//! A secret that every executor sends, prints and gets back, and that must stand nowhere afterwards:
//! no file of the root, no line of the log, no answer of a route, no trace.

#![allow(clippy::disallowed_methods, reason = "this test reads every byte that a daemon left")]

use crate::executor_http::{Does, Server, answer, json_answer};
use crate::executor_shell::{Place, all, only};
use crate::served::{Answer, raw};
use crate::telemetry::Collector;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

const CANARY: &str = "c4nary/Secret+with odd? characters&more";

/// Asks for one task after the other, whatever comes of it.
const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (def) => ({ title: "A task", ...def }));
export async function process(inputs, ctx) {
  const said = [];
  for (const def of inputs.defs) {
    try {
      said.push(await ctx.task(t, def, { retry: false }));
    } catch (e) {
      said.push(`${e.name}: ${e.message} ${JSON.stringify(e.data)}`);
    }
    ctx.log("said", JSON.stringify(said));
  }
  return said;
}
"#;

/// What prints the secret as it is and in every form.
const PRINTS: &str = r#"
import base64, json, os, sys, urllib.parse
key = os.environ["KEY"]
forms = [key, json.dumps(key), base64.b64encode(key.encode()).decode()]
forms += [base64.urlsafe_b64encode(("u:" + key).encode()).decode()]
forms += [urllib.parse.quote(key, safe=""), urllib.parse.quote_plus(key)]
print(" ".join(forms))
print(" ".join(forms), file=sys.stderr)
if sys.argv[1] == "writes":
    json.dump({"forms": forms}, open(os.environ["DORMOUSE_OUTPUTS"], "w"))
if sys.argv[1] == "answers":
    print(json.dumps({"answer": forms}))
sys.exit(3 if sys.argv[1] == "fails" else 0)
"#;

fn percent(safe: bool, upper: bool) -> String {
    CANARY.bytes().fold(String::new(), |mut out, b| {
        let done = if safe && (b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
            write!(out, "{}", char::from(b))
        } else if upper {
            write!(out, "%{b:02X}")
        } else {
            write!(out, "%{b:02x}")
        };
        done.unwrap();
        out
    })
}

/// The forms that nothing may hold. Those of base64 are what any text around leaves as it is.
fn forms() -> Vec<String> {
    let mut forms = vec![CANARY.to_owned(), CANARY.replace(' ', "+"), CANARY[3..30].to_owned()];
    forms.push(CANARY.replace('/', "\\/"));
    for (safe, upper) in [(true, true), (true, false), (false, true), (false, false)] {
        forms.push(percent(safe, upper));
    }
    for before in ["", "u", "uu"] {
        let text = format!("{before}{CANARY}");
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// Fails if some bytes hold the secret.
#[track_caller]
fn is_clean(what: &str, bytes: &[u8]) {
    for form in forms() {
        let at = bytes.windows(form.len()).position(|part| part == form.as_bytes());
        if let Some(at) = at {
            let around = &bytes[at.saturating_sub(120)..(at + 160).min(bytes.len())];
            panic!("{what} holds {form:?}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Every file below a directory.
fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            files(&path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

/// What a daemon answers to a GET; of an answer without an end, what it says at once.
fn get(root: &Path, path: &str) -> Answer {
    let mut stream = UnixStream::connect(root.join(".dormouse/socket")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(&raw(&format!("GET {path}"), "Host: localhost\r\n", b"")).unwrap();
    Answer::read(&mut stream)
}

/// The paths of all routes that can be read, for every effect of a run.
fn routes(root: &Path, run: &str, effects: usize) -> Vec<String> {
    let contract: Value = serde_json::from_slice(&get(root, "/v1/openapi.json").body).unwrap();
    let paths = contract["paths"].as_object().unwrap().iter();
    let paths = paths.filter(|(_, verbs)| verbs.get("get").is_some()).map(|(path, _)| path);
    let mut all = vec!["/metrics".to_owned()];
    for path in paths {
        let path = path.replace("{run}", run);
        for n in 1..=effects {
            let path = path.replace("{effect}", &format!("e{n:04}"));
            if !all.contains(&path) {
                all.push(path);
            }
        }
    }
    all
}

/// A daemon whose every word is heard.
struct Heard(Child, JoinHandle<Vec<u8>>);

impl Heard {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (ready, is_ready) = mpsc::channel();
        let words = std::thread::spawn(move || {
            let mut said = Vec::new();
            while stderr.read_until(b'\n', &mut said).is_ok_and(|n| n > 0) {
                if said.ends_with(b"ready\n") {
                    // The word comes again where effects are spoken of.
                    let _ = ready.send(());
                }
            }
            said
        });
        is_ready.recv().unwrap();
        Self(child, words)
    }

    /// Ends it in order, and gives everything that it said.
    fn ends(mut self) -> Vec<u8> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
        self.1.join().unwrap()
    }
}

struct Servers {
    http: Server,
    agents: Vec<Server>,
}

fn servers() -> Servers {
    let base64 = STANDARD_NO_PAD.encode(CANARY);
    let said = json!({ "answer": CANARY, "metadata": { CANARY: base64 }, "more": CANARY });
    let moved = Does::Answers(answer(302, &format!("location: /{CANARY}\r\n"), CANARY));
    let http = vec![Does::Echoes(200), Does::Echoes(404), moved, Does::Closes, Does::Echoes(502)];
    let stream = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\
         data: {}\ndata: {}\ndata: [DONE]\n\n",
        &CANARY[..9],
        &CANARY[9..]
    );
    let agents = vec![
        json_answer(200, &said.to_string()),
        json_answer(500, &json!({ "error": CANARY }).to_string()),
        Does::Answers(stream),
    ];
    let one = |does| Server::doing(vec![does]);
    Servers { http: Server::doing(http), agents: agents.into_iter().map(one).collect() }
}

fn config(place: &Place, servers: &Servers, sh: &Path) -> String {
    let key = place.cli.file("key", format!("{CANARY}\n"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp/server.py");
    let log = place.cli.path("mcp.log");
    format!(
        "[executors.shell]\nenabled = true\nallow = \"any\"\nenv_allow = [\"KEY\"]\n\
         [executors.http]\nenabled = true\nallow_origins = [{:?}]\n\
         [secrets.CANARY]\nfrom = \"file\"\npath = {:?}\nhosts = [\"127.0.0.1\"]\n\
         programs = [{:?}, \"python3\"]\n\
         [mcp.servers.tools]\ncommand = \"python3\"\nargs = [{:?}, \"plain\", {:?}]\n\
         env = {{ KEY = \"secret:CANARY\" }}\n",
        servers.http.url(),
        key.display().to_string(),
        sh.display().to_string(),
        script.display().to_string(),
        log.display().to_string(),
    )
}

fn agents(place: &Place, servers: &Servers) -> String {
    let script = place.cli.file("prints.py", PRINTS).display().to_string();
    let url = |n: usize| servers.agents[n].url();
    let token = "token: 'secret:CANARY', headers: {x-key: 'k=${secret:CANARY}'}";
    format!(
        "agents:\n  good: {{url: '{}', {token}}}\n  bad: {{url: '{}', {token}}}\n  \
         stream: {{url: '{}', protocol: sse, {token}}}\n  \
         tool: {{type: command, argv: [sh, -c, 'python3 {script} answers | tail -n 1'], \
         env: {{KEY: 'secret:CANARY'}}}}\n",
        url(0),
        url(1),
        url(2)
    )
}

fn definitions(place: &Place, servers: &Servers) -> Vec<Value> {
    let script = place.cli.path("prints.py").display().to_string();
    let prints = |how: &str| {
        let argv = json!(["sh", "-c", format!("python3 {script} {how}")]);
        json!({ "kind": "shell", "argv": argv, "env": { "KEY": "secret:CANARY" } })
    };
    let ask = |name: &str| json!({ "kind": "agent", "agent": { "name": name, "prompt": "go" } });
    let sends = json!({ "kind": "http", "http": {
        "method": "POST", "url": servers.http.url(), "query": { "k": "secret:CANARY" },
            "headers": { "authorization": "Bearer ${secret:CANARY}" },
        "json": { "key": "secret:CANARY" },
    } });
    let call = |arguments: &Value| {
        let mcp = json!({ "server": "tools", "tool": "leak", "arguments": arguments });
        json!({ "kind": "mcp", "mcp": mcp })
    };
    let mut all = vec![prints("prints"), prints("writes"), prints("fails")];
    all.extend(["good", "bad", "stream", "tool"].map(ask));
    all.extend([call(&json!(null)), call(&json!({}))]);
    // What becomes of the fourth is unknown: the run stays there.
    all.extend((0..4).map(|_| sends.clone()));
    all
}

#[test]
fn a_secret_is_used_everywhere_and_stands_nowhere() {
    let (place, servers, collector) = (Place::new(PROCESS), servers(), Collector::start());
    let root = place.cli.root();
    let sh = fs::canonicalize("/bin/sh").unwrap();
    fs::create_dir_all(root.join(".dormouse")).unwrap();
    fs::write(root.join(".dormouse/agents.yaml"), agents(&place, &servers)).unwrap();
    let config = place.cli.file("config.toml", config(&place, &servers, &sh));
    let address = collector.address();
    let words = ["serve", "--config", config.to_str().unwrap(), "--log", "trace"];
    let daemon =
        Heard::start(place.cli.command(&[&words, &["--otlp-endpoint", &address][..]].concat()));
    let defs = definitions(&place, &servers);
    let missing = json!({ "kind": "shell", "argv": ["ls"], "env": { "KEY": "secret:CANARY" } });
    place.create("no", &json!({ "defs": [missing] }));
    let refused = place.ended("no");
    let error = &only(&refused, "EFFECT_RESOLVED")["error"];
    assert_eq!(error["name"], "SecretMissing", "ls may not have it: {error}");
    place.create("r", &json!({ "defs": defs }));
    let last = format!("e{:04}", defs.len());
    let events = loop {
        let events = place.events("r");
        if all(&events, "EFFECT_UNCERTAIN").iter().any(|e| e["effectId"] == *last) {
            break events;
        }
        assert!(all(&events, "RUN_COMPLETED").is_empty(), "{events:#?}");
        std::thread::yield_now();
    };
    // It was used wherever it was named: otherwise this test would prove nothing.
    assert!(servers.http.heard().iter().all(|heard| heard.contains(CANARY)));
    assert!(servers.agents.iter().all(|agent| agent.heard()[0].contains(CANARY)));
    let said = serde_json::to_string(&events).unwrap();
    assert!(said.matches("«secret:CANARY»").count() > 20, "{said}");
    for form in ["answer", "forms", "the key is «secret:CANARY»"] {
        assert!(said.contains(form), "{form}: {said}");
    }
    let paths = routes(&root, "r", defs.len());
    assert!(paths.len() > 25, "{paths:?}");
    for path in paths {
        let answer = get(&root, &path);
        is_clean(&path, &[answer.head.as_bytes(), &answer.body].concat());
    }
    // While it lives the index has its log beside it.
    looked_through(&root);
    let log = daemon.ends();
    assert!(log.len() > 1_000, "it said what it does: {}", String::from_utf8_lossy(&log));
    is_clean("the log", &log);
    is_clean("the traces", &collector.bytes().concat());
    looked_through(&root);
}

/// Fails if a file of the root holds the secret.
fn looked_through(root: &Path) {
    let mut found = Vec::new();
    files(root, &mut found);
    let named = |end: &str| found.iter().any(|path| path.to_string_lossy().ends_with(end));
    assert!(
        named("stdout.log") && named("stderr.log") && named(".jsonl") && named("outputs-1.json")
    );
    for path in &found {
        is_clean(&path.display().to_string(), &fs::read(path).unwrap_or_default());
    }
}

//! The command line beside a daemon: the same words and exit codes as without one, and what becomes
//! of a root when its daemon stops, is killed, or meets a second one.

#![allow(clippy::disallowed_methods, reason = "these tests start the program and read its files")]

use crate::cli::{Cli, Ran, code};
use crate::served::{Answer, raw};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// A daemon that is ready.
pub(crate) struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Daemon {
    pub(crate) fn start(cli: &Cli, args: &[&str]) -> Self {
        Self::with(cli, args, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn with(cli: &Cli, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = cli.command(&[&["serve"], args].concat());
        command.envs(variables.iter().copied());
        Self::of(command)
    }

    /// What it said until it was ready.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("ready\n") {
            let read = stderr.read_line(&mut said).unwrap();
            assert!(read > 0, "it never got ready: {said}");
        }
        Self { child, stderr, said }
    }

    /// Waits until it says something with these words. Gives that line.
    pub(crate) fn hears(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it ended: {}", self.said);
            self.said.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
            .unwrap();
    }

    /// Waits for its end. Gives its exit code and everything it said.
    pub(crate) fn ends(mut self) -> (i32, String) {
        let mut said = self.said.clone();
        self.stderr.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        (code(&Output { status, stdout: Vec::new(), stderr: Vec::new() }), said)
    }

    pub(crate) fn stop(self) -> (i32, String) {
        self.signal(rustix::process::Signal::TERM);
        self.ends()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every writing verb, in an order in which most of them do something; refusals are part of it.
const LINES: &[&str] = &[
    "run create --entry process.js --inputs inputs.json --run-id r --tag t",
    "run create --entry process.js --inputs inputs.json --run-id r",
    "run create --entry missing.js --run-id x",
    "run create --idempotency-key k --json",
    "run create --idempotency-key k",
    "run create --run-id bare",
    "run iterate bare",
    "run assign-process bare --entry process.js --inputs inputs.json",
    "run assign-process bare --entry process.js --json",
    "run iterate r",
    "run iterate r --json",
    "task post r e0001 --status ok --value-inline {}",
    "task post r e0001 --status ok --value-inline {\"n\":1.50} --stdout-file inputs.json",
    "task post r e0001 --status ok --value-inline {\"n\":1.50} --json",
    "task post r e0001 --status ok --value-inline {\"n\":2}",
    "task post r e0009 --status ok --value-inline {}",
    "run drive r",
    "task post r e0002 --status ok --epoch 7 --value-inline {} --json",
    "run pause r",
    "run pause r --json",
    "run iterate r",
    "run resume r --reason enough",
    "run resume r",
    "run recover r --patch-effect e0001:n=2",
    "task post r e0002 --status error --error inputs.json",
    "run drive r --json",
    "run signal r go --value-inline {\"a\":[1e400,\"ü\"]} --signal-id s",
    "run signal r go --value-inline {\"a\":[1e400,\"ü\"]} --signal-id s --json",
    "run signal r go --value-inline 2 --signal-id s",
    "breakpoint approve r e0002",
    "breakpoint approve r e0003 --response fine --operator run:bob",
    "run drive r",
    "run events r --json",
    "run rebuild-state r",
    "run rebuild-state r --json",
    "run cancel r",
    "run halt r --json",
    "run iterate bare",
    "run accept bare --entry process.js --yes",
    "run accept bare --entry process.js --yes --json",
    "task cancel bare e0001 --reason no",
    "task cancel bare e0001 --json",
    "run drive bare",
    "run cancel bare --reason enough",
    "run create --entry process.js --inputs inputs.json --run-id c",
    "run iterate c",
    "run cancel c --reason enough",
    "run cancel c --json",
    "run drive c",
    "run create --entry process.js --inputs inputs.json --run-id h --json",
    "run iterate h",
    "run halt h --final-status failed",
    "run halt h --final-status failed --json",
    "run halt nowhere",
    "run list --json",
    "journal verify r",
    "journal verify bare",
    "run delete bare --json",
    "run delete h --yes --json",
    "run create --run-id h",
    "run show h",
    "run archive nowhere",
    "run unarchive nowhere --json",
    "gc --dry-run --older-than 30d --json",
    "gc --older-than 30d",
];

/// What differs between two roots and two moments, and how often an instance ran: a daemon lets
/// runs go on by itself.
fn normal(cli: &Cli, ran: &Ran) -> String {
    let text = format!("{}\n{}{}", ran.code, ran.out, ran.err);
    let text = text.replace(&cli.dir.path().display().to_string(), "DIR");
    let mut out = String::new();
    for word in text.split_inclusive([' ', ',', ':', '"', '}', '\n', ']']) {
        let core = word.trim_end_matches([' ', ',', ':', '"', '}', '\n', ']']);
        let hex = core.len() >= 32 && core.bytes().all(|b| b.is_ascii_hexdigit());
        let digits =
            |n: usize| core.get(..n).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let time = core.ends_with('Z') || (digits(4) && core.get(4..5) == Some("-"));
        let time = time || (core.len() == 2 && digits(2));
        let seconds = core.strip_suffix('Z').is_some() || (core.contains('.') && digits(2));
        out.push_str(if hex || time || seconds { "#" } else { core });
        out.push_str(&word[core.len()..]);
    }
    let mut iteration = out.split("\"iteration\":");
    let first = iteration.next().unwrap_or("").to_owned();
    iteration
        .fold(first, |text, rest| format!("{text}{}", &rest[rest.find("\"status\"").unwrap()..]))
}

fn play(cli: &Cli) -> Vec<(String, String)> {
    cli.file("process.js", crate::cli::PROCESS);
    cli.file("inputs.json", r#"{"goal":"g"}"#);
    LINES.iter().map(|line| ((*line).to_owned(), normal(cli, &cli.run(line)))).collect()
}

#[test]
fn every_verb_says_the_same_with_and_without_a_daemon() {
    let (alone, served) = (Cli::new(), Cli::new());
    let daemon = Daemon::start(&served, &[]);
    let beside = play(&served);
    for ((line, direct), (_, asked)) in play(&alone).iter().zip(&beside) {
        assert_eq!(direct, asked, "dormouse {line}");
    }
    let (exit, said) = daemon.stop();
    assert_eq!(exit, 0, "{said}");
    // What the daemon leaves is a root like any.
    for line in ["journal verify r", "journal verify bare", "run pause k", "run list"] {
        let ran = served.run(line);
        assert!(ran.code == 0 || ran.err.contains("not found"), "{line}: {ran:?}");
    }
}

#[test]
fn a_killed_daemon_leaves_a_root_that_commands_can_use() {
    let cli = Cli::with_run();
    let daemon = Daemon::start(&cli, &[]);
    cli.run("run iterate r").ok();
    cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
    daemon.signal(rustix::process::Signal::KILL);
    assert_eq!(daemon.ends().0, 137);
    assert!(cli.root().join(".dormouse/socket").exists(), "it could not clean up");
    let report = cli.run("run iterate r --json").ok().json();
    assert_eq!(report["nextActions"][0]["effectId"], "e0002");
    cli.run("journal verify r").ok();
    // The socket that it left is in nobody's way.
    let daemon = Daemon::start(&cli, &[]);
    cli.run("run pause r").ok();
    assert_eq!(daemon.stop().0, 0);
    assert!(!cli.root().join(".dormouse/socket").exists());
    cli.run("run resume r").ok();
}

#[test]
fn a_second_daemon_is_refused_and_names_the_first() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    let error = cli.run("serve --lock-timeout 0s --json").exits(4);
    let line = error.err.lines().find(|line| line.starts_with('{')).unwrap();
    let error: Value = serde_json::from_str(line).unwrap();
    assert_eq!(error["code"], "lock_busy");
    assert_eq!(error["nextSteps"][0], "dormouse status");
    let text = error["message"].as_str().unwrap();
    assert!(text.contains(&format!("pid {}", daemon.child.id())), "{text}");
    assert!(cli.root().join(".dormouse/socket").exists(), "the first one still serves");
    cli.run("run create --run-id still").ok();
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn offline_means_without_a_daemon() {
    let cli = Cli::with_run();
    let daemon = Daemon::start(&cli, &[]);
    let error = cli.run("run pause r --offline --json").exits(4).error();
    assert_eq!(error["code"], "daemon_owns_root");
    // Looking needs nobody.
    cli.run("run show r --offline").ok();
    let error = cli.run("run repair-journal r --yes --json");
    assert_eq!(error.code, 0, "there is nothing to mend: {error:?}");
    assert_eq!(daemon.stop().0, 0);
    cli.run("run pause r --offline").ok();
}

#[test]
fn a_run_that_the_daemon_has_in_memory_is_mended_beside_it() {
    let cli = Cli::waiting();
    let daemon = Daemon::start(&cli, &[]);
    // From now on the daemon has nothing more to do with it.
    cli.run("run iterate r").ok();
    let journal = cli.root().join("r/journal/0000000001.jsonl");
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend_from_slice(b"{\"seq\":2,");
    fs::write(&journal, bytes).unwrap();
    cli.run("run repair-journal r --yes").ok();
    cli.run("journal verify r").ok();
    cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
    cli.run("run iterate r").ok();
    assert_eq!(daemon.stop().0, 0);
    cli.run("fsck").ok();
    cli.run("run check r").ok();
}

#[test]
fn a_damaged_run_is_the_same_failure_beside_a_daemon() {
    let damaged = |cli: &Cli| {
        cli.run("run iterate r").ok();
        let journal = cli.root().join("r/journal/0000000001.jsonl");
        let text = fs::read_to_string(&journal).unwrap();
        fs::write(&journal, text.replacen("Plan it", "Plan 1t", 1)).unwrap();
    };
    let (alone, served) = (Cli::with_run(), Cli::with_run());
    damaged(&alone);
    damaged(&served);
    let daemon = Daemon::start(&served, &[]);
    for line in ["run iterate r", "run iterate r --json", "run pause r --json", "run cancel r"] {
        let (direct, asked) = (alone.run(line).exits(5), served.run(line));
        assert_eq!(normal(&alone, &direct), normal(&served, &asked), "dormouse {line}");
    }
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_signal_stops_it_and_says_so() {
    for (signal, name) in
        [(rustix::process::Signal::TERM, "TERM"), (rustix::process::Signal::INT, "INT")]
    {
        let cli = Cli::new();
        let daemon = Daemon::start(&cli, &[]);
        daemon.signal(signal);
        let (exit, said) = daemon.ends();
        assert_eq!(exit, 0, "{name}: {said}");
        assert!(said.contains("stopping"), "{name}: {said}");
        cli.run("run create --run-id after --offline").ok();
    }
}

#[test]
fn a_second_signal_leaves_at_once() {
    let cli = Cli::with_run();
    let mut daemon = Daemon::start(&cli, &["--turn-cpu-max", "10m"]);
    // A turn that never ends keeps the first signal from being enough.
    cli.file("loop.js", "export async function process() { for (;;) {} }");
    cli.run("run create --entry loop.js --run-id loop").ok();
    daemon.signal(rustix::process::Signal::TERM);
    while !daemon.said.contains("stopping") {
        assert!(daemon.stderr.read_line(&mut daemon.said).unwrap() > 0);
    }
    daemon.signal(rustix::process::Signal::INT);
    assert_eq!(daemon.ends().0, 130);
    cli.run("run show loop").ok();
}

#[test]
fn a_daemon_that_goes_away_under_a_request_leaves_its_outcome_unknown() {
    let cli = Cli::with_run();
    let socket = UnixListener::bind(cli.root().join(".dormouse/socket")).unwrap();
    let takes_and_dies = std::thread::spawn(move || {
        // The first only asks whether anybody is there.
        drop(socket.accept().unwrap());
        let mut asked = [0];
        socket.accept().unwrap().0.read_exact(&mut asked).unwrap();
    });
    let error = cli.run("run pause r --json").exits(74).error();
    assert_eq!(error["code"], "unknown_outcome");
    takes_and_dies.join().unwrap();
}

#[test]
fn a_drain_that_takes_too_long_is_said() {
    let cli = Cli::new();
    cli.file("c.toml", "drain_timeout = \"0s\"\n");
    cli.file("loop.js", "export async function process() { for (;;) {} }");
    let daemon = Daemon::start(&cli, &["--config", "c.toml", "--turn-cpu-max", "10m"]);
    cli.run("run create --entry loop.js --run-id loop").ok();
    let (exit, said) = daemon.stop();
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("drain_timeout"), "{said}");
}

#[test]
fn a_body_that_never_ends_does_not_keep_a_daemon_from_stopping() {
    let cli = Cli::new();
    cli.file("c.toml", "drain_timeout = \"6s\"\n");
    let daemon = Daemon::start(&cli, &["--config", "c.toml"]);
    let mut slow = UnixStream::connect(cli.root().join(".dormouse/socket")).unwrap();
    let head = "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\
                Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    // By these words it waits for the body.
    let mut waits = [0; 25];
    slow.read_exact(&mut waits).unwrap();
    assert_eq!(&waits, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (exit, said) = daemon.stop();
    assert_eq!(exit, 0, "{said}");
}

#[test]
fn a_bad_configuration_names_where_and_what() {
    let cli = Cli::new();
    for (file, said) in [
        ("[log]\nsegment_byte = 1\n", "c.toml:2: there is no key log.segment_byte"),
        ("[settle]\nthreads = 0\n", "settle.threads = 0 is not allowed; it is a whole number"),
        ("x = [\n", "is not TOML"),
        ("[log]\nsegment_bytes = \"1MiB\"", "does not go with log.segment_bytes = \"1MiB\""),
    ] {
        cli.file("c.toml", file);
        for line in ["serve --config c.toml --json", "run list --config c.toml --json"] {
            let error = cli.run(line).exits(2).error();
            assert_eq!(error["code"], "config_invalid");
            let text = error["message"].as_str().unwrap();
            assert!(text.contains(said), "{line}: {text}");
        }
        // Whoever wants to read about it can.
        cli.run("config default --config c.toml").ok();
        cli.run("explain config_invalid --config c.toml").ok();
    }
    cli.run("serve --listen 0.0.0.0:80").exits(2).says("an address of this machine itself");
    assert!(!cli.root().exists(), "nothing was opened");
    let error = cli.run("run list --config none.toml --json").exits(2).error();
    assert!(error["message"].as_str().unwrap().contains("none.toml cannot be read"), "{error}");
}

#[test]
fn the_configuration_in_force_is_shown() {
    let cli = Cli::new();
    let default = cli.run("config default").ok();
    cli.file("c.toml", &default.out);
    let shown = cli.run("config show --config c.toml --heap-max 64 --json").ok().json();
    let of = |name: &str| {
        let keys = shown["keys"].as_array().unwrap();
        keys.iter().find(|key| key["key"] == name).unwrap().clone()
    };
    assert_eq!(of("hosts.heap_bytes_max")["value"], "\"64MiB\"");
    assert!(of("hosts.heap_bytes_max")["from"].as_str().unwrap().starts_with("--heap-max"));
    assert!(of("log.segment_bytes")["from"].as_str().unwrap().contains("c.toml:"), "{shown}");
    // The usual place, and a root that it names.
    cli.file(".config/dormouse/config.toml", "runs_root = \"~/elsewhere\"\n");
    let mut command = cli.command(&["config", "show", "--json"]);
    let output = command.env_remove("DORMOUSE_RUNS_ROOT").output().unwrap();
    let shown = Ran::of("config show", &output).ok().json();
    assert_eq!(shown["runsRoot"], cli.path("elsewhere").display().to_string());
}

#[test]
fn a_root_tells_whether_it_is_served() {
    let cli = Cli::with_run();
    let alone = cli.run("status --json").exits(1).json();
    assert_eq!((&alone["running"], &alone["runs"]["created"]), (&false.into(), &1.into()));
    let error = cli.run("top --once --json").exits(3).error();
    assert_eq!(error["code"], "no_daemon");
    assert_eq!(error["nextSteps"][0], "dormouse serve");
    let daemon = Daemon::start(&cli, &[]);
    cli.run("run iterate r").ok();
    let served = cli.run("status --json").ok().json();
    assert_eq!(served["pid"], daemon.child.id());
    assert_eq!((&served["pending"], &served["runs"]["waiting"]), (&1.into(), &1.into()));
    assert!(cli.run("status").ok().out.contains("1 waiting"));
    let frame = cli.run("top --once --json").ok().json();
    assert_eq!(
        (&frame["waitingByKind"]["agent"], &frame["latest"][0]["runId"]),
        (&1.into(), &"r".into())
    );
    assert!(cli.run("top --once").ok().out.contains("waiting  1 agent"));
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_token_opens_the_tcp_door() {
    let cli = Cli::new();
    let made = cli.run("token create ci --scope run.read --json").ok().json();
    assert_eq!(cli.run("token create ci --json").exits(4).error()["code"], "token_exists");
    let listed = cli.run("token list --json").ok().json();
    assert_eq!(
        (&listed["tokens"][0]["name"], &listed["tokens"][0]["scopes"][0]),
        (&"ci".into(), &"run.read".into())
    );
    assert!(!listed.to_string().contains(made["token"].as_str().unwrap()), "it is shown once");
    let daemon = Daemon::start(&cli, &["--listen", "127.0.0.1:0"]);
    let address = daemon.said.split("http://").nth(1).unwrap().split(',').next().unwrap();
    let ask = |token: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!("GET /v1/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        let head = format!("{head}Authorization: Bearer {token}\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((ask(made["token"].as_str().unwrap()), ask("nobody")), ("200".into(), "401".into()));
    let late = cli.run("token create late --json").ok().json();
    assert_eq!(ask(late["token"].as_str().unwrap()), "200");
    cli.run("token revoke ci").ok().says("from the next request on");
    assert_eq!(ask(made["token"].as_str().unwrap()), "401");
    assert_eq!(cli.run("token revoke ci --json").exits(3).error()["code"], "token_not_found");
    assert_eq!(daemon.stop().0, 0);
}

/// A daemon that may have so many files open.
fn with_descriptors(cli: &Cli, count: u32) -> Command {
    let limited = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
    cli.wrapped(&["sh", "-c", &limited], &["serve"])
}

#[test]
fn a_daemon_with_few_descriptors_lives_and_one_with_too_few_does_not_begin() {
    let cli = Cli::new();
    let refused = with_descriptors(&cli, 200).stdin(Stdio::null()).output().unwrap();
    let refused = Ran::of("serve", &refused).exits(2).says("ulimit -n").says("200").says("256");
    assert!(refused.err.contains("too_few_descriptors"), "{refused:?}");
    let entry = cli.file("process.js", crate::cli::PROCESS).display().to_string();
    let daemon = Daemon::of(with_descriptors(&cli, 300));
    let socket = cli.root().join(".dormouse/socket");
    let create = |n: usize| {
        let body = json!({ "runId": format!("r{n}"), "source": { "entry": entry } }).to_string();
        let head = "Host: localhost\r\nContent-Type: application/json\r\n";
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&raw("POST /v1/runs", head, body.as_bytes())).unwrap();
        Answer::read(&mut stream)
    };
    std::thread::scope(|scope| {
        for first in (0..200).step_by(25) {
            scope.spawn(move || {
                for n in first..first + 25 {
                    let answer = create(n);
                    assert!(matches!(answer.status, 201 | 429), "{n}: {answer:?}");
                }
            });
        }
    });
    cli.run("status").ok();
    let (exit, said) = daemon.stop();
    assert_eq!(exit, 0, "{said}");
}

#[test]
fn a_variable_that_nothing_reads_is_told() {
    let cli = Cli::new();
    let with = |name: &str, value: &str| {
        let output = cli.command(&["run", "list"]).env(name, value).output().unwrap();
        Ran::of("run list", &output)
    };
    with("DORMOUSE_SETTLE_IDEL", "1s").ok().says("did you mean DORMOUSE_SETTLE_IDLE?");
    with("DORMOUSE_OFFLINE", "maybe").exits(2);
    for value in ["yes", ""] {
        let ran = with("DORMOUSE_OFFLINE", value).ok();
        assert!(!ran.err.contains("warning"), "{ran:?}");
    }
}

//! Storms with a cause: no seats, no room, failing disks, killed hosts, a lost index, families.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, Drives as _};
use super::yard::Crowd;
use super::{Daemon, full_size};
use crate::cli::Cli;

fn client(cli: &Cli) -> Client {
    Client { socket: cli.root().join(".dormouse/socket") }
}

#[test]
fn far_more_runs_than_seats_come_to_their_ends() {
    let (cli, seats) = (Cli::new(), ["env", "DORMOUSE_RUNS_LOADED_MAX=2"]);
    let crowd = Crowd::new(&cli, if full_size() { 400 } else { 40 }, 3, 20);
    let daemon = Daemon::start(&cli, &seats);
    crowd.drive(&cli, || {});
    crowd.judge(&cli, daemon);
}

#[test]
fn a_crowd_that_comes_at_once_finds_seats_one_after_the_other() {
    let (cli, seats) = (Cli::new(), ["env", "DORMOUSE_RUNS_LOADED_MAX=1"]);
    let entry = cli.file("process.js", super::PROCESS);
    let daemon = Daemon::start(&cli, &seats);
    let runs: Vec<String> = (0..60).map(|n| format!("run-{n:03}")).collect();
    for run in &runs {
        client(&cli).create(entry.to_str().unwrap(), run, 1, &mut Vec::new());
    }
    // Nobody has a seat any more when all of them are asked for at the same moment.
    std::thread::scope(|scope| {
        for run in &runs {
            let cli = &cli;
            scope.spawn(move || {
                let path = format!("/v1/runs/{run}/iterate");
                let (status, report) = client(cli).call("POST", &path, &json!({})).unwrap();
                assert_eq!((status, &report["status"]), (200, &json!("waiting")), "{report}");
            });
        }
    });
    assert_eq!(daemon.stop(), Some(0));
}

/// A small filesystem at a directory, until this is dropped.
struct Mount(PathBuf);

impl Mount {
    fn at(place: &Path, megabytes: u32) -> Self {
        fs::create_dir_all(place).unwrap();
        let options = format!("mode=0755,size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options.as_str(), "tmpfs"])
            .arg(place)
            .status()
            .unwrap();
        assert!(mounted.success(), "this test mounts a filesystem: it must be run as root");
        Self(place.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_refuses_work_and_takes_outcomes() {
    let cli = Cli::new();
    let small = [
        "env",
        "DORMOUSE_LOG_SEGMENT_BYTES=256KiB",
        "DORMOUSE_LOG_RESERVE_BYTES=64KiB",
        "DORMOUSE_DISK_FREE_MIN=2MiB",
    ];
    let _mount = Mount::at(&cli.root(), 24);
    let mut crowd = Crowd::new(&cli, 24, if full_size() { 40 } else { 8 }, 8);
    let daemon = Daemon::start(&cli, &small);
    let (entry, other) = (crowd.entry.to_str().unwrap().to_owned(), client(&cli));
    let mut log = Vec::new();
    other.create(&entry, "patient", crowd.steps, &mut log);
    let ask =
        |path: &str, body: Value| other.call("POST", &format!("/v1/runs{path}"), &body).unwrap();
    let (_, report) = ask("/patient/iterate", json!({}));
    assert_eq!(report["nextActions"][0]["effectId"], "e0001", "{report}");
    let (ballast, phase) = (cli.root().join("ballast"), Cell::new(0));
    crowd.drive(&cli, || match phase.get() {
        0 if crowd.posted.load(Ordering::Relaxed) > 20 => {
            fill(&ballast);
            phase.set(1);
        }
        // New work for a run, until there is no room for more.
        1 if ask("/patient/signals", json!({ "name": "more" })).0 == 507 => {
            let (status, answer) =
                ask("", json!({ "source": { "entry": entry }, "runId": "refused" }));
            assert_eq!((status, &answer["code"]), (507, &json!("disk_full")), "{answer}");
            let outcome = json!({ "status": "ok", "value": { "n": 7 } });
            let (status, answer) = ask("/patient/tasks/e0001/result", outcome);
            assert_eq!(status, 200, "outcomes are taken: {answer}");
            let (status, answer) = ask("/patient/iterate", json!({}));
            assert_eq!(status, 507, "nobody is kept waiting: {answer}");
            fs::remove_file(&ballast).unwrap();
            phase.set(2);
        }
        1 => super::client::pause(),
        _ => {}
    });
    assert_eq!(phase.get(), 2, "it was never full");
    while !other.go_on("patient", &mut 1, &mut log) {}
    crowd.runs.push("patient".to_owned());
    crowd.acks.get_mut().unwrap().extend(log);
    crowd.judge(&cli, daemon);
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for bytes in [64 * 1024, 512, 1] {
        let block = vec![b'.'; bytes];
        while file.write_all(&block).is_ok() {}
    }
}

/// Lets some system calls of a process fail, until it ends or this is dropped.
struct Spoil(Child);

impl Spoil {
    fn of(pid: u32, when: u64) -> Self {
        let calls = "fdatasync,fsync,pwrite64,pwritev,pwritev2";
        let inject = format!("inject={calls}:error=EIO:when={when}");
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "signal=none"])
            .args(["-e", &format!("trace={calls}"), "-e", &inject, "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Spoil {
    fn drop(&mut self) {
        // It lets the process go.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_fails_ends_the_daemon_and_costs_nothing_that_was_acknowledged() {
    let cli = Cli::new();
    let (rounds, runs) = if full_size() { (30, 400) } else { (3, 60) };
    let crowd = Crowd::new(&cli, runs, 10, 8);
    let mut daemon = Some(Daemon::start(&cli, &[]));
    let (mut round, mut ended, mut spoil) = (0_u64, 0, None);
    crowd.drive(&cli, || {
        let ours = daemon.as_mut().unwrap();
        if let Some(code) = ours.has_ended() {
            assert_eq!(code, Some(74), "how a daemon ends whose disk fails");
            ended += 1;
            spoil = None;
            // Three in a row, and somebody has to look at the disk and say so.
            cli.run("root resume").ok();
            daemon = Some(Daemon::start(&cli, &[]));
        } else if round < rounds && spoil.is_none() {
            round += 1;
            spoil = Some(Spoil::of(ours.pid(), 1 + round * 7 % 5));
        }
        super::client::pause();
    });
    assert!(ended > 0, "no daemon met a failing disk");
    drop(spoil);
    crowd.judge(&cli, daemon.unwrap());
}

#[test]
fn hosts_that_are_killed_cost_no_run_anything() {
    let cli = Cli::new();
    let crowd = Crowd::new(&cli, if full_size() { 100 } else { 20 }, 6, 8);
    let daemon = Daemon::start(&cli, &[]);
    let mut killed = 0;
    crowd.drive(&cli, || {
        let hosts = children_of(daemon.pid());
        // Far enough apart that no run is the one at work three times in a row.
        if crowd.posted.load(Ordering::Relaxed) > killed * 24 && !hosts.is_empty() {
            let host = hosts[killed % hosts.len()];
            killed += 1;
            // It may have ended by itself.
            let _ = rustix::process::kill_process(host, rustix::process::Signal::KILL);
        }
    });
    assert!(killed > 3, "{killed}");
    crowd.judge(&cli, daemon);
}

pub(crate) fn children_of(pid: u32) -> Vec<rustix::process::Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let text = lists.collect::<Vec<_>>().join(" ");
    let ids = text.split_whitespace().filter_map(|id| id.parse().ok());
    ids.filter_map(rustix::process::Pid::from_raw).collect()
}

#[test]
fn an_index_that_is_lost_spoilt_or_old_is_made_true_at_the_next_start() {
    let cli = Cli::new();
    let crowd = Crowd::new(&cli, 16, 8, 4);
    let db = cli.root().join(".dormouse/index.db");
    let mut daemon = Some(Daemon::start(&cli, &[]));
    let mut round = 0;
    let mut old = None;
    crowd.drive(&cli, || {
        if round < 4 && crowd.posted.load(Ordering::Relaxed) > (round + 1) * 16 {
            let ours = daemon.take().unwrap();
            // Where it ends well the log is empty, where it does not, the log holds the newest.
            if round % 2 == 0 {
                ours.kill();
            } else {
                assert_eq!(ours.stop(), Some(0));
            }
            for wal in ["-wal", "-shm"] {
                let _ = fs::remove_file(cli.root().join(format!(".dormouse/index.db{wal}")));
            }
            match round {
                0 => fs::remove_file(&db).unwrap(),
                1 => old = Some(fs::read(&db).unwrap()),
                2 => fs::write(&db, old.take().unwrap()).unwrap(),
                _ => fs::write(&db, b"no database").unwrap(),
            }
            round += 1;
            daemon = Some(Daemon::start(&cli, &[]));
        }
    });
    assert_eq!(round, 4);
    crowd.judge(&cli, daemon.unwrap());
}

const FAMILY: &str = r#"
import { defineTask } from "dormouse";
const work = defineTask("work", () => ({ kind: "agent", agent: { name: "w", prompt: "w" } }));
export async function child({ i, deep }, ctx) {
  const { n } = await ctx.task(work, { i });
  if (deep === 0) return { n };
  const below = await ctx.run({
    process: "./family.js", exportName: "child", inputs: { i, deep: deep - 1 },
  });
  return { n: n + below.n };
}
export async function process({ children }, ctx) {
  const all = Array.from({ length: children }, (_, i) => () => ctx.run({
    process: "./family.js", exportName: "child", inputs: { i, deep: 1 },
  }));
  const done = await ctx.parallel.all(all);
  return { sum: done.reduce((sum, one) => sum + one.n, 0) };
}
"#;

#[test]
fn families_come_to_their_ends_however_often_their_daemon_is_killed() {
    for seats in ["DORMOUSE_RUNS_LOADED_MAX=4096", "DORMOUSE_RUNS_LOADED_MAX=2"] {
        let (cli, before) = (Cli::new(), ["env", seats]);
        let entry = cli.file("family.js", FAMILY);
        fs::create_dir_all(cli.root()).unwrap();
        let mut daemon = Daemon::start(&cli, &before);
        let (parents, children) = (4, 5);
        for n in 0..parents {
            let asked = json!({
                "source": { "entry": entry }, "runId": format!("p{n}"),
                "inputs": { "children": children }, "idempotencyKey": format!("p{n}"),
            });
            let (status, answer) = client(&cli).call("POST", "/v1/runs", &asked).unwrap();
            assert_eq!(status, 201, "{answer}");
        }
        let (began, mut answered, mut kills) = (Instant::now(), 0, 0);
        while !(0..parents).all(|n| has_ended(&cli, &format!("p{n}"))) {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", cli.run("run list").out);
            answered += answer_all(&cli);
            if kills < 6 && answered > kills * 6 {
                kills += 1;
                daemon.kill();
                daemon = Daemon::start(&cli, &before);
            }
        }
        assert_eq!(daemon.stop(), Some(0));
        let runs: Vec<PathBuf> = fs::read_dir(cli.root())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("journal").exists())
            .collect();
        assert_eq!(runs.len(), parents * (1 + 2 * children), "every child once");
        for run in runs {
            let journal = super::checker::read(&run);
            assert_eq!(journal.end.as_deref(), Some("RUN_COMPLETED"), "{}", run.display());
            for (effect, outcomes) in journal.outcomes {
                assert_eq!(outcomes.len(), 1, "{} {effect}", run.display());
            }
        }
    }
}

/// Whether a run has ended, as far as anybody answers.
fn has_ended(cli: &Cli, run: &str) -> bool {
    let answer = client(cli).call("GET", &format!("/v1/runs/{run}"), &Value::Null);
    matches!(answer, Ok((200, shown)) if shown["state"] == "completed")
}

/// Answers every task that somebody outside is to do.
fn answer_all(cli: &Cli) -> usize {
    let Ok((200, page)) = client(cli).call("GET", "/v1/tasks?pageSize=200", &Value::Null) else {
        return 0;
    };
    let mut answered = 0;
    for task in page["tasks"].as_array().into_iter().flatten() {
        let (run, effect) = (task["runId"].as_str().unwrap(), task["effectId"].as_str().unwrap());
        let path = format!("/v1/runs/{run}/tasks/{effect}/result");
        let outcome = json!({ "status": "ok", "value": { "n": 1 } });
        answered += usize::from(matches!(client(cli).call("POST", &path, &outcome), Ok((200, _))));
    }
    answered
}

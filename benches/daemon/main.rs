//! Benchmarks of the daemon: real hosts, the real disk, clients on its socket; floors of the same
//! run beside them. `cargo bench --bench daemon`, `-- --quick`, `-- steps` for one section.
//!
//! May not compare with figures of other days. Invariant: nothing is measured that a user could not
//! do.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "floors are measured with the system's own calls")]

mod client;
#[path = "../floors/commits.rs"]
mod commits;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
#[path = "../floors/figures.rs"]
mod figures;
mod parked;
mod roots;
mod server;
mod starts;
mod steps;
mod submits;
mod work;

use figures::Bench;

const SECTIONS: &[&str] = &["starts", "steps", "submits", "work", "parked", "fsck", "deploy"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let named = |word: &str| args.iter().any(|arg| arg == word);
    let all = !SECTIONS.iter().any(|section| named(section));
    let mut bench = Bench::new(named("--quick"));
    if all || named("starts") {
        starts::empty(&mut bench);
    }
    if all || named("steps") || named("work") {
        let (frames, commits) = commits::group(&mut bench);
        let floors = steps::Floors { frame_micros: 1e6 / frames, commits };
        if all || named("steps") {
            steps::over_the_socket(&mut bench, &floors);
            steps::in_process(&mut bench, &floors);
        }
        if all || named("work") {
            work::outside(&mut bench, &floors);
            work::inside(&mut bench, &floors);
        }
    }
    if all || named("submits") {
        submits::to_the_end(&mut bench);
    }
    if all || named("parked") {
        parked::many(&mut bench);
    }
    if all || named("fsck") {
        roots::fsck(&mut bench);
    }
    if all || named("deploy") {
        roots::deploy(&mut bench);
    }
    bench.end();
}

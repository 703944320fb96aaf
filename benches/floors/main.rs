//! Benchmarks against floors: each figure stands beside the least that this machine can do for it,
//! measured in the same run. `cargo bench`, or `cargo bench -- --quick`.
//!
//! May not compare with figures of other days. Invariant: nothing is measured that a user could not
//! do: the service, the hosts and the disk are the real ones.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "floors are measured with the system's own calls")]

mod commits;
mod figures;
mod hosts;
mod index;
mod journals;
mod plans;
mod pool;
mod steps;

use figures::Bench;

fn main() {
    // `cargo bench` passes `--bench`; a filter or other options of its own are of no use here.
    let quick = std::env::args().any(|a| a == "--quick");
    let mut bench = Bench::new(quick);
    let sync = steps::sync_floor(&mut bench);
    steps::warm(&mut bench, sync);
    steps::cold(&mut bench, sync);
    steps::create(&mut bench);
    commits::group(&mut bench);
    hosts::round_trip(&mut bench);
    hosts::spawn(&mut bench);
    pool::turns(&mut bench);
    pool::instances(&mut bench);
    journals::replay(&mut bench);
    journals::check(&mut bench);
    plans::plans(&mut bench);
    index::changes(&mut bench);
    index::parked(&mut bench);
    bench.end();
}

//! Starting with nothing to do.
//!
//! May not warm anything up. Invariant: each daemon gets a root that nobody has seen.

use crate::figures::{Bench, EXE, Samples};
use crate::server::Server;
use std::process::Command;

pub(crate) fn empty(bench: &mut Bench) {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    bench.kilobytes("size of the program", std::fs::metadata(EXE).unwrap().len() as f64);
    let floor = Samples::take(20, |_| assert!(Command::new("true").status().unwrap().success()));
    bench.time("floor: spawn `true` and wait", &floor, None);
    let (mut ready, mut resident, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..bench.pick(5, 20) {
        let server = Server::start(&bench.dir().join(format!("empty-{n}")));
        ready.push(server.ready_micros);
        resident.push(server.resident_bytes());
        stops.push(server.stop());
    }
    let spawn = Some(("spawning `true`", floor.p50()));
    bench.time("daemon: ready on a new root", &Samples::of(ready), spawn);
    bench.time("daemon: stopped", &Samples::of(stops), spawn);
    bench.kilobytes("daemon: memory when ready", Samples::of(resident).p50());
}

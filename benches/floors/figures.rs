//! Samples, figures and the service they are taken from.
//!
//! May not know what is measured. Invariant: a figure is printed as soon as it is known.

use dormouse::codecs::json::{Json, Surrogates, gate};
use dormouse::ground::clock::SystemClock;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::{NewRun, Source, host_limits};
use dormouse::services::runs::hosts::{ChildHosts, Hosts};
use dormouse::services::telemetry::Telemetry;
use dormouse::shells::pin::EntrySpec;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The program under test.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_dormouse");

/// Durations in microseconds, sorted.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn of(mut micros: Vec<f64>) -> Self {
        assert!(!micros.is_empty());
        micros.sort_by(f64::total_cmp);
        Self(micros)
    }

    /// Times `count` calls one by one.
    pub(crate) fn take(count: usize, mut call: impl FnMut(usize)) -> Self {
        let one = |n| {
            let began = Instant::now();
            call(n);
            began.elapsed().as_secs_f64() * 1e6
        };
        Self::of((0..count).map(one).collect())
    }

    pub(crate) fn at(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    pub(crate) fn p50(&self) -> f64 {
        self.at(50)
    }
}

/// The whole of it.
pub(crate) struct Bench {
    pub(crate) quick: bool,
    dir: tempfile::TempDir,
    began: Instant,
    figures: usize,
}

impl Bench {
    pub(crate) fn new(quick: bool) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let uname = rustix::system::uname();
        let kernel = uname.release().to_string_lossy().into_owned();
        let built = if cfg!(debug_assertions) { "debug" } else { "release" };
        let size = if quick { "quick" } else { "full" };
        println!(
            "dormouse {} ({built}), {size}: {cores} cores, Linux {kernel}, files in {}",
            env!("CARGO_PKG_VERSION"),
            dir.path().parent().unwrap().display()
        );
        println!("{:<52} {:>10} {:>10}   against its floor", "", "p50", "p99");
        Self { quick, dir, began: Instant::now(), figures: 0 }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pick(&self, quick: usize, full: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// One figure that is a duration.
    pub(crate) fn time(&mut self, what: &str, samples: &Samples, floor: Option<(&str, f64)>) {
        self.figures += 1;
        let ratio = floor.map_or(String::new(), |(name, micros)| {
            format!("{:.2} × {name} ({micros:.0} µs)", samples.p50() / micros)
        });
        let (p50, p99) = (samples.p50(), samples.at(99));
        println!("{what:<52} {p50:>7.1} µs {p99:>7.1} µs   {ratio}");
    }

    /// One figure that is a rate.
    pub(crate) fn rate(&mut self, what: &str, rate: f64, floor: Option<(&str, f64)>) {
        self.figures += 1;
        let ratio = floor
            .map_or(String::new(), |(name, f)| format!("1/{:.1} of {name} ({f:.0}/s)", f / rate));
        println!("{what:<52} {rate:>10.0}/s {:>11}  {ratio}", "");
    }

    /// One figure that is a ratio already.
    pub(crate) fn ratio(&mut self, what: &str, ratio: f64) {
        self.figures += 1;
        println!("{what:<52} {ratio:>10.2}");
    }

    /// One figure that is a size.
    pub(crate) fn kilobytes(&mut self, what: &str, bytes: f64) {
        self.figures += 1;
        println!("{what:<52} {:>7.0} kB", bytes / 1e3);
    }

    pub(crate) fn end(&self) {
        println!("{} figures, took {:.0} s", self.figures, self.began.elapsed().as_secs_f64());
    }

    /// The service over a root of its own.
    pub(crate) fn runs(&self, root: &str, hosts: Arc<dyn Hosts>) -> Runs {
        Runs {
            disk: Arc::new(StdDisk),
            clock: Arc::new(SystemClock),
            hosts,
            root: self.dir().join(root),
            lock_wait_ms: 1000,
            allow_fs: None,
            limits: host_limits(),
            turn_wall_max_ms: 60_000,
            kinds: dormouse::services::runs::kinds::KnownKinds::default(),
            by: "operator:bench".into(),
            telemetry: Telemetry::default(),
        }
    }

    /// A file with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A run to be created from a source text.
    pub(crate) fn new_run(&self, id: &str, source: &str, inputs: &str, alone: bool) -> NewRun {
        let path = self.file(&format!("{id}.js"), source);
        let source = Source {
            entry: EntrySpec { path, export_name: None },
            root: Some(self.dir().to_owned()),
            library_root: None,
            extra: Vec::new(),
            process_id: None,
        };
        NewRun {
            run_id: Some(id.parse().unwrap()),
            source: Some(source),
            inputs: Some(json(inputs)),
            non_interactive: alone,
            traceparent: None,
            ..NewRun::default()
        }
    }
}

/// Hosts that are child processes of the program.
pub(crate) fn child_hosts() -> ChildHosts {
    ChildHosts { exe: EXE.into() }
}

pub(crate) fn json(text: &str) -> Json {
    gate(text.as_bytes(), 100, Surrogates::Lone).unwrap()
}

//! Power cuts: every write and flush of a real filesystem is recorded while a daemon works on it;
//! then the disk is put into the states in which a cut would have left it, and a daemon recovers.
//!
//! Needs root, a recorder of block writes, FUSE and loop mounts; without them it is skipped, and
//! says so. May not know how the daemon writes. Invariant: a state is judged by the promises that
//! were answered before its moment, and by no others.

use std::path::{Path, PathBuf};

use super::client::{Client, pause};
use super::counter::Counter;
use super::dice::Dice;
use super::image::{Film, Record};
use super::judge::{Promise, Variant};
use super::walker::{Habits, Round, Walker};
use super::yard::{Ground, Yard, stands};
use super::{Broken, Options, Outcome, PROCESS, Scenario, Size, book, has_program};
use crate::ground::clock::Stopwatch;
use crate::ports::disk::{Disk, Open};
use crate::shells::trial::Trial;

/// Size of the disk.
const DISK_BYTES: u64 = 64 << 20;
/// Most that is recorded.
const RECORD_BYTES_MAX: u64 = 1 << 30;
/// Programs that are needed.
const TOOLS: &[&str] = &["qemu-storage-daemon", "mkfs.ext4", "losetup", "mount", "umount"];
/// How long the recorder may take to begin.
const RECORDER_SECONDS_MAX: f64 = 20.0;
/// A place in memory, for images.
const MEMORY: &str = "/dev/shm";

/// What was promised, and how long the record was by then.
struct Acked {
    promise: Promise,
    at: u64,
}

/// What is missing for it here.
fn missing(ground: &Ground) -> Option<String> {
    if ground.disk.effective_uid() != 0 {
        return Some("it mounts filesystems: run it as root".to_owned());
    }
    if !stands(&*ground.disk, Path::new("/dev/fuse")) {
        return Some("there is no /dev/fuse".to_owned());
    }
    let tool = TOOLS.iter().find(|tool| !has_program(ground, tool))?;
    Some(format!("{tool} is not installed"))
}

/// Records a life, and cuts it at moments that are spread over it.
pub(super) fn run(options: &Options) -> Result<Outcome, Broken> {
    let mut outcome = Outcome::of(Scenario::Cut, options);
    if let Some(missing) = missing(&options.ground) {
        outcome.skipped = Some(missing);
        return Ok(outcome);
    }
    let began = Stopwatch::start();
    let mut ground = options.ground.clone();
    if ground.disk.open_dir(Path::new(MEMORY)).is_ok() {
        ground.above = MEMORY.into();
    }
    let mut yard = Yard::new(&ground)?;
    let mut found = Vec::new();
    let (record, start, acked) = recorded(&mut yard, options, &mut found)?;
    let first = acked.iter().map(|acked| acked.at).min().unwrap_or(u64::MAX);
    let moments = (0..=record.len()).filter(|count| record.end_of(*count) >= first);
    let moments: Vec<usize> = moments.collect();
    let wanted = if options.size == Size::Full { 400 } else { 16 };
    let mut dice = Dice::of(options.seed, "cuts");
    let mut chosen: Vec<usize> =
        (0..wanted).filter_map(|_| dice.one_of(&moments).copied()).collect();
    chosen.sort_unstable();
    let (mut film, mut states, mut unmounted) = (Film::new(&record, start), 0, 0);
    for moment in &chosen {
        if began.seconds() > options.budget_seconds {
            break;
        }
        film.show(*moment);
        let image = film.cut(&mut dice);
        let end = record.end_of(*moment);
        let promised = acked.iter().filter(|acked| acked.at <= end).map(|acked| &acked.promise);
        let Some(wrong) = judged(&yard, &image, promised)? else {
            unmounted += 1;
            continue;
        };
        found.extend(wrong.into_iter().map(|what| format!("cut after entry {moment}: {what}")));
        states += 1;
        if found.len() > 3 {
            break;
        }
    }
    outcome.did("writes and flushes recorded", record.len());
    outcome.did("promises", acked.len());
    outcome.did("states of the disk", states);
    outcome.did("states that the filesystem itself did not survive", unmounted);
    (outcome.hits, outcome.wanted) = (states as u64, 1);
    outcome.found(&mut yard, found);
    Ok(outcome)
}

/// A filesystem that is mounted; it is let go of when this is dropped.
struct Mount<'y> {
    yard: &'y Yard,
    place: PathBuf,
    device: Option<String>,
}

impl<'y> Mount<'y> {
    /// Mounts an image through a loop device of its own.
    fn of(yard: &'y Yard, image: &Path, place: &Path) -> Result<Self, Broken> {
        yard.disk().create_dirs(place)?;
        let made = tool(yard, "losetup", &["--find", "--show", &image.display().to_string()])?;
        let device = made.trim().to_owned();
        let mut mount = Self { yard, place: place.to_owned(), device: Some(device.clone()) };
        if let Err(e) = tool(yard, "mount", &[&device, &place.display().to_string()]) {
            mount.place = PathBuf::new();
            return Err(e);
        }
        Ok(mount)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if !self.place.as_os_str().is_empty() {
            // Somebody killed may take a moment to let go.
            for _ in 0..100 {
                if tool(self.yard, "umount", &[&self.place.display().to_string()]).is_ok() {
                    break;
                }
                pause();
            }
        }
        if let Some(device) = self.device.take() {
            let _ = tool(self.yard, "losetup", &["-d", &device]);
        }
    }
}

/// What a program of the system prints.
fn tool(yard: &Yard, name: &str, args: &[&str]) -> Result<String, Broken> {
    let ended = yard.tool(name).run(args)?;
    if ended.code == 0 {
        return Ok(ended.out);
    }
    Err(Broken(format!("{name} {}: exit {}: {}", args.join(" "), ended.code, ended.err.trim())))
}

/// A file of this size, without anything in it.
fn empty(disk: &dyn Disk, dir: &Path, name: &str, bytes: u64) -> Result<PathBuf, Broken> {
    disk.open_dir(dir)?.create_excl(name)?.truncate(bytes)?;
    Ok(dir.join(name))
}

fn content(disk: &dyn Disk, dir: &Path, name: &str, max: u64) -> Result<Vec<u8>, Broken> {
    Ok(disk.open_dir(dir)?.read_file(name, Open::Read, max)?)
}

/// Starts whoever records each write to the disk, and waits until it shows the disk.
fn recorder(yard: &Yard, base: &Path, log: &Path, face: &Path) -> Result<Trial, Broken> {
    let (base, log, face) = (base.display(), log.display(), face.display());
    let child = yard.tool(TOOLS[0]).start(
        &[
            "--blockdev",
            &format!("driver=file,node-name=disk,filename={base}"),
            "--blockdev",
            &format!("driver=file,node-name=rec,filename={log}"),
            "--blockdev",
            "driver=blklogwrites,node-name=top,file=disk,log=rec,log-sector-size=512",
            "--export",
            &format!("type=fuse,id=x,node-name=top,mountpoint={face},writable=on"),
        ],
        "",
    )?;
    let (began, dir) = (Stopwatch::start(), yard.disk().open_dir(&yard.top)?);
    while dir.stat("face.img").map_or(0, |stat| stat.bytes) != DISK_BYTES {
        if began.seconds() > RECORDER_SECONDS_MAX {
            return Err(Broken(format!("the recorder does not begin: {}", child.said())));
        }
        pause();
    }
    Ok(child)
}

/// Leads a life on a recorded disk. Gives the record, the disk before, and what was promised when.
fn recorded(
    yard: &mut Yard,
    options: &Options,
    found: &mut Vec<String>,
) -> Result<(Record, Vec<u8>, Vec<Acked>), Broken> {
    let top = yard.top.clone();
    let base = empty(yard.disk(), &top, "base.img", DISK_BYTES)?;
    tool(yard, "mkfs.ext4", &["-q", "-F", &base.display().to_string()])?;
    let start = content(yard.disk(), &top, "base.img", DISK_BYTES)?;
    let log = empty(yard.disk(), &top, "log.img", 0)?;
    let face = empty(yard.disk(), &top, "face.img", 0)?;
    let recorder = recorder(yard, &base, &log, &face)?;
    let place = top.join("mnt");
    yard.set_root(place.join("runs"));
    let mount = Mount::of(yard, &face, &place)?;
    let acked = life(yard, options, found);
    drop(mount);
    let _ = recorder.stop();
    let record = content(yard.disk(), &top, "log.img", RECORD_BYTES_MAX)?;
    let record = Record::read(&record).ok_or(Broken("the record cannot be read".to_owned()))?;
    Ok((record, start, acked?))
}

/// Runs that come to their ends, one after the other, and what was promised when.
fn life(yard: &Yard, options: &Options, found: &mut Vec<String>) -> Result<Vec<Acked>, Broken> {
    let entry = yard.file("process.js", PROCESS)?.display().to_string();
    // Small segments: their ends are to be met as well. Journals are settled soon.
    let log = "[log]\nsegment_bytes = \"256KiB\"\nreserve_bytes = \"64KiB\"\n";
    yard.file("config.toml", &format!("{log}[disk]\nfree_min = \"1MiB\"\n"))?;
    let daemon = yard.serve()?.map_err(|said| Broken(format!("no daemon comes up: {said}")))?;
    let runs = if options.size == Size::Full { 24 } else { 6 };
    let dir = yard.disk().open_dir(&yard.top)?;
    let mut acked = Vec::new();
    for n in 0..runs {
        let variant = if n % 2 == 0 { Variant::Chore } else { Variant::Plain };
        let (run, counter) = (format!("r-{n:03}"), Counter::start(options.seed, 0)?);
        let client = Client { socket: yard.socket() };
        let runs = [(run.as_str(), variant)];
        let seed = options.seed + n;
        let mut walker =
            Walker::new(client, counter, entry.clone(), &runs, seed, Habits::default());
        loop {
            let round = walker.round();
            let at = dir.stat("log.img")?.bytes;
            acked.extend(walker.promises.drain(..).map(|promise| Acked { promise, at }));
            if matches!(round, Round::Silence | Round::Refused) {
                found.push(format!("nothing goes on in {run}: {round:?}"));
            }
            if round != Round::More || !walker.surprises.is_empty() {
                found.append(&mut walker.surprises);
                break;
            }
        }
    }
    let code = daemon.stop();
    if code != 0 {
        found.push(format!("the daemon ended with {code}"));
    }
    Ok(acked)
}

/// What is wrong when a daemon recovers this disk; nothing is known of it if its filesystem cannot
/// be mounted.
fn judged<'p>(
    yard: &Yard,
    image: &[u8],
    promised: impl Iterator<Item = &'p Promise>,
) -> Result<Option<Vec<String>>, Broken> {
    let (dir, name) = (yard.disk().open_dir(&yard.top)?, "state.img");
    dir.open_or_create(name)?.write_at(0, image)?;
    let Ok(mount) = Mount::of(yard, &yard.top.join(name), &yard.top.join("mnt")) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    match yard.serve()? {
        Ok(daemon) => {
            let code = daemon.stop();
            if code != 0 {
                found.push(format!("the daemon ended with {code}"));
            }
        }
        Err(said) => found.push(format!("no daemon comes up: {said}")),
    }
    for promise in promised {
        found.extend(broken(yard, promise));
    }
    drop(mount);
    Ok(Some(found))
}

/// Whether a promise is broken.
fn broken(yard: &Yard, promise: &Promise) -> Option<String> {
    let (Promise::Created { run } | Promise::Posted { run, .. }) = promise else { return None };
    let records = match book::records(yard.disk(), &yard.root().join(run)) {
        Ok(records) => records,
        Err(why) => return Some(format!("I01: {promise:?}: {why}")),
    };
    let stands = match promise {
        Promise::Posted { effect, value, .. } => records.iter().any(|record| {
            let data = &record["data"];
            record["type"] == "EFFECT_RESOLVED"
                && data["effectId"] == **effect
                && data["value"] == *value
        }),
        _ => !records.is_empty(),
    };
    (!stands).then(|| format!("I01: a promise is broken: {promise:?}"))
}

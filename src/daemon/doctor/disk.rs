//! The disk: whether a sync reaches it, whether names last, whether locks exclude.
//!
//! May not touch what is not its own. Invariant: everything happens in one scratch directory below
//! the root, which is removed at the end, whatever was found.

use std::sync::Arc;

use super::Sign;
use crate::ground::clock::monotonic_micros;
use crate::ports::disk::{self, Atomic, Dir, FsClass, Lock, Open};
use crate::services::runs::Runs;
use crate::shells::run_dir::root::{META, remove_tree, staging_name};

/// How often something is written and synced.
const ROUNDS: usize = 32;
/// No disk takes in a sync faster than this: it would have to answer before its cable does.
const SYNC_MICROS_MIN: u64 = 15;
/// A sync that takes longer makes every step slow.
const SYNC_MICROS_SLOW: u64 = 20_000;
/// What is written at a time: a block of the log.
const BLOCK_BYTES: usize = 4_096;

/// Looks at the disk below the root.
pub(super) fn examine(runs: &Runs) -> Vec<Sign> {
    let Ok(view) = runs.view_root() else { return Vec::new() };
    let next = "see that the runs root may be written and has room";
    let made = view.dir().ensure_dir(META).and_then(|meta| meta.ensure_dir("staging"));
    let staging = match made {
        Ok(staging) => staging,
        Err(e) => return vec![Sign::ill("scratch", e.to_string(), next)],
    };
    let name = staging_name("doctor", &*runs.disk);
    let scratch = staging.mkdir(&name).and_then(|()| staging.open_dir(&name));
    let signs = match &scratch {
        Ok(scratch) => in_scratch(scratch),
        Err(e) => vec![Sign::ill("scratch", e.to_string(), next)],
    };
    // What stays is swept after the next start of the machine.
    let _ = remove_tree(&*staging, &name, 1);
    signs
}

fn in_scratch(dir: &Arc<dyn Dir>) -> Vec<Sign> {
    let ill = |name, e: disk::Error| Sign::ill(name, e.to_string(), "look at the disk: dmesg");
    let class = dir.fs_class();
    let is_volatile = matches!(class, Ok(FsClass::Volatile(_)));
    vec![
        match class {
            Ok(FsClass::Durable(name)) => Sign::well("filesystem", name),
            Ok(FsClass::Volatile(name)) => {
                let seen = format!("{name}: everything is gone after a restart of the machine");
                Sign::weak("filesystem", seen, "use a disk for what must last")
            }
            Ok(FsClass::Unfit(name)) => {
                let seen = format!("{name} gives no firm promises about locks and syncs");
                Sign::ill("filesystem", seen, "use a local disk")
            }
            Err(e) => ill("filesystem", e),
        },
        syncs(dir, is_volatile).unwrap_or_else(|e| ill("sync", e)),
        direct(dir).unwrap_or_else(|e| ill("direct", e)),
        names(dir).unwrap_or_else(|e| ill("rename", e)),
        locks(dir).unwrap_or_else(|e| ill("locks", e)),
    ]
}

/// Whether a sync can have reached a disk, by how long it takes.
fn syncs(dir: &Arc<dyn Dir>, is_volatile: bool) -> disk::Result<Sign> {
    let file = dir.create_excl("sync")?;
    file.write_at(0, &vec![0; BLOCK_BYTES * ROUNDS])?;
    file.sync_file()?;
    let mut micros = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        file.write_at((round * BLOCK_BYTES) as u64, &[1; BLOCK_BYTES])?;
        let before = monotonic_micros();
        file.sync_data()?;
        micros.push(monotonic_micros().saturating_sub(before));
    }
    micros.sort_unstable();
    let (p50, p90) = (micros[ROUNDS / 2], micros[ROUNDS * 9 / 10]);
    let seen = format!("a sync takes {p50} µs (p50), {p90} µs (p90)");
    Ok(if is_volatile {
        Sign::weak("sync", format!("{seen}, of memory"), "use a disk for what must last")
    } else if p50 < SYNC_MICROS_MIN {
        let seen = format!("{seen}: no disk can answer that fast");
        Sign::ill("sync", seen, "see that no layer below ignores flushes (nobarrier, eatmydata)")
    } else if p50 > SYNC_MICROS_SLOW {
        Sign::weak("sync", format!("{seen}: every step waits for one"), "use a faster disk")
    } else {
        Sign::well("sync", seen)
    })
}

/// Whether the log can be written past the page cache.
fn direct(dir: &Arc<dyn Dir>) -> disk::Result<Sign> {
    let file = dir.create_excl("direct")?;
    file.write_at(0, &[0; BLOCK_BYTES])?;
    file.sync_file()?;
    let seen = match dir.open("direct", Open::Direct).and_then(|file| file.dio_alignment()) {
        Ok(Some(bytes)) => return Ok(Sign::well("direct", format!("in blocks of {bytes} bytes"))),
        Ok(None) => "the filesystem says nothing about writing past its cache".to_owned(),
        Err(e) => e.to_string(),
    };
    Ok(Sign::weak("direct", seen, "nothing: the log is written through the cache and synced"))
}

/// Whether a file can be replaced as a whole.
fn names(dir: &Arc<dyn Dir>) -> disk::Result<Sign> {
    for text in ["one", "two"] {
        disk::write_atomic(&**dir, "name", text.as_bytes(), Atomic::DURABLE)?;
        let found = dir.read_file("name", Open::Truth, 16)?;
        if found != text.as_bytes() {
            let next = "do not use this disk";
            return Ok(Sign::ill("rename", "a replaced file has its old bytes", next));
        }
    }
    Ok(Sign::well("rename", "a file is replaced as a whole, and its name synced"))
}

/// Whether locks of two openings exclude each other.
fn locks(dir: &Arc<dyn Dir>) -> disk::Result<Sign> {
    dir.create_excl("lock")?;
    let (one, two) = (dir.open("lock", Open::Write)?, dir.open("lock", Open::Write)?);
    let is_held = one.try_lock(Lock::Exclusive)?;
    let excludes = is_held && !two.try_lock(Lock::Exclusive)?;
    Ok(if excludes {
        Sign::well("locks", "a lock excludes others")
    } else {
        let next = "use a local disk: two daemons could own one root here";
        Sign::ill("locks", "two openings of one file hold its lock", next)
    })
}

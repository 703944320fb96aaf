//! The root: whether it is there, whose it is, and what stands in its way.
//!
//! May not write. Invariant: it says what `serve` would refuse, before `serve` does.

use super::Sign;
use crate::ground::limits::{DISK_FREE_BYTES_MIN, FAILURES_MAX};
use crate::ports::disk::Dir;
use crate::services::runs::{Error, Runs};
use crate::shells::run_dir::lock;
use crate::shells::run_dir::root::{Options, ROOT_LOCK};
use crate::shells::run_dir::root_file::{self, RootState};

/// Looks at the root.
pub(super) fn examine(runs: &Runs, is_served: bool) -> Vec<Sign> {
    let view = match runs.view_root() {
        Ok(view) => view,
        Err(Error::NotFound(_)) => {
            let seen = format!("{} is not there yet", runs.root.display());
            return vec![Sign::weak("root", seen, "dormouse run create, or serve, makes it")];
        }
        Err(e) => return vec![Sign::ill("root", e.to_string(), "give another --runs-root")],
    };
    let options = Options { allow_fs: runs.allow_fs.clone(), ..Options::default() };
    let mut signs = vec![match view.check_place(&options) {
        Ok(()) => Sign::well("root", format!("{} is ours alone", view.path().display())),
        Err(e) => {
            let label = Error::from(e);
            let next = label.trouble().next.first().cloned().unwrap_or_default();
            Sign::ill("root", label.to_string(), next)
        }
    }];
    signs.push(match view.dir().free_space() {
        Ok(free) if free < DISK_FREE_BYTES_MIN => {
            let seen = format!("{free} bytes are free, work stops below {DISK_FREE_BYTES_MIN}");
            Sign::ill("space", seen, "make room")
        }
        Ok(free) => Sign::well("space", format!("{} MiB are free", free >> 20)),
        Err(e) => Sign::ill("space", e.to_string(), "look at the disk"),
    });
    if let Some(meta) = view.meta() {
        signs.extend(state(&**meta, is_served));
    }
    signs
}

/// What the last owner of the root left.
fn state(meta: &dyn Dir, is_served: bool) -> Vec<Sign> {
    let mut signs = Vec::new();
    signs.push(match root_file::read(meta) {
        Err(e) => Sign::ill("root.json", e.to_string(), "dormouse explain R1"),
        Ok(Some(json)) if json.state == RootState::Open && !is_served => {
            let seen = "the daemon that had it was killed; its log is there";
            Sign::weak("root.json", seen, "dormouse serve, or any command that writes, recovers")
        }
        Ok(Some(_)) if is_served => Sign::well("root.json", "a daemon serves the root"),
        Ok(_) => Sign::well("root.json", "the root is at rest"),
    });
    let failures = lock::read_note(meta, ROOT_LOCK).map_or(0, |note| note.failures);
    if failures >= FAILURES_MAX {
        let seen = format!("{failures} daemons in a row could not write");
        signs.push(Sign::ill("failures", seen, "look at the disk, then: dormouse root resume"));
    } else if failures > 0 {
        let seen = format!("{failures} of the last daemons could not write");
        signs.push(Sign::weak("failures", seen, "dmesg"));
    }
    signs
}

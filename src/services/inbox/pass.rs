//! One pass over the inbox: reads what lies there, posts it, files it away.
//!
//! May not wait for anything but the manager. Invariant: a file leaves the inbox only after what it
//! says is durable, or was refused for good; dealing with it twice is harmless.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use serde_json::json;

use super::letter::{self, Deed};
use super::{Options, is_letter};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::limits::{INBOX_CLEAN_EVERY_MS, INBOX_CONCURRENT_MAX, INBOX_PASS_FILES_MAX};
use crate::ports::disk::{
    self, Atomic, Dir, FileHandle, FileKind, Kind, Open, Rename, optional, write_atomic,
};
use crate::services::manager::{Flow, Handle};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

/// Who posts, as it stands in records.
const BY: &str = "client:inbox";
/// The inbox, below the root's own directory.
const FOLDER: &str = "inbox";
/// Longest beginning of a name that stands in the name of another file made from it.
const STEM_BYTES_MAX: usize = 160;

/// An inbox, and how far its passes have come.
pub struct Inbox {
    /// The root's own directory.
    meta: Arc<dyn Dir>,
    desk: Arc<Desk>,
    /// Somebody replaced the directory: hints about the old one are of no use.
    moved: bool,
    /// The last name of the last pass: what cannot be dealt with now must not stand before others.
    after: String,
    clean_at: Timestamp,
    stop: Arc<AtomicBool>,
}

/// What dealing with one file needs.
struct Desk {
    handle: Handle,
    dir: Arc<dyn Dir>,
    inode: u64,
    options: Options,
}

/// What became of the files of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// What they said is durable now.
    pub posted: usize,
    /// What they said was durable already.
    pub repeated: usize,
    /// They were refused for good.
    pub refused: usize,
    /// They stay where they are until a later pass.
    pub later: usize,
    /// Names that were left for the next pass.
    pub left: usize,
}

/// What becomes of a file.
enum Fate {
    Posted,
    Repeated,
    Refused(Trouble),
    Later(Trouble),
    /// Somebody else took it away.
    Gone,
}

impl Inbox {
    /// The inbox of the root that `handle` works on; makes its directory.
    pub fn open(handle: Handle, options: Options) -> Result<Self> {
        let runs = handle.runs();
        let meta = runs.disk.open_dir(&runs.root)?.open_dir(".dormouse")?;
        let dir = meta.ensure_dir(FOLDER)?;
        let inode = dir.stat_self()?.inode;
        let desk = Arc::new(Desk { handle, dir, inode, options });
        let (after, clean_at) = (String::new(), Timestamp::default());
        Ok(Self { meta, desk, moved: false, after, clean_at, stop: Arc::default() })
    }

    /// Opens the directory that bears the name now: somebody may have removed or replaced it.
    fn reopen(&mut self) -> Result<()> {
        let dir = self.meta.ensure_dir(FOLDER)?;
        let inode = dir.stat_self()?.inode;
        // The old one is open, so no other directory has its number.
        if inode != self.desk.inode {
            let (handle, options) = (self.desk.handle.clone(), self.desk.options.clone());
            self.desk = Arc::new(Desk { handle, dir, inode, options });
            self.moved = true;
        }
        Ok(())
    }

    /// Whether another directory has taken the place of the one before since the last call.
    pub(super) fn was_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub(super) fn dir(&self) -> &std::path::Path {
        self.desk.dir.path()
    }

    /// Ends a pass early once it is set.
    pub(super) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Deals with what lies there, in the order of names, beginning after the last name of the pass
    /// before.
    pub async fn pass(&mut self) -> Result<Tally> {
        self.reopen()?;
        self.clean()?;
        let mut names = self.desk.dir.list()?;
        names.retain(|name| is_letter(name));
        let begin = names.partition_point(|name| *name <= self.after);
        names.rotate_left(begin);
        let left = names.len().saturating_sub(INBOX_PASS_FILES_MAX);
        names.truncate(INBOX_PASS_FILES_MAX);
        let mut tally = Tally { left, ..Tally::default() };
        let mut under_way = Vec::new();
        for name in names {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if under_way.len() >= INBOX_CONCURRENT_MAX {
                tally.take(&next(&mut under_way).await);
            }
            self.after.clone_from(&name);
            let desk = Arc::clone(&self.desk);
            under_way.push(Box::pin(async move { desk.deal_with(&name).await }));
        }
        while !under_way.is_empty() {
            tally.take(&next(&mut under_way).await);
        }
        Ok(tally)
    }

    /// Removes what was dealt with long ago.
    fn clean(&mut self) -> Result<()> {
        let now = self.desk.handle.runs().clock.now();
        if now < self.clean_at {
            return Ok(());
        }
        self.clean_at = now.plus_millis(INBOX_CLEAN_EVERY_MS);
        for folder in ["done", "refused"] {
            let Some(dir) = optional(self.desk.dir.open_dir(folder))? else { continue };
            for name in dir.list()? {
                let Ok(stat) = dir.stat(&name) else { continue };
                let old = stat.changed.plus_millis(self.desk.options.keep_ms) <= now;
                if old && stat.kind != FileKind::Dir {
                    // It may be gone by now, or stay for the next time.
                    let _ = dir.unlink(&name);
                }
            }
        }
        Ok(())
    }
}

/// The first of several futures that is done. They are begun in their order, and an ask is sent
/// when its future begins: so files reach the manager in the order of their names.
async fn next<F: Future<Output = Fate> + Unpin>(under_way: &mut Vec<F>) -> Fate {
    poll_fn(|context| {
        for place in 0..under_way.len() {
            if let Poll::Ready(fate) = Pin::new(&mut under_way[place]).poll(context) {
                drop(under_way.remove(place));
                return Poll::Ready(fate);
            }
        }
        Poll::Pending
    })
    .await
}

impl Tally {
    /// Whether another pass should follow at once.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.left > 0 && self.posted + self.repeated + self.refused > 0
    }

    fn take(&mut self, fate: &Fate) {
        match fate {
            Fate::Posted => self.posted += 1,
            Fate::Repeated => self.repeated += 1,
            Fate::Refused(_) => self.refused += 1,
            Fate::Later(_) => self.later += 1,
            Fate::Gone => {}
        }
    }
}

impl Desk {
    async fn deal_with(&self, name: &str) -> Fate {
        let mut fate = self.fate(name).await;
        let filed = match &fate {
            Fate::Posted | Fate::Repeated => self.file_away(name, "done"),
            Fate::Refused(why) => {
                self.explain(name, why).and_then(|()| self.file_away(name, "refused"))
            }
            Fate::Later(_) | Fate::Gone => Ok(()),
        };
        if let Err(e) = filed {
            // The next pass finds it again, and the repeat is known.
            fate = Fate::Later(Error::from(e).trouble().clone());
        }
        self.tell(name, &fate);
        fate
    }

    async fn fate(&self, name: &str) -> Fate {
        let bytes = match self.read(name) {
            Ok(bytes) => bytes,
            Err(fate) => return fate,
        };
        let letter = match letter::read(name, &bytes) {
            Ok(letter) => letter,
            Err(why) => return Fate::Refused(why),
        };
        drop(bytes);
        let (run, handle) = (letter.run, &self.handle);
        let done = match letter.deed {
            Deed::Post(posting) => {
                let post = handle.deed(&run, BY, Flow::Outcome, move |run| run.post(*posting));
                post.await.map(|posted| posted.repeat)
            }
            Deed::Signal(signal) => {
                let sent = handle.deed(&run, BY, Flow::Inflow, move |run| run.signal(signal));
                sent.await.map(|done| done.repeat)
            }
        };
        match done {
            Ok(true) => Fate::Repeated,
            Ok(false) => Fate::Posted,
            Err(error) if may_pass(&error) => Fate::Later(error.trouble().clone()),
            Err(error) => Fate::Refused(error.trouble().clone()),
        }
    }

    /// The content of a plain file of ours that is not too long.
    fn read(&self, name: &str) -> std::result::Result<Vec<u8>, Fate> {
        let unreadable = |e: disk::Error| match e.kind {
            Kind::NotFound if name.contains(char::REPLACEMENT_CHARACTER) => {
                Fate::Refused(refused("its name is not UTF-8".to_owned()))
            }
            Kind::NotFound => Fate::Gone,
            Kind::WrongKind | Kind::BadName => Fate::Refused(Error::from(e).trouble().clone()),
            Kind::TooLarge => Fate::Refused(refused(format!(
                "it is longer than {} bytes",
                self.options.file_bytes_max
            ))),
            // Permission, or a disk that fails: somebody may mend it.
            _ => Fate::Later(Error::from(e).trouble().clone()),
        };
        let file: Box<dyn FileHandle> = self.dir.open(name, Open::Read).map_err(unreadable)?;
        let stat = file.stat().map_err(unreadable)?;
        if stat.uid != self.handle.runs().disk.effective_uid() {
            return Err(Fate::Refused(refused(format!("it belongs to user {}", stat.uid))));
        }
        if stat.links != 1 {
            return Err(Fate::Refused(refused(format!("it has {} names", stat.links))));
        }
        file.read_all(self.options.file_bytes_max).map_err(unreadable)
    }

    /// The newest file of a name takes the place of an older one.
    fn file_away(&self, name: &str, folder: &str) -> disk::Result<()> {
        let to = self.dir.ensure_dir(folder)?;
        match self.dir.rename(name, &*to, name, Rename::Replace) {
            Err(e) if e.is_not_found() && name.contains(char::REPLACEMENT_CHARACTER) => {
                self.dir.rename_shown(name, &*to, &format!("{}.json", short_stem(name)))
            }
            renamed => renamed,
        }
    }

    /// Says beside a refused file why it is one.
    fn explain(&self, name: &str, why: &Trouble) -> disk::Result<()> {
        let problem = json!({
            "type": format!("urn:dormouse:problem:{}", why.code), "code": why.code,
            "detail": why.what, "next": why.next, "at": self.handle.runs().clock.now(),
        });
        let mut text = format!("{problem:#}").into_bytes();
        text.push(b'\n');
        let beside = self.dir.ensure_dir("refused")?;
        let problem = format!("{}.problem.json", short_stem(name));
        write_atomic(&*beside, &problem, &text, Atomic::DERIVED)
    }

    /// Codes only: a detail may quote what the file says.
    fn tell(&self, name: &str, fate: &Fate) {
        let result = match fate {
            Fate::Posted => "posted",
            Fate::Repeated => "repeat",
            Fate::Refused(why) => {
                tracing::warn!(file = name, code = why.code, "a file of the inbox is refused");
                "refused"
            }
            Fate::Later(why) => {
                tracing::warn!(file = name, code = why.code, "a file of the inbox has to wait");
                "later"
            }
            Fate::Gone => return,
        };
        self.handle.runs().telemetry.metrics.inbox_files.with([result]).one();
    }
}

/// A name without its ending; a long one is cut and told apart from its like by a digest.
fn short_stem(name: &str) -> String {
    let stem = name.strip_suffix(".json").unwrap_or(name);
    if stem.len() <= STEM_BYTES_MAX {
        return stem.to_owned();
    }
    let cut = stem.floor_char_boundary(STEM_BYTES_MAX);
    let digest = Digest::of(name.as_bytes()).hex();
    format!("{}~{}", &stem[..cut], &digest[..8])
}

fn refused(why: String) -> Trouble {
    Trouble::new("inbox_file_refused", why).next("mend the file and move it into the inbox again")
}

/// Whether the same post may be accepted later, without anybody mending it.
fn may_pass(error: &Error) -> bool {
    let waits = ["lock_busy", "overloaded", "root_needs_recovery", "signal_backlog_max"];
    matches!(error, Error::Storage { .. }) || waits.contains(&error.trouble().code)
}

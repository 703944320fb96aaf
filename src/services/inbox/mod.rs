//! The inbox: outcomes and signals as files, for who has no client.
//!
//! A file is written under another name or in another place and renamed to
//! `.dormouse/inbox/<name>.json`. The kernel's hint wakes a pass at once; a scan from time to time
//! finds what no hint came for. May not know other doors. Invariant: what the hint misses, the scan
//! finds.

mod letter;
mod pass;

pub use pass::{Inbox, Tally};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};

use super::manager::Handle;
use super::runs::trouble::Trouble;
use super::runs::{Error, Result};
use crate::ground::limits;

/// How an inbox is looked after.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time between two scans.
    pub scan_every_ms: u64,
    /// Longest file.
    pub file_bytes_max: u64,
    /// How long files that were dealt with are kept.
    pub keep_ms: i64,
    /// Whether the kernel is asked for hints.
    pub watch: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scan_every_ms: limits::INBOX_SCAN_EVERY_MS,
            file_bytes_max: limits::INBOX_FILE_BYTES_MAX as u64,
            keep_ms: limits::INBOX_KEEP_MS,
            watch: true,
        }
    }
}

/// An inbox that is looked after. Dropped without [`Running::stop`] it goes on until the process
/// ends.
pub struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    hint: SyncSender<()>,
}

/// Whether a name is one that is dealt with: not hidden, not half written.
fn is_letter(name: &str) -> bool {
    !name.starts_with('.') && name.strip_suffix(".json").is_some()
}

impl Inbox {
    /// Looks after the inbox of the root that `handle` works on, in a thread of its own.
    pub fn start(handle: Handle, options: Options) -> Result<Running> {
        let (watch, every) = (options.watch, Duration::from_millis(options.scan_every_ms));
        let mut inbox = Self::open(handle, options)?;
        let (hint, hints) = mpsc::sync_channel(1);
        let hinter = hint.clone();
        let watch = move |inbox: &Inbox| watch.then(|| watcher(inbox, hinter.clone())).flatten();
        let mut watcher = watch(&inbox);
        let stop = inbox.stop_flag();
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(|e| cannot_start(&e))?;
        let ended = Arc::clone(&stop);
        let work = move || {
            while !ended.load(Ordering::Relaxed) {
                let mut again = match runtime.block_on(inbox.pass()) {
                    Ok(tally) => tally.goes_on(),
                    Err(e) => {
                        tracing::warn!(code = e.trouble().code, "the inbox cannot be read");
                        false
                    }
                };
                if inbox.was_moved() {
                    drop(watcher.take());
                    watcher = watch(&inbox);
                    // What came between the pass and the watching gave no hint.
                    again = true;
                }
                if !again && !wait(&hints, every) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("inbox".into()).spawn(work);
        Ok(Running { thread: thread.map_err(|e| cannot_start(&e))?, stop, hint })
    }
}

impl Running {
    /// Finishes what was begun and ends.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A full channel has a hint in it already.
        let _ = self.hint.try_send(());
        // Files that a panic left are still there.
        let _ = self.thread.join();
    }
}

/// Waits for a hint or until it is time for a scan; false when nobody can hint any more.
fn wait(hints: &Receiver<()>, every: Duration) -> bool {
    !matches!(hints.recv_timeout(every), Err(RecvTimeoutError::Disconnected))
}

/// Asks the kernel for hints; without them the scan is enough.
fn watcher(inbox: &Inbox, hint: SyncSender<()>) -> Option<notify::RecommendedWatcher> {
    let heard = move |event: notify::Result<Event>| {
        // Our own reading is an event too: taken for a hint it would never end.
        let arrived = |event: Event| {
            let renamed = ModifyKind::Name(RenameMode::From);
            match event.kind {
                EventKind::Create(_) => true,
                EventKind::Modify(ModifyKind::Name(_)) => event.kind != EventKind::Modify(renamed),
                _ => event.need_rescan(),
            }
        };
        if event.is_ok_and(arrived) {
            // A full channel has a hint in it already.
            let _ = hint.try_send(());
        }
    };
    let watching = notify::recommended_watcher(heard).and_then(|mut watcher| {
        watcher.watch(inbox.dir(), RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|e| tracing::warn!(cause = %e, "no hints about the inbox: it is scanned only"))
        .ok()
}

fn cannot_start(error: &std::io::Error) -> Error {
    let what = format!("the inbox cannot be looked after: {error}");
    Error::Storage { trouble: Trouble::new("storage_failed", what), unknown: false }
}

#[cfg(test)]
mod tests {
    #[test]
    fn half_written_files_are_not_letters() {
        for name in [".a.json", "a.json.tmp", "a.part", "a.json.part", ".json", "a", "done"] {
            assert!(!super::is_letter(name), "{name}");
        }
        assert!(super::is_letter("a.json"));
    }
}

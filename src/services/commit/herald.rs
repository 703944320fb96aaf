//! What the daemon's log says of the disk.
//!
//! May not decide what is said, only how often. Invariant: a disk that fails again and again fills
//! no log: trouble of the same kind is counted, not repeated.

use crate::shells::commit_log::remark::Remark;

/// Time between two lines about failures that were survived.
const SURVIVED_EVERY_MS: u64 = 10_000;

/// Tells whoever reads the log.
#[derive(Debug, Default)]
pub(super) struct Herald {
    /// From when on a survived failure is worth a line.
    next_ms: u64,
    /// Survived failures that had none.
    untold: u64,
}

impl Herald {
    pub(super) fn tell(&mut self, remarks: Vec<Remark>, now_ms: u64) {
        for remark in remarks {
            match &remark {
                Remark::Full(_) => tracing::warn!(code = "disk_full", "{remark}"),
                Remark::Healthy => tracing::info!(code = "disk_healthy", "{remark}"),
                Remark::Failed(_) => tracing::error!(code = "storage_failed", "{remark}"),
                Remark::Rebuilt { run, .. } => {
                    tracing::warn!(%run, code = "journal_rebuilt", "{remark}");
                }
                Remark::Survived(_) if now_ms < self.next_ms => self.untold += 1,
                Remark::Survived(_) => {
                    let untold = std::mem::take(&mut self.untold);
                    self.next_ms = now_ms + SURVIVED_EVERY_MS;
                    tracing::warn!(code = "disk_trouble", untold, "{remark}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn trouble_is_said_with_its_reason_and_not_over_and_over() {
        let page = Page::default();
        let writer = page.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(lines.finish(), || {
            let mut herald = Herald::default();
            let survived = || Remark::Survived("a sync failed".into());
            herald.tell(vec![Remark::Full("the disk is nearly full".into())], 0);
            herald.tell(vec![survived(), survived(), survived()], 1);
            herald.tell(vec![survived(), Remark::Healthy], SURVIVED_EVERY_MS + 1);
            herald.tell(vec![Remark::Failed("the sky fell".into())], SURVIVED_EVERY_MS + 2);
        });
        let said = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        for (line, [level, code, words]) in lines.iter().zip([
            ["WARN", "disk_full", "taken: the disk is nearly full"],
            ["WARN", "disk_trouble", "a sync failed"],
            ["WARN", "disk_trouble", "untold=2"],
            ["INFO", "disk_healthy", "room again"],
            ["ERROR", "storage_failed", "any more: the sky fell"],
        ]) {
            assert!([level, code, words].iter().all(|word| line.contains(word)), "{line}");
        }
        assert_eq!(lines.len(), 5, "{said}");
    }
}

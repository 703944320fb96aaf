//! What the demo leaves to look at: the directory, the journal, commands to try.
//!
//! May not change anything. Invariant: what is shown is read from the disk at the end.

use super::play::Play;
use super::stage::{RUN, cut};

/// Columns of the journal that are shown.
const COLUMNS: usize = 96;

impl Play {
    /// Shows what is left.
    pub(super) fn farewell(&self) {
        let s = self.stage();
        s.head(&format!("This is the run: {}", s.run_dir().display()));
        for line in s.tree().unwrap_or_default() {
            s.say(&line);
        }
        s.head("And this its journal, a line a record, each sealed with the sum of those before:");
        for line in s.journal().unwrap_or_default() {
            s.say(&format!("  {}", cut(&line, COLUMNS)));
        }
        s.head("Look around:");
        s.command(&format!("alias dormouse={}", s.exe().display()));
        s.command(&format!("export DORMOUSE_RUNS_ROOT={}", s.runs_root().display()));
        for line in [
            format!("dormouse run show {RUN}"),
            format!("dormouse run events {RUN}"),
            format!("dormouse task show {RUN} e0003"),
            "dormouse run list --json".to_owned(),
            "dormouse run --help".to_owned(),
        ] {
            s.command(&line);
        }
        s.say(&format!("  The directory is kept; remove it with rm -r {}", s.top().display()));
    }
}

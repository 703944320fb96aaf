//! Code that was read and verified lately: most runs of a root share a few processes.
//!
//! May not read code itself. Invariant: what stands here is what its digest says, and its size is
//! bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codecs::event::ProcessRef;
use crate::ground::limits::{CODE_SHELF_BYTES_MAX, CODE_SHELF_MAX};
use crate::shells::pin::PinnedGraph;

/// The code, last used first.
#[derive(Default)]
pub(super) struct Shelf(VecDeque<(ProcessRef, Arc<PinnedGraph>)>);

impl Shelf {
    /// The code of a process, if it was kept.
    pub(super) fn find(&mut self, process: &ProcessRef) -> Option<Arc<PinnedGraph>> {
        let at = self.0.iter().position(|(known, _)| known == process)?;
        let found = self.0.remove(at)?;
        let graph = Arc::clone(&found.1);
        self.0.push_front(found);
        Some(graph)
    }

    /// Keeps code; what was not used longest goes.
    pub(super) fn keep(&mut self, process: &ProcessRef, graph: &Arc<PinnedGraph>) {
        let bytes =
            |graph: &PinnedGraph| graph.files.iter().map(|file| file.bytes.len()).sum::<usize>();
        self.0.push_front((process.clone(), Arc::clone(graph)));
        let mut all = 0;
        let fits = self.0.iter().take(CODE_SHELF_MAX).take_while(|(_, graph)| {
            all += bytes(graph);
            all <= CODE_SHELF_BYTES_MAX
        });
        let count = fits.count();
        self.0.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::event::Profile;
    use crate::ground::digest::Digest;
    use crate::shells::pin::PinnedFile;

    fn code(n: usize, bytes: usize) -> (ProcessRef, Arc<PinnedGraph>) {
        let digest = Digest::of(n.to_string().as_bytes());
        let file = PinnedFile {
            path: "main.js".into(),
            bytes: vec![b' '; bytes],
            digest,
            edges: Vec::new(),
            uses_sdk: false,
        };
        let graph = PinnedGraph {
            root: String::new(),
            entry: "main.js".into(),
            export_name: None,
            api: Profile::Dormouse,
            files: vec![file],
            digest,
            warnings: Vec::new(),
        };
        (graph.process_ref(None), Arc::new(graph))
    }

    #[test]
    fn what_was_not_used_longest_goes_first() {
        let mut shelf = Shelf::default();
        let all: Vec<_> = (0..=CODE_SHELF_MAX).map(|n| code(n, 1)).collect();
        for (process, graph) in &all[..CODE_SHELF_MAX] {
            shelf.keep(process, graph);
        }
        assert!(shelf.find(&all[0].0).is_some(), "used again");
        shelf.keep(&all[CODE_SHELF_MAX].0, &all[CODE_SHELF_MAX].1);
        assert!(shelf.find(&all[0].0).is_some());
        assert!(shelf.find(&all[1].0).is_none());
    }

    #[test]
    fn code_that_is_too_long_is_not_kept() {
        let mut shelf = Shelf::default();
        let ((small, its), (large, too_long)) = (code(1, 1), code(2, CODE_SHELF_BYTES_MAX));
        shelf.keep(&large, &too_long);
        assert!(shelf.find(&large).is_some());
        shelf.keep(&small, &its);
        assert!(shelf.find(&small).is_some());
        assert!(shelf.find(&large).is_none(), "both are too much");
    }
}

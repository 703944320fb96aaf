//! Standing: what of a run matters to its effects.
//!
//! May not know the fold that it comes from. Invariant: it is made anew from the folded run for
//! each question, and never kept.

use std::collections::BTreeSet;

use super::life::Effect;
use super::refusal::Hold;
use crate::ground::id::{EffectId, Epoch, RunId};

/// A run, as far as its effects are concerned.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Standing<'a> {
    /// Its id.
    pub run: &'a RunId,
    /// How it ended.
    pub end: Option<&'static str>,
    /// By an operator, or by the engine; a pause counts first.
    pub stopped: Option<Hold>,
    /// Asked to cancel.
    pub is_cancelling: bool,
    /// And the time for clean-up has passed.
    pub is_cleanup_over: bool,
    /// The process gave up the effect in question; its holder is still to be heard.
    pub is_unwanted: bool,
    /// Whoever serves the run executes the effect in question itself.
    pub is_inside: bool,
    /// Lowest epoch that may be given.
    pub epoch_floor: Epoch,
    /// Effects that may have been executed in records that were lost.
    pub suspects: &'a BTreeSet<EffectId>,
}

impl Standing<'_> {
    /// Whether the run gives the effect up.
    #[must_use]
    pub const fn gives_up(&self, effect: &Effect) -> bool {
        self.is_unwanted || self.is_cancelling && (self.is_cleanup_over || !effect.cleanup)
    }
}

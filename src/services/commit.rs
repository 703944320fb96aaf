//! STUB
use crate::ground::id::*;
use crate::shells::commit_log::Unit;
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriterState {
    Healthy,
    Full,
    Failed,
}
pub enum Committed {
    Durable { run: RunId, seq: Seq, frame: u64 },
    Made { run: RunId },
    State(WriterState),
    Settled { run: RunId, seq: Seq },
}
#[derive(Clone)]
pub struct Committer;
pub enum Rejected {
    QueueFull,
}
impl Committer {
    pub fn submit(&self, unit: Unit) -> Result<(), (Rejected, Unit)> {
        Err((Rejected::QueueFull, unit))
    }
    pub fn state(&self) -> WriterState {
        WriterState::Healthy
    }
}

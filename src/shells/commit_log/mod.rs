//! STUB
use crate::codecs::format::log_entry::Append;
use crate::ground::id::*;
pub struct Unit {
    pub entry: Append,
    pub inflow: bool,
}
impl Unit {
    pub fn append(entry: Append, inflow: bool) -> Self {
        Self { entry, inflow }
    }
    pub fn run(&self) -> &RunId {
        &self.entry.run
    }
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriterState {
    Healthy,
    Full,
    Failed,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("x")]
pub enum Why {
    NoRoom,
}
pub enum Committed {
    Durable { run: RunId, seq: Seq, frame: u64 },
    Made { run: RunId },
    State(WriterState),
    Settled { run: RunId, seq: Seq },
    Released { segno: u64 },
    NotWritten { run: RunId, seq: Seq, why: Why },
    Unknown { run: RunId, seq: Seq },
}

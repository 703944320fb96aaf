//! STUB
use crate::shells::commit_log::*;
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

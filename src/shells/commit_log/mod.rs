//! STUB
use crate::ground::id::RunId;
use crate::shells::journal::shared::Lines;
pub struct Unit {
    pub run: RunId,
    pub lines: Lines,
    pub inflow: bool,
}
impl Unit {
    pub fn append(run: RunId, lines: Lines, inflow: bool) -> Self {
        Self { run, lines, inflow }
    }
}

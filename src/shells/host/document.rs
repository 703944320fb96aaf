//! An instance that is a workflow document: turns are answered by the planner.
//!
//! May not know what documents mean. Invariant: it lives in a host like any other instance, so what
//! takes too long in it can be ended from outside.

use std::collections::HashMap;
use std::sync::Arc;

use super::protocol::{FromHost, HostLimits, LoadFailure, Standing, Start, TurnInput};
use crate::codecs::json::Json;
use crate::codecs::outline::Notation;
use crate::machines::workflow::plan::{Begin, Planner};
use crate::machines::workflow::read::{LENIENT, read_for};
use crate::machines::workflow::signatures::Signatures;
use crate::machines::workflow::snapshot::snapshot;

/// The code of a document that cannot be run.
const INVALID: &str = "workflow_invalid";

/// One document that runs.
pub(super) struct Document {
    planner: Planner,
    limits: HostLimits,
}

impl Document {
    /// Reads the document of a start.
    pub(super) fn load(start: &Start) -> Result<Self, LoadFailure> {
        let failed =
            |message: String| LoadFailure { code: INVALID.to_owned(), message, stack: None };
        let module = start.modules.iter().find(|module| module.path == start.entry);
        let (Some(module), Some(notation)) = (module, Notation::of(&start.entry)) else {
            return Err(failed(format!("{:?} is no workflow document", start.entry)));
        };
        let is_lenient = start.export_name.as_deref() == Some(LENIENT);
        let reading = read_for(&module.source, notation, &Signatures::new(), is_lenient);
        if let Some(first) = reading.findings.iter().find(|finding| finding.is_error()) {
            return Err(failed(first.print(&start.entry, &module.source)));
        }
        let begin = Begin {
            flow: Arc::new(reading.workflow),
            run_id: start.run_id.clone(),
            run_dir: start.run_dir.clone(),
            created_micros: start.clock_micros,
            scheduled_at: start.scheduled_at,
            inputs: start.inputs.as_ref().map(Json::to_value),
            next_ordinal: start.next_ordinal,
            known: start.known.iter().map(|known| (known.key.clone(), known.ordinal)).collect(),
            keeps: start.is_shown,
            system: start.system.clone(),
        };
        let planner = Planner::new(begin).map_err(|errors| failed(errors.join("; ")))?;
        Ok(Self { planner, limits: start.limits.clone() })
    }

    /// Runs one turn.
    pub(super) fn turn(&mut self, input: &TurnInput) -> FromHost {
        let done = self.planner.turn(input);
        if self.heap_bytes() > self.limits.heap_bytes_max {
            let (name, most) = ("memory".to_owned(), self.limits.heap_bytes_max);
            let detail = format!("the values of the workflow have more than {most} bytes");
            return FromHost::Limit { name, detail };
        }
        FromHost::Turn(done)
    }

    /// Where it stands.
    pub(super) fn show(&self, known: &[Standing]) -> FromHost {
        let known: HashMap<u32, Standing> =
            known.iter().map(|standing| (standing.ordinal, *standing)).collect();
        let of = |ordinal: u32| known.get(&ordinal).copied().unwrap_or_default();
        FromHost::Shown(Json::of(&snapshot(&self.planner, &of)))
    }

    /// About how many bytes it holds.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.planner.held_bytes() as u64
    }

    /// What it may use.
    pub(super) const fn limits(&self) -> &HostLimits {
        &self.limits
    }
}

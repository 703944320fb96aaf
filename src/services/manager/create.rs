//! Creating runs: the first record goes into the log, the directory follows.
//!
//! May not pin or load code: that was done before. Invariant: an id is given to one run; whoever
//! asks again under the same key gets the same run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::codecs::event::ProcessRef;
use crate::codecs::event::Record;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::RUNS_WAITING_MAX;
use crate::machines::replay::facts::Update;
use crate::machines::replay::state::RunState;
use crate::services::runs::create::{PreparedRun, same_request, taken};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result};
use crate::shells::commit_log::WriterState;
use crate::shells::journal::shared::SharedWriter;
use crate::shells::run_dir::root;
use crate::shells::store::Change;

use super::Manager;
use super::asks::no_room;
use super::commit::unit;
use super::handle::{self, Flow};
use super::seat::{Answer, Ask, Coming, Fresh, Seat};

/// A run that was created, or existed already under the same key.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its id.
    pub run_id: RunId,
    /// Its directory.
    pub path: PathBuf,
    /// Its process.
    pub process: Option<ProcessRef>,
    /// It existed already.
    pub existed: bool,
    /// What pinning and loading remarked.
    pub warnings: Vec<String>,
}

/// A run that can be created at once.
pub(super) struct Prepared {
    /// The run.
    pub(super) run: PreparedRun,
    /// Who wants it.
    pub(super) origin: Origin,
}

/// Who wants a run.
pub(super) enum Origin {
    /// Somebody who waits for the answer.
    Client(Box<dyn FnOnce(Result<Made>) + Send>),
    /// An effect of another run.
    Parent {
        /// The run.
        run: RunId,
        /// The effect.
        effect: EffectId,
    },
}

/// The refusal of a run while many wait for a place in memory.
fn crowded() -> Error {
    let what = format!("{RUNS_WAITING_MAX} runs wait for a place in memory already");
    Error::Refused(Trouble::new("overloaded", what).next("ask again in a second"))
}

impl Manager {
    /// Whether a run of this id exists, or is about to, or something else has its place.
    pub(super) fn knows(&self, id: &RunId) -> bool {
        self.seats.contains_key(id) || !matches!(self.view.run(id), Err(root::Error::NotFound(_)))
    }

    pub(super) fn create(&mut self, prepared: Prepared) {
        let Prepared { run, origin } = prepared;
        let id = run.id().clone();
        if let Origin::Parent { run: parent, .. } = &origin {
            // That a parent asked for its child is durable before the child is.
            self.hand_over(parent);
        }
        if self.knows(&id) {
            return match origin {
                Origin::Client(reply) => self.existing(id, run, reply),
                Origin::Parent { run: parent, effect } => self.look_at_child(&parent, effect, id),
            };
        }
        let refusal = if self.stopping || self.failed {
            Some(handle::gone())
        } else if let Err(e) = self.view.must_be_new(&id) {
            Some(e.into())
        } else if self.outside >= RUNS_WAITING_MAX {
            Some(crowded())
        } else if self.parts.committer.state() == WriterState::Full {
            Some(no_room(&self.parts.committer))
        } else {
            None
        };
        match (self.begin(&id, &run), refusal, origin) {
            (_, Some(why), Origin::Client(reply)) | (Err(why), _, Origin::Client(reply)) => {
                reply(Err(why));
            }
            (_, Some(why), Origin::Parent { run, .. })
            | (Err(why), _, Origin::Parent { run, .. }) => {
                self.broke(&run, &why);
            }
            (Ok((record, writer)), None, origin) => self.enter(&id, run, record, writer, origin),
        }
    }

    /// Makes the first record of a run.
    fn begin(&self, id: &RunId, run: &PreparedRun) -> Result<(Record, SharedWriter)> {
        let mut writer = SharedWriter::begin_run(id);
        let record = writer.append(Seq(0), self.now(), &run.event)?;
        Ok((record, writer))
    }

    /// Hands the first record over and keeps a seat for the run.
    fn enter(
        &mut self,
        id: &RunId,
        run: PreparedRun,
        record: Record,
        mut writer: SharedWriter,
        origin: Origin,
    ) {
        let path = self.runs.root.join(id.as_str());
        let change = RunState::first(&record).ok().map(|state| {
            Change::Put(Box::new(Update::since(&state, false, Seq(0), &BTreeSet::new())))
        });
        let flow = match &origin {
            Origin::Client(_) => Flow::Inflow,
            Origin::Parent { .. } => Flow::Outcome,
        };
        let answer: Answer = match origin {
            Origin::Client(reply) => {
                let (process, warnings) = (run.process, run.warnings);
                let made = Made { run_id: id.clone(), path, process, existed: false, warnings };
                Box::new(move |durable| reply(durable.map(|()| made)))
            }
            Origin::Parent { run: parent, effect } => {
                let (inbox, child) = (self.inbox.clone(), id.clone());
                Box::new(move |durable| {
                    let look = move |manager: &mut Self| manager.child_made(&parent, effect, child);
                    if durable.is_ok() {
                        let _ = inbox.send(super::Message::Look(Box::new(look)));
                    }
                })
            }
        };
        let lines = writer.take_lines();
        let fresh =
            Fresh { record, writer, answers: vec![answer], change, durable: false, made: false };
        let coming =
            Coming { plays: true, begun: true, fresh: Some(Box::new(fresh)), ..Coming::default() };
        self.seats.insert(id.clone(), Seat::Coming(coming));
        self.outbox.extend(lines.into_iter().map(|lines| unit(id, lines, flow)));
        self.pump();
    }

    /// A child run exists durably. A detached one is all that its parent waited for.
    fn child_made(&mut self, parent: &RunId, effect: EffectId, child: RunId) {
        if let Some(Seat::Here(here)) = self.seats.get(parent)
            && here.run.child_is_detached(effect)
        {
            self.look_at_child(parent, effect, child);
        }
    }

    /// A run of this id exists: it is the one that was asked for, or it stands in the way.
    fn existing(
        &mut self,
        id: RunId,
        run: PreparedRun,
        reply: Box<dyn FnOnce(Result<Made>) + Send>,
    ) {
        let path = self.runs.root.join(id.as_str());
        let named = id.clone();
        let look = move |seen: Result<Look<'_>>| -> Answer {
            let found = match (seen, &run.idempotency) {
                (Err(Error::Damaged(_) | Error::Refused(_)), None) => Err(taken(&named)),
                (seen, key) => seen.and_then(|look| same_request(look.state, key.as_ref())),
            };
            let (process, warnings) = (run.process, run.warnings);
            let made = found.map(|run_id| Made { run_id, path, process, existed: true, warnings });
            Box::new(move |durable| reply(durable.and(made)))
        };
        self.ask(id, Ask::Look(Box::new(look)));
    }

    /// A run's directory was made: it can be opened.
    pub(super) fn made(&mut self, id: &RunId) {
        let Some(Seat::Coming(coming)) = self.seats.get_mut(id) else { return };
        let Some(fresh) = &mut coming.fresh else { return };
        fresh.made = true;
        self.open_fresh(id);
    }

    /// Opens a run that was created here, once its record is durable and its directory is made.
    pub(super) fn open_fresh(&mut self, id: &RunId) {
        let ready = match self.seats.get(id) {
            Some(Seat::Coming(coming)) => {
                coming.fresh.as_ref().is_some_and(|fresh| fresh.durable && fresh.made)
            }
            _ => false,
        };
        if !ready {
            return;
        }
        let has_seat = self.has_seat();
        let Some(Seat::Coming(mut coming)) = self.seats.remove(id) else { return };
        let Some(fresh) = coming.fresh.take().map(|fresh| *fresh) else { return };
        if let Ok(state) = RunState::first(&fresh.record) {
            self.runs.telemetry.committed(&state, &fresh.record);
        }
        if !has_seat {
            // It waits like everybody else, and is opened from its directory.
            coming.begun = false;
            self.seats.insert(id.clone(), Seat::Coming(coming));
            self.outside += 1;
            self.queue.push_back(id.clone());
            return;
        }
        match self.runs.open_made(&self.view, fresh.record, fresh.writer) {
            Ok(run) => {
                self.count_wake("create");
                self.sit_down(id, run, coming);
            }
            Err(e) => self.cannot_come(id, &e, coming),
        }
    }
}

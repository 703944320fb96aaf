//! A dry run: records are played to an instance in a host, and nothing is appended.
//!
//! May not judge what came of it. Invariant: there is no other replay of what is recorded than this
//! one and the run's own, and both ask the same engine; it reads no clock and takes no lock.

use std::sync::Arc;

use crate::codecs::event::{Event, ProcessRef, Record};
use crate::codecs::turn::Output;
use crate::ground::id::{EffectId, Seq};
use crate::machines::replay::check::{Divergence, Side};
use crate::machines::replay::engine::{Action, Engine, FeedPlan, Input, Rest, TurnPlan};
use crate::shells::pin::PinnedGraph;
use crate::shells::run_dir::dir::RunDir;

use super::drive::{Answer, Player};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// What a dry run arrived at.
pub(super) struct Dry {
    /// The engine, as it stopped.
    pub(super) engine: Engine,
    /// Why it stopped.
    pub(super) rest: Rest,
    /// What the process would put out next.
    pub(super) next: Vec<Output>,
    /// What was fed, in order, and what the process did with it.
    pub(super) fed: Vec<Fed>,
}

/// One record that was fed to the instance.
#[derive(Debug, Clone)]
pub(super) struct Fed {
    /// The record.
    pub(super) seq: Seq,
    /// The input of its turn: another one only for outcomes from before accepted code.
    pub(super) cause: Seq,
    /// What the process put out.
    pub(super) outputs: Vec<Put>,
}

/// One output of the process.
#[derive(Debug, Clone)]
pub(super) struct Put {
    /// As it is compared, and where it stands in the code.
    pub(super) side: Side,
    /// Of a request: the effect, and the digest of its definition.
    pub(super) asked: Option<(EffectId, String)>,
}

impl Put {
    fn of(output: &Output) -> Self {
        let asked = match output {
            Output::Request(r) => Some((EffectId::new(r.ordinal), r.def_digest.clone())),
            _ => None,
        };
        Self { side: Side::of_output(output), asked }
    }
}

impl Dry {
    /// Where process and journal disagree.
    pub(super) fn divergence(&self) -> Option<&Divergence> {
        self.engine.divergence()
    }
}

impl Runs {
    /// Plays records, to `graph` or to the pinned code.
    pub(super) fn dry(
        &self,
        dir: &RunDir,
        records: &[Arc<Record>],
        graph: Option<&PinnedGraph>,
        process: &ProcessRef,
    ) -> Result<Dry> {
        let cwd = match records.first().map(|r| &r.event) {
            Some(Event::RunCreated(created)) => created.cwd.clone(),
            _ => None,
        };
        let mut player = Player::new(self, dir, cwd, false);
        player.replace_code(graph.cloned(), process);
        played(&mut player, records)
    }
}

/// Plays records to an instance; a host that is lost on the way is replaced.
pub(super) fn played(player: &mut Player, records: &[Arc<Record>]) -> Result<Dry> {
    loop {
        if let Some(dry) = rehearse(player, records)? {
            return Ok(dry);
        }
        player.drop_host();
    }
}

/// An engine that knows the records and appends nothing.
fn loaded(records: &[Arc<Record>]) -> Result<Engine> {
    let mut engine = Engine::dry();
    for record in records {
        engine.handle(record.at, Input::Loaded(Arc::clone(record)))?;
    }
    Ok(engine)
}

/// Plays records once; nothing if the host was lost on the way.
fn rehearse(player: &mut Player, records: &[Arc<Record>]) -> Result<Option<Dry>> {
    // What is recorded does not depend on what time it is.
    let now = records.last().map(|last| last.at).unwrap_or_default();
    let mut engine = loaded(records)?;
    let mut fed: Vec<Fed> = Vec::new();
    let mut input = Input::Poll;
    loop {
        if let (Input::Turned(done), Some(last)) = (&input, fed.last_mut()) {
            last.outputs.extend(done.outputs.iter().map(Put::of));
        }
        let Some(action) = engine.handle(now, input)? else {
            input = Input::Poll;
            continue;
        };
        let answer = match action {
            Action::Start(plan) => player.start(&plan)?,
            Action::Turn(plan) => {
                let seq = fed_record(&engine, &plan);
                fed.push(Fed { seq, cause: plan.seq, outputs: Vec::new() });
                player.turn(&plan)?
            }
            Action::Rest(Rest::WouldAppend(next)) => {
                return Ok(Some(Dry { engine, rest: Rest::Reproduced, next, fed }));
            }
            Action::Rest(rest) => return Ok(Some(Dry { engine, rest, next: Vec::new(), fed })),
            Action::Append(_) => {
                let what = "a dry run asked for an append";
                return Err(Error::Bug(Trouble::new("bug", what)));
            }
        };
        match answer {
            Answer::Input(next) => input = next,
            Answer::Again => return Ok(None),
        }
    }
}

/// The record that a part of a turn feeds.
fn fed_record(engine: &Engine, plan: &TurnPlan) -> Seq {
    let ended = match &plan.feed {
        FeedPlan::Resolved { ordinal, .. } | FeedPlan::Cancelled { ordinal, .. } => {
            let effect = engine.state().and_then(|s| s.effect(EffectId::new(*ordinal)));
            effect.and_then(|effect| effect.ended.as_ref())
        }
        FeedPlan::RunStarted | FeedPlan::CancelRequested { .. } => None,
    };
    ended.map_or(plan.seq, |ended| ended.seq)
}

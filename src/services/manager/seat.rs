//! A run's place in the manager: on its way in, here, or on its way out.
//!
//! May not act. Invariant: a run has one seat at most, and whoever asks something of a run that is
//! moving is kept until it stands still.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use serde_json::Value;

use crate::codecs::event::Record;
use crate::codecs::turn::TurnInput;
use crate::ground::clock::Stopwatch;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::sabotage::{self, Guard};
use crate::machines::replay::engine::Rest;
use crate::machines::replay::facts::{Update, touched};
use crate::services::runs::drive::Stage;
use crate::services::runs::open::OpenRun;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result};
use crate::shells::host::pool::InstanceId;
use crate::shells::journal::shared::SharedWriter;
use crate::shells::store::Change;

use super::GATHER_MICROS;
use super::handle::Flow;
use super::mend::{Mend, Mended};

/// Sends an answer, once it is known whether what it rests on is durable.
pub(super) type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// Does something with a run, or learns why it cannot be had.
pub(super) type Act = Box<dyn FnOnce(Result<&mut OpenRun>) -> Answer + Send>;

/// Starts an effect of a run, whose start takes a place under the limits of these names.
pub(super) type StartAct = Box<dyn FnOnce(Result<(&mut OpenRun, Vec<String>)>) -> Answer + Send>;

/// Looks at a run, or learns why it cannot be had.
pub(super) type LookAct = Box<dyn FnOnce(Result<Look<'_>>) -> Answer + Send>;

/// Gets the report of a run that rests.
pub(super) type Rester = Box<dyn FnOnce(Result<Value>) + Send>;

/// What somebody wants of a run.
pub(super) enum Ask {
    /// Look at it; it need not go on.
    Look(LookAct),
    /// Do something to it and let it go on.
    Deed {
        /// Who, as it will stand in records.
        by: String,
        /// Whether it brings work in.
        flow: Flow,
        /// What.
        act: Act,
    },
    /// The same to start an effect, if nothing else keeps it from that.
    Start {
        /// Who, as it will stand in records.
        by: String,
        /// The effect.
        effect: EffectId,
        /// How.
        act: StartAct,
    },
    /// Let it go on and tell where it rests.
    Rest(Rester),
}

impl Ask {
    /// Answers with an error instead.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Look(act) => act(Err(error))(Ok(())),
            Self::Deed { act, .. } => act(Err(error))(Ok(())),
            Self::Start { act, .. } => act(Err(error))(Ok(())),
            Self::Rest(rester) => rester(Err(error)),
        }
    }

    /// Whether the run goes on after it.
    pub(super) const fn plays(&self) -> bool {
        !matches!(self, Self::Look(_))
    }
}

/// A run's place.
pub(super) enum Seat {
    /// It is being opened, or its directory is being made.
    Coming(Coming),
    /// It is here.
    Here(Box<Here>),
    /// It is being closed.
    Leaving(Leaving),
}

/// A run on its way in.
#[derive(Default)]
pub(super) struct Coming {
    /// Asked meanwhile.
    pub(super) asks: Vec<Ask>,
    /// It goes on when it is here.
    pub(super) plays: bool,
    /// Somebody opens it already.
    pub(super) begun: bool,
    /// It was just created: its first record, and who waits for that to be durable.
    pub(super) fresh: Option<Box<Fresh>>,
}

impl Coming {
    /// Answers everybody with an error: `begun` to whoever waits for what was handed over,
    /// `unbegun` to whoever only asked.
    pub(super) fn disappoint(self, begun: impl Fn() -> Error, unbegun: impl Fn() -> Error) {
        for answer in self.fresh.into_iter().flat_map(|fresh| fresh.answers) {
            answer(Err(begun()));
        }
        for ask in self.asks {
            ask.refuse(unbegun());
        }
    }
}

/// A run that was just created.
pub(super) struct Fresh {
    /// Its first record.
    pub(super) record: Record,
    /// Made its line, and makes the next.
    pub(super) writer: SharedWriter,
    /// Answered when the record is durable.
    pub(super) answers: Vec<Answer>,
    /// What the index is to know of it.
    pub(super) change: Option<Change>,
    /// The record is durable.
    pub(super) durable: bool,
    /// The directory is made.
    pub(super) made: bool,
}

/// A run on its way out.
#[derive(Default)]
pub(super) struct Leaving {
    /// Asked meanwhile.
    pub(super) asks: Vec<Ask>,
    /// It is to come back.
    pub(super) returns: bool,
    /// It is to be mended when it is closed.
    pub(super) mend: Option<Mend>,
    /// It was mended, and the log is to forget what it held of it.
    pub(super) mended: Option<Mended>,
    /// Its files are being changed.
    pub(super) is_mending: bool,
}

impl Leaving {
    /// Whether it may be mended when it is closed.
    pub(super) const fn is_free(&self) -> bool {
        self.mend.is_none() && !self.is_mending
    }
}

/// What is awaited from a run's instance.
pub(super) enum Awaiting {
    /// Nothing.
    Nothing,
    /// That its code is loaded.
    Start,
    /// The outputs of a turn.
    Turn(Box<TurnInput>),
}

/// A run that is in memory.
pub(super) struct Here {
    pub(super) run: OpenRun,
    pub(super) stage: Stage,
    /// The last record that is durable.
    pub(super) durable: Seq,
    pub(super) instance: Option<InstanceId>,
    pub(super) awaiting: Awaiting,
    /// The instance that the engine knew is gone: replay before going on.
    pub(super) stale: bool,
    /// Came while a turn was under way.
    pub(super) asks: VecDeque<Ask>,
    /// Leave when the record is durable.
    pub(super) answers: VecDeque<(Seq, Answer)>,
    /// Rows of the index that follow from records up to here.
    pub(super) changes: VecDeque<(Seq, Change)>,
    /// Wait for the run to rest.
    pub(super) resters: Vec<Rester>,
    /// Where it rests; nothing while it goes on.
    pub(super) rest: Option<Rest>,
    /// Its child runs that were started.
    pub(super) children: BTreeMap<EffectId, RunId>,
    /// The record up to which the index was told, and whether it was told that the run rests.
    pub(super) row: Seq,
    /// The other half of [`Here::row`].
    pub(super) row_rests: bool,
    /// The record up to which its files for people are written.
    pub(super) filed: Seq,
    /// Until when its lines wait for what a turn adds.
    pub(super) gathers: Option<u64>,
    /// For how long its lines may wait at most.
    pub(super) gathers_micros: u64,
    /// Since when its instance is on its way to where the run is.
    pub(super) replaying: Option<Stopwatch>,
    /// Hosts that died under it in a row.
    pub(super) failures: u32,
    /// It cannot go on as it is: it is opened anew the next time.
    pub(super) broken: bool,
    /// Key in the list of idle runs.
    pub(super) used: u64,
    /// Journal bytes that were counted for it.
    pub(super) bytes: u64,
}

impl Here {
    pub(super) fn new(run: OpenRun, durable: Seq) -> Self {
        Self {
            stage: run.stage(),
            run,
            durable,
            instance: None,
            awaiting: Awaiting::Nothing,
            stale: false,
            asks: VecDeque::new(),
            answers: VecDeque::new(),
            changes: VecDeque::new(),
            resters: Vec::new(),
            rest: None,
            children: BTreeMap::new(),
            filed: durable,
            row: durable,
            row_rests: false,
            gathers: None,
            gathers_micros: GATHER_MICROS,
            replaying: None,
            failures: 0,
            broken: false,
            used: 0,
            bytes: 0,
        }
    }

    /// Everything up to `seq` is durable. Gives the places of records that were not before.
    pub(super) fn became_durable(&mut self, seq: Seq) -> Range<usize> {
        let count = self.run.records().len();
        let place = |seq: Seq| usize::try_from(seq.0).unwrap_or(usize::MAX).min(count);
        let from = place(self.durable);
        self.durable = self.durable.max(seq);
        from..place(self.durable)
    }

    /// What the index is to know of what was made since it was last told.
    pub(super) fn change(&mut self, rests: bool) -> Change {
        let base = std::mem::replace(&mut self.row, self.run.written().seq);
        let from = usize::try_from(base.0).unwrap_or(usize::MAX).min(self.run.records().len());
        let news = &self.run.records()[from..];
        let touched = touched(self.run.state(), news.iter().map(|record| &**record));
        Change::Put(Box::new(Update::since(self.run.state(), rests, base, &touched)))
    }

    /// Takes out what the index is to know, as far as it is durable.
    pub(super) fn durable_changes(&mut self) -> impl Iterator<Item = Change> + '_ {
        let count = self.changes.iter().take_while(|(at, _)| *at <= self.durable).count();
        self.changes.drain(..count).map(|(_, change)| change)
    }

    /// Does something to the run for `by`.
    pub(super) fn act(&mut self, by: &str, act: Act) {
        let answer = self.run.acting_as(by, |run| act(Ok(run)));
        let written = self.run.written();
        if sabotage::is_removed(Guard::AckEarly) {
            answer(Ok(()));
        } else {
            self.answers.push_back((written.seq, answer));
        }
        // What was folded could not be written: the fold in memory is not to be trusted.
        self.broken |= self.run.state().head != written;
    }

    /// Answers everybody with an error, as [`Coming::disappoint`] does.
    pub(super) fn disappoint(self, begun: impl Fn() -> Error, unbegun: impl Fn() -> Error) {
        for (_, answer) in self.answers {
            answer(Err(begun()));
        }
        for rester in self.resters {
            rester(Err(begun()));
        }
        for ask in self.asks {
            ask.refuse(unbegun());
        }
    }

    /// Whether a host is at work for it.
    pub(super) const fn is_in_turn(&self) -> bool {
        !matches!(self.awaiting, Awaiting::Nothing)
    }

    /// Whether nothing is under way: no host works, nobody waits, everything is durable.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_written() && self.asks.is_empty()
    }

    /// Whether no host works, everything is durable, and whoever waited for that was told.
    pub(super) fn is_written(&self) -> bool {
        !self.is_in_turn()
            && self.answers.is_empty()
            && self.changes.is_empty()
            && self.durable == self.run.written().seq
    }
}

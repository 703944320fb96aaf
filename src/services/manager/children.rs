//! Child runs: made for their parents, told when those give them up, heard when they end.
//!
//! May not drive a child: it goes on like every run. Invariant: a child's id follows from its
//! parent and effect, so that whoever died in between, the same child is found again.

use crate::codecs::event::RunCancelRequested;
use crate::ground::id::{EffectId, RunId};
use crate::machines::effect::Wait;
use crate::machines::effect::life::EffectStatus;
use crate::services::runs::children::Ended;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result};

use super::create::{Origin, Prepared};
use super::handle::Flow;
use super::seat::{Answer, Ask, Seat};
use super::{Manager, Message};

/// Who starts child runs, as it stands in records.
const WORKER: &str = "@daemon";

impl Manager {
    /// Looks after the child runs of a run at rest. True when that made records which its process
    /// may have to hear of.
    pub(super) fn tend_children(&mut self, id: &RunId) -> bool {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return false };
        let before = here.run.written().seq;
        let state = here.run.state();
        let gone: Vec<EffectId> = here
            .children
            .keys()
            .filter(|effect| state.effect(**effect).is_none_or(|e| !e.status.is_open()))
            .copied()
            .collect();
        let open: Vec<(EffectId, EffectStatus)> = state
            .open_effects()
            .filter(|e| matches!(e.wait, Wait::Run(_)) && !here.children.contains_key(&e.id))
            .map(|e| (e.id, e.status))
            .collect();
        for effect in gone {
            self.cancel_child(id, effect);
        }
        for (effect, status) in open {
            if let Err(e) = self.tend_child(id, effect, status) {
                self.broke(id, &e);
                return false;
            }
        }
        matches!(self.seats.get(id), Some(Seat::Here(here)) if here.run.written().seq != before)
    }

    fn tend_child(&mut self, id: &RunId, effect: EffectId, status: EffectStatus) -> Result<()> {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return Ok(()) };
        let child = match status {
            EffectStatus::Requested => {
                let Some(its) = here.run.state().effect(effect) else { return Ok(()) };
                if !self.gate.admit_or_call(id, its, self.runs.clock.now()) {
                    return Ok(());
                }
                let begun = here.run.begin_child(effect, WORKER);
                if !matches!(begun, Ok(Some(_))) {
                    self.gate.withdraw(id, effect);
                }
                self.gate.slots.began(id, effect);
                begun?
            }
            EffectStatus::Started => here.run.child_of(effect),
            _ => None,
        };
        let Some(child) = child else { return Ok(()) };
        here.children.insert(effect, child.clone());
        if self.knows(&child) {
            self.look_at_child(id, effect, child);
            return Ok(());
        }
        let made = match self.seats.get(id) {
            Some(Seat::Here(here)) => here.run.child_to_make(effect, &child)?,
            _ => None,
        };
        let Some((created, graph)) = made else { return Ok(()) };
        // Its code is stored elsewhere: that takes time.
        let origin = Origin::Parent { run: id.clone(), effect };
        let (runs, inbox) = (self.runs.clone(), self.inbox.clone());
        let (parent, known) = (id.clone(), self.known.clone());
        self.workers.run(move || match runs.prepare_created(created, Some(&graph), &known) {
            Ok(run) => {
                let _ = inbox.send(Message::Create(Box::new(Prepared { run, origin })));
            }
            Err(e) => {
                let broke = move |manager: &mut Manager| manager.broke(&parent, &e);
                let _ = inbox.send(Message::Look(Box::new(broke)));
            }
        });
        Ok(())
    }

    /// A child run exists: takes its outcome if it has ended, and lets it be if not.
    pub(super) fn look_at_child(&mut self, parent: &RunId, effect: EffectId, child: RunId) {
        let detached = match self.seats.get(parent) {
            Some(Seat::Here(here)) => here.run.child_is_detached(effect),
            _ => return,
        };
        let (inbox, run, id) = (self.inbox.clone(), parent.clone(), child.clone());
        let look = move |seen: Result<Look<'_>>| -> Answer {
            let news = news_of(&seen, &run, effect, detached);
            Box::new(move |durable| {
                let Some(news) = news.filter(|_| durable.is_ok()) else { return };
                let tell = move |manager: &mut Manager| manager.tell(&run, effect, id, news);
                let _ = inbox.send(Message::Look(Box::new(tell)));
            })
        };
        self.ask(child, Ask::Look(Box::new(look)));
    }

    /// A run has ended: its parent hears of it once that is durable.
    pub(super) fn tell_parent(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        let Some(parent) = here.run.state().parent.clone() else { return };
        match here.run.look().how_it_ended() {
            Ok(Some(outcome)) => {
                let (inbox, child) = (self.inbox.clone(), id.clone());
                let tell = move |manager: &mut Self| {
                    manager.tell(&parent.run_id, parent.effect_id, child, News::Ended(outcome));
                };
                let answer = move |durable: Result<()>| {
                    if durable.is_ok() {
                        // A manager that has ended tells nobody; the next one does.
                        let _ = inbox.send(Message::Look(Box::new(tell)));
                    }
                };
                here.answers.push_back((here.run.written().seq, Box::new(answer)));
            }
            Ok(None) => {}
            Err(e) => tracing::warn!(run = %id, "its outcome cannot be read: {e}"),
        }
    }

    fn tell(&mut self, parent: &RunId, effect: EffectId, child: RunId, news: News) {
        let act = move |run: Result<&mut crate::services::runs::open::OpenRun>| -> Answer {
            let done = run.and_then(|run| match &news {
                News::Ended(outcome) => run.take_outcome(effect, &child, outcome),
                News::Detached => run.detach_child(effect, &child),
                News::Foreign => run.foreign_child(effect, &child),
            });
            Box::new(move |_| {
                if let Err(e) = done {
                    tracing::warn!(%effect, "a child's outcome was not taken: {e}");
                }
            })
        };
        let (by, flow) = ("executor:run".to_owned(), Flow::Outcome);
        self.ask(parent.clone(), Ask::Deed { by, flow, act: Box::new(act) });
    }

    /// An effect is over: so is its child run, unless that was to outlive it.
    pub(super) fn cancel_child(&mut self, id: &RunId, effect: EffectId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        here.children.remove(&effect);
        let cancelled =
            here.run.state().effect(effect).is_some_and(|e| e.status == EffectStatus::Cancelled);
        let Some(child) = here.run.child_of(effect).filter(|_| cancelled) else { return };
        if here.run.child_is_abandoned(effect) || !self.knows(&child) {
            return;
        }
        let (reason, by) = (format!("parent {id} gave up effect {effect}"), format!("parent:{id}"));
        let record_by = by.clone();
        let act = move |run: Result<&mut crate::services::runs::open::OpenRun>| -> Answer {
            let done = run.and_then(|run| {
                if run.state().is_open() && run.state().cancel.is_none() {
                    let (reason, by) = (Some(reason), record_by);
                    run.append(RunCancelRequested { reason, now: false, by }.into())?;
                }
                Ok(())
            });
            Box::new(move |_| {
                if let Err(e) = done {
                    tracing::warn!("a child run was not told of its cancellation: {e}");
                }
            })
        };
        self.ask(child, Ask::Deed { by, flow: Flow::Outcome, act: Box::new(act) });
    }
}

/// What a parent hears of its child run.
enum News {
    /// It has ended.
    Ended(Ended),
    /// It exists, and that was all its parent waited for.
    Detached,
    /// It is no child of that effect.
    Foreign,
}

fn news_of(
    seen: &Result<Look<'_>>,
    parent: &RunId,
    effect: EffectId,
    detached: bool,
) -> Option<News> {
    let look = seen.as_ref().ok()?;
    let ours = look.state.parent.as_ref();
    if !ours.is_some_and(|p| p.run_id == *parent && p.effect_id == effect) {
        return Some(News::Foreign);
    }
    if detached {
        return Some(News::Detached);
    }
    let outcome: std::result::Result<_, Error> = look.how_it_ended();
    outcome.ok().flatten().map(News::Ended)
}

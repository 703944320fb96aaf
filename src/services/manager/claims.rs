//! Claims: workers ask for something to do, and are given effects that were started for them.
//!
//! May not know HTTP. Invariant: an effect is given to whoever its durable start names, once; a
//! start that nobody was told of is taken back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, Epoch, RunId};
use crate::ground::limits::{CLAIM_CANDIDATES_MAX, CLAIM_MAX, WAITERS_MAX};
use crate::machines::effect::attempt::Report;
use crate::machines::effect::claim::Claim;
use crate::machines::limits::Demand;
use crate::machines::ready::Ready;
use crate::machines::replay::facts::EffectFacts;
use crate::services::indexer::Unavailable;
use crate::services::runs::give::Given;
use crate::services::runs::open::OpenRun;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};
use crate::shells::store::{Candidates, Change, Claimed, Index, ReadyFilter};

use super::handle::{self, Flow, Handle};
use super::seat::{Answer, Ask};
use super::waiting::{Book, Waiting, Wanted};
use super::{Manager, Message};

/// How long an effect is left alone that the index takes for ready and its run does not.
const SHUN_MS: i64 = 1_000;
/// How often claims look for themselves: what the index learned without the manager.
const LOOK_EVERY_MS: i64 = 5_000;

/// Gets the answer to a claim.
pub(super) type Reply = oneshot::Sender<Result<Delivery>>;

/// What a claim is answered.
pub(super) struct Delivery {
    given: Vec<Given>,
    is_spent: bool,
    receipt: Arc<Receipt>,
}

/// Says whether anybody was told of some starts. Dropped unsigned, they are taken back.
struct Receipt {
    inbox: mpsc::Sender<Message>,
    starts: Vec<(EffectName, Epoch)>,
    is_signed: AtomicBool,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.is_signed.load(Ordering::Acquire) || self.starts.is_empty() {
            return;
        }
        let starts = std::mem::take(&mut self.starts);
        let take_back = move |manager: &mut Manager| manager.take_back(starts);
        // A manager that has ended takes nothing back: the lease lapses.
        let _ = self.inbox.send(Message::Look(Box::new(take_back)));
    }
}

/// Everything about claims.
#[derive(Default)]
pub(super) struct Claims {
    /// Nobody is given anything any more.
    is_closed: bool,
    pub(super) book: Book,
    /// The index is being asked.
    is_asking: bool,
    /// When claims look again although nothing was heard.
    look_at: Option<Timestamp>,
    /// Starts that were given, and whether anybody was told.
    receipts: HashMap<EffectName, (Epoch, Weak<Receipt>)>,
}

impl Claims {
    /// When something may be ready that is not.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.look_at.filter(|_| !self.book.is_empty())
    }

    /// Somebody else heard of a start.
    fn sign(&self, name: &EffectName, epoch: Epoch) {
        if let Some((of, receipt)) = self.receipts.get(name)
            && *of == epoch
            && let Some(receipt) = receipt.upgrade()
        {
            receipt.is_signed.store(true, Ordering::Release);
        }
    }

    /// A start is over.
    pub(super) fn forget(&mut self, name: &EffectName) {
        self.receipts.remove(name);
    }

    fn look_by(&mut self, at: Timestamp) {
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }
}

impl Handle {
    /// Gives a worker what it wants, as soon as there is something; nothing after `wait`. Also says
    /// whether everything under the name of the claim has ended.
    pub async fn claim(&self, wanted: Wanted, wait: Duration) -> Result<(Vec<Given>, bool)> {
        let (id, reply, mut answer) = self.waiter();
        let _leaving = Leaving { handle: self, id };
        self.tell(move |manager| manager.claim(id, wanted, reply))?;
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            () = tokio::time::sleep(wait) => {
                self.tell(move |manager| manager.withdraw(id))?;
                answer.await
            }
        };
        received(answered)
    }

    /// Refuses claims that wait, and all that come: whoever stops waits for no worker.
    pub fn refuse_claims(&self) {
        // A manager that has ended has refused them already.
        let _ = self.tell(Manager::refuse_claims);
    }

    /// Gives a worker one certain effect, or says why not.
    pub async fn claim_one(&self, run: &RunId, effect: EffectId, wanted: Wanted) -> Result<Given> {
        let (id, reply, answer) = self.waiter();
        let name = EffectName::of(run, effect);
        self.tell(move |manager| manager.claim_one(id, name, wanted, reply))?;
        let (given, _) = received(answer.await)?;
        given.into_iter().next().ok_or_else(handle::gone)
    }

    /// T37: lets an effect be started although its time has not come.
    pub async fn retry_now(&self, run: &RunId, effect: EffectId) -> Result<()> {
        let by = self.runs().by.clone();
        let hurried = self
            .deed(run, &by, Flow::Outcome, move |open| {
                open.retry_now(effect)?;
                let state = open.state();
                Ok(state.effect(effect).map(|effect| EffectFacts::of(state, effect)))
            })
            .await?;
        let name = EffectName::of(run, effect);
        self.tell(move |manager| {
            if let Some(facts) = hurried.filter(|facts| facts.ready.is_some()) {
                manager.claims.book.hurry(name, facts);
            }
        })
    }

    fn waiter(&self) -> (u64, Reply, oneshot::Receiver<Result<Delivery>>) {
        let (reply, answer) = oneshot::channel();
        (self.next_waiter(), reply, answer)
    }
}

/// A caller who leaves, answered or not.
struct Leaving<'a> {
    handle: &'a Handle,
    id: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let id = self.id;
        // A manager that has ended keeps nobody.
        let _ = self.handle.tell(move |manager| manager.withdraw(id));
    }
}

fn received(
    answered: std::result::Result<Result<Delivery>, oneshot::error::RecvError>,
) -> Result<(Vec<Given>, bool)> {
    let delivery = answered.unwrap_or_else(|_| Err(handle::gone()))?;
    delivery.receipt.is_signed.store(true, Ordering::Release);
    Ok((delivery.given, delivery.is_spent))
}

impl Manager {
    /// Somebody wants something to do.
    fn claim(&mut self, id: u64, wanted: Wanted, reply: Reply) {
        if let Err(refusal) = self.may_claim(&wanted) {
            // Who does not listen any more needs no answer, here and below.
            let _ = reply.send(Err(refusal));
            return;
        }
        let Some(claim) = wanted.claim_id.clone() else {
            self.claims.book.enter(id, Waiting::new(Arc::new(wanted), reply));
            return self.claims.book.open(id);
        };
        if let Some(before) = self.claims.book.named(&wanted.worker, &claim)
            && let Some(waiting) = self.claims.book.get_mut(before)
        {
            // The same again: it gets what the first one gets.
            waiting.replies.push(reply);
            waiting.is_last_call = true;
            return self.answer_claim(before);
        }
        let worker = wanted.worker.clone();
        let mut waiting = Waiting::new(Arc::new(wanted), reply);
        waiting.under_way = 1;
        self.claims.book.enter(id, waiting);
        let inbox = self.inbox.clone();
        let tell = move |found| {
            let found = move |manager: &mut Self| manager.found_claim(id, found);
            let _ = inbox.send(Message::Look(Box::new(found)));
        };
        self.indexer.query_then(move |index| index.claimed(&worker, &claim, CLAIM_MAX), tell);
    }

    fn claim_one(&mut self, id: u64, name: EffectName, wanted: Wanted, reply: Reply) {
        if let Err(refusal) = self.may_claim(&wanted) {
            let _ = reply.send(Err(refusal));
            return;
        }
        let mut waiting = Waiting::new(Arc::new(wanted), reply);
        (waiting.under_way, waiting.is_last_call) = (1, true);
        self.claims.book.enter(id, waiting);
        self.start_for(id, name);
    }

    fn may_claim(&mut self, wanted: &Wanted) -> Result<()> {
        if self.claims.is_closed || self.failed {
            return Err(handle::gone());
        }
        if self.claims.book.len() >= WAITERS_MAX {
            let what = format!("{WAITERS_MAX} claims wait already");
            let trouble = Trouble::new("waiters_full", what).next("ask again in a second");
            return Err(Error::Storage { trouble, unknown: false });
        }
        let now = self.now();
        self.crew.saw(&wanted.worker, &wanted.kinds, now);
        self.feed.note(|| super::feed::Note::worker(&wanted.worker));
        self.claims.look_by(now.plus_millis(LOOK_EVERY_MS));
        Ok(())
    }

    /// What a claim of this name has started is known.
    fn found_claim(&mut self, id: u64, found: std::result::Result<Claimed, Unavailable>) {
        let Some(waiting) = self.claims.book.get_mut(id) else { return };
        waiting.under_way = 0;
        match found {
            Err(why) => waiting.refusal = Some(unavailable(why)),
            Ok(Claimed { is_known: false, .. }) if !waiting.is_last_call => {
                return self.claims.book.open(id);
            }
            Ok(Claimed { is_known, started }) => {
                (waiting.is_repeat, waiting.is_last_call) = (is_known, true);
                waiting.under_way = started.len();
                waiting.order.clone_from(&started);
                for name in started {
                    self.start_for(id, name);
                }
            }
        }
        self.answer_claim(id);
    }

    /// Starts an effect for a claim.
    fn start_for(&mut self, id: u64, name: EffectName) {
        let Some(waiting) = self.claims.book.get_mut(id) else { return };
        let wanted = Arc::clone(&waiting.wanted);
        let (inbox, by, run) = (self.inbox.clone(), wanted.by.clone(), name.run.clone());
        let effect = name.effect;
        let act = move |run: Result<(&mut OpenRun, Vec<String>)>| -> Answer {
            let given = |(run, slots): (&mut OpenRun, _)| {
                run.give(name.effect, &Claim { slots, ..wanted.claim() })
            };
            let done = run.and_then(given);
            Box::new(move |durable| {
                let done = done.and_then(|given| durable.map(|()| given));
                let started = move |manager: &mut Self| manager.started(id, name, done);
                let _ = inbox.send(Message::Look(Box::new(started)));
            })
        };
        self.ask(run, Ask::Start { by, effect, act: Box::new(act) });
    }

    /// An effect was started for a claim, or could not be.
    fn started(&mut self, id: u64, name: EffectName, done: Result<Given>) {
        let again = self.now().plus_millis(SHUN_MS);
        if done.is_err() {
            self.gate.slots.give_back(&name.run, name.effect);
        }
        let key = name.clone();
        let Some(waiting) = self.claims.book.settle(id, &name) else { return };
        let (is_choosy, is_repeat) = (waiting.is_last_call, waiting.is_repeat);
        match done {
            Ok(mut given) => {
                if given.task.repeat {
                    let now_ms = self.runs.clock.passed_millis();
                    self.leases.renew(&key, given.task.epoch, now_ms, Some(given.task.ttl_ms));
                    self.claims.sign(&name, given.task.epoch);
                }
                if let Some(until) = self.lease_until(&key) {
                    given.lease_until = until;
                }
                if let Some(waiting) = self.claims.book.get_mut(id) {
                    waiting.given.push(given);
                }
            }
            // What was started under its name has ended since: the rest is still its own.
            Err(Error::Conflict(_) | Error::NotFound(_)) if is_repeat => {}
            Err(why) if !is_choosy && is_about_effect(&why) => {
                self.claims.book.shun(name, again);
                self.claims.look_by(again);
                self.claims.book.disappoint(id);
            }
            Err(refusal) => {
                let refusal = self.with_lease(&key, refusal);
                if let Some(waiting) = self.claims.book.get_mut(id) {
                    waiting.refusal = Some(refusal);
                }
            }
        }
        self.answer_claim(id);
    }

    /// Answers a claim if it is done.
    fn answer_claim(&mut self, id: u64) {
        if !self.claims.book.get_mut(id).is_some_and(|waiting| waiting.is_done()) {
            return;
        }
        let Some(mut waiting) = self.claims.book.leave(id) else { return };
        let metrics = &self.runs.telemetry.metrics;
        if let Some(refusal) = waiting.refusal.filter(|_| waiting.given.is_empty()) {
            metrics.claims.with(["refused"]).one();
            for reply in waiting.replies {
                let _ = reply.send(Err(refusal.clone()));
            }
            return;
        }
        metrics.claims.with([if waiting.given.is_empty() { "empty" } else { "given" }]).one();
        let name = |given: &Given| EffectName::of(&given.task.run_id, given.task.effect_id);
        waiting.given.sort_by_key(|given| waiting.order.iter().position(|n| *n == name(given)));
        let fresh = waiting.given.iter().filter(|given| !given.task.repeat);
        let starts: Vec<_> = fresh.map(|given| (name(given), given.task.epoch)).collect();
        let (inbox, is_signed) = (self.inbox.clone(), AtomicBool::new(false));
        let receipt = Arc::new(Receipt { inbox, starts: starts.clone(), is_signed });
        for (name, epoch) in starts {
            self.claims.receipts.insert(name, (epoch, Arc::downgrade(&receipt)));
        }
        let is_spent = waiting.is_repeat && waiting.given.is_empty();
        for reply in waiting.replies {
            let receipt = Arc::clone(&receipt);
            let _ = reply.send(Ok(Delivery { given: waiting.given.clone(), is_spent, receipt }));
        }
    }

    /// A claim waits no longer.
    fn withdraw(&mut self, id: u64) {
        self.claims.book.withdraw(id);
        self.answer_claim(id);
    }

    /// Nothing more is given.
    pub(super) fn refuse_claims(&mut self) {
        self.claims.is_closed = true;
        for waiting in self.claims.book.leave_idle() {
            for reply in waiting.replies {
                let _ = reply.send(Err(handle::gone()));
            }
        }
    }

    /// T17: nobody was told of these starts.
    fn take_back(&mut self, starts: Vec<(EffectName, Epoch)>) {
        for (EffectName { run, effect }, epoch) in starts {
            let act = move |run: Result<&mut OpenRun>| -> Answer {
                let done = run.and_then(|run| run.end_attempt(effect, epoch, &Report::Undelivered));
                Box::new(move |_| {
                    if let Err(e) = done {
                        tracing::warn!(effect_id = %effect, "a start was not taken back: {e}");
                    }
                })
            };
            let by = "recovery".to_owned();
            self.ask(run, Ask::Deed { by, flow: Flow::Outcome, act: Box::new(act) });
        }
    }

    /// What the index is about to hear may be what somebody waits for.
    pub(super) fn hear_ready(&mut self, changes: &[Change]) {
        if self.claims.book.is_empty() {
            return;
        }
        let now = self.now();
        for change in changes {
            let Change::Put(update) = change else { continue };
            for effect in &update.open {
                let Some(ready) = &effect.ready else { continue };
                if ready.is_due(now) {
                    let name = EffectName::of(&update.run.run_id, effect.effect_id);
                    self.claims.book.ready(&effect.kind, &name);
                } else if let Some(until) = ready.not_before {
                    self.claims.look_by(until);
                }
            }
        }
    }

    /// Asks the index for what claims may get.
    pub(super) fn serve_claims(&mut self) {
        if self.claims.is_asking || self.claims.book.is_empty() || self.stopping {
            return;
        }
        let now = self.now();
        if self.claims.look_at.is_some_and(|at| at <= now) {
            self.claims.look_at = Some(now.plus_millis(LOOK_EVERY_MS));
            self.claims.book.look_again(now);
        }
        let questions = self.claims.book.questions();
        if questions.is_empty() {
            return;
        }
        self.claims.is_asking = true;
        let (inbox, kinds) = (self.inbox.clone(), self.claims.book.kinds());
        // What is held must not hide what is not.
        let most = CLAIM_CANDIDATES_MAX + self.gate.held();
        let slots = self.gate.slots.clone();
        let inside = |filter: &ReadyFilter| self.desk.inside(&filter.kind);
        let questions: Vec<_> = questions.into_iter().map(|of| (inside(&of), of)).collect();
        let ask = move |index: &Index| {
            let mut found = Found::default();
            for (inside, filter) in questions {
                let admits = |demand: &Demand| slots.admits(demand);
                let ready = index.ready(&filter, inside.as_ref(), now, most, &admits)?;
                found.ready.insert(filter, ready);
            }
            for kind in kinds {
                let next = index.next_ready(&kind, now)?;
                found.next = found.next.into_iter().chain(next).min();
            }
            Ok(found)
        };
        self.indexer.query_then(ask, move |found| {
            let deal = move |manager: &mut Self| manager.deal(found);
            let _ = inbox.send(Message::Look(Box::new(deal)));
        });
    }

    fn deal(&mut self, found: std::result::Result<Found, Unavailable>) {
        self.claims.is_asking = false;
        let now = self.now();
        let Ok(found) = found else {
            // The index is being made anew: later.
            self.claims.look_at = Some(now.plus_millis(SHUN_MS));
            return self.answer_leaving(false);
        };
        if let Some(next) = found.next {
            self.claims.look_by(next);
        }
        let gate = &self.gate;
        let is_held = |name: &EffectName| gate.hold(name).is_some();
        let reserve = |ready: &Ready| gate.slots.take_ready(ready, now);
        for (id, name) in self.claims.book.deal(found.ready, is_held, reserve, now) {
            self.start_for(id, name);
        }
        self.answer_leaving(true);
    }

    fn answer_leaving(&mut self, is_answered: bool) {
        for id in self.claims.book.leaving(is_answered) {
            self.answer_claim(id);
        }
    }
}

/// What the index has for claims.
#[derive(Default)]
struct Found {
    ready: HashMap<ReadyFilter, Candidates>,
    /// When there will be something that is not there yet.
    next: Option<Timestamp>,
}

/// Whether something stands against one effect alone, and another may do.
fn is_about_effect(why: &Error) -> bool {
    match why {
        Error::Conflict(_) | Error::NotFound(_) | Error::Damaged(_) => true,
        Error::Refused(trouble) => trouble.code != "disk_full",
        _ => false,
    }
}

pub(super) fn unavailable(why: Unavailable) -> Error {
    let trouble = Trouble::new("index_rebuilding", why.to_string()).next("ask again in a second");
    Error::Storage { trouble, unknown: false }
}

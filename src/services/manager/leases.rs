//! Leases at work: granted when a start is durable, renewed in memory, ended by a deed of time.
//!
//! May not know who claims. Invariant: a lease is there for every durable start of an outside
//! worker; losing it prolongs it.

use crate::codecs::event::{Event, Record};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, Epoch, RunId};
use crate::machines::effect::attempt::Report;
use crate::machines::effect::claim::is_the_daemons_name;
use crate::machines::effect::life::EffectStatus;
use crate::machines::lease::{Grant, Lapse, Lease, Progress};
use crate::machines::replay::state::RunState;
use crate::services::runs::attempt::{Beat, Directive};
use crate::services::runs::open::OpenRun;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};
use crate::shells::store::EffectRow;

use super::crew::Seen;
use super::feed::Note;
use super::handle::{self, Flow, Handle};
use super::seat::{Answer, Ask, Seat};
use super::{Manager, Message};

/// Between two looks at the clock that are further apart the machine slept, or nobody ran.
const GAP_MS: u64 = 1_000;

/// A sign of life.
#[derive(Debug, Clone)]
pub struct Sign {
    /// The run.
    pub run: RunId,
    /// The effect.
    pub effect: EffectId,
    /// The start that it is about.
    pub epoch: Epoch,
    /// How long silence is to be taken for life from now on.
    pub ttl_ms: Option<u64>,
    /// Who gives it.
    pub worker: Option<String>,
    /// How far it is.
    pub progress: Option<Progress>,
}

/// The answer to a sign of life.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// Until when no other is needed.
    pub lease_until: Timestamp,
    /// How long that is.
    pub ttl_ms: u64,
    /// Where the effect stands.
    pub status: EffectStatus,
    /// What the worker is to do.
    pub directive: Directive,
    /// Why.
    pub reason: Option<String>,
}

/// A lease, as others see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Whose.
    pub worker: String,
    /// Under which number.
    pub epoch: Epoch,
    /// Until when.
    pub until: Timestamp,
    /// It was not renewed in time.
    pub is_late: bool,
    /// How far its holder said that it is.
    pub progress: Option<Progress>,
}

/// What a durable record says about a lease.
pub(super) enum LeaseNews {
    /// Somebody outside began.
    Began(EffectName, Grant),
    /// The start is closed.
    Over(EffectName),
}

/// Whether an unknown outcome follows from silence alone: who was silent may speak again.
fn is_by_silence(cause: &str) -> bool {
    matches!(cause, "lease_expired" | "attempt_timeout")
}

impl LeaseNews {
    /// What `record` of a run says, which is folded already.
    pub(super) fn of(state: &RunState, record: &Record, now_ms: u64) -> Option<Self> {
        let key = |effect| EffectName::of(&state.run_id, effect);
        match &record.event {
            Event::EffectStarted(start) if !is_the_daemons_name(&start.worker) => {
                let policy = state.effect(start.effect_id).map(|effect| &effect.policy);
                let timeout = policy.and_then(|policy| policy.attempt_timeout_ms);
                let grant = Grant {
                    epoch: start.epoch,
                    worker: start.worker.clone(),
                    ttl_ms: start.ttl_ms,
                    attempt_deadline_ms: timeout.map(|ms| now_ms.saturating_add(ms)),
                };
                Some(Self::Began(key(start.effect_id), grant))
            }
            // Whoever let go of it has not been silent: there is nothing to wait for.
            Event::EffectUncertain(over) if !is_by_silence(&over.cause) => {
                Some(Self::Over(key(over.effect_id)))
            }
            Event::EffectAttemptFailed(over) => Some(Self::Over(key(over.effect_id))),
            Event::EffectResolved(over) => Some(Self::Over(key(over.effect_id))),
            Event::EffectCancelled(over) => Some(Self::Over(key(over.effect_id))),
            _ => None,
        }
    }
}

impl Handle {
    /// Takes signs of life. Each is answered for itself.
    pub async fn renew(&self, signs: Vec<Sign>) -> Result<Vec<Result<Renewed>>> {
        let answers: Vec<_> = signs
            .into_iter()
            .map(|sign| {
                let (reply, answer) = tokio::sync::oneshot::channel();
                self.tell(move |manager| {
                    manager.renew(sign, move |renewed| {
                        // Who does not listen is alive all the same.
                        let _ = reply.send(renewed);
                    });
                })
                .map(|()| answer)
            })
            .collect::<Result<_>>()?;
        let mut renewed = Vec::with_capacity(answers.len());
        for answer in answers {
            renewed.push(answer.await.unwrap_or_else(|_| Err(handle::gone())));
        }
        Ok(renewed)
    }

    /// The lease of an effect.
    pub async fn lease(&self, run: &RunId, effect: EffectId) -> Result<Option<Held>> {
        let key = EffectName::of(run, effect);
        self.look(move |manager| manager.held(&key)).await
    }

    /// Whether an effect's lease was not renewed in time, for those of a list.
    pub async fn late(&self, effects: Vec<EffectName>) -> Result<Vec<bool>> {
        let is_late = move |manager: &Manager| {
            let late = |name: &_| manager.held(name).is_some_and(|held| held.is_late);
            effects.iter().map(late).collect()
        };
        self.look(is_late).await
    }

    /// Workers that were heard of lately, or are at something.
    pub async fn workers(&self) -> Result<Vec<Seen>> {
        self.look(Manager::workers_seen).await
    }
}

impl Manager {
    /// T21: nobody is taken for dead who had no time to speak.
    pub(super) fn grant_anew(&mut self, started: Vec<EffectRow>) {
        let (now, now_ms) = (self.now(), self.runs.clock.passed_millis());
        for EffectRow { run_id, facts } in started {
            let (Some(start), Some(worker)) = (facts.start, facts.worker) else { continue };
            if is_the_daemons_name(&worker) || facts.status != EffectStatus::Started {
                continue;
            }
            let left = start.overdue_at.map(|at| {
                let micros = at.micros().saturating_sub(now.micros());
                now_ms.saturating_add(u64::try_from(micros / 1000).unwrap_or(0))
            });
            let key = EffectName { run: run_id, effect: facts.effect_id };
            let (epoch, ttl_ms) = (facts.epoch, start.ttl_ms);
            self.leases.grant(
                key,
                Grant { epoch, worker, ttl_ms, attempt_deadline_ms: left },
                now_ms,
            );
        }
    }

    pub(super) fn take_lease_news(&mut self, news: Vec<LeaseNews>) {
        let now_ms = self.runs.clock.passed_millis();
        for news in news {
            match news {
                LeaseNews::Began(key, grant) => {
                    self.feed.note(|| Note::lease(&key, grant.epoch, "granted"));
                    self.leases.grant(key, grant, now_ms);
                }
                LeaseNews::Over(key) => {
                    self.claims.forget(&key);
                    if let Some(lease) = self.leases.remove(&key) {
                        self.feed.note(|| Note::lease(&key, lease.epoch, "over"));
                    }
                }
            }
        }
    }

    /// Ends leases that were not renewed. After a time in which nobody could have been heard, all
    /// get a full one.
    pub(super) fn tick_leases(&mut self) {
        let now_ms = self.runs.clock.passed_millis();
        let gap_ms = now_ms.saturating_sub(std::mem::replace(&mut self.ticked_ms, now_ms));
        if gap_ms > GAP_MS {
            self.leases.slept(now_ms, gap_ms);
        }
        while !self.stopping
            && let Some((key, epoch, lapse)) = self.leases.lapsed(now_ms)
        {
            self.lapse(key, epoch, lapse);
        }
    }

    fn lapse(&mut self, key: EffectName, epoch: Epoch, lapse: Lapse) {
        let report = match lapse {
            Lapse::Silence => Report::Lapsed,
            Lapse::Timeout => Report::TimedOut { total: false },
        };
        let why = if lapse == Lapse::Silence { "silent" } else { "timeout" };
        self.runs.telemetry.metrics.leases_lapsed.with([why]).one();
        self.feed.note(|| Note::lease(&key, epoch, "lapsed"));
        let (inbox, run, effect) = (self.inbox.clone(), key.run.clone(), key.effect);
        let act = move |run: Result<&mut OpenRun>| -> Answer {
            let done = run.and_then(|run| match run.state().effect(effect).map(|e| e.status) {
                // A second lapse after signs of life tells nothing new.
                Some(EffectStatus::Started) => run.end_attempt(effect, epoch, &report).map(|_| ()),
                _ => Ok(()),
            });
            Box::new(move |durable| {
                if let Err(e) = done.and(durable) {
                    let again = move |manager: &mut Self| manager.lapse_later(key, epoch, &e);
                    let _ = inbox.send(Message::Look(Box::new(again)));
                }
            })
        };
        self.ask(run, Ask::Deed { by: "timer".into(), flow: Flow::Outcome, act: Box::new(act) });
    }

    /// That a lease lapsed could not be written: it is tried again after another one.
    fn lapse_later(&mut self, key: EffectName, epoch: Epoch, why: &Error) {
        tracing::warn!(run = %key.run, effect = %key.effect, "a lease could not be ended: {why}");
        if matches!(why, Error::Storage { .. }) && self.leases.get(&key).is_none() {
            let grant = Grant {
                epoch,
                worker: String::new(),
                ttl_ms: crate::ground::limits::LEASE_TTL_MS_MIN,
                attempt_deadline_ms: None,
            };
            self.leases.grant(key, grant, self.runs.clock.passed_millis());
        }
    }

    fn renew(&mut self, sign: Sign, reply: impl FnOnce(Result<Renewed>) + Send + 'static) {
        let key = EffectName::of(&sign.run, sign.effect);
        let ours = self.leases.get(&key).filter(|lease| lease.epoch == sign.epoch);
        let beat = match self.seats.get(&sign.run) {
            Some(Seat::Here(here)) if !here.broken => here.run.heartbeat(sign.effect, sign.epoch),
            // A run that rests outside changes nothing, and what it left open was not called off.
            None if ours.is_some() && !self.restless.contains(&sign.run) => Ok(Beat {
                status: EffectStatus::Started,
                directive: Directive::Continue,
                reason: None,
                holder: ours.map(|lease| lease.worker.clone()),
            }),
            _ => return self.renew_at_the_run(sign, reply),
        };
        let renewed = beat.and_then(|beat| self.renewed(&key, &sign, beat));
        reply(renewed.map_err(|refusal| self.with_lease(&key, refusal)));
    }

    /// The same for a run that has to be opened to know.
    fn renew_at_the_run(
        &mut self,
        sign: Sign,
        reply: impl FnOnce(Result<Renewed>) + Send + 'static,
    ) {
        let (inbox, run) = (self.inbox.clone(), sign.run.clone());
        let act = move |run: Result<&mut OpenRun>| -> Answer {
            let beat = run.and_then(|run| run.heartbeat(sign.effect, sign.epoch));
            Box::new(move |_| {
                let tell = move |manager: &mut Self| {
                    let key = EffectName::of(&sign.run, sign.effect);
                    reply(beat.and_then(|beat| manager.renewed(&key, &sign, beat)));
                };
                let _ = inbox.send(Message::Look(Box::new(tell)));
            })
        };
        let by = self.runs.by.clone();
        self.ask(run, Ask::Deed { by, flow: Flow::Outcome, act: Box::new(act) });
    }

    /// Moves a lease on; one that has lapsed lives again.
    fn renewed(&mut self, key: &EffectName, sign: &Sign, beat: Beat) -> Result<Renewed> {
        let now_ms = self.runs.clock.passed_millis();
        let holder = beat.holder.as_deref().filter(|holder| !holder.is_empty());
        let is_another = |holder: &&str| {
            let named = sign.worker.as_deref();
            is_the_daemons_name(holder) || named.is_some_and(|worker| worker != *holder)
        };
        if let Some(holder) = holder.filter(is_another) {
            let what = format!("effect {} is held by {holder}", key.effect);
            let trouble = Trouble::new("leased", what).fact("worker", holder.to_owned());
            return Err(Error::Conflict(trouble.fact("epoch", sign.epoch.0)));
        }
        if let Some(worker) = &sign.worker {
            self.crew.heard(worker, self.now());
        }
        if self.leases.renew(key, sign.epoch, now_ms, sign.ttl_ms).is_none() {
            let grant = Grant {
                epoch: sign.epoch,
                worker: sign.worker.clone().unwrap_or_default(),
                ttl_ms: sign.ttl_ms.unwrap_or(crate::ground::limits::LEASE_TTL_MS_DEFAULT),
                attempt_deadline_ms: None,
            };
            self.leases.grant(key.clone(), grant, now_ms);
        }
        if let Some(progress) = &sign.progress {
            self.leases.note(key, progress.clone());
            self.feed.note(|| Note::progress(key, sign.epoch, progress));
        }
        self.feed.note(|| Note::lease(key, sign.epoch, "renewed"));
        let lease = self.leases.get(key);
        let is_overdue = lease.is_some_and(|lease| lease.is_overdue(now_ms));
        let (directive, reason) = match beat.directive {
            Directive::Continue if is_overdue => {
                (Directive::Stop, Some("the time for this attempt is over".to_owned()))
            }
            directive => (directive, beat.reason),
        };
        Ok(Renewed {
            lease_until: self.lease_until(key).unwrap_or_default(),
            ttl_ms: lease.map_or(0, |lease| lease.ttl_ms),
            status: beat.status,
            directive,
            reason,
        })
    }

    /// When a lease ends on the wall clock, if nothing is heard.
    pub(super) fn lease_until(&self, key: &EffectName) -> Option<Timestamp> {
        self.held(key).map(|held| held.until)
    }

    fn held(&self, key: &EffectName) -> Option<Held> {
        let now_ms = self.runs.clock.passed_millis();
        let lease: &Lease = self.leases.get(key)?;
        let left = i64::try_from(lease.deadline_ms).unwrap_or(i64::MAX)
            - i64::try_from(now_ms).unwrap_or(i64::MAX);
        Some(Held {
            worker: lease.worker.clone(),
            epoch: lease.epoch,
            until: self.now().plus_millis(left),
            is_late: left < 0,
            progress: lease.progress.clone(),
        })
    }

    /// A refusal because somebody else is at it says until when.
    pub(super) fn with_lease(&self, key: &EffectName, refusal: Error) -> Error {
        match self.held(key) {
            Some(held) if refusal.trouble().code == "leased" => {
                refusal.and_fact("leaseUntil", held.until.to_string())
            }
            _ => refusal,
        }
    }

    fn workers_seen(&self) -> Vec<Seen> {
        let leases = self.leases.workers().map(|(name, count)| (name.to_owned(), count));
        self.crew.all(leases.collect())
    }

    /// A run leaves memory: whether whoever is at its effects must hear of something.
    pub(super) fn note_restless(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        let called_off = here.run.state().open_effects().any(|effect| {
            effect.status == EffectStatus::Started
                && !matches!(
                    here.run.heartbeat(effect.id, effect.epoch),
                    Ok(Beat { directive: Directive::Continue, .. })
                )
        });
        if called_off {
            self.restless.insert(id.clone());
        }
    }
}

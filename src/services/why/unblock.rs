//! The commands that end a reason.
//!
//! May not run anything. Invariant: a command works as it is printed; only the word FILE is to be
//! replaced, by the reader's own file.

use super::code::Code;
use super::memory::Hold;
use crate::ground::id::EffectName;
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::limits::Bucket;

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/:@%+=,-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    // What a terminal would obey must not reach it as it is.
    let mut out = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&escaped(c)),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A character by its bytes.
fn escaped(c: char) -> String {
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).bytes();
    bytes.flat_map(|byte| ["\\x".to_owned(), format!("{byte:02x}")]).collect()
}

/// What ends a reason that is about the whole run. `hold` is the reason of its record or the case
/// of its damage, `is_served` whether a daemon is there.
pub(super) fn of_run(code: Code, run: &str, hold: &str, is_served: bool) -> Vec<String> {
    let drive = format!("dormouse run drive {run}");
    let resume = format!("dormouse run resume {run}");
    let accept = format!("dormouse run accept {run} --entry FILE --yes");
    let cancel = format!("dormouse run cancel {run}");
    let halt = format!("dormouse run halt {run}");
    match code {
        Code::Damaged => {
            vec![format!("dormouse journal verify {run}"), format!("dormouse explain {hold}")]
        }
        Code::NoProcess => vec![format!("dormouse run assign-process {run} --entry FILE"), halt],
        Code::Diverged => vec![format!("dormouse run check {run}"), accept, resume],
        Code::ProcessError => {
            let recover = format!("dormouse run recover {run}");
            vec![recover, accept, format!("{halt} --final-status failed")]
        }
        Code::HostFailed => vec![resume, drive],
        Code::Limit => match hold {
            // A daemon's limits are its own: they stand in its configuration.
            "limit:cpu" | "limit:memory" if is_served => vec![resume],
            "limit:cpu" => vec![resume, format!("{drive} --turn-cpu-max 10s")],
            "limit:memory" => vec![resume, format!("{drive} --heap-max 1024")],
            _ => vec![cancel, halt],
        },
        Code::Paused => vec![resume],
        Code::Cancelling => vec![drive, format!("{cancel} --now")],
        Code::Draining => vec![format!("dormouse task list {run} --pending"), cancel],
        Code::LostWake => vec![format!("dormouse run iterate {run}"), "dormouse audit".to_owned()],
        _ => vec![drive],
    }
}

/// What ends a reason that is about one effect.
pub(super) fn of_effect(
    code: Code,
    run: &str,
    effect: &Effect,
    hold: Option<&Hold>,
    is_served: bool,
) -> Vec<String> {
    let (id, answer) = (effect.id, Answer { run, effect });
    let show = format!("dormouse task show {run} {id}");
    match (code, &effect.wait) {
        (Code::Runnable | Code::LostWake, _) => of_run(code, run, "", is_served),
        (Code::WaitingPerson, _) => ["approve", "reject"]
            .map(|answer| format!("dormouse breakpoint {answer} {run} {id}"))
            .to_vec(),
        (Code::WaitingSignal, Wait::Signal(facts)) => {
            let key = facts.correlation_key.as_deref();
            let key = key.map_or(String::new(), |key| {
                format!(" {}", quoted(&format!("--correlation-key={key}")))
            });
            // After `--` a name may begin with a dash.
            vec![format!("dormouse run signal {run}{key} -- {}", quoted(&facts.name))]
        }
        (Code::WaitingTimer, _) => {
            let wait = format!("dormouse run drive {run}");
            let early = format!("dormouse task post {run} {id} --status ok --value-inline null");
            if is_served { vec![early] } else { vec![wait, early] }
        }
        (Code::HeldLimit | Code::HeldKey, _) => match hold {
            Some(Hold::Key { holder, .. }) => of_holder(holder),
            Some(Hold::Limit { limit, holder, until, .. }) => {
                of_limit(limit, holder.as_ref(), until.is_some())
            }
            _ => vec![show],
        },
        (Code::WaitingChild, _) => vec![match &effect.target {
            Some(child) => format!("dormouse why {child}"),
            None => show,
        }],
        (Code::Backoff, _) if is_served => {
            vec![show, format!("dormouse task retry-now {run} {id}"), answer.post()]
        }
        (Code::Uncertain, _) if effect.asks_a_person() => answer.ask(),
        (Code::Uncertain, _) if is_served && effect.policy.probe.is_some() => {
            [vec![show], answer.probe(), answer.decide(false)].concat()
        }
        (Code::Uncertain, _) => [vec![show], answer.decide(false)].concat(),
        (Code::Executing, _) => [vec![show, answer.post()], answer.decide(true)].concat(),
        _ if effect.wait.is_postable() => vec![show, answer.post()],
        _ => vec![show, format!("dormouse task cancel {run} {id} --abandon")],
    }
}

/// What frees a limit: the end of whoever has it for longest, or another limit.
fn of_limit(limit: &Bucket, holder: Option<&EffectName>, is_rate: bool) -> Vec<String> {
    let named = format!("{} -- {}", limit.scope.name(), quoted(&limit.name));
    let show = format!("dormouse limits show {named}");
    match holder {
        Some(holder) => [of_holder(holder), vec![show]].concat(),
        None if is_rate => vec![show],
        None => vec![show, format!("dormouse limits set --concurrency 1 {named}")],
    }
}

/// The commands of whoever has something to say about an effect.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    /// The run, as commands name it.
    pub(super) run: &'a str,
    /// The effect.
    pub(super) effect: &'a Effect,
}

impl Answer<'_> {
    /// Takes it, so that nobody else begins with it.
    pub(super) fn claim(self, worker: Option<&str>) -> String {
        let worker = quoted(&format!("--worker={}", worker.unwrap_or("me")));
        format!("dormouse task claim {} {} {worker}", self.run, self.effect.id)
    }

    /// Gives its value, which is read from standard input.
    pub(super) fn post(self) -> String {
        let Self { run, effect } = self;
        let started = matches!(effect.status, EffectStatus::Started | EffectStatus::Uncertain);
        let epoch = if started { format!(" --epoch {}", effect.epoch) } else { String::new() };
        format!("dormouse task post {run} {}{epoch} --status ok --value -", effect.id)
    }

    /// Has the outside asked.
    fn probe(self) -> Vec<String> {
        let Self { run, effect: Effect { id, epoch, .. } } = self;
        vec![format!("dormouse task decide {run} {id} probe --epoch {epoch} --reason 'ask now'")]
    }

    /// Answers what a person is asked about it.
    fn ask(self) -> Vec<String> {
        let Self { run, effect: Effect { id, epoch, .. } } = self;
        let say = |words: &str| {
            format!("dormouse breakpoint approve {run} {id} --epoch {epoch} --option {words}")
        };
        vec![say("done --response null"), say("retry"), say("failed")]
    }

    /// Says what became of it outside; `is_lost` says so of whoever is at it.
    pub(super) fn decide(self, is_lost: bool) -> Vec<String> {
        let Self { run, effect: Effect { id, epoch, .. } } = self;
        let force = if is_lost { " --force" } else { "" };
        let decide = |word: &str, why: &str| {
            format!(
                "dormouse task decide {run} {id} {word} --epoch {epoch} --reason '{why}'{force}"
            )
        };
        vec![
            decide("done", "it happened") + " --value -",
            decide("retry", "it did not happen"),
            decide("failed", "it failed"),
        ]
    }
}

/// What frees what another effect holds.
fn of_holder(holder: &EffectName) -> Vec<String> {
    let EffectName { run, effect } = holder;
    vec![format!("dormouse why {run}"), format!("dormouse task cancel {run} {effect} --abandon")]
}

/// What brings the journal of a damaged run back: `plan` says whether there is a way, `lost` how
/// many records it costs if that is known.
pub(super) fn of_damage(run: &str, plan: bool, loss: Loss) -> Vec<String> {
    if !plan {
        return vec![format!("dormouse journal verify {run}")];
    }
    let show = format!("dormouse run repair-journal {run}");
    let mend = match loss {
        Loss::None => format!("{show} --yes"),
        Loss::Records(count) => format!("{show} --yes --accept-loss {count}"),
        Loss::Unknown => format!("{show} --yes --accept-loss unknown"),
    };
    vec![show, mend]
}

/// What a repair costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing.
    None,
    /// So many records.
    Records(u64),
    /// Nobody knows.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        for (word, shown) in [
            ("deploy-done", "deploy-done"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(rm -r .)", "'$(rm -r .)'"),
            ("", "''"),
            ("é", "'é'"),
            ("a\u{1b}[31m'\u{9b}", r"$'a\x1b[31m\'\xc2\x9b'"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }
}

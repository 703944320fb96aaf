//! Limits against a model that counts everything anew for each question.
//!
//! May not look into queues. Invariant: the model knows no queue but a list.

use super::*;
use crate::ground::id::EffectName;
use proptest::prelude::*;

fn holder(run: &str, effect: u32) -> EffectName {
    EffectName { run: run.parse().unwrap(), effect: EffectId::new(effect) }
}

fn demand(kind: &str, keys: &[&str]) -> Arc<Demand> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    Arc::new(Demand::new(kind, &keys))
}

fn place(name: &str) -> Bucket {
    let (scope, name) = name.split_once(' ').unwrap();
    Bucket::limited(Scope::named(scope).unwrap(), name).unwrap()
}

fn limits(set: &[(&str, Limit)]) -> Limits {
    let mut limits = Limits::default();
    for (name, limit) in set {
        limits.set(place(name), *limit, 0);
    }
    limits.call(0);
    limits
}

fn at_once(concurrency: u64) -> Limit {
    Limit { concurrency: Some(concurrency), ..Limit::default() }
}

fn rate(rate: &str, burst: Option<u64>) -> Limit {
    Limit { rate: Some(rate.parse().unwrap()), burst, ..Limit::default() }
}

/// Of an effect that was never started, and could be since so many seconds.
fn want(seconds: u64, priority: u32) -> Want {
    let since_ms = seconds * 1_000;
    let since = Timestamp::from_millis(since_ms.cast_signed());
    Want { after: Epoch(0), since, since_ms, priority }
}

/// The same since the beginning.
fn new() -> Want {
    want(0, 500)
}

#[test]
fn a_start_takes_all_its_slots_or_none() {
    let mut limits = limits(&[("kind shell", at_once(2)), ("key deploy:*", at_once(1))]);
    let (prod, test) = (demand("shell", &["deploy:prod"]), demand("shell", &["deploy:test"]));
    limits.take(&holder("a", 1), &prod, new(), 0).unwrap();
    let held = limits.take(&holder("b", 1), &prod, new(), 0).unwrap_err();
    assert_eq!((held.limit, held.holder), (place("key deploy:*"), Some(holder("a", 1))));
    assert_eq!(held.bucket, place("key deploy:prod"));
    limits
        .take(&holder("c", 1), &test, new(), 0)
        .expect("the refused start took no slot of the kind");
    let held = limits.take(&holder("d", 1), &demand("shell", &[]), new(), 0).unwrap_err();
    assert_eq!((held.limit, held.until_ms), (place("kind shell"), None));
    limits.release(&holder("a", 1), 5);
    limits.take(&holder("d", 1), &demand("shell", &[]), new(), 5).unwrap();
    assert_eq!(limits.began(&holder("d", 1)), Some((Scope::Kind, new().since)));
    assert_eq!(limits.began(&holder("d", 1)), None, "it began once");
    assert_eq!(limits.began(&holder("c", 1)), None);
}

#[test]
fn the_own_name_of_a_key_counts_before_patterns_and_longer_patterns_first() {
    let mut limits =
        limits(&[("key a:*", at_once(0)), ("key a:b:*", at_once(1)), ("key a:b:c", at_once(2))]);
    let of = |key: &str| demand("k", &[key]);
    for (key, starts) in [("a:x", 0), ("a:b:x", 1), ("a:b:c", 2), ("a", 3), ("b:a:b", 3)] {
        let run = key.replace(':', "-");
        let mut taken = |n: &u32| limits.take(&holder(&run, *n), &of(key), new(), 0);
        assert_eq!((1..=3).filter(|n| taken(n).is_ok()).count(), starts, "{key}");
    }
    for name in ["key *", "key a*", "key a:*:b", "kind a:*", "kind *", "key :*x", "key "] {
        let (scope, name) = name.split_once(' ').unwrap();
        assert!(Bucket::limited(Scope::named(scope).unwrap(), name).is_err(), "{name}");
    }
}

#[test]
fn uncertain_gives_the_kind_back_and_keeps_keys_unless_told_otherwise() {
    let lax = Limit { hold_uncertain: Some(false), ..at_once(1) };
    let all = [("kind k", at_once(1)), ("key strict", at_once(1)), ("key lax", lax)];
    let mut limits = limits(&all);
    let first = holder("a", 1);
    limits.take(&first, &demand("k", &["strict", "lax"]), new(), 0).unwrap();
    limits.unsure(&first, Epoch(1), 1);
    limits.take(&holder("b", 1), &demand("k", &["lax"]), new(), 1).unwrap();
    assert!(limits.take(&holder("c", 1), &demand("other", &["strict"]), new(), 1).is_err());
    limits.release(&first, 2);
    limits.take(&holder("c", 1), &demand("other", &["strict"]), new(), 2).unwrap();

    let mut after = super::tests::limits(&all);
    after.count_uncertain(&first, &demand("k", &["strict", "lax"]), Epoch(0));
    assert!(after.ask(&demand("k", &["lax"]), 0).is_ok());
    assert!(after.ask(&demand("k", &["strict"]), 0).is_err());
    after.count(&holder("b", 1), &demand("k", &[]), Epoch(0));
    assert!(after.ask(&demand("k", &["lax"]), 0).is_err());
}

#[test]
fn a_rate_lets_its_waiters_go_one_by_one() {
    let mut limits = limits(&[("kind k", rate("2/s", Some(1)))]);
    let all = demand("k", &[]);
    for n in 1..=3 {
        let taken = limits.take_or_wait(&holder("a", n), &all, new(), 0);
        assert!(taken.is_err(), "buckets begin empty");
    }
    let mut starts = Vec::new();
    while let Some(next) = limits.next_ms() {
        let called = limits.call(next).holders;
        starts.extend(called.into_iter().map(|holder| (next, holder.effect.ordinal())));
        if starts.len() == 3 {
            break;
        }
    }
    assert_eq!(starts, [(500, 1), (1_000, 2), (1_500, 3)]);
    limits.give_back(&holder("a", 3), 1_500);
    assert!(limits.admits(&all, 1_500), "its token is there again");
}

#[test]
fn runs_take_turns_in_one_level_and_priority_comes_first() {
    let mut limits = limits(&[("kind k", at_once(1))]);
    let all = demand("k", &[]);
    limits.take_or_wait(&holder("z", 1), &all, want(0, 500), 0).unwrap();
    for (run, count, priority) in [("a", 4, 500), ("b", 2, 500), ("c", 2, 500), ("d", 1, 501)] {
        for n in 1..=count {
            let ready = want(u64::from(n), priority);
            assert!(limits.take_or_wait(&holder(run, n), &all, ready, 0).is_err());
        }
    }
    let (mut last, mut order) = (holder("z", 1), Vec::new());
    loop {
        limits.release(&last, 0);
        let Some(next) = limits.call(0).holders.pop() else { break };
        order.push(format!("{}{}", next.run, next.effect.ordinal()));
        last = next;
    }
    assert_eq!(order, ["d1", "a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"]);
}

#[test]
fn whoever_frees_a_slot_does_not_pass_those_who_wait() {
    let mut limits = limits(&[("kind k", at_once(1))]);
    let all = demand("k", &[]);
    limits.take_or_wait(&holder("a", 1), &all, want(0, 500), 0).unwrap();
    assert!(limits.take_or_wait(&holder("b", 1), &all, want(1, 500), 0).is_err());
    limits.release(&holder("a", 1), 0);
    assert!(limits.take_or_wait(&holder("a", 2), &all, want(0, 500), 0).is_err());
    assert_eq!(limits.call(0).holders, [holder("b", 1)]);
    assert!(limits.waits(&holder("a", 2)));
}

#[test]
fn a_next_start_takes_its_own_slots_and_the_end_of_the_last_one_frees_none_of_them() {
    let mut limits = limits(&[("kind k", rate("1/s", None))]);
    let all = demand("k", &[]);
    let (it, again) = (holder("a", 1), Want { after: Epoch(1), ..new() });
    limits.take(&it, &all, new(), 1_000).unwrap();
    limits.take(&it, &all, new(), 1_000).expect("they are its own");
    assert!(limits.take(&it, &all, again, 1_000).is_err(), "another start is another token");
    limits.take(&it, &all, again, 2_000).unwrap();
    limits.settle(&it, Epoch(1), 2_000);
    assert_eq!(limits.levels(1, 2_000)[0].in_use, 1);
    limits.settle(&it, Epoch(2), 2_000);
    assert_eq!(limits.levels(1, 2_000)[0].in_use, 0);
}

#[test]
fn raising_a_limit_starts_what_waits_and_lowering_it_ends_nothing() {
    let mut limits = limits(&[("kind k", at_once(0))]);
    let all = demand("k", &[]);
    for n in 1..=3 {
        assert!(limits.take_or_wait(&holder("a", n), &all, want(0, 500), 0).is_err());
    }
    limits.set(place("kind k"), at_once(2), 0);
    assert_eq!(limits.call(0).holders, [holder("a", 1), holder("a", 2)]);
    limits.set(place("kind k"), at_once(1), 0);
    limits.release(&holder("a", 1), 0);
    assert_eq!(limits.call(0).holders, []);
    limits.set(place("kind k"), Limit::default(), 0);
    assert_eq!(limits.call(0).holders, [holder("a", 3)]);
    assert!(limits.levels(5, 0).is_empty());
}

/// What may happen.
#[derive(Debug, Clone)]
enum Deed {
    Want(usize),
    End(usize),
    Unsure(usize),
    Set(usize, u64),
    Pass(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let one = prop_oneof![
        4 => (0..24usize).prop_map(Deed::Want),
        3 => (0..24usize).prop_map(Deed::End),
        1 => (0..24usize).prop_map(Deed::Unsure),
        1 => (0..3usize, 0..3u64).prop_map(|(which, n)| Deed::Set(which, n)),
        2 => (0..400u64).prop_map(Deed::Pass),
    ];
    proptest::collection::vec(one, 1..120)
}

const PLACES: [&str; 3] = ["kind k", "key a:*", "key b"];
const KEYS: [&[&str]; 6] = [&[], &["a:1"], &["a:2"], &["b"], &["a:1", "b"], &["a:2", "b"]];

/// Everybody, with who has which slots.
#[derive(Default)]
struct Model {
    /// Who has slots: under these names.
    has: BTreeMap<usize, BTreeSet<String>>,
    waits: Vec<usize>,
    most: [u64; 3],
}

impl Model {
    fn wants(who: usize) -> BTreeSet<String> {
        let kind = if who.is_multiple_of(2) { "k" } else { "other" };
        let keys = KEYS[who % KEYS.len()].iter().map(|key| (*key).to_owned());
        keys.chain([kind.to_owned()]).collect()
    }

    fn most(&self, name: &str) -> u64 {
        match name {
            "k" => self.most[0],
            "b" => self.most[2],
            name if name.starts_with("a:") => self.most[1],
            _ => u64::MAX,
        }
    }

    fn fits(&self, who: usize) -> bool {
        let used = |name: &String| self.has.values().filter(|has| has.contains(name)).count();
        Self::wants(who).iter().all(|name| (used(name) as u64) < self.most(name))
    }
}

proptest! {
    /// Nothing is over its limit, nobody waits who could start, nobody stands twice.
    #[test]
    fn limits_agree_with_a_list(deeds in deeds()) {
        let mut limits = Limits::default();
        let (mut model, mut now) = (Model { most: [1; 3], ..Model::default() }, 0u64);
        for name in PLACES {
            limits.set(place(name), at_once(1), 0);
        }
        let who = |n: usize| holder(&format!("r{}", n % 5), u32::try_from(n).unwrap() + 1);
        let wants = |n: usize| demand(["k", "other"][n % 2], KEYS[n % KEYS.len()]);
        for deed in deeds {
            match deed {
                Deed::Want(n) if !model.has.contains_key(&n) && !model.waits.contains(&n) => {
                    let since = Timestamp::from_millis(now.cast_signed());
                    let ready = Want { since, since_ms: now, ..new() };
                    if limits.take_or_wait(&who(n), &wants(n), ready, now).is_ok() {
                        prop_assert!(model.fits(n));
                        model.has.insert(n, Model::wants(n));
                    } else {
                        model.waits.push(n);
                    }
                }
                Deed::End(n) => {
                    limits.release(&who(n), now);
                    model.has.remove(&n);
                    model.waits.retain(|other| *other != n);
                }
                Deed::Unsure(n) => {
                    limits.unsure(&who(n), Epoch(1), now);
                    if let Some(has) = model.has.get_mut(&n) {
                        has.retain(|name| name.contains(':') || name == "b");
                    }
                }
                Deed::Set(which, most) => {
                    limits.set(place(PLACES[which]), at_once(most), now);
                    model.most[which] = most;
                }
                Deed::Pass(ms) => now += ms,
                Deed::Want(_) => {}
            }
            for called in limits.call(now).holders {
                let n = (called.effect.ordinal() - 1) as usize;
                prop_assert!(model.waits.contains(&n) && model.fits(n));
                model.waits.retain(|other| *other != n);
                model.has.insert(n, Model::wants(n));
            }
            for n in &model.waits {
                prop_assert!(!model.fits(*n), "{n} waits and could start");
            }
            for level in limits.levels(100, now) {
                let counted =
                    |name: &str| model.has.values().filter(|has| has.contains(name)).count();
                let count = match level.limit.name.as_str() {
                    "a:*" => counted("a:1") + counted("a:2"),
                    name => counted(name),
                };
                prop_assert_eq!(level.in_use, count);
            }
        }
    }
}

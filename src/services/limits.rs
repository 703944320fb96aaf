//! The limits of a root: those of the configuration, and those that were set while a daemon ran.
//!
//! May not know who is limited. Invariant: a limit that was set is durable before it counts, and
//! counts after a restart; what it leaves open is as configured.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::ground::limits::{LIMITS_FILE_BYTES_MAX, LIMITS_MAX};
use crate::machines::limits::{Bucket, Limit, Scope};
use crate::ports::disk::{self, Atomic, Dir, Open, write_atomic};
use crate::shells::run_dir::dir::pretty;

use super::runs::trouble::Trouble;
use super::runs::{Error, Result};

/// Name of the file, in the root's own directory.
pub const LIMITS_JSON: &str = "limits.json";

/// A limit as files and requests have it. What is absent does not limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Written {
    /// How many may be at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Such as `10/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many may start at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Whether a slot is kept while nobody knows whether its effect was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_uncertain: Option<bool>,
}

impl From<Limit> for Written {
    fn from(limit: Limit) -> Self {
        Self {
            concurrency: limit.concurrency,
            rate: limit.rate.map(|rate| rate.to_string()),
            burst: limit.burst,
            hold_uncertain: limit.hold_uncertain,
        }
    }
}

impl Written {
    /// The limit.
    ///
    /// # Errors
    /// A sentence that names the member that makes no sense.
    pub fn read(&self) -> std::result::Result<Limit, String> {
        let limit = Limit {
            concurrency: self.concurrency,
            rate: self.rate.as_deref().map(str::parse).transpose()?,
            burst: self.burst,
            hold_uncertain: self.hold_uncertain,
        };
        limit.check().map(|()| limit)
    }
}

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    kind: BTreeMap<String, Written>,
    #[serde(default)]
    key: BTreeMap<String, Written>,
}

/// The limits of a root that a daemon owns.
pub struct LimitBook {
    meta: Arc<dyn Dir>,
    configured: BTreeMap<Bucket, Limit>,
    /// Of agents, as their file says: what is configured counts more.
    of_agents: Mutex<BTreeMap<Bucket, Limit>>,
    changed: Mutex<BTreeMap<Bucket, Limit>>,
}

impl LimitBook {
    /// Reads what was set in the root whose own directory this is.
    pub fn open(meta: Arc<dyn Dir>, configured: BTreeMap<Bucket, Limit>) -> Result<Self> {
        let read = disk::optional(meta.read_file(LIMITS_JSON, Open::Read, LIMITS_FILE_BYTES_MAX))?;
        let changed = match read.map(|bytes| parse(&bytes)) {
            None => BTreeMap::new(),
            Some(Ok(changed)) => changed,
            Some(Err(why)) => {
                let path = meta.path().join(LIMITS_JSON);
                let what = format!("{}: it is not a file of limits: {why}", path.display());
                let next = format!(
                    "mend it, or remove it and the limits of the configuration count: rm {}",
                    path.display()
                );
                return Err(Error::Refused(Trouble::new("limits_invalid", what).next(next)));
            }
        };
        Ok(Self { meta, configured, of_agents: Mutex::default(), changed: Mutex::new(changed) })
    }

    /// What counts.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Bucket, Limit> {
        let (changed, of_agents) = (self.changed(), self.of_agents().clone());
        let places = self.configured.keys().chain(changed.keys()).chain(of_agents.keys());
        places.map(|place| (place.clone(), self.of(place, &changed))).collect()
    }

    /// Whether a limit was set while a daemon ran.
    #[must_use]
    pub fn is_changed(&self, place: &Bucket) -> bool {
        self.changed().contains_key(place)
    }

    /// Sets a limit durably, and tells what counts then; one that says nothing is as configured.
    pub fn set(&self, place: &Bucket, limit: Limit, tell: impl FnOnce(Limit)) -> Result<()> {
        // Whoever sets a limit after another one is told after it, too.
        let mut changed = self.changed();
        let mut next = changed.clone();
        if limit == Limit::default() {
            next.remove(place);
        } else {
            next.insert(place.clone(), limit);
        }
        if next.keys().filter(|other| other.scope == place.scope).count() > LIMITS_MAX {
            let what = format!("{LIMITS_MAX} limits of a {} were set already", place.scope.name());
            let next = "dormouse limits list";
            return Err(Error::Refused(Trouble::new("limits_full", what).next(next)));
        }
        write_atomic(&*self.meta, LIMITS_JSON, &pretty(&file(&next)), Atomic::DURABLE)?;
        *changed = next;
        tell(self.of(place, &changed));
        Ok(())
    }

    /// Takes the limits of agents from a file that was read, and tells what counts now.
    pub fn limit_agents(
        &self,
        limits: &BTreeMap<Bucket, Limit>,
        mut tell: impl FnMut(&Bucket, Limit),
    ) {
        let changed = self.changed();
        let before = std::mem::replace(&mut *self.of_agents(), limits.clone());
        for place in before.keys().chain(limits.keys()).collect::<BTreeSet<_>>() {
            tell(place, self.of(place, &changed));
        }
    }

    fn of(&self, place: &Bucket, changed: &BTreeMap<Bucket, Limit>) -> Limit {
        let of = |limits: &BTreeMap<Bucket, Limit>| limits.get(place).copied().unwrap_or_default();
        of(changed).over(of(&self.configured)).over(of(&self.of_agents()))
    }

    fn of_agents(&self) -> MutexGuard<'_, BTreeMap<Bucket, Limit>> {
        self.of_agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<Bucket, Limit>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(limits: &BTreeMap<Bucket, Limit>) -> File {
    let mut file = File::default();
    for (Bucket { scope, name }, limit) in limits {
        let of_scope = match scope {
            Scope::Kind => &mut file.kind,
            Scope::Key => &mut file.key,
        };
        of_scope.insert(name.clone(), Written::from(*limit));
    }
    file
}

fn parse(bytes: &[u8]) -> std::result::Result<BTreeMap<Bucket, Limit>, String> {
    let File { kind, key } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let all = [(Scope::Kind, kind), (Scope::Key, key)].into_iter();
    let all = all.flat_map(|(scope, limits)| limits.into_iter().map(move |of| (scope, of)));
    all.map(|(scope, (name, written))| {
        let place = Bucket::limited(scope, &name)?;
        let limit = written.read().map_err(|why| format!("{place}: {why}"))?;
        Ok((place, limit))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::Disk as _;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    const META: &str = "/runs/.dormouse";

    fn at_once(n: u64) -> Limit {
        Limit { concurrency: Some(n), ..Limit::default() }
    }

    fn shell() -> Bucket {
        Bucket::limited(Scope::Kind, "shell").unwrap()
    }

    fn open(disk: &MemoryDisk) -> Result<LimitBook> {
        let slow = Limit { rate: Some("1/s".parse().unwrap()), ..at_once(4) };
        let meta = disk.open_dir(Path::new(META)).unwrap();
        LimitBook::open(meta, BTreeMap::from([(shell(), slow)]))
    }

    #[test]
    fn what_was_set_stays_and_what_it_leaves_open_is_as_configured() {
        let disk = MemoryDisk::new(1);
        disk.create_dirs(Path::new(META)).unwrap();
        let key = Bucket::limited(Scope::Key, "deploy:*").unwrap();
        let set = |place: &Bucket, limit| {
            let mut told = None;
            open(&disk).unwrap().set(place, limit, |limit| told = Some(limit)).unwrap();
            told.unwrap()
        };
        let held = set(&shell(), at_once(0));
        assert_eq!((held.concurrency, held.rate.is_some()), (Some(0), true));
        assert_eq!(set(&key, at_once(1)), at_once(1));
        let all = open(&disk).unwrap().all();
        assert_eq!((all[&shell()].concurrency, all[&key].concurrency), (Some(0), Some(1)));
        assert_eq!(set(&shell(), Limit::default()).concurrency, Some(4));
        let again = open(&disk).unwrap();
        assert!(again.is_changed(&key) && !again.is_changed(&shell()));
    }

    #[test]
    fn the_limits_of_agents_come_and_go_with_their_file_and_count_least() {
        let disk = MemoryDisk::new(1);
        disk.create_dirs(Path::new(META)).unwrap();
        let book = open(&disk).unwrap();
        let agent = Bucket::limited(Scope::Key, "agent:a").unwrap();
        let read = |limits: &[(&Bucket, Limit)]| {
            let limits = limits.iter().map(|(place, limit)| ((*place).clone(), *limit));
            let mut told = Vec::new();
            book.limit_agents(&limits.collect(), |place, limit| {
                told.push((place.to_string(), limit.concurrency));
            });
            told
        };
        let (of_agent, of_shell) = ("key:agent:a".to_owned(), "kind:shell".to_owned());
        assert_eq!(read(&[(&agent, at_once(2))]), [(of_agent.clone(), Some(2))]);
        assert_eq!(book.all()[&agent], at_once(2));
        let told = [(of_shell, Some(4)), (of_agent, None)];
        let mut heard = read(&[(&shell(), at_once(9))]);
        heard.sort();
        assert_eq!(heard.iter().rev().collect::<Vec<_>>(), told.iter().collect::<Vec<_>>());
        assert!(!book.all().contains_key(&agent));
    }

    #[test]
    fn a_file_that_is_none_is_named_with_the_way_out() {
        let disk = MemoryDisk::new(1);
        disk.create_dirs(Path::new(META)).unwrap();
        let file = Path::new(META).join(LIMITS_JSON);
        for (text, why) in [
            ("nonsense", "expected"),
            ("{\"kinds\":{}}", "unknown field"),
            ("{\"key\":{\"a*\":{}}}", "no limit's name"),
            ("{\"kind\":{\"a\":{\"rate\":\"fast\"}}}", "kind:a: rate is a number"),
            ("{\"kind\":{\"a\":{\"burst\":0}}}", "kind:a: burst is"),
        ] {
            disk.tamper(&file, |bytes| *bytes = text.as_bytes().to_vec());
            let Err(error) = open(&disk) else { panic!("{text}") };
            assert_eq!(error.trouble().code, "limits_invalid");
            assert!(error.trouble().what.contains(why), "{}", error.trouble().what);
            assert!(error.trouble().next[0].ends_with("rm /runs/.dormouse/limits.json"));
        }
    }
}

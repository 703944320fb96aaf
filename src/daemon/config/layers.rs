//! The layers of the configuration: defaults, a file, the environment, options; a later one wins.
//!
//! May not know what a key is for. Invariant: every key has one value with one origin; a word that
//! no key has is an error, never ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Key, Kind, Value, bytes};
use crate::ground::id::is_secret_name;
use crate::machines::limits::Limit;
use crate::ports::disk::{self, Disk};
use crate::services::executor::secrets::{self, Source};
use crate::services::executor::shell::allow::{Allow, Rule};

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in file.
    Default,
    /// A line of a file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    Option(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Option(name) => f.write_str(name),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Name another file, or mend its permissions.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: disk::Error,
    },
    /// Mend the text.
    #[error("{origin} is not TOML: {why}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What is wrong.
        why: String,
    },
    /// Mend the name.
    #[error("{origin}: there is no key {name}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The name.
        name: String,
        /// The one that was probably meant.
        near: Option<&'static str>,
    },
    /// Mend the value.
    #[error("{origin}: {name} = {value} is not allowed; it is {allowed}")]
    Value {
        /// Where.
        origin: Origin,
        /// The key.
        name: String,
        /// What it was to be.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Mend one of two values, which do not go together.
    #[error("{wrong} does not go with {other}; it is {allowed}")]
    Together {
        /// One key, its value and where it comes from.
        wrong: String,
        /// The other.
        other: String,
        /// What the first may be beside the second.
        allowed: String,
    },
}

/// The value of every key, and where it comes from.
#[derive(Debug, Clone)]
pub struct Settings(BTreeMap<&'static str, (Value, Origin)>);

impl Settings {
    /// What the compiled-in file says.
    pub(super) fn defaults(text: &str) -> Self {
        let mut settings = Self(BTreeMap::new());
        let read = settings.take_text(text, |_| Origin::Default);
        debug_assert!(read.is_ok(), "{read:?}");
        settings
    }

    /// Takes a file over.
    pub(super) fn take_file(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), Error> {
        let bytes = disk
            .read_user_file(path, FILE_BYTES_MAX)
            .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let origin = |line| Origin::File(path.to_owned(), line);
        let text = String::from_utf8(bytes)
            .map_err(|e| Error::Syntax { origin: origin(1), why: e.to_string() })?;
        self.take_text(&text, origin)
    }

    /// Takes what the environment has over.
    pub(super) fn take_variables(
        &mut self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Error> {
        // The root's variable is the option's: there it may be relative.
        for key in KEYS.iter().filter(|key| key.name != "runs_root") {
            let name = key.variable();
            if let Some(text) = variable(&name) {
                self.take(key, &text, Origin::Variable(name))?;
            }
        }
        Ok(())
    }

    /// Takes one value over, as a text.
    pub(super) fn take(&mut self, key: &Key, text: &str, origin: Origin) -> Result<(), Error> {
        let value = key.kind.read(text).ok_or_else(|| wrong(key, &format!("{text:?}"), &origin))?;
        self.0.insert(key.name, (value, origin));
        Ok(())
    }

    fn take_text(&mut self, text: &str, origin: impl Fn(usize) -> Origin) -> Result<(), Error> {
        let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        let table = DeTable::parse(text).map_err(|e| Error::Syntax {
            origin: origin(e.span().map_or(1, |span| line(span.start))),
            why: e.message().replace('\n', "; "),
        })?;
        let at = |at: usize| origin(line(at));
        self.take_section("", table.get_ref(), &at)
    }

    fn take_section(
        &mut self,
        above: &str,
        section: &DeTable<'_>,
        at: &dyn Fn(usize) -> Origin,
    ) -> Result<(), Error> {
        for (name, value) in section {
            let place = at(name.span().start);
            let name = match above {
                "" => name.get_ref().to_string(),
                above => format!("{above}.{}", name.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(section) if Key::named(&name).is_none() => {
                    self.take_section(&name, section, at)?;
                    known_section(&name, &place)?;
                }
                value => self.take_value(&name, value, place)?,
            }
        }
        Ok(())
    }

    fn take_value(&mut self, name: &str, value: &DeValue<'_>, at: Origin) -> Result<(), Error> {
        let Some(key) = Key::named(name) else {
            let near = Key::near(name);
            return Err(Error::UnknownKey { origin: at, name: name.to_owned(), near });
        };
        let read = of_toml(&key.kind, value).ok_or_else(|| wrong(key, &shown(value), &at))?;
        self.0.insert(key.name, (read, at));
        Ok(())
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> &Value {
        self.0.get(name).map_or_else(|| unreachable!("{name} has a default"), |(value, _)| value)
    }

    /// Whether somebody gave a key its value.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    /// A key for a message: its name, its value and where that comes from.
    pub(super) fn named(&self, name: &str) -> String {
        let row = self.rows().into_iter().find(|row| row.0 == name);
        row.map_or_else(String::new, |(name, value, at)| format!("{name} = {value} ({at})"))
    }

    /// Every key as (name, value as one would write it, origin), in the order of the default file.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String, &Origin)> {
        let row = |key: &'static Key| {
            self.0.get(key.name).map(|(value, at)| (key.name, key.kind.print(value), at))
        };
        KEYS.iter().filter_map(row).collect()
    }
}

/// An empty section of a wrong name is a mistake as well.
fn known_section(name: &str, origin: &Origin) -> Result<(), Error> {
    let begins = |key: &Key| key.name.strip_prefix(name).is_some_and(|r| r.starts_with('.'));
    if KEYS.iter().any(begins) {
        return Ok(());
    }
    Err(Error::UnknownKey { origin: origin.clone(), name: name.to_owned(), near: None })
}

fn wrong(key: &Key, value: &str, origin: &Origin) -> Error {
    Error::Value {
        origin: origin.clone(),
        name: key.name.to_owned(),
        value: value.to_owned(),
        allowed: key.kind.allowed(),
    }
}

fn of_toml(kind: &Kind, value: &DeValue<'_>) -> Option<Value> {
    match (kind, value) {
        (Kind::Bytes(..) | Kind::Count(..), DeValue::Integer(n)) if n.radix() == 10 => {
            kind.read(n.as_str())
        }
        (Kind::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on)),
        (Kind::Words | Kind::Some(_) | Kind::Paths | Kind::Origins, value) => {
            kind.of_words(texts(value)?)
        }
        (Kind::Programs, DeValue::String(text)) if text == "any" => kind.read(text),
        (Kind::Programs, DeValue::Array(items)) => {
            let rules = items.iter().map(|item| rule(item.get_ref())).collect::<Option<_>>()?;
            Some(Value::Programs(Allow::Only(rules)))
        }
        (Kind::Servers, DeValue::Table(table)) => super::servers::read(table).map(Value::Servers),
        (Kind::Rlimits, DeValue::Table(table)) => numbers(kind, table),
        (Kind::Limits(_), DeValue::Table(table)) => {
            let one = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                Some((name.get_ref().to_string(), limit(value.get_ref().as_table()?)?))
            };
            kind.of_limits(table.iter().map(one).collect::<Option<_>>()?)
        }
        (Kind::Secrets, DeValue::Table(table)) => {
            let one = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                let name = Some(name.get_ref().to_string()).filter(|name| is_secret_name(name))?;
                let source = source(&name, value.get_ref().as_table()?)?;
                Some((name, source))
            };
            table.iter().map(one).collect::<Option<_>>().map(Value::Secrets)
        }
        (
            Kind::Count(..)
            | Kind::Switch
            | Kind::Programs
            | Kind::Rlimits
            | Kind::Limits(_)
            | Kind::Servers,
            _,
        ) => None,
        (kind, DeValue::String(text)) => kind.read(text),
        _ => None,
    }
}

pub(super) fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let items = value.as_array()?.iter();
    items.map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
}

/// `"git"`, or `{ program = "git", args = ["log", "*"] }`.
fn rule(value: &DeValue<'_>) -> Option<Rule> {
    let table = match value {
        DeValue::String(program) => {
            return Some(Rule { program: program.to_string(), args: None });
        }
        value => value.as_table()?,
    };
    if table.keys().any(|name| !matches!(name.get_ref().as_ref(), "program" | "args")) {
        return None;
    }
    let program = table.get("program")?.get_ref().as_str()?.to_owned();
    let args = match table.get("args") {
        Some(args) => Some(texts(args.get_ref())?),
        None => None,
    };
    Some(Rule { program, args })
}

/// `{ from = "file", path = "/etc/key", hosts = ["api.example"] }`.
fn source(name: &str, table: &DeTable<'_>) -> Option<Source> {
    let text = |name: &str| table.get(name).and_then(|value| value.get_ref().as_str());
    let list = |name: &str| table.get(name).map_or(Some(Vec::new()), |v| texts(v.get_ref()));
    let (from, its) = match text("from")? {
        "env" => {
            (secrets::Origin::Variable(text("variable").unwrap_or(name).to_owned()), "variable")
        }
        "file" => {
            let path = text("path").filter(|path| path.starts_with('/'))?;
            (secrets::Origin::File(PathBuf::from(path)), "path")
        }
        "command" => {
            let argv = list("command").filter(|argv| !argv.is_empty())?;
            (secrets::Origin::Command(argv), "command")
        }
        _ => return None,
    };
    let known = ["from", "hosts", "programs", its];
    let all_known = table.keys().all(|name| known.contains(&name.get_ref().as_ref()));
    all_known.then_some(Source { from, hosts: list("hosts")?, programs: list("programs")? })
}

/// `{ concurrency = 2, rate = "10/s" }`.
fn limit(table: &DeTable<'_>) -> Option<Limit> {
    let mut limit = Limit::default();
    for (name, value) in table {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("concurrency", value) => limit.concurrency = Some(whole(value)?),
            ("rate", DeValue::String(text)) => limit.rate = Some(text.parse().ok()?),
            ("burst", value) => limit.burst = Some(whole(value)?),
            ("hold_uncertain", DeValue::Boolean(holds)) => limit.hold_uncertain = Some(*holds),
            _ => return None,
        }
    }
    Some(limit)
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(n) if n.radix() == 10 => n.as_str().replace('_', "").parse().ok(),
        _ => None,
    }
}

fn numbers(kind: &Kind, table: &DeTable<'_>) -> Option<Value> {
    let pair = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        Some((name.get_ref().to_string(), amount(value.get_ref())?))
    };
    kind.of_numbers(table.iter().map(pair).collect::<Option<_>>()?)
}

/// `1024`, `"1GiB"`.
fn amount(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(n) if n.radix() == 10 => bytes(n.as_str()),
        value => bytes(value.as_str()?),
    }
}

/// A value of a file, for the message about it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(n) => n.as_str().to_owned(),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        other => format!("({})", other.type_str()),
    }
}

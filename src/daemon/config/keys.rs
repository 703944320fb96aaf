//! The keys of the configuration: name, kind and bounds, once.
//!
//! May not know files or where a value came from. Invariant: a value that was read lies within the
//! bounds of its key.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::ground::limits;
use crate::machines::limits::{Bucket, Limit, Scope};
use crate::machines::replay::state::End;
use crate::services::executor::guard;
use crate::services::executor::mcp::Section;
use crate::services::executor::secrets::Source;
use crate::services::executor::shell::allow::{Allow, Rule};
use crate::shells::runner::RLIMITS;

/// A key with what it may hold.
#[derive(Debug)]
pub struct Key {
    /// Its name, with the section before the dot.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
}

/// What a key may hold.
#[derive(Debug)]
pub enum Kind {
    /// A number of bytes.
    Bytes(u64, u64),
    /// A number.
    Count(u64, u64),
    /// A time span, in milliseconds.
    Millis(u64, u64),
    /// True or false.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text, also none.
    Text,
    /// A path that does not depend on where a command is given; none if empty.
    Path,
    /// A list of texts.
    Words,
    /// A list of some of these words.
    Some(&'static [&'static str]),
    /// A list of paths.
    Paths,
    /// An address of this machine itself; none if empty.
    Address,
    /// Programs that may be executed.
    Programs,
    /// Numbers by name: limits of the system.
    Rlimits,
    /// Limits of effects, by kind or key.
    Limits(Scope),
    /// Origins of URLs.
    Origins,
    /// Secrets by name.
    Secrets,
    /// Servers of tools by name.
    Servers,
}

/// A value, as its kind has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a size, a number or a time span.
    Number(u64),
    /// True or false.
    Switch(bool),
    /// A text, a word or a path.
    Text(String),
    /// A list.
    Words(Vec<String>),
    /// Programs.
    Programs(Allow),
    /// Numbers by name.
    Numbers(BTreeMap<String, u64>),
    /// Limits by name.
    Limits(BTreeMap<String, Limit>),
    /// Secrets by name.
    Secrets(BTreeMap<String, Source>),
    /// Servers by name.
    Servers(BTreeMap<String, Section>),
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A hundred years: longer is never.
const RETENTION_MAX: u64 = 100 * 365 * 24 * HOUR;

const UNITS: &[(&str, u64)] = &[("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// All keys, in the order of the default file.
pub const KEYS: &[Key] = &[
    key("runs_root", Kind::Path),
    key("drain_timeout", Kind::Millis(0, HOUR)),
    key("http.listen", Kind::Address),
    key("http.allowed_hosts", Kind::Words),
    key("http.allowed_origins", Kind::Words),
    key("http.public_url", Kind::Text),
    key("http.tokens_file", Kind::Path),
    key("http.body_bytes_max", Kind::Bytes(64 * KIB, limits::HTTP_BODY_BYTES_MAX as u64)),
    key("log.segment_bytes", Kind::Bytes(limits::LOG_SEGMENT_BYTES_MIN, limits::LOG_SEGMENT_BYTES)),
    key("log.batch_bytes_max", Kind::Bytes(64 * KIB, limits::LOG_BATCH_BYTES_MAX as u64)),
    key("log.batch_records_max", Kind::Count(1, limits::LOG_BATCH_RECORDS_MAX as u64)),
    key("log.queue_records_max", Kind::Count(1, limits::LOG_QUEUE_RECORDS_MAX as u64)),
    key("log.queue_bytes_max", Kind::Bytes(MIB, limits::LOG_QUEUE_BYTES_MAX as u64)),
    key("log.mark_after", Kind::Millis(1, limits::LOG_MARK_AFTER_MS)),
    key("log.unsettled_max", Kind::Bytes(MIB, 64 * GIB)),
    key("log.reserve_bytes", Kind::Bytes(64 * KIB, limits::LOG_RESERVE_BYTES)),
    key("log.idle_rotate", Kind::Millis(100, limits::LOG_IDLE_ROTATE_MS)),
    key("settle.idle", Kind::Millis(10, limits::SETTLE_IDLE_MS)),
    key("settle.max_age", Kind::Millis(10, limits::SETTLE_AGE_MAX_MS)),
    key("settle.threads", Kind::Count(1, 64)),
    key("disk.free_min", Kind::Bytes(MIB, 1024 * GIB)),
    key("hosts.children", Kind::Count(1, 256)),
    key("hosts.memory_bytes_max", Kind::Bytes(64 * MIB, 1024 * GIB)),
    key("hosts.heap_bytes_max", Kind::Bytes(8 * MIB, 64 * GIB)),
    key("hosts.turn_cpu_max", Kind::Millis(1, HOUR)),
    key("runs.loaded_max", Kind::Count(1, 1_000_000)),
    key("runs.loaded_bytes_max", Kind::Bytes(16 * MIB, 1024 * GIB)),
    key("ledger.key_ttl", Kind::Millis(HOUR, 10 * limits::LEDGER_KEY_KEEP_MS)),
    key("retention.older_than", Kind::Millis(0, RETENTION_MAX)),
    key("retention.status", Kind::Some(End::NAMES)),
    key("retention.keep", Kind::Count(0, 1_000_000)),
    key("retention.archive", Kind::Switch),
    key("retention.left_over", Kind::Millis(HOUR, RETENTION_MAX)),
    key("audit.rate", Kind::Count(1, 100_000)),
    key("telemetry.log_format", Kind::Word(&["text", "json"])),
    key("telemetry.log_filter", Kind::Text),
    key("telemetry.otlp_endpoint", Kind::Text),
    key("inbox.enabled", Kind::Switch),
    key("inbox.scan_every", Kind::Millis(100, HOUR)),
    key("executors.signatures", Kind::Path),
    key("executors.echo.kinds", Kind::Words),
    key("executors.shell.enabled", Kind::Switch),
    key("executors.shell.allow", Kind::Programs),
    key("executors.shell.allow_command_strings", Kind::Switch),
    key("executors.shell.path", Kind::Paths),
    key("executors.shell.env_pass", Kind::Words),
    key("executors.shell.env_allow", Kind::Words),
    key("executors.shell.cwd_roots", Kind::Paths),
    key("executors.shell.log_bytes_max", Kind::Bytes(KIB, 64 * limits::SHELL_LOG_BYTES_MAX)),
    key("executors.shell.kill_grace", Kind::Millis(0, HOUR)),
    key("executors.shell.rlimits", Kind::Rlimits),
    key("executors.http.enabled", Kind::Switch),
    key("executors.http.allow_origins", Kind::Origins),
    key("executors.http.ca_file", Kind::Path),
    key("executors.agents.file", Kind::Path),
    key("limits.kind", Kind::Limits(Scope::Kind)),
    key("limits.key", Kind::Limits(Scope::Key)),
    key("compat.aetheris.listen", Kind::Address),
    key("compat.aetheris.token", Kind::Word(&["required", "none"])),
    key("compat.aetheris.default_agent", Kind::Text),
    key("compat.aetheris.echo", Kind::Switch),
    key("secrets", Kind::Secrets),
    key("mcp.servers", Kind::Servers),
];

impl Key {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        match self.name {
            "executors.agents.file" => "DORMOUSE_AGENTS".to_owned(),
            name => format!("DORMOUSE_{}", name.replace('.', "_").to_uppercase()),
        }
    }

    /// The key of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The name that was probably meant by one that no key has.
    #[must_use]
    pub fn near(name: &str) -> Option<&'static str> {
        let last = |name: &str| name.rsplit('.').next().unwrap_or("").to_owned();
        let far = |key: &Self| {
            // The right key in the wrong section is near as well.
            let whole = strsim::osa_distance(key.name, name);
            whole.min(strsim::osa_distance(&last(key.name), &last(name)) + 1)
        };
        let nearest = KEYS.iter().map(|key| (far(key), key.name)).min()?;
        (nearest.0 <= 3).then_some(nearest.1)
    }
}

impl Kind {
    /// Reads a value; nothing if this kind does not have it.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<Value> {
        let within = |n: u64, min: u64, max: u64| (min..=max).contains(&n).then_some(n);
        match self {
            Self::Bytes(min, max) => within(bytes(text)?, *min, *max).map(Value::Number),
            Self::Count(min, max) => {
                within(text.replace('_', "").parse().ok()?, *min, *max).map(Value::Number)
            }
            Self::Millis(min, max) => {
                let span = humantime::parse_duration(text).ok()?.as_millis();
                within(u64::try_from(span).ok()?, *min, *max).map(Value::Number)
            }
            Self::Switch => text.parse().ok().map(Value::Switch),
            Self::Word(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
            Self::Text => Some(Value::Text(text.to_owned())),
            Self::Path => {
                let fixed = text.is_empty() || text.starts_with('/') || text.starts_with("~/");
                fixed.then(|| Value::Text(text.to_owned()))
            }
            Self::Address => {
                let local = text.parse::<SocketAddr>().is_ok_and(|a| a.ip().is_loopback());
                (text.is_empty() || local).then(|| Value::Text(text.to_owned()))
            }
            Self::Words | Self::Some(_) | Self::Paths | Self::Origins => {
                self.of_words(words(text).map(str::to_owned).collect())
            }
            // They have parts.
            Self::Secrets => None,
            Self::Programs if text == "any" => Some(Value::Programs(Allow::Any)),
            Self::Programs => {
                let rule = |program: &str| Rule { program: program.to_owned(), args: None };
                Some(Value::Programs(Allow::Only(words(text).map(rule).collect())))
            }
            // They are too much for one text, but none of them can be said.
            Self::Servers => text.is_empty().then(|| Value::Servers(BTreeMap::new())),
            Self::Rlimits => self.of_numbers(pairs(text)?),
            // What people say of most: how many at a time.
            Self::Limits(_) => {
                let of = |n| Limit { concurrency: Some(n), ..Limit::default() };
                self.of_limits(pairs(text)?.into_iter().map(|(name, n)| (name, of(n))).collect())
            }
        }
    }

    /// A list of texts, if this kind has it.
    #[must_use]
    pub fn of_words(&self, words: Vec<String>) -> Option<Value> {
        let fits = match self {
            Self::Words => true,
            Self::Some(known) => words.iter().all(|word| known.contains(&word.as_str())),
            Self::Paths => words.iter().all(|path| path.starts_with('/')),
            Self::Origins => words.iter().all(|origin| guard::read(origin).is_ok()),
            _ => false,
        };
        fits.then_some(Value::Words(words))
    }

    /// Numbers by name, if this kind has them.
    #[must_use]
    pub fn of_numbers(&self, numbers: BTreeMap<String, u64>) -> Option<Value> {
        let fits = match self {
            Self::Rlimits => numbers.keys().all(|name| RLIMITS.contains(&name.as_str())),
            _ => false,
        };
        fits.then_some(Value::Numbers(numbers))
    }

    /// Limits by name, if this kind has them.
    #[must_use]
    pub fn of_limits(&self, all: BTreeMap<String, Limit>) -> Option<Value> {
        let Self::Limits(scope) = self else { return None };
        let fits = |(name, limit): (&String, &Limit)| {
            Bucket::limited(*scope, name).is_ok() && limit.check().is_ok()
        };
        let all_fit = all.len() <= limits::LIMITS_MAX && all.iter().all(fits);
        all_fit.then_some(Value::Limits(all))
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Bytes(min, max) => {
                format!("a size such as \"1MiB\", from {} to {}", size(*min), size(*max))
            }
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Millis(min, max) => {
                format!("a time span such as \"30s\", from {} to {}", span(*min), span(*max))
            }
            Self::Switch => "true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Text => "a text".to_owned(),
            Self::Path => "a path that begins with / or ~/".to_owned(),
            Self::Words => "a list of texts".to_owned(),
            Self::Some(words) => format!("a list of some of {}", words.join(", ")),
            Self::Paths => "a list of paths that begin with /".to_owned(),
            Self::Origins => "a list of origins such as \"http://127.0.0.1:9000\"".to_owned(),
            Self::Secrets => {
                "{ NAME = { from = \"env\", \"file\" or \"command\", variable, path or \
                              command, hosts = [], programs = [] } }"
                    .to_owned()
            }
            Self::Programs => {
                "\"any\", or a list such as [{ program = \"git\", args = [\"log\", \"*\"] }]"
                    .to_owned()
            }
            Self::Rlimits => format!("numbers by name: {}", RLIMITS.join(", ")),
            Self::Limits(scope) => {
                let most = limits::LIMITS_MAX;
                let (name, all) = match scope {
                    Scope::Kind => ("KIND", "kinds"),
                    Scope::Key => ("\"KEY\" or \"BEGIN:*\"", "keys"),
                };
                format!(
                    "{{ {name} = {{ concurrency = N, rate = \"10/s\", \"100/min\" or \"5/h\", \
                     burst = N, hold_uncertain = true or false }} }} for up to {most} {all}"
                )
            }
            Self::Servers => {
                "{ NAME = { command = \"…\", args = […], env = {…} } } or { NAME = { url = \"…\", \
                 headers = {…} } }, with start_timeout, allow_tools, trust_hints"
                    .to_owned()
            }
            Self::Address => {
                "an address of this machine itself, such as \"127.0.0.1:8080\"".to_owned()
            }
        }
    }

    /// A value as one would write it into a file.
    #[must_use]
    pub fn print(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Bytes(..), Value::Number(n)) => format!("{:?}", size(*n)),
            (Self::Millis(..), Value::Number(n)) => format!("{:?}", span(*n)),
            (_, Value::Number(n)) => n.to_string(),
            (_, Value::Switch(on)) => on.to_string(),
            (_, Value::Text(text)) => format!("{text:?}"),
            (_, Value::Words(words)) => format!("{words:?}"),
            (_, Value::Programs(allow)) => allow.to_string(),
            (_, Value::Secrets(secrets)) => {
                table(secrets.iter().map(|(name, source)| format!("{name} = {source}")))
            }
            (_, Value::Servers(servers)) => super::servers::print(servers),
            (_, Value::Limits(limits)) => table(limits.iter().map(limit)),
            (_, Value::Numbers(numbers)) => {
                table(numbers.iter().map(|(name, n)| format!("{name} = {n}")))
            }
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// `shell=3, nofile=64`.
fn pairs(text: &str) -> Option<BTreeMap<String, u64>> {
    let pair = |word: &str| {
        let (name, n) = word.split_once('=')?;
        Some((name.trim().to_owned(), bytes(n.trim())?))
    };
    words(text).map(pair).collect()
}

/// A limit as one would write it, with its name.
fn limit((name, limit): (&String, &Limit)) -> String {
    let members = [
        limit.concurrency.map(|n| format!("concurrency = {n}")),
        limit.rate.map(|rate| format!("rate = \"{rate}\"")),
        limit.burst.map(|n| format!("burst = {n}")),
        limit.hold_uncertain.map(|holds| format!("hold_uncertain = {holds}")),
    ];
    format!("{name:?} = {}", table(members.into_iter().flatten()))
}

fn table(members: impl Iterator<Item = String>) -> String {
    let members: Vec<String> = members.collect();
    if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
}

/// `16MiB`, `1024`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(name));
    let (number, unit) = unit.map_or((text, 1), |(name, n)| (text.trim_end_matches(name), *n));
    number.trim().replace('_', "").parse::<u64>().ok()?.checked_mul(unit)
}

/// A size in the largest unit that has it whole.
pub(super) fn size(n: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| n >= *unit && n.is_multiple_of(*unit));
    whole.map_or_else(|| n.to_string(), |(name, unit)| format!("{}{name}", n / unit))
}

fn span(millis: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_printed() {
        let bytes = Kind::Bytes(1, 64 * MIB);
        for (text, n) in [("16MiB", 16 * MIB), ("1024", KIB), ("4 KiB", 4 * KIB), ("5B", 5)] {
            assert_eq!(bytes.read(text), Some(Value::Number(n)), "{text}");
            assert_eq!(
                bytes.read(bytes.print(&Value::Number(n)).trim_matches('"')),
                bytes.read(text)
            );
        }
        for text in ["", "16MB", "-1", "1.5MiB", "MiB", "99999999999999999999", "20000GiB", "0"] {
            assert_eq!(bytes.read(text), None, "{text}");
        }
        let span = Kind::Millis(0, HOUR);
        assert_eq!(span.read("1m 30s"), Some(Value::Number(90_000)));
        assert_eq!(span.print(&Value::Number(90_000)), "\"1m 30s\"");
        assert_eq!(span.read("2h"), None);
        assert_eq!(Kind::Path.read("runs"), None);
        for (text, fits) in [
            ("127.0.0.1:0", true),
            ("[::1]:80", true),
            ("", true),
            ("0.0.0.0:80", false),
            ("localhost:80", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(Kind::Address.read(text).is_some(), fits, "{text}");
        }
    }

    #[test]
    fn a_name_that_is_almost_right_is_recognised() {
        assert_eq!(Key::near("log.segment_byte"), Some("log.segment_bytes"));
        assert_eq!(Key::near("settle.idel"), Some("settle.idle"));
        assert_eq!(Key::near("log.free_min"), Some("disk.free_min"));
        assert_eq!(Key::near("nothing.of.ours"), None);
        for key in KEYS {
            assert_eq!(Key::near(key.name), Some(key.name));
        }
    }
}

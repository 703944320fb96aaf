//! The configuration: every key with its value, read once, before anything is opened.
//!
//! May not know who uses a value. Invariant: a [`Config`] holds values within the bounds of their
//! keys that go together; whatever is wrong is an error that names where, what, and what is
//! allowed.

mod keys;
mod layers;
mod relations;
mod servers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::machines::limits::{Bucket, Limit, Scope};
use crate::machines::replay::state::End;
use crate::ports::disk::Disk;
use crate::services::executor::mcp::Section;
use crate::services::executor::secrets::Source;
use crate::services::executor::shell::Rules;
use crate::services::executor::shell::allow::Allow;

pub use keys::{KEYS, Key, Value};
pub use layers::{Error, Origin, Settings};

/// The default file: every key with its default and what it is for.
pub const DEFAULT: &str = include_str!("../default.toml");

/// Everything a daemon can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where runs are kept, if that is configured.
    pub runs_root: Option<PathBuf>,
    /// How long stopping may take.
    pub drain_timeout_ms: u64,
    /// The HTTP door.
    pub http: Http,
    /// The commit log.
    pub log: Log,
    /// Settling.
    pub settle: Settle,
    /// Free space below which new work is refused.
    pub disk_free_bytes_min: u64,
    /// Process hosts.
    pub hosts: Hosts,
    /// Runs kept in memory.
    pub runs: Loaded,
    /// How long an explicit idempotency key is known after the end of its effect.
    pub ledger_key_ttl_ms: u64,
    /// What a collection lets go.
    pub retention: Retention,
    /// Runs a second that are audited.
    pub audit_rate: u64,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The inbox.
    pub inbox: Inbox,
    /// Workers in the daemon.
    pub executors: Executors,
    /// The surface of another runtime.
    pub compat: Compat,
    /// How many effects of a kind or under a key may be at work, and start.
    pub limits: BTreeMap<Bucket, Limit>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Source>,
    /// Servers of tools.
    pub mcp_servers: BTreeMap<String, Section>,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// A TCP address besides the Unix socket.
    pub listen: Option<SocketAddr>,
    /// Names that requests over TCP may use for this machine.
    pub allowed_hosts: Vec<String>,
    /// Web pages whose scripts may ask.
    pub allowed_origins: Vec<String>,
    /// How this daemon is reached from elsewhere, if not at its address.
    pub public_url: Option<String>,
    /// Where tokens are kept, if not in the root.
    pub tokens_file: Option<PathBuf>,
    /// Largest request.
    pub body_bytes_max: usize,
}

/// `[compat.aetheris]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compat {
    /// One more TCP address.
    pub listen: Option<SocketAddr>,
    /// Messages need no token there.
    pub is_open: bool,
    /// Who gets the messages for `default`.
    pub default_agent: Option<String>,
    /// Failing both, `default` is the echo agent.
    pub echo: bool,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Most bytes of a batch.
    pub batch_bytes_max: u64,
    /// Most records of a batch.
    pub batch_records_max: u64,
    /// Most records that wait.
    pub queue_records_max: u64,
    /// Most bytes that wait.
    pub queue_bytes_max: u64,
    /// Quiet time before a mark.
    pub mark_after_ms: u64,
    /// Most bytes that are not settled.
    pub unsettled_bytes_max: u64,
    /// Kept for outcomes.
    pub reserve_bytes: u64,
    /// Quiet time before the log is emptied.
    pub idle_rotate_ms: u64,
}

/// `[settle]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// Quiet time of a run before it is settled.
    pub idle_ms: u64,
    /// Longest time unsettled.
    pub max_age_ms: u64,
    /// Journals synced at a time.
    pub threads: usize,
}

/// `[hosts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Child processes.
    pub children: usize,
    /// Memory of all warm instances.
    pub memory_bytes_max: u64,
    /// Memory of one instance.
    pub heap_bytes_max: u64,
    /// CPU time of one turn.
    pub turn_cpu_max_ms: u64,
}

/// `[runs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Runs in memory.
    pub loaded_max: usize,
    /// What they may take there.
    pub loaded_bytes_max: u64,
}

/// `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long nothing may have been written to a run.
    pub older_than_ms: u64,
    /// How it may have ended.
    pub ends: Vec<End>,
    /// Ended runs of each process that stay.
    pub keep: usize,
    /// Runs are archived, not deleted.
    pub archive: bool,
    /// Age at which an upload goes that nothing names.
    pub left_over_ms: u64,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Log lines are JSON.
    pub log_json: bool,
    /// Which log lines.
    pub log_filter: String,
    /// Where traces go, if anywhere.
    pub otlp_endpoint: Option<String>,
}

/// `[inbox]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// Files there are taken in.
    pub enabled: bool,
    /// How often it is looked through.
    pub scan_every_ms: u64,
}

/// `[executors]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executors {
    /// The file that says what kinds of work take and bring, if there is one.
    pub signatures: Option<PathBuf>,
    /// Kinds that are answered with their arguments.
    pub echo_kinds: Vec<String>,
    /// Commands, if they are executed at all.
    pub shell: Option<Rules>,
    /// Requests, if they are sent at all.
    pub http: Option<Requests>,
    /// The file of agents, if it is named.
    pub agents_file: Option<PathBuf>,
}

/// `[executors.http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// Where requests may go although the address is not a public one.
    pub allow_origins: Vec<String>,
    /// More certificate authorities.
    pub ca_file: Option<PathBuf>,
}

/// What a command was given.
pub struct Given<'a> {
    /// The file that was named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Options: key, value, name of the option.
    pub options: Vec<(&'static str, String, &'static str)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self::defaults(DEFAULT)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::of(&Settings::default(), None)
    }
}

impl Config {
    /// Reads the file that counts, the environment and the options.
    pub fn load(disk: &dyn Disk, given: &Given<'_>) -> Result<(Self, Settings), Error> {
        let set = |name: &str| (given.variable)(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let mut settings = Settings::default();
        if let Some(named) = &given.file {
            settings.take_file(disk, named)?;
        } else {
            let above = set("XDG_CONFIG_HOME").map(PathBuf::from);
            let above = above.or_else(|| home.as_ref().map(|home| home.join(".config")));
            let found = above.map(|above| above.join("dormouse/config.toml"));
            match found.map(|path| settings.take_file(disk, &path)) {
                Some(Err(Error::Unreadable { source, .. })) if source.is_not_found() => {}
                Some(other) => other?,
                None => {}
            }
        }
        settings.take_variables(given.variable)?;
        for (name, text, option) in &given.options {
            if let Some(key) = Key::named(name) {
                settings.take(key, text, Origin::Option(option))?;
            }
        }
        relations::check(&settings)?;
        Ok((Self::of(&settings, home.as_ref()), settings))
    }

    fn of(settings: &Settings, home: Option<&PathBuf>) -> Self {
        let bytes = |name: &str| number(settings, name);
        let count = |name: &str| usize::try_from(number(settings, name)).unwrap_or(usize::MAX);
        let words = |name: &str| match settings.get(name) {
            Value::Words(words) => words.clone(),
            _ => Vec::new(),
        };
        let text = |name: &str| match settings.get(name) {
            Value::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => None,
        };
        let switch = |name: &str| *settings.get(name) == Value::Switch(true);
        let path = |name: &str| text(name).map(|text| at_home(&text, home));
        Self {
            runs_root: path("runs_root"),
            drain_timeout_ms: bytes("drain_timeout"),
            http: Http {
                listen: text("http.listen").and_then(|address| address.parse().ok()),
                allowed_hosts: words("http.allowed_hosts"),
                allowed_origins: words("http.allowed_origins"),
                public_url: text("http.public_url"),
                tokens_file: path("http.tokens_file"),
                body_bytes_max: count("http.body_bytes_max"),
            },
            log: log(settings),
            settle: settle(settings),
            disk_free_bytes_min: bytes("disk.free_min"),
            hosts: Hosts {
                children: count("hosts.children"),
                memory_bytes_max: bytes("hosts.memory_bytes_max"),
                heap_bytes_max: bytes("hosts.heap_bytes_max"),
                turn_cpu_max_ms: bytes("hosts.turn_cpu_max"),
            },
            runs: Loaded {
                loaded_max: count("runs.loaded_max"),
                loaded_bytes_max: bytes("runs.loaded_bytes_max"),
            },
            ledger_key_ttl_ms: bytes("ledger.key_ttl"),
            retention: Retention {
                older_than_ms: bytes("retention.older_than"),
                ends: words("retention.status").iter().filter_map(|w| End::named(w)).collect(),
                keep: count("retention.keep"),
                archive: switch("retention.archive"),
                left_over_ms: bytes("retention.left_over"),
            },
            audit_rate: bytes("audit.rate"),
            telemetry: telemetry(settings),
            inbox: Inbox {
                enabled: switch("inbox.enabled"),
                scan_every_ms: bytes("inbox.scan_every"),
            },
            executors: Executors {
                signatures: path("executors.signatures"),
                echo_kinds: words("executors.echo.kinds"),
                shell: shell(settings),
                http: switch("executors.http.enabled").then(|| Requests {
                    allow_origins: words("executors.http.allow_origins"),
                    ca_file: path("executors.http.ca_file"),
                }),
                agents_file: path("executors.agents.file"),
            },
            compat: compat(settings),
            limits: Scope::ALL.into_iter().flat_map(|scope| limits_of(settings, scope)).collect(),
            secrets: secrets(settings),
            mcp_servers: match settings.get("mcp.servers") {
                Value::Servers(servers) => servers.clone(),
                _ => BTreeMap::new(),
            },
        }
    }
}

fn secrets(settings: &Settings) -> BTreeMap<String, Source> {
    match settings.get("secrets") {
        Value::Secrets(secrets) => secrets.clone(),
        _ => BTreeMap::new(),
    }
}

fn telemetry(settings: &Settings) -> Telemetry {
    let text = |name: &str| match settings.get(&format!("telemetry.{name}")) {
        Value::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        _ => None,
    };
    Telemetry {
        log_json: text("log_format").is_some_and(|format| format == "json"),
        log_filter: text("log_filter").unwrap_or_default(),
        otlp_endpoint: text("otlp_endpoint"),
    }
}

fn compat(settings: &Settings) -> Compat {
    let of = |name: &str| settings.get(&format!("compat.aetheris.{name}"));
    let text = |name: &str| match of(name) {
        Value::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        _ => None,
    };
    Compat {
        listen: text("listen").and_then(|address| address.parse().ok()),
        is_open: text("token").as_deref() == Some("none"),
        default_agent: text("default_agent"),
        echo: *of("echo") == Value::Switch(true),
    }
}

fn shell(settings: &Settings) -> Option<Rules> {
    let of = |name: &str| settings.get(&format!("executors.shell.{name}"));
    let words = |name: &str| match of(name) {
        Value::Words(words) => words.clone(),
        _ => Vec::new(),
    };
    let paths = |name: &str| words(name).into_iter().map(PathBuf::from).collect();
    (*of("enabled") == Value::Switch(true)).then(|| Rules {
        allow: match of("allow") {
            Value::Programs(allow) => allow.clone(),
            _ => Allow::Only(Vec::new()),
        },
        allow_command_strings: *of("allow_command_strings") == Value::Switch(true),
        path: paths("path"),
        env_pass: words("env_pass"),
        env_allow: words("env_allow"),
        cwd_roots: paths("cwd_roots"),
        log_bytes_max: number(settings, "executors.shell.log_bytes_max"),
        kill_grace_ms: number(settings, "executors.shell.kill_grace"),
        rlimits: numbers(settings, "executors.shell.rlimits"),
    })
}

fn limits_of(settings: &Settings, scope: Scope) -> Vec<(Bucket, Limit)> {
    match settings.get(&format!("limits.{}", scope.name())) {
        Value::Limits(limits) => {
            let place = |name: &String| Bucket { scope, name: name.clone() };
            limits.iter().map(|(name, limit)| (place(name), *limit)).collect()
        }
        _ => Vec::new(),
    }
}

fn numbers(settings: &Settings, name: &str) -> BTreeMap<String, u64> {
    match settings.get(name) {
        Value::Numbers(numbers) => numbers.clone(),
        _ => BTreeMap::new(),
    }
}

fn settle(settings: &Settings) -> Settle {
    Settle {
        idle_ms: number(settings, "settle.idle"),
        max_age_ms: number(settings, "settle.max_age"),
        threads: usize::try_from(number(settings, "settle.threads")).unwrap_or(usize::MAX),
    }
}

fn log(settings: &Settings) -> Log {
    let of = |name: &str| number(settings, name);
    // The default of a batch is for large segments; what was given has been checked.
    let segment_bytes = of("log.segment_bytes");
    Log {
        segment_bytes,
        batch_bytes_max: of("log.batch_bytes_max").min(relations::batch_bytes_max(segment_bytes)),
        batch_records_max: of("log.batch_records_max"),
        queue_records_max: of("log.queue_records_max"),
        queue_bytes_max: of("log.queue_bytes_max"),
        mark_after_ms: of("log.mark_after"),
        unsettled_bytes_max: of("log.unsettled_max"),
        reserve_bytes: of("log.reserve_bytes"),
        idle_rotate_ms: of("log.idle_rotate"),
    }
}

fn number(settings: &Settings, name: &str) -> u64 {
    match settings.get(name) {
        Value::Number(n) => *n,
        other => unreachable!("{name} is no number but {other:?}"),
    }
}

/// `~/x` below the home directory; without one it stays as it is.
fn at_home(text: &str, home: Option<&PathBuf>) -> PathBuf {
    match (text.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::limits;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<(Config, Settings), Error> {
        let disk = MemoryDisk::new(1);
        if let Some(text) = file {
            disk.tamper(Path::new("/c.toml"), |bytes| *bytes = text.as_bytes().to_vec());
        }
        let variable = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        let file = file.map(|_| PathBuf::from("/c.toml"));
        Config::load(&disk, &Given { file, variable: &variable, options: Vec::new() })
    }

    #[test]
    fn the_default_file_has_every_key_and_the_limits() {
        let settings = Settings::default();
        let rows = settings.rows();
        assert_eq!(rows.len(), KEYS.len(), "every key stands in the file");
        let limits: &[(&str, &str, u64)] = &[
            ("drain_timeout", "DRAIN_TIMEOUT_MS", limits::DRAIN_TIMEOUT_MS),
            ("http.body_bytes_max", "HTTP_BODY_BYTES_MAX", limits::HTTP_BODY_BYTES_MAX as u64),
            ("log.segment_bytes", "LOG_SEGMENT_BYTES", limits::LOG_SEGMENT_BYTES),
            ("log.batch_bytes_max", "LOG_BATCH_BYTES_MAX", limits::LOG_BATCH_BYTES_MAX as u64),
            (
                "log.batch_records_max",
                "LOG_BATCH_RECORDS_MAX",
                limits::LOG_BATCH_RECORDS_MAX as u64,
            ),
            (
                "log.queue_records_max",
                "LOG_QUEUE_RECORDS_MAX",
                limits::LOG_QUEUE_RECORDS_MAX as u64,
            ),
            ("log.queue_bytes_max", "LOG_QUEUE_BYTES_MAX", limits::LOG_QUEUE_BYTES_MAX as u64),
            ("log.mark_after", "LOG_MARK_AFTER_MS", limits::LOG_MARK_AFTER_MS),
            ("log.unsettled_max", "LOG_UNSETTLED_BYTES_MAX", limits::LOG_UNSETTLED_BYTES_MAX),
            ("log.reserve_bytes", "LOG_RESERVE_BYTES", limits::LOG_RESERVE_BYTES),
            ("log.idle_rotate", "LOG_IDLE_ROTATE_MS", limits::LOG_IDLE_ROTATE_MS),
            ("settle.idle", "SETTLE_IDLE_MS", limits::SETTLE_IDLE_MS),
            ("settle.max_age", "SETTLE_AGE_MAX_MS", limits::SETTLE_AGE_MAX_MS),
            ("settle.threads", "SETTLE_THREADS", limits::SETTLE_THREADS as u64),
            ("disk.free_min", "DISK_FREE_BYTES_MIN", limits::DISK_FREE_BYTES_MIN),
            ("ledger.key_ttl", "LEDGER_KEY_KEEP_MS", limits::LEDGER_KEY_KEEP_MS),
            ("hosts.children", "HOST_CHILDREN", limits::HOST_CHILDREN),
            ("hosts.memory_bytes_max", "HOST_MEMORY_BYTES_MAX", limits::HOST_MEMORY_BYTES_MAX),
            ("hosts.heap_bytes_max", "HEAP_BYTES_MAX", limits::HEAP_BYTES_MAX),
            ("hosts.turn_cpu_max", "TURN_CPU_MAX_MS", limits::TURN_CPU_MAX_MS),
            ("runs.loaded_max", "RUNS_LOADED_MAX", limits::RUNS_LOADED_MAX),
            ("runs.loaded_bytes_max", "RUNS_LOADED_BYTES_MAX", limits::RUNS_LOADED_BYTES_MAX),
            ("audit.rate", "AUDIT_RATE", limits::AUDIT_RATE),
            ("inbox.scan_every", "INBOX_SCAN_EVERY_MS", limits::INBOX_SCAN_EVERY_MS),
            ("executors.shell.log_bytes_max", "SHELL_LOG_BYTES_MAX", limits::SHELL_LOG_BYTES_MAX),
            ("executors.shell.kill_grace", "SHELL_KILL_GRACE_MS", limits::SHELL_KILL_GRACE_MS),
        ];
        let page = include_str!("../../../docs/limits.md");
        for (key, constant, limit) in limits {
            assert_eq!(number(&settings, key), *limit, "{key}");
            let row = page.lines().find(|line| line.contains(&format!("`{constant}`")));
            assert!(row.is_some_and(|row| row.contains(&format!("`{key}`"))), "{key}: {row:?}");
        }
        // What stays is what somebody wants, and bounds nothing.
        let numbers = KEYS.iter().filter(|key| !key.name.starts_with("retention."));
        let numbers = numbers.filter(|key| matches!(settings.get(key.name), Value::Number(_)));
        assert_eq!(numbers.count(), limits.len(), "a number is a limit");
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let file = "drain_timeout = \"5s\"\n[settle]\nidle = \"1s\"\nthreads = 2\n";
        let (config, settings) = load(Some(file), &[("DORMOUSE_SETTLE_IDLE", "500ms")]).unwrap();
        assert_eq!((config.drain_timeout_ms, config.settle.threads), (5_000, 2));
        assert_eq!(config.settle.idle_ms, 500);
        assert_eq!(config.settle.max_age_ms, limits::SETTLE_AGE_MAX_MS);
        let origin = |name: &str| {
            let rows = settings.rows();
            rows.iter().find(|row| row.0 == name).unwrap().2.to_string()
        };
        assert_eq!(origin("drain_timeout"), "/c.toml:1");
        assert_eq!(origin("settle.threads"), "/c.toml:4");
        assert_eq!(origin("settle.idle"), "$DORMOUSE_SETTLE_IDLE");
        assert_eq!(origin("settle.max_age"), "default");
    }

    #[test]
    fn secrets_are_told_by_where_they_come_from() {
        let file = "[secrets.A]\nfrom = \"env\"\nhosts = [\"a.example\"]\n\
                    [secrets.B]\nfrom = \"command\"\ncommand = [\"pass\", \"show\"]\n\
                    [secrets.C]\nfrom = \"file\"\npath = \"/c\"\nprograms = [\"/bin/x\"]\n";
        let (config, settings) = load(Some(file), &[]).unwrap();
        let shown: Vec<String> = config.secrets.values().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                r#"{ from = "env", variable = "A", hosts = ["a.example"], programs = [] }"#,
                r#"{ from = "command", command = ["pass", …], hosts = [], programs = [] }"#,
                r#"{ from = "file", path = "/c", hosts = [], programs = ["/bin/x"] }"#,
            ]
        );
        let row = settings.rows().into_iter().find(|row| row.0 == "secrets").unwrap();
        assert!(row.1.starts_with("{ A = { from = "), "{}", row.1);
        let (config, _) = load(None, &[("DORMOUSE_AGENTS", "/a.yaml")]).unwrap();
        assert_eq!(config.executors.agents_file, Some(PathBuf::from("/a.yaml")));
        assert!(config.executors.http.is_some() && config.secrets.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (file, said) in [
            ("[log]\nsegment_byte = 1\n", "/c.toml:2: there is no key log.segment_byte"),
            ("nonsense = 1", "/c.toml:1: there is no key nonsense"),
            ("\n[nonsense]", "/c.toml:2: there is no key nonsense"),
            ("runs_root = \"runs\"", "runs_root = \"runs\" is not allowed; it is a path that"),
            ("[http]\nlisten = \"0.0.0.0:1\"", "http.listen = \"0.0.0.0:1\" is not allowed"),
            ("[http]\nallowed_hosts = [1]", "http.allowed_hosts = [1] is not allowed"),
            ("[log]\nsegment_bytes = \"1TiB\"", "from 256KiB to 16MiB"),
            ("[settle]\n\nthreads = \"two\"", "/c.toml:3: settle.threads = \"two\" is not allowed"),
            ("[settle]\nidle = 5", "settle.idle = 5 is not allowed; it is a time span"),
            ("[inbox]\nenabled = \"yes\"", "it is true or false"),
            ("[telemetry]\nlog_format = \"xml\"", "it is one of text, json"),
            ("[log\n", "/c.toml:1 is not TOML"),
            ("[executors.shel]", "there is no key executors.shel"),
            ("[executors.shell]\nallow = \"git\"", "it is \"any\", or a list such as"),
            ("[executors.shell]\nallow = [{ program = \"git\", arg = [] }]", "is not allowed"),
            ("[executors.shell]\npath = [\"bin\"]", "a list of paths that begin with /"),
            ("[executors.shell]\nrlimits = { files = 3 }", "numbers by name: as, core"),
            ("[limits.kind.shell]\nrate = 3", "for up to 64 kinds"),
            ("[limits.kind.shell]\nrate = \"3/day\"", "rate = \"10/s\", \"100/min\""),
            ("[limits.kind.shell]\nconcurency = 3", "limits.kind = (table) is not allowed"),
            ("[limits.kind.\"a*\"]\nconcurrency = 3", "it is { KIND = "),
            ("[limits.key.\"a:*:b\"]\nconcurrency = 3", "\"KEY\" or \"BEGIN:*\""),
            ("[limits.key.a]\nburst = 0", "for up to 64 keys"),
            ("[executors.http]\nallow_origins = [\"localhost\"]", "a list of origins"),
            ("[secrets.A]\nfrom = \"vault\"", "{ NAME = { from = "),
            ("[secrets.A]\nfrom = \"file\"\npath = \"x\"", "{ NAME = { from = "),
            ("[secrets.A]\nfrom = \"env\"\npath = \"/x\"", "{ NAME = { from = "),
            ("[secrets.\"a b\"]\nfrom = \"env\"", "{ NAME = { from = "),
            ("[mcp.servers.a]\ncommand = \"a\"\nurl = \"http://b\"", "/c.toml:1: mcp.servers"),
            ("[mcp.servers.a]\ncommand = \"a\"\nenvs = {}", "is not allowed"),
            ("[mcp.servers.a]\nallow_tools = []", "start_timeout, allow_tools"),
            ("[mcp.server.a]", "there is no key mcp.server"),
            ("log = 3", "there is no key log"),
        ] {
            let error = load(Some(file), &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{file:?}: {error}");
        }
        let variable = [("DORMOUSE_AUDIT_RATE", "0")];
        let error = load(None, &variable).unwrap_err().to_string();
        assert!(error.starts_with("$DORMOUSE_AUDIT_RATE: audit.rate = \"0\""), "{error}");
    }

    #[test]
    fn nested_sections_are_read_and_printed_as_they_can_be_read() {
        let file = "[executors.shell]\nenabled = true\nrlimits = { as = \"1GiB\", nofile = 64 }\n\
            allow = [{ program = \"git\", args = [\"log\", \"*\"] }, \"make\"]\n\
            [limits.kind.shell]\nconcurrency = 2\n[limits.kind.agent]\nconcurrency = 0\n\
            [limits.key.\"deploy:*\"]\nrate = \"5/h\"\nburst = 1\nhold_uncertain = false\n";
        let (config, settings) = load(Some(file), &[]).unwrap();
        let shell = config.executors.shell.clone().unwrap();
        assert_eq!((shell.rlimits["as"], shell.rlimits["nofile"]), (1 << 30, 64));
        let limit = |scope, name| config.limits[&Bucket::limited(scope, name).unwrap()];
        assert_eq!(limit(Scope::Kind, "shell").concurrency, Some(2));
        assert_eq!(limit(Scope::Kind, "agent").concurrency, Some(0));
        let deploy = limit(Scope::Key, "deploy:*");
        assert_eq!((deploy.burst, deploy.hold_uncertain), (Some(1), Some(false)));
        assert_eq!(deploy.rate.unwrap().to_string(), "5/h");
        let rows = settings.rows();
        let printed = rows.iter().map(|(name, value, _)| format!("{name} = {value}\n"));
        let again = load(Some(&printed.collect::<String>()), &[]).unwrap().0;
        assert_eq!(again, config);
        let variables =
            [("DORMOUSE_LIMITS_KIND", "shell=3"), ("DORMOUSE_EXECUTORS_SHELL_ALLOW", "any")];
        let (config, _) = load(Some(file), &variables).unwrap();
        assert_eq!(config.limits.len(), 2, "a variable stands for its whole section");
        let shell = Bucket::limited(Scope::Kind, "shell").unwrap();
        assert_eq!(config.limits[&shell].concurrency, Some(3));
        assert_eq!(config.executors.shell.unwrap().allow, Allow::Any);
    }

    #[test]
    fn servers_of_tools_are_read_and_printed_as_they_can_be_read() {
        let file = "[mcp.servers.files]\ncommand = \"/opt/files\"\nargs = [\"--ro\"]\n\
            env = { KEY = \"secret:KEY\" }\nallow_tools = [\"read\"]\ntrust_hints = true\n\
            [mcp.servers.\"a b\"]\nurl = \"http://127.0.0.1:1/mcp\"\nstart_timeout = \"3s\"\n";
        let (config, settings) = load(Some(file), &[]).unwrap();
        let files = &config.mcp_servers["files"];
        assert_eq!(files.start_timeout_ms, limits::MCP_START_MS);
        assert_eq!(files.allow_tools.as_deref(), Some(&["read".to_owned()][..]));
        assert!(files.trust_hints);
        assert_eq!(config.mcp_servers["a b"].start_timeout_ms, 3_000);
        let rows = settings.rows();
        let printed = rows.iter().map(|(name, value, _)| format!("{name} = {value}\n"));
        let again = load(Some(&printed.collect::<String>()), &[]).unwrap().0;
        assert_eq!(again, config);
    }

    #[test]
    fn sizes_that_do_not_go_together_are_both_named() {
        let segment = ("DORMOUSE_LOG_SEGMENT_BYTES", "1MiB");
        let reserve = ("DORMOUSE_LOG_RESERVE_BYTES", "512KiB");
        for (file, variables, said) in [
            (
                None,
                vec![segment],
                "log.reserve_bytes = \"1MiB\" (default) does not go with log.segment_bytes = \
                 \"1MiB\" ($DORMOUSE_LOG_SEGMENT_BYTES); it is less than 1MiB",
            ),
            (
                Some("[log]\nbatch_bytes_max = \"1MiB\""),
                vec![segment, reserve],
                "log.batch_bytes_max = \"1MiB\" (/c.toml:2) does not go with \
                 log.segment_bytes = \"1MiB\" ($DORMOUSE_LOG_SEGMENT_BYTES); \
                 it is at most 512KiB",
            ),
            (
                None,
                vec![("DORMOUSE_LOG_SEGMENT_BYTES", "2100KiB")],
                "log.segment_bytes = \"2100KiB\" ($DORMOUSE_LOG_SEGMENT_BYTES) does not go \
                 with the layout of segments; it is a multiple of 256KiB",
            ),
        ] {
            assert_eq!(load(file, &variables).unwrap_err().to_string(), said);
        }
        let (config, _) = load(None, &[segment, reserve]).unwrap();
        assert_eq!((config.log.reserve_bytes, config.log.batch_bytes_max), (1 << 19, 1 << 19));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let disk = MemoryDisk::new(1);
        let file = Some(PathBuf::from("/none.toml"));
        let given = Given { file, variable: &|_| None, options: Vec::new() };
        assert!(matches!(Config::load(&disk, &given), Err(Error::Unreadable { .. })));
        assert_eq!(load(None, &[]).unwrap().0, Config::default());
    }
}

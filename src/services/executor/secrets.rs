//! Secrets: where they come from, who may have them, and how they are held.
//!
//! May not know what a secret is for. Invariant: a secret is read for one use, at a place that its
//! section names, and nothing here shows it: not an error, not a log line, not a debug print.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::ground::limits::{SECRET_BYTES_MAX, SECRET_COMMAND_MS};
use crate::ports::disk::{Disk, Open};
use crate::ports::telemetry::Metrics;
use crate::shells::command;

/// A `[secrets.NAME]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it comes from.
    pub from: Origin,
    /// Hosts that it may be sent to; `*.` at the beginning stands for any name below.
    pub hosts: Vec<String>,
    /// Programs that it may be given to.
    pub programs: Vec<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Origin::Variable(name) => write!(f, "{{ from = \"env\", variable = {name:?}")?,
            Origin::File(path) => {
                write!(f, "{{ from = \"file\", path = {:?}", path.display().to_string())?;
            }
            // What it is given may be half of a secret.
            Origin::Command(argv) => {
                let program = argv.first().map(String::as_str).unwrap_or_default();
                write!(f, "{{ from = \"command\", command = [{program:?}, …]")?;
            }
        }
        write!(f, ", hosts = {:?}, programs = {:?} }}", self.hosts, self.programs)
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the daemon's environment.
    Variable(String),
    /// A file that only its owner may read.
    File(PathBuf),
    /// What a command prints.
    Command(Vec<String>),
}

/// Who is to have a secret.
#[derive(Debug, Clone, Copy)]
pub enum Use<'a> {
    /// A host, as its name stands in the URL.
    Host(&'a str),
    /// A program, by its real path.
    Program(&'a str),
}

/// A secret. Its memory is wiped when it goes.
#[derive(Clone)]
pub struct Secret {
    name: String,
    text: Zeroizing<String>,
}

impl Secret {
    /// This text under this name.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: Zeroizing::new(text.to_owned()) }
    }

    /// Its name, which may be shown.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text, for the wire.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "«secret:{}»", self.name)
    }
}

/// Why there is no secret: an operator mends its section, or what it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {name} {why}")]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// All secrets that are configured.
#[derive(Clone)]
pub struct Secrets {
    sources: Arc<BTreeMap<String, Source>>,
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
}

impl Secrets {
    /// Of these sections.
    #[must_use]
    pub fn new(
        sources: BTreeMap<String, Source>,
        disk: Arc<dyn Disk>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { sources: Arc::new(sources), disk, metrics }
    }

    /// Reads a secret for one use.
    pub async fn resolve(&self, name: &str, to: Use<'_>) -> Result<Secret, Missing> {
        let read = match self.permitted(name, to) {
            Ok(source) => self.read(name, source.from.clone()).await,
            Err(why) => Err(why),
        };
        self.count(name, read)
    }

    /// Reads a variable of the daemon's environment as a secret: its user named it himself.
    pub async fn variable(&self, name: &str) -> Result<Secret, Missing> {
        let read = self.read(name, Origin::Variable(name.to_owned())).await;
        self.count(name, read)
    }

    fn count(&self, name: &str, read: Result<Secret, String>) -> Result<Secret, Missing> {
        let metrics = &self.metrics;
        metrics.secret_resolutions.with([if read.is_ok() { "ok" } else { "missing" }]).one();
        read.map_err(|why| Missing { name: name.to_owned(), why })
    }

    fn permitted(&self, name: &str, to: Use<'_>) -> Result<&Source, String> {
        let Some(source) = self.sources.get(name) else {
            return Err(format!("is not configured; add a section [secrets.{name}]"));
        };
        let (allowed, key, who) = match to {
            Use::Host(host) => (source.hosts.iter().any(|h| host_fits(h, host)), "hosts", host),
            Use::Program(path) => (source.programs.iter().any(|p| p == path), "programs", path),
        };
        if allowed { Ok(source) } else { Err(format!("may not go to {who}: add it to its {key}")) }
    }

    async fn read(&self, name: &str, from: Origin) -> Result<Secret, String> {
        let (disk, name) = (Arc::clone(&self.disk), name.to_owned());
        // Files and commands may take their time.
        let read = tokio::task::spawn_blocking(move || {
            let bytes = match &from {
                Origin::Variable(variable) => of_variable(variable),
                Origin::File(path) => of_file(&*disk, path),
                Origin::Command(argv) => command::output(argv, SECRET_BYTES_MAX, SECRET_COMMAND_MS)
                    .map_err(|e| format!("cannot be had: {e}")),
            }?;
            let text = std::str::from_utf8(&bytes).map_err(|_| "is not text")?;
            // Files and commands end with a line feed that is not meant.
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::of(&name, text)) }
        });
        read.await.unwrap_or_else(|_| Err("could not be read".to_owned()))
    }
}

/// Whether a section's host is this one.
fn host_fits(allowed: &str, host: &str) -> bool {
    let (allowed, host) = (allowed.to_ascii_lowercase(), host.to_ascii_lowercase());
    match allowed.strip_prefix("*.") {
        Some(above) => {
            host.strip_suffix(above).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
        None => allowed == host,
    }
}

fn of_variable(name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or_else(|| format!("is unset: there is no ${name}"))?;
    Ok(Zeroizing::new(value.into_vec()))
}

fn of_file(disk: &dyn Disk, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let (Some(above), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(format!("has no file: {shown} names none"));
    };
    let failed = |e: crate::ports::disk::Error| format!("cannot be read: {e}");
    let dir = disk.open_dir(above).map_err(failed)?;
    let file = dir.open(name, Open::Read).map_err(failed)?;
    let stat = file.stat().map_err(failed)?;
    if stat.uid != disk.effective_uid() || stat.mode & 0o077 != 0 {
        return Err(format!("is not safe in {shown}: `chmod 600` it, and own it"));
    }
    let bytes = file.read_all(SECRET_BYTES_MAX as u64).map_err(failed)?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;

    fn secrets(disk: MemoryDisk, from: Origin) -> (Secrets, Arc<Metrics>) {
        let source = Source {
            from,
            hosts: vec!["api.example".to_owned(), "*.wide.example".to_owned()],
            programs: vec!["/usr/bin/tool".to_owned()],
        };
        let metrics = Arc::new(Metrics::default());
        let sources = [("KEY".to_owned(), source)].into();
        (Secrets::new(sources, Arc::new(disk), Arc::clone(&metrics)), metrics)
    }

    async fn text(from: Origin) -> Result<String, String> {
        let (secrets, _) = secrets(MemoryDisk::new(1), from);
        let found = secrets.resolve("KEY", Use::Host("api.example")).await;
        found.map(|secret| secret.text().to_owned()).map_err(|missing| missing.to_string())
    }

    #[tokio::test]
    async fn a_secret_goes_only_where_its_section_says() {
        let from = Origin::Command(vec!["echo".into(), "value".into()]);
        let (secrets, metrics) = secrets(MemoryDisk::new(1), from);
        for (to, fits) in [
            (Use::Host("api.example"), true),
            (Use::Host("API.example"), true),
            (Use::Host("x.wide.example"), true),
            (Use::Host("x.y.wide.example"), true),
            (Use::Host("wide.example"), false),
            (Use::Host("evilwide.example"), false),
            (Use::Host("api.example.evil"), false),
            (Use::Host("/usr/bin/tool"), false),
            (Use::Program("/usr/bin/tool"), true),
            (Use::Program("tool"), false),
        ] {
            let found = secrets.resolve("KEY", to).await;
            assert_eq!(found.is_ok(), fits, "{to:?}: {found:?}");
        }
        assert!(secrets.resolve("OTHER", Use::Host("api.example")).await.is_err());
        assert_eq!(metrics.secret_resolutions.with(["ok"]).value(), 5);
        assert_eq!(metrics.secret_resolutions.with(["missing"]).value(), 6);
    }

    #[tokio::test]
    async fn every_source_is_read() {
        let command = |argv: &[&str]| Origin::Command(argv.iter().map(|a| (*a).into()).collect());
        assert_eq!(text(command(&["printf", "a\\r\\n"])).await.unwrap(), "a");
        for (from, why) in [
            (command(&["printf", ""]), "is empty"),
            (command(&["printf", "\\377"]), "is not text"),
            (command(&["false"]), "cannot be had"),
            (command(&["/no/such/program"]), "cannot be had"),
            (Origin::Variable("DORMOUSE_NO_SUCH_VARIABLE".into()), "is unset"),
            (Origin::File("/none/at/all".into()), "cannot be read"),
        ] {
            let said = text(from.clone()).await.unwrap_err();
            assert!(said.starts_with("the secret KEY") && said.contains(why), "{from:?}: {said}");
        }
        let path = std::env::var("PATH").unwrap();
        assert_eq!(text(Origin::Variable("PATH".into())).await.unwrap(), path);
    }

    #[test]
    fn nothing_shows_a_secret() {
        let secret = Secret::of("KEY", "s3cret-value");
        assert_eq!(format!("{secret:?}"), "«secret:KEY»");
    }
}

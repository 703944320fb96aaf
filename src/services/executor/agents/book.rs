//! The file of agents as it stands: read again when it has changed.
//!
//! May not ask agents. Invariant: a file that cannot be used changes nothing, and says so once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::agent::{Agent, AgentKind};
use super::file::{self, Agents};
use crate::ground::clock::Timestamp;
use crate::ground::limits::AGENTS_FILE_BYTES_MAX;
use crate::machines::limits::Limit;
use crate::ports::disk::{self, Disk};

/// Agents and when they were read.
pub struct Book {
    disk: Arc<dyn Disk>,
    path: Option<PathBuf>,
    /// Whether the agent `default` is the echo agent while the file lists none of that name.
    echoes: bool,
    page: Mutex<Page>,
    /// Hears of every file that was read.
    hearer: OnceLock<Hearer>,
}

/// Who is told about agents that were read.
pub type Hearer = Box<dyn Fn(&Agents) + Send + Sync>;

/// The agent that is asked when no other is named.
pub const DEFAULT_AGENT: &str = "default";

#[derive(Default)]
struct Page {
    /// Inode, size and time of change of what was read last; none before, and of a missing file.
    seen: Option<(u64, u64, Timestamp)>,
    agents: Arc<Agents>,
}

impl Book {
    /// The file at `path`; without one there are no agents.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, path: Option<PathBuf>) -> Self {
        Self { disk, path, echoes: false, page: Mutex::default(), hearer: OnceLock::new() }
    }

    /// The same with the echo agent as `default`, where the file lists none of that name.
    #[must_use]
    pub fn echoing(self) -> Self {
        let page = Page { seen: None, agents: with_echo(Agents::default()) };
        Self { echoes: true, page: Mutex::new(page), ..self }
    }

    /// Tells somebody of today's agents, and of all others that are read from now on.
    pub fn tell(&self, hearer: Hearer) {
        hearer(&self.agents());
        // One listens: the limits of a daemon.
        let _ = self.hearer.set(hearer);
    }

    /// Has the file read again, though it seems to be what it was.
    pub fn read_again(&self) {
        self.page.lock().unwrap_or_else(PoisonError::into_inner).seen = None;
        self.agents();
    }

    /// An agent of today.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Agent> {
        self.agents().agents.get(id).cloned()
    }

    /// How an agent of today is reached; nothing if it is not listed.
    #[must_use]
    pub fn kind_of(&self, id: &str) -> Option<AgentKind> {
        self.find(id).map(|agent| agent.kind)
    }

    /// The agents of today.
    pub fn agents(&self) -> Arc<Agents> {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else { return Arc::clone(&page.agents) };
        let seen = self.stamp(path);
        if seen.is_some() && seen != page.seen {
            match self.read(path) {
                Ok(agents) => {
                    page.agents = if self.echoes { with_echo(agents) } else { Arc::new(agents) };
                    if let Some(hearer) = self.hearer.get() {
                        hearer(&page.agents);
                    }
                }
                Err(why) => tracing::error!("{why}; the agents stay what they were"),
            }
        }
        page.seen = seen;
        Arc::clone(&page.agents)
    }

    fn stamp(&self, path: &Path) -> Option<(u64, u64, Timestamp)> {
        let (above, name) = (path.parent()?, path.file_name()?.to_str()?);
        let stat = disk::optional(self.disk.open_dir(above).and_then(|dir| dir.stat(name)));
        let stat = stat.ok().flatten()?;
        Some((stat.inode, stat.bytes, stat.changed))
    }

    fn read(&self, path: &Path) -> Result<Agents, String> {
        let shown = path.display();
        let bytes = self.disk.read_user_file(path, AGENTS_FILE_BYTES_MAX);
        let bytes = bytes.map_err(|e| e.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not text"))?;
        let has_variable = |name: &str| std::env::var_os(name).is_some();
        let folder = path.parent().unwrap_or(Path::new("/"));
        let agents =
            file::read(&text, folder, &has_variable).map_err(|e| format!("{shown}, {e}"))?;
        for remark in &agents.remarks {
            tracing::warn!("{shown}, {remark}");
        }
        tracing::info!(agents = agents.agents.len(), "{shown} is read");
        Ok(agents)
    }
}

fn with_echo(mut agents: Agents) -> Arc<Agents> {
    let described = "says what it was told; for trying out".to_owned();
    let echo = || Agent {
        description: Some(described),
        kind: AgentKind::Echo,
        options: serde_json::Map::new(),
        limit: Limit::default(),
        problems: Vec::new(),
    };
    agents.agents.entry(DEFAULT_AGENT.to_owned()).or_insert_with(echo);
    Arc::new(agents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_is_not_used() {
        let disk = Arc::new(MemoryDisk::new(1));
        let path = Path::new("/etc/agents.yaml");
        disk.create_dirs(Path::new("/etc")).unwrap();
        let write = |text: &str| disk.tamper(path, |bytes| *bytes = text.as_bytes().to_vec());
        let book = Book::new(Arc::clone(&disk) as Arc<dyn Disk>, Some(path.to_owned()));
        let ids = || book.agents().agents.keys().cloned().collect::<Vec<_>>();
        assert!(ids().is_empty(), "there is no file yet");
        write("agents: {one: {type: echo}}");
        assert_eq!(ids(), ["one"]);
        write("agents: {one: {type: echo}, two: {type: external}}");
        assert_eq!(ids(), ["one", "two"]);
        assert_eq!(book.kind_of("two"), Some(AgentKind::External));
        assert_eq!(book.kind_of("three"), None);
        write("agents: {one: nonsense, and more of it}");
        assert_eq!(ids(), ["one", "two"]);
        write("agents: {}");
        assert!(ids().is_empty());
    }
}

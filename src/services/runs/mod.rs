//! Runs: creating them, letting them go on, answering their effects, steering and looking at them.
//!
//! One file a deed. May not know doors. Invariant: whoever changes a run holds its lock and has
//! verified and folded its whole journal.

pub mod accept;
pub mod attempt;
pub mod builtin;
pub mod check;
pub mod children;
pub mod create;
pub mod custody;
pub mod delete;
pub mod deploy;
pub mod derived;
pub mod diff;
pub mod drive;
mod dry;
pub(super) mod each;
pub mod flow;
pub mod fork;
pub mod give;
pub mod hosts;
pub mod imported;
pub mod inside;
pub mod kinds;
pub mod list;
pub mod open;
pub mod post;
pub mod probe;
pub mod recover;
pub mod replay;
pub mod report;
mod reuse;
pub mod source;
pub mod steer;
pub mod steps;
pub mod trouble;
pub mod view;

pub use trouble::{Error, Result};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codecs::turn::HostLimits;
use crate::ground::clock::Clock;
use crate::ground::id::RunId;
use crate::ports::disk::Disk;
use crate::services::telemetry::Telemetry;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::former::Former;
use crate::shells::run_dir::root::{self, Root, RootView};
use hosts::Hosts;
use kinds::KnownKinds;
use trouble::Trouble;

/// Where runs are kept and with what they are worked on. Made once by a door.
#[derive(Clone)]
pub struct Runs {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Starts process hosts.
    pub hosts: Arc<dyn Hosts>,
    /// The runs root.
    pub root: PathBuf,
    /// How long to wait for a lock.
    pub lock_wait_ms: u64,
    /// A filesystem type that is accepted although its promises are unknown.
    pub allow_fs: Option<String>,
    /// What one process instance may use.
    pub limits: HostLimits,
    /// Longest wall-clock time one turn may take.
    pub turn_wall_max_ms: u64,
    /// Who acts, as it stands in records: `operator:<name>`.
    pub by: String,
    /// Who is told about the work.
    pub telemetry: Telemetry,
    /// What is known of kinds of work.
    pub kinds: KnownKinds,
}

impl Runs {
    /// Opens the root for writing commands, making it if it is missing.
    pub fn open_root(&self, create: bool) -> Result<Root> {
        self.share_root(&self.root, create)
    }

    /// Opens the root for looking; a root that does not exist yet has no runs.
    pub fn view_root(&self) -> Result<RootView> {
        Ok(RootView::open(&self.disk, &self.root)?)
    }

    /// The directory of the run that `reference` means: an id, the only run whose id begins with
    /// it, or a path.
    pub fn find(&self, reference: &str) -> Result<RunDir> {
        if reference.is_empty() {
            let nameless = Trouble::new("run_id_invalid", "the run is named by an empty word");
            return Err(Error::Invalid(nameless.next("dormouse run list")));
        }
        if reference.contains('/') || matches!(reference, "." | "..") {
            return Ok(root::run_at(&self.disk, Path::new(reference))?);
        }
        let found = self.view_root().and_then(|root| Ok(root.find(reference)?));
        found.map_err(|error| self.did_you_mean(reference, error))
    }

    /// Adds the nearest run ids to an error about an unknown one.
    fn did_you_mean(&self, reference: &str, error: Error) -> Error {
        let mut trouble = match error {
            Error::NotFound(trouble) => {
                match self.or_unmade(reference).or_else(|| self.or_former(reference)) {
                    Some(error) => return error,
                    None => trouble,
                }
            }
            other => return other,
        };
        let ids = self.view_root().and_then(|root| Ok(root.run_ids()?)).unwrap_or_default();
        let near = ids.iter().map(|id| (strsim::osa_distance(id.as_str(), reference), id));
        let near =
            near.filter(|(distance, _)| *distance <= 3).min_by_key(|(distance, _)| *distance);
        if let Some((_, id)) = near {
            trouble.next.push(format!("did you mean {id}?"));
        }
        trouble.next.push("dormouse run list".to_owned());
        Error::NotFound(trouble)
    }

    /// What to say of a run that was not found if it was deleted or archived.
    fn or_former(&self, reference: &str) -> Option<Error> {
        let root = self.view_root().ok()?;
        let archived = root.archived().unwrap_or_default();
        let mut like = archived.into_iter().filter(|id| id.as_str().starts_with(reference));
        let run = match (reference.parse::<RunId>(), like.next(), like.next()) {
            (_, Some(only), None) => only,
            (Ok(id), ..) => id,
            _ => return None,
        };
        let former = root.former(&run).ok()??;
        let is_deleted = matches!(former, Former::Deleted(_));
        let error = Error::from(root::Error::Former { run, former });
        let trouble = error.trouble().clone();
        Some(Error::NotFound(if is_deleted {
            Trouble { code: "run_not_found", next: vec!["dormouse run list".into()], ..trouble }
        } else {
            trouble
        }))
    }

    /// A new run id: a ULID, so that ids sort by time of creation.
    #[must_use]
    pub fn fresh_id(&self) -> RunId {
        let millis = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        let random = u128::from_le_bytes(self.disk.random());
        let text = ulid::Ulid::from_parts(millis, random).to_string();
        text.parse().unwrap_or_else(|_| unreachable!("a ULID is a run id"))
    }
}

//! Where a scenario takes place: a temporary directory with a runs root, and this program.
//!
//! May not know what is tried. Invariant: nothing outside of its directory is touched, and it is
//! removed unless somebody is to look at it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ground::sabotage::{self, Guard};
use crate::ports::disk::{Atomic, Disk, write_atomic};
use crate::shells::run_dir::root::remove_tree;
use crate::shells::trial::{Ended, Program, Trial};

use super::Broken;

/// What a daemon says when it serves.
pub(super) const READY: &str = "ready";
/// Longer than any start takes.
pub(super) const START_MS_MAX: u64 = 60_000;
/// How deep a runs root is.
const DEPTH_MAX: u32 = 64;

/// What all scenarios are given.
#[derive(Clone)]
pub struct Ground {
    /// The disk on which directories are made.
    pub disk: Arc<dyn Disk>,
    /// Where.
    pub above: PathBuf,
    /// The program that is tried.
    pub exe: PathBuf,
    /// A guard that it has to do without.
    pub removed: Option<Guard>,
}

/// A directory of its own.
pub(super) struct Yard {
    ground: Ground,
    /// The directory.
    pub(super) top: PathBuf,
    root: PathBuf,
    is_kept: bool,
}

impl Yard {
    /// Makes one.
    pub(super) fn new(ground: &Ground) -> Result<Self, Broken> {
        let number = u64::from_le_bytes(*ground.disk.random().first_chunk().unwrap_or(&[0; 8]));
        let top = ground.above.join(format!("dormouse-torture-{number:016x}"));
        ground.disk.create_dirs(&top)?;
        let root = top.join("runs");
        let yard = Self { ground: ground.clone(), top, root, is_kept: false };
        yard.file("config.toml", "")?;
        Ok(yard)
    }

    /// The runs root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts the runs root elsewhere.
    pub(super) fn set_root(&mut self, root: PathBuf) {
        self.root = root;
    }

    /// Another program, with the same environment.
    pub(super) fn tool(&self, name: &str) -> Program {
        Program { exe: name.into(), ..self.program() }
    }

    /// Where its daemon listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.root().join(".dormouse/socket")
    }

    /// The disk that it is on.
    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.ground.disk
    }

    /// Writes a file beside the root.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf, Broken> {
        let dir = self.disk().open_dir(&self.top)?;
        write_atomic(&*dir, name, text.as_bytes(), Atomic::DERIVED)?;
        Ok(self.top.join(name))
    }

    /// The program, with nothing of the environment but what scenarios give it.
    pub(super) fn program(&self) -> Program {
        let inherited = |name: &str| std::env::var_os(name).unwrap_or_default();
        let mut env: Vec<(String, OsString)> = vec![
            ("PATH".into(), inherited("PATH")),
            ("HOME".into(), self.top.clone().into()),
            ("DORMOUSE_RUNS_ROOT".into(), self.root.clone().into()),
            ("DORMOUSE_CONFIG".into(), self.top.join("config.toml").into()),
        ];
        if let Some(guard) = self.ground.removed {
            env.push((sabotage::VARIABLE.into(), guard.name().into()));
        }
        Program { exe: self.ground.exe.clone(), env, dir: self.top.clone() }
    }

    /// Starts a daemon that is not ready yet, on a disk that fails by this plan.
    pub(super) fn launch(&self, faults: Option<&str>) -> Result<Trial, Broken> {
        let mut args = vec!["serve"];
        args.extend(faults.into_iter().flat_map(|plan| ["--faults", plan]));
        Ok(self.program().start(&args, READY)?)
    }

    /// Starts a daemon and waits until it serves. What it said when it does not come up.
    pub(super) fn serve(&self) -> Result<Result<Trial, String>, Broken> {
        let daemon = self.launch(None)?;
        let is_up = daemon.is_ready(START_MS_MAX);
        Ok(if is_up { Ok(daemon) } else { Err(daemon.said()) })
    }

    /// Runs a command to its end.
    pub(super) fn command(&self, args: &[&str]) -> Result<Ended, Broken> {
        Ok(self.program().run(args)?)
    }

    /// Leaves the directory, for somebody to look at; what a control has broken nobody needs.
    pub(super) fn keep(&mut self) {
        self.is_kept = self.ground.removed.is_none();
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let name = self.top.file_name().and_then(|name| name.to_str());
        let (false, Some(name), Some(above)) = (self.is_kept, name, self.top.parent()) else {
            return;
        };
        // What cannot be removed stays in a temporary directory.
        let _ =
            self.ground.disk.open_dir(above).and_then(|dir| remove_tree(&*dir, name, DEPTH_MAX));
    }
}

/// Whether something stands at a path.
pub(super) fn stands(disk: &dyn Disk, path: &Path) -> bool {
    let named = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    named.is_some_and(|(above, name)| disk.open_dir(above).is_ok_and(|dir| dir.stat(name).is_ok()))
}

//! Creating runs: pin the process, try to load it, make the whole directory appear at once.
//!
//! May not run a turn. Invariant: a run that exists can be loaded; a run that cannot be loaded was
//! not created.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codecs::event::{
    Event, IdempotencyRef, Payload, ProcessAssigned, ProcessRef, RunCreated, ScheduleRef,
};
use crate::codecs::json::{Json, Numbers, canonical};
use crate::codecs::trace::TraceContext;
use crate::codecs::turn::{FromHost, HostLimits, LoadFailure, Start, ToHost};
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use crate::ground::limits;
use crate::machines::replay::drafts::with_value;
use crate::machines::replay::state::RunState;
use crate::ports::disk::Kind;
use crate::shells::journal::scan::Case;
use crate::shells::pin::{EntrySpec, LOCK_FILE, PinRequest, PinnedGraph, pin};
use crate::shells::run_dir::code::{self, CodeStore};
use crate::shells::run_dir::dir::{FORMAT_VERSION, RunDir, RunJson, pretty};
use crate::shells::run_dir::make;
use crate::shells::run_dir::root::{self, Root};

use super::builtin::{self, InBinary};
use super::flow;
use super::hosts::Silence;
use super::open::OpenRun;
use super::source::DiskReader;
use super::trouble::{Trouble, case_next};
use super::{Error, Result, Runs};

/// Processes that are remembered as loadable.
const KNOWN_CODE_MAX: usize = 1_000;

/// Where a process comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// `path#export`, absolute.
    pub entry: EntrySpec,
    /// Process root, absolute.
    pub root: Option<PathBuf>,
    /// Library root, absolute.
    pub library_root: Option<PathBuf>,
    /// Patterns of further modules.
    pub extra: Vec<String>,
    /// What people call it; the entry's stem if nothing.
    pub process_id: Option<String>,
}

/// A run to be created.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    /// Its id; made up if nothing.
    pub run_id: Option<RunId>,
    /// Its process; bare if nothing.
    pub source: Option<Source>,
    /// Its inputs.
    pub inputs: Option<Json>,
    /// Asked again with the same key, the same run is returned.
    pub idempotency_key: Option<String>,
    /// Words for finding it.
    pub tags: Vec<String>,
    /// Where the command was given.
    pub cwd: Option<String>,
    /// Breakpoints are answered at once.
    pub non_interactive: bool,
    /// Where in a trace whoever asks stands.
    pub traceparent: Option<TraceContext>,
    /// The schedule that makes it.
    pub schedule: Option<ScheduleRef>,
}

/// A run that was created, or existed already under the same key.
#[derive(Debug)]
pub struct Created {
    /// Its directory.
    pub dir: RunDir,
    /// Its process.
    pub process: Option<ProcessRef>,
    /// It existed already.
    pub existed: bool,
    /// What pinning and loading remarked.
    pub warnings: Vec<String>,
}

/// A run that can be created: everything is durable but its first record.
#[derive(Debug)]
pub struct PreparedRun {
    /// Its first event.
    pub event: Event,
    /// Its process.
    pub process: Option<ProcessRef>,
    /// The key it is created under.
    pub idempotency: Option<IdempotencyRef>,
    /// What pinning and loading remarked.
    pub warnings: Vec<String>,
}

impl PreparedRun {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &RunId {
        match &self.event {
            Event::RunCreated(created) => &created.run_id,
            _ => unreachable!("a run begins with RUN_CREATED"),
        }
    }
}

/// A process that was loaded once for a run, and what came of it.
#[derive(Debug)]
pub struct TriedCode {
    /// Its files.
    pub(super) graph: PinnedGraph,
    /// Itself.
    pub(super) process: ProcessRef,
    /// Whether it can be loaded.
    pub(super) loaded: Result<()>,
}

/// Code that was loaded before, by this process: it need not be tried again.
#[derive(Debug, Clone, Default)]
pub struct KnownCode(Arc<Mutex<HashSet<CodeKey>>>);

/// Digest, entry and export.
type CodeKey = (Digest, String, Option<String>);

impl KnownCode {
    fn has(&self, process: &ProcessRef) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&Self::key(process))
    }

    fn add(&self, process: &ProcessRef) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_CODE_MAX {
            known.clear();
        }
        known.insert(Self::key(process));
    }

    fn key(process: &ProcessRef) -> CodeKey {
        (process.digest, process.entry.clone(), process.export_name.clone())
    }
}

impl Runs {
    /// Creates a run.
    pub fn create(&self, new: &NewRun) -> Result<Created> {
        let (created, graph, mut warnings) = self.work_out(new)?;
        if let (Some(graph), Some(process)) = (&graph, &created.process) {
            warnings.extend(self.try_loading(graph, process, &created.run_id)?);
        }
        let (run_id, process) = (created.run_id.clone(), created.process.clone());
        let idempotency = created.idempotency.clone();
        let root = self.open_root(true)?;
        match self.build(&root, created, graph.as_ref()) {
            Ok(dir) => Ok(Created { dir, process, existed: false, warnings }),
            Err(Error::Conflict(t)) if t.code == "run_exists" => {
                if idempotency.is_none() {
                    return Err(taken(&run_id));
                }
                let seen = self.look_dir(self.view_root()?.run(&run_id)?)?;
                same_request(&seen.state, idempotency.as_ref())?;
                Ok(Created { dir: seen.dir, process, existed: true, warnings })
            }
            Err(e) => Err(e),
        }
    }

    /// Everything about a run to be created that takes time, for a daemon: its process is pinned,
    /// loaded once and stored, its large inputs are durable. Only its first record is missing.
    pub fn prepare(&self, new: &NewRun, known: &KnownCode) -> Result<PreparedRun> {
        let (created, graph, mut warnings) = self.work_out(new)?;
        if let (Some(graph), Some(process)) = (&graph, &created.process)
            && !known.has(process)
        {
            warnings.extend(self.try_loading(graph, process, &created.run_id)?);
        }
        let process = created.process.clone();
        let run = self.prepare_created(created, graph.as_ref(), known)?;
        if let Some(process) = &process {
            known.add(process);
        }
        Ok(PreparedRun { warnings, ..run })
    }

    /// The same for a first event that is worked out already.
    pub fn prepare_created(
        &self,
        created: RunCreated,
        graph: Option<&PinnedGraph>,
        known: &KnownCode,
    ) -> Result<PreparedRun> {
        let meta = self.disk.open_dir(&self.root.join(root::META))?;
        if let (Some(graph), Some(process)) = (graph, &created.process)
            && !known.has(process)
        {
            let store = CodeStore::new(Arc::clone(&self.disk), Arc::clone(&meta));
            store.put(&process.digest, &pinned_files(graph))?;
        }
        let (process, idempotency) = (created.process.clone(), created.idempotency.clone());
        let draft = with_value(created.into());
        for blob in &draft.blobs {
            make::stage_blob(&*meta, blob.as_str().as_bytes())?;
        }
        Ok(PreparedRun { event: draft.event, process, idempotency, warnings: Vec::new() })
    }

    /// The first event of a run, and its code.
    fn work_out(&self, new: &NewRun) -> Result<(RunCreated, Option<PinnedGraph>, Vec<String>)> {
        let (graph, warnings) = match &new.source {
            Some(source) => {
                let (graph, mut warnings) = self.pin(source)?;
                warnings.extend(flow::check(&graph, new.inputs.as_ref(), &self.kinds)?);
                (Some(graph), warnings)
            }
            None => (None, Vec::new()),
        };
        let name = new.source.as_ref().and_then(|s| s.process_id.clone());
        let process = graph.as_ref().map(|g| g.process_ref(name));
        let idempotency = new.idempotency_key.as_ref().map(|key| IdempotencyRef {
            key: key.clone(),
            digest: request_digest(process.as_ref(), new.inputs.as_ref()),
        });
        let run_id = match (&new.run_id, &new.idempotency_key) {
            (Some(id), _) => id.clone(),
            (None, Some(key)) => id_of_key(key)?,
            (None, None) => self.fresh_id(),
        };
        let system = graph.as_ref().and_then(flow::system);
        let created = RunCreated {
            run_id,
            process,
            inputs: new.inputs.clone(),
            inputs_blob: None,
            parent: None,
            schedule: new.schedule.clone(),
            idempotency,
            generation: 1,
            tags: new.tags.clone(),
            cwd: new.cwd.clone(),
            non_interactive: new.non_interactive,
            system,
            traceparent: new.traceparent,
            by: self.by.clone(),
        };
        Ok((created, graph, warnings))
    }

    /// What creating would pin; nothing is made.
    pub fn plan_create(&self, new: &NewRun) -> Result<Option<ProcessRef>> {
        let Some(source) = &new.source else { return Ok(None) };
        let (graph, _) = self.pin(source)?;
        flow::check(&graph, new.inputs.as_ref(), &self.kinds)?;
        let process = graph.process_ref(source.process_id.clone());
        let run_id = new.run_id.clone().unwrap_or_else(|| self.fresh_id());
        self.try_loading(&graph, &process, &run_id)?;
        Ok(Some(process))
    }

    /// Pins a process from its source files.
    pub fn pin(&self, source: &Source) -> Result<(PinnedGraph, Vec<String>)> {
        let graph = if let Some(request) = builtin::request(&source.entry) {
            pin(&InBinary, &request)?
        } else {
            let request = PinRequest {
                entry: source.entry.clone(),
                root: source.root.clone(),
                library_root: source.library_root.clone(),
                extra: source.extra.clone(),
            };
            pin(&DiskReader(Arc::clone(&self.disk)), &request)?
        };
        let warnings = graph.warnings.clone();
        Ok((graph, warnings))
    }

    /// Loads a process for a run once, in a host of its own. This takes long.
    #[must_use]
    pub fn try_code(&self, graph: PinnedGraph, process: ProcessRef, run_id: &RunId) -> TriedCode {
        let loaded = self.try_loading(&graph, &process, run_id).map(|_| ());
        TriedCode { graph, process, loaded }
    }

    /// Loads a process in a host of its own, so that what cannot be loaded is refused now. A host
    /// that dies says nothing about the code: another one is asked.
    pub(super) fn try_loading(
        &self,
        graph: &PinnedGraph,
        process: &ProcessRef,
        run_id: &RunId,
    ) -> Result<Vec<String>> {
        let start = Start {
            run_id: run_id.to_string(),
            seed_run_id: run_id.to_string(),
            generation: 1,
            run_dir: self.root.join(run_id.as_str()).display().to_string(),
            cwd: None,
            process_id: process.process_id.clone(),
            profile: process.api,
            entry: process.entry.clone(),
            export_name: process.export_name.clone(),
            modules: graph.modules(),
            inputs: None,
            carried: None,
            scheduled_at: None,
            clock_micros: self.clock.now().micros(),
            next_ordinal: 1,
            is_shown: false,
            system: None,
            known: Vec::new(),
            known_marks: Vec::new(),
            limits: self.limits.clone(),
        };
        let message = ToHost::Start(Box::new(start));
        let mut deaths = 0;
        loop {
            let spawned = self.hosts.spawn();
            let answer = spawned.and_then(|mut host| {
                host.call(&message, self.limits.load_cpu_max_ms, self.turn_wall_max_ms)
            });
            match answer {
                Err(Silence::Died(_)) if deaths + 1 < limits::LOADING_HOSTS_MAX => deaths += 1,
                answer => return judge_loading(answer),
            }
        }
    }

    /// Builds the whole directory out of sight and lets it appear.
    pub(super) fn build(
        &self,
        root: &Root,
        created: RunCreated,
        graph: Option<&PinnedGraph>,
    ) -> Result<RunDir> {
        let now = self.clock.now();
        let mut staged = root.stage(&created.run_id)?;
        for (path, bytes) in graph.map(pinned_files).unwrap_or_default() {
            staged.file(&format!("process/{path}"), &bytes)?;
        }
        if let Some(inputs) = &created.inputs {
            staged.file("inputs.json", format!("{}\n", inputs.as_str()).as_bytes())?;
        }
        let run_json = RunJson {
            run_id: created.run_id.clone(),
            format_version: FORMAT_VERSION,
            created_at: now,
            process: created.process.clone(),
            parent: created.parent.clone(),
            cwd: created.cwd.clone(),
            tags: created.tags.clone(),
            non_interactive: created.non_interactive,
            forked_from: None,
        };
        staged.file("run.json", &pretty(&run_json))?;
        let draft = with_value(created.into());
        for blob in &draft.blobs {
            staged.blob(blob.as_str().as_bytes())?;
        }
        let records = staged.journal(&[(now, draft.event)])?;
        let dir = staged.publish()?;
        if let Some(first) = records.first() {
            self.telemetry.committed(&RunState::first(first)?, first);
        }
        Ok(dir)
    }

    /// Gives a bare run its process, or (with `force`) an open one other code that must reproduce
    /// its journal.
    pub fn assign(
        &self,
        reference: &str,
        source: &Source,
        inputs: Option<Json>,
        force: bool,
        reason: Option<String>,
    ) -> Result<(RunDir, ProcessRef, Option<ProcessRef>)> {
        let (graph, _) = self.pin(source)?;
        flow::check(&graph, inputs.as_ref(), &self.kinds)?;
        let mut process = graph.process_ref(source.process_id.clone());
        let mut run = self.open(reference)?;
        // The profile of a run never changes.
        let pinned = run.state().process.as_ref();
        process.api = pinned.map_or(process.api, |p| p.api);
        let tried = self.try_code(graph, process.clone(), run.dir.id());
        let previous = run.assign(&tried, inputs, force, reason);
        let dir = run.dir.clone();
        Ok((dir, process, run.close_after(previous)?))
    }
}

/// All files of a pinned process with its lock, as they stand in `process/`.
pub(super) fn pinned_files(graph: &PinnedGraph) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = graph.files.iter().map(|f| (f.path.clone(), f.bytes.clone())).collect();
    files.push((LOCK_FILE.to_owned(), graph.lock().print().into_bytes()));
    files
}

impl OpenRun {
    /// Gives this run its process. Gives the one it had.
    pub fn assign(
        &mut self,
        code: &TriedCode,
        inputs: Option<Json>,
        force: bool,
        reason: Option<String>,
    ) -> Result<Option<ProcessRef>> {
        self.must_be_open()?;
        let previous = self.state().process.clone();
        if previous.is_some() && !force {
            let what = format!("run {} has a process already", self.dir.id());
            let hint = "give --force, or take new code over with `dormouse run accept`";
            let trouble = Trouble::new("process_assigned", what).next(hint);
            return Err(Error::Conflict(trouble));
        }
        if previous.as_ref().is_some_and(|previous| previous.api != code.process.api) {
            let what = "the run was given another process while this one was loaded";
            return Err(Error::Conflict(Trouble::new("plan_stale", what)));
        }
        code.loaded.clone()?;
        store_process(&self.dir, &code.graph)?;
        self.append(
            ProcessAssigned {
                process: code.process.clone(),
                previous: previous.clone(),
                force: previous.is_some(),
                accepted: None,
                inputs,
                inputs_blob: None,
                reason,
                by: self.runs.by.clone(),
            }
            .into(),
        )?;
        Ok(previous)
    }
}

/// Pins a process into a run that exists, beside the one it has.
pub(super) fn store_process(dir: &RunDir, graph: &PinnedGraph) -> Result<()> {
    let process = graph.process_ref(None);
    if load_process(dir, &process).is_ok() {
        return Ok(());
    }
    let [first, beside] = code::places(&process.digest);
    let taken =
        dir.read_relative(&format!("{first}/{LOCK_FILE}"), limits::MODULE_BYTES_MAX).is_ok();
    let place = if taken { beside } else { first };
    for (path, bytes) in pinned_files(graph) {
        dir.put_relative(&format!("{place}/{path}"), &bytes)?;
    }
    Ok(())
}

/// Loads the pinned process that a record names; every byte is checked.
pub(in crate::services) fn load_process(dir: &RunDir, process: &ProcessRef) -> Result<PinnedGraph> {
    let mut missing = None;
    for place in code::places(&process.digest) {
        let path = format!("{place}/{LOCK_FILE}");
        let lock = match dir.read_relative(&path, limits::MODULE_BYTES_MAX) {
            Ok(bytes) => match crate::shells::pin::PinLock::read(&bytes) {
                Ok(lock) => lock,
                // A damaged pin beside the wanted one does no harm.
                Err(e) => {
                    missing = Some(e.to_string());
                    continue;
                }
            },
            Err(e) if e.kind == Kind::TooManyOpen => return Err(e.into()),
            Err(e) => {
                missing = Some(e.to_string());
                continue;
            }
        };
        if lock.belongs_to(process).is_err() {
            continue;
        }
        if !lock.files.iter().any(|file| file.path == process.entry) {
            // No damage: a process asked to go on elsewhere.
            let what = format!("the entry {:?} is not among the pinned modules", process.entry);
            return Err(Error::Refused(Trouble::new("E_IMPORT_NOT_PINNED", what)));
        }
        let mut read = |path: &str| {
            dir.read_relative(&format!("{place}/{path}"), limits::MODULE_BYTES_MAX)
                .map_err(|e| e.source)
        };
        return Ok(PinnedGraph::verify(&lock, process, &mut read)?);
    }
    let why = missing.map_or(String::new(), |e| format!(": {e}"));
    let what = format!("no pinned copy of the process {} is there{why} [J52]", process.digest);
    Err(Error::Damaged(Trouble::new("J52", what).next(case_next(Case::J52))))
}

/// What one process instance may use unless told otherwise.
#[must_use]
pub const fn host_limits() -> HostLimits {
    HostLimits {
        heap_bytes_max: limits::HEAP_BYTES_MAX,
        stack_bytes_max: limits::STACK_BYTES_MAX,
        turn_cpu_max_ms: limits::TURN_CPU_MAX_MS,
        load_cpu_max_ms: limits::LOAD_CPU_MAX_MS,
        turn_outputs_max: limits::TURN_OUTPUTS_MAX,
        open_effects_max: limits::OPEN_EFFECTS_MAX,
        value_bytes_max: limits::VALUE_BYTES_MAX as u64,
    }
}

/// What became of a process that was loaded to see whether it can be.
fn judge_loading(answer: std::result::Result<FromHost, Silence>) -> Result<Vec<String>> {
    let cannot = |why: String| {
        let what = format!("the process cannot be loaded: {why}");
        Err(Error::Refused(Trouble::new("E_MODULE_ERROR", what)))
    };
    match answer {
        Ok(FromHost::Started { warnings, .. }) => Ok(warnings),
        Ok(FromHost::LoadFailed(failure)) => Err(load_failed(&failure)),
        Ok(FromHost::Limit { name, detail }) => cannot(format!("limit:{name}: {detail}")),
        Ok(FromHost::Turn(_) | FromHost::Shown(_)) => Err(super::drive::out_of_turn()),
        Err(Silence::Absent(why)) => Err(super::hosts::absent(why)),
        Err(Silence::Died(why)) => Err(super::hosts::died(&why)),
        Err(Silence::Cpu(why)) => cannot(why),
    }
}

fn load_failed(failure: &LoadFailure) -> Error {
    const CODES: &[&str] = &[
        "E_EXPORT_NOT_FOUND",
        "E_EXPORT_NOT_FUNCTION",
        "E_TS_SYNTAX",
        "E_COMMONJS",
        "E_IMPORT_NOT_PINNED",
        "E_MODULE_SYNTAX",
    ];
    let known = CODES.iter().find(|code| **code == failure.code);
    let mut trouble = Trouble::new(
        known.copied().unwrap_or("E_MODULE_ERROR"),
        failure.message.replace('\n', " "),
    );
    let stack = failure.stack.as_deref().unwrap_or("");
    trouble.next.extend(stack.lines().map(|line| line.trim().to_owned()));
    Error::Refused(trouble)
}

/// Whether an existing run was created by the same request under the same key. Gives its id.
pub fn same_request(state: &RunState, asked: Option<&IdempotencyRef>) -> Result<RunId> {
    let id = &state.run_id;
    let other = |what: String| {
        let next = format!("dormouse run show {id}");
        Err(Error::Conflict(Trouble::new("run_exists", what).next(next)))
    };
    let Some(asked) = asked else { return Err(taken(id)) };
    match &state.idempotency {
        Some(stands) if stands == asked => Ok(id.clone()),
        Some(stands) if stands.key == asked.key => other(format!(
            "run {id} was created under the key {:?} with another process or other inputs",
            asked.key
        )),
        _ => other(format!("run {id} exists already, and not under this idempotency key")),
    }
}

/// The refusal of an id that something has already, be it a run or not.
#[must_use]
pub fn taken(id: &RunId) -> Error {
    let trouble = Trouble::new("run_exists", format!("run {id} exists already"));
    Error::Conflict(trouble.next(format!("dormouse run show {id}")))
}

/// The digest of what a client asked for under a key.
fn request_digest(process: Option<&ProcessRef>, inputs: Option<&Json>) -> Digest {
    let inputs = inputs.map_or(String::new(), |i| canonical(i, Numbers::AsWritten, None));
    let process = process.map(Json::of).map_or(String::new(), |p| p.as_str().to_owned());
    Digest::of(format!("{process}\n{inputs}").as_bytes())
}

/// The id of a run that is created under a key and no id: the same key finds the same run.
fn id_of_key(key: &str) -> Result<RunId> {
    let digest = Digest::of(format!("dormouse-idempotency-key\n{key}").as_bytes());
    let text = format!("k{}", &digest.hex()[..25]);
    text.parse().map_err(|e: crate::ground::id::Error| Error::from(root::Error::Name(e)))
}

/// The inputs of a payload pair, for messages to hosts.
pub(super) fn loaded(dir: &RunDir, payload: Option<&Payload>) -> Result<Option<Json>> {
    payload.map(|p| super::open::value_of(dir, p)).transpose()
}

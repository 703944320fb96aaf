//! The graph of modules behind an entry: built from a tree of sources, or again from pinned files.
//!
//! May not know where pinned files are kept. Invariant: files are sorted by path, the entry is
//! among them, and every edge leads to one of them.

use super::resolve::{below, candidates, is_pinnable, join, means_directory};
use super::specifier::{LIBRARY, Specifier, sort};
use super::{
    E_CROWDED, E_ENTRY, E_IMPORT_ATTRIBUTE, E_IMPORT_ESCAPE, E_IMPORT_LIBRARY, E_MODULE_DIRECTORY,
    E_MODULE_LIMIT, E_MODULE_NOT_FOUND, E_MODULE_READ, E_MODULE_UTF8, FileKind, PinError,
    PinRequest, Site, SourceReader, globs,
};
use crate::codecs::event::{ProcessRef, Profile};
use crate::codecs::outline::Notation;
use crate::codecs::source::{self, Analysis, Import, ImportKind, ModuleKind, SourceError};
use crate::ground::digest::Digest;
use crate::ground::limits::{MODULE_BYTES_MAX, MODULE_FILES_MAX, WORKFLOW_DOCUMENT_BYTES_MAX};
use crate::machines::workflow::read::LENIENT;
use crate::ports::disk::Kind;
use crate::shells::host::protocol::Module;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

/// Where library modules stand in a pinned copy, next to what lies below the process root.
const LIBRARY_PLACE: &str = "node_modules";
/// How an import is refused whose path leads above the root.
const LEAVES: &str = "leaves the process root";
/// How many directories above the entry's own are tried as root where none is marked.
const WIDEN_MAX: usize = 8;
/// Files that mark a directory as the root of a process.
const ROOT_MARKS: [&str; 4] = [".git", ".a5c", "dormouse.toml", "package.json"];

/// That one module asks for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// As written.
    pub specifier: String,
    /// What it means: a path below the process root.
    pub path: String,
    /// How it is asked for.
    pub kind: ImportKind,
}

/// One file of a pinned process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedFile {
    /// Path below the process root, `/` between parts.
    pub path: String,
    /// The content, byte for byte.
    pub bytes: Vec<u8>,
    /// Of the content.
    pub digest: Digest,
    /// What its specifiers lead to, each specifier once for each kind; built-in modules are not
    /// among them.
    pub edges: Vec<Edge>,
    /// It imports the SDK by the name that selects the babysitter profile.
    pub uses_sdk: bool,
}

/// A process with all its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedGraph {
    /// Where it came from: for people only, no part of its identity.
    pub root: String,
    /// Path of the entry module below the process root.
    pub entry: String,
    /// The export to call; none: the usual ones.
    pub export_name: Option<String>,
    /// The profile that its imports select.
    pub api: Profile,
    /// Sorted by path.
    pub files: Vec<PinnedFile>,
    /// Over paths and contents of all files.
    pub digest: Digest,
    /// Things worth telling that are no reason to refuse.
    pub warnings: Vec<String>,
}

impl PinnedGraph {
    /// Puts a graph together from its files.
    pub(super) fn assemble(
        root: String,
        entry: String,
        export_name: Option<String>,
        files: BTreeMap<String, PinnedFile>,
        warnings: Vec<String>,
    ) -> Self {
        let files: Vec<_> = files.into_values().collect();
        let digest =
            digest_of(files.iter().map(|f| (f.path.as_str(), f.bytes.len() as u64, f.digest)));
        let api = Profile::Dormouse;
        let mut graph = Self { root, entry, export_name, api, files, digest, warnings };
        graph.api = graph.profile_of(&graph.entry);
        graph
    }

    /// The file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&PinnedFile> {
        self.files.binary_search_by(|f| f.path.as_str().cmp(path)).ok().map(|at| &self.files[at])
    }

    /// What a relative specifier in the module `importer` means among the pinned files: for
    /// specifiers that are computed while the process runs.
    #[must_use]
    pub fn resolve(&self, importer: &str, specifier: &str) -> Option<&str> {
        let path = target(importer, specifier)?;
        let found = first_of(&path, specifier, &|path| Ok::<_, ()>(self.file(path).is_some()));
        found.ok().flatten().and_then(|path| self.file(&path)).map(|file| file.path.as_str())
    }

    /// The same pinned files with another entry: the process of a child run.
    #[must_use]
    pub fn with_entry(&self, entry: &str, export_name: Option<String>) -> Option<Self> {
        let entry = self.file(entry)?.path.clone();
        let api = self.profile_of(&entry);
        Some(Self { entry, export_name, api, ..self.clone() })
    }

    /// What a process host is given.
    #[must_use]
    pub fn modules(&self) -> Vec<Module> {
        let imports = |file: &PinnedFile| -> Vec<(String, String)> {
            let all: BTreeMap<_, _> =
                file.edges.iter().map(|e| (e.specifier.clone(), e.path.clone())).collect();
            all.into_iter().collect()
        };
        let text = |file: &PinnedFile| without_mark(&String::from_utf8_lossy(&file.bytes)).into();
        let module = |file: &PinnedFile| Module {
            path: file.path.clone(),
            source: text(file),
            imports: imports(file),
        };
        self.files.iter().map(module).collect()
    }

    /// What events say about this process; `process_id` defaults to the stem of the entry file.
    #[must_use]
    pub fn process_ref(&self, process_id: Option<String>) -> ProcessRef {
        let name = self.entry.rsplit('/').next().unwrap_or(&self.entry);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        ProcessRef {
            process_id: process_id.unwrap_or_else(|| stem.to_owned()),
            entry: self.entry.clone(),
            export_name: self.export_name.clone(),
            api: self.api,
            digest: self.digest,
        }
    }

    /// The profile of a run that starts at `entry`: what a child run imports does not count.
    fn profile_of(&self, entry: &str) -> Profile {
        let (mut seen, mut open) = (BTreeSet::new(), vec![entry]);
        while let Some(file) = open.pop().and_then(|path| self.file(path)) {
            if file.uses_sdk {
                return Profile::Babysitter;
            }
            let imports = file.edges.iter().filter(|edge| edge.kind != ImportKind::ChildRun);
            open.extend(imports.map(|e| e.path.as_str()).filter(|path| seen.insert(*path)));
        }
        Profile::Dormouse
    }
}

/// The digest of a pinned copy: over path, size and digest of each file, in order of the paths.
pub(super) fn digest_of<'f>(files: impl Iterator<Item = (&'f str, u64, Digest)>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (path, size, digest) in files {
        hasher.update(format!("{path}\0{size}\0{}\n", digest.hex()).as_bytes());
    }
    Digest::from_hasher(&hasher)
}

/// A text without the byte order mark that some editors put first.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads what a module says; its bytes are text, or the error says where they are not.
fn read_module(path: &str, bytes: &[u8]) -> Result<Analysis, SourceError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
        let (line, column) = source::place(&before, before.len());
        SourceError {
            code: E_MODULE_UTF8,
            path: path.to_owned(),
            line,
            column,
            message: "not UTF-8".to_owned(),
            hint: "save the file as UTF-8".to_owned(),
        }
    })?;
    source::analyze(path, without_mark(text))
}

/// Where a relative or library specifier points, before it is known what exists. None: outside.
fn target(importer: &str, specifier: &str) -> Option<String> {
    let library = format!("{LIBRARY_PLACE}/{LIBRARY}");
    match sort(specifier) {
        Specifier::Relative => {
            let path = join(importer, specifier)?;
            // The library is a root of its own: nothing in it reaches out, nothing reaches in.
            (is_inside(importer, &library) == is_inside(&path, &library)).then_some(path)
        }
        Specifier::Library(rest) => {
            below(rest).filter(|rest| !rest.is_empty()).map(|rest| format!("{library}/{rest}"))
        }
        _ => None,
    }
}

fn is_inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The first candidate for which `is_file` holds.
fn first_of<E>(
    path: &str,
    specifier: &str,
    is_file: &dyn Fn(&str) -> Result<bool, E>,
) -> Result<Option<String>, E> {
    for candidate in candidates(path, means_directory(specifier)) {
        if is_file(&candidate)? {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// Takes a module into the graph again from pinned bytes: no file but the pinned ones exists.
pub(super) fn from_pinned(
    path: &str,
    bytes: Vec<u8>,
    digest: Digest,
    is_pinned: &dyn Fn(&str) -> bool,
) -> Result<PinnedFile, SourceError> {
    let analysis = read_module(path, &bytes)?;
    let mut file =
        PinnedFile { path: path.to_owned(), bytes, digest, edges: Vec::new(), uses_sdk: false };
    for import in &analysis.imports {
        file.uses_sdk |= selects_sdk(import);
        let found = target(path, &import.specifier).and_then(|path| {
            first_of(&path, &import.specifier, &|path| Ok::<_, ()>(is_pinned(path))).ok().flatten()
        });
        if let Some(path) = found {
            add_edge(&mut file.edges, import, path);
        }
    }
    Ok(file)
}

fn selects_sdk(import: &Import) -> bool {
    sort(&import.specifier) == Specifier::Builtin { sdk: true }
}

fn add_edge(edges: &mut Vec<Edge>, import: &Import, path: String) {
    let edge = Edge { specifier: import.specifier.clone(), path, kind: import.kind };
    if !edges.contains(&edge) {
        edges.push(edge);
    }
}

/// Finds, checks and reads all modules of a process.
///
/// # Errors
/// The first reason, in the order of imports, why it cannot be pinned.
pub fn pin(reader: &dyn SourceReader, request: &PinRequest) -> Result<PinnedGraph, PinError> {
    let entry = entry_file(reader, &request.entry.path)?;
    if Notation::of(&entry.to_string_lossy()).is_some() {
        return pin_document(reader, request, &entry);
    }
    if let Some(root) = &request.root {
        let root = reader.canonicalize(root).map_err(|e| {
            if Kind::of(&e) == Kind::TooManyOpen {
                return crowded(&root.display().to_string());
            }
            let message = format!("the process root {} cannot be used: {e}", root.display());
            PinError::new(E_ENTRY, message, "name an existing directory")
        })?;
        return pin_below(reader, request, &entry, root);
    }
    if let Some(root) = marked_root(reader, &entry)? {
        return pin_below(reader, request, &entry, root);
    }
    // Nobody said where the process begins. Its own directory is enough until something above it
    // is imported.
    let own = entry.parent().unwrap_or(Path::new("/"));
    for (level, root) in own.ancestors().take(WIDEN_MAX).enumerate() {
        match pin_below(reader, request, &entry, root.to_owned()) {
            Err(e) if e.message.ends_with(LEAVES) && root.parent().is_some() => {}
            Ok(mut graph) if level > 0 => {
                let what = format!("no project root was found: {} was taken", root.display());
                graph.warnings.push(what);
                return Ok(graph);
            }
            other => return other,
        }
    }
    pin_below(reader, request, &entry, own.to_owned())
}

/// Pins a workflow document: one file, in the directory where it stands.
fn pin_document(
    reader: &dyn SourceReader,
    request: &PinRequest,
    entry: &Path,
) -> Result<PinnedGraph, PinError> {
    let export = request.entry.export_name.clone();
    if let Some(name) = export.as_ref().filter(|name| *name != LENIENT) {
        let message = format!("a workflow document has no export {name:?}");
        let next = format!("name the file alone, or FILE#{LENIENT}");
        return Err(PinError::new(E_ENTRY, message, &next));
    }
    let (Some(root), Some(name)) = (entry.parent(), entry.file_name().and_then(|n| n.to_str()))
    else {
        let message = format!("the entry {} has no name that can be kept", entry.display());
        return Err(PinError::new(E_ENTRY, message, "give it a name of letters and digits"));
    };
    if !is_pinnable(name) {
        let message = format!("the entry {name:?} has no name that can be kept");
        return Err(PinError::new(E_ENTRY, message, "give it a name of letters and digits"));
    }
    let bytes = reader.read(entry).map_err(|e| unreadable(&entry.display().to_string(), &e))?;
    if bytes.len() > WORKFLOW_DOCUMENT_BYTES_MAX {
        let message = format!("{name}: a document has at most {WORKFLOW_DOCUMENT_BYTES_MAX} bytes");
        return Err(PinError::new(E_MODULE_LIMIT, message, "split it, or pass data as inputs"));
    }
    if std::str::from_utf8(&bytes).is_err() {
        let message = format!("{name} is not UTF-8");
        return Err(PinError::new(E_MODULE_UTF8, message, "save the file as UTF-8"));
    }
    // Everything else that is wrong is told by the reader of documents, with its place.
    if !String::from_utf8_lossy(&bytes).contains("apiVersion") {
        let message = format!("the entry {name:?} is data, not code, and no workflow document");
        return Err(PinError::new(E_ENTRY, message, "a workflow document has an `apiVersion`"));
    }
    let digest = Digest::of(&bytes);
    let files = BTreeMap::from([(name.to_owned(), document_file(name, bytes, digest))]);
    let (root, entry) = (root.to_string_lossy().into_owned(), name.to_owned());
    let graph = PinnedGraph::assemble(root, entry, export, files, Vec::new());
    Ok(PinnedGraph { api: Profile::Workflow, ..graph })
}

/// A workflow document as a pinned file: nothing is imported.
pub(super) fn document_file(path: &str, bytes: Vec<u8>, digest: Digest) -> PinnedFile {
    PinnedFile { path: path.to_owned(), bytes, digest, edges: Vec::new(), uses_sdk: false }
}

/// The same below a root that is known.
fn pin_below(
    reader: &dyn SourceReader,
    request: &PinRequest,
    entry: &Path,
    root: PathBuf,
) -> Result<PinnedGraph, PinError> {
    let library = request.library_root.as_deref().map(|path| {
        reader.canonicalize(path).map_err(|e| {
            if Kind::of(&e) == Kind::TooManyOpen {
                return crowded(&path.display().to_string());
            }
            let message = format!("the library root {} cannot be used: {e}", path.display());
            PinError::new(E_IMPORT_LIBRARY, message, "correct the setting `library_root`")
        })
    });
    let mut loader = Loader {
        reader,
        library: library.transpose()?,
        files: BTreeMap::new(),
        reals: BTreeMap::new(),
        open: VecDeque::new(),
        warnings: Vec::new(),
        bytes: 0,
        root,
    };
    let entry = loader.below_root(entry)?;
    ModuleKind::of(&entry).admit(&entry)?;
    if ModuleKind::of(&entry) == ModuleKind::Json {
        let message = format!("the entry {entry:?} is data, not code");
        return Err(PinError::new(E_ENTRY, message, "name a .js, .mjs, .ts or .mts file"));
    }
    loader.open.push_back((entry.clone(), None));
    for pattern in &request.extra {
        let found = globs::expand(reader, &loader.root, pattern)?;
        loader.open.extend(found.into_iter().map(|path| (path, None)));
    }
    while let Some((path, site)) = loader.open.pop_front() {
        loader.load(path, site.as_ref())?;
    }
    let root = loader.root.to_string_lossy().into_owned();
    let export_name = request.entry.export_name.clone();
    Ok(PinnedGraph::assemble(root, entry, export_name, loader.files, loader.warnings))
}

/// The real path of the entry, which must be a file.
fn entry_file(reader: &dyn SourceReader, path: &Path) -> Result<PathBuf, PinError> {
    let shown = path.display();
    match reader.kind(path) {
        Ok(FileKind::File(_)) => {}
        Ok(FileKind::Directory) => {
            let message = format!("the entry {shown} is a directory");
            let main = ["process.js", "process.ts", "index.js", "index.ts", "main.js"]
                .into_iter()
                .find(|name| matches!(reader.kind(&path.join(name)), Ok(FileKind::File(_))));
            let hint = main.map_or_else(
                || "name the file of the process".to_owned(),
                |name| format!("did you mean {}?", path.join(name).display()),
            );
            return Err(PinError::new(E_MODULE_DIRECTORY, message, hint));
        }
        Ok(FileKind::Missing) => {
            let message = format!("the entry {shown} does not exist");
            let hint = did_you_mean(reader, path).map_or_else(
                || "check the path".to_owned(),
                |name| format!("did you mean {name}?"),
            );
            return Err(PinError::new(E_MODULE_NOT_FOUND, message, hint));
        }
        Err(e) => return Err(unreadable(&shown.to_string(), &e)),
    }
    reader.canonicalize(path).map_err(|e| unreadable(&shown.to_string(), &e))
}

/// The nearest directory above the entry that bears a mark.
fn marked_root(reader: &dyn SourceReader, entry: &Path) -> Result<Option<PathBuf>, PinError> {
    for directory in entry.ancestors().skip(1) {
        for mark in ROOT_MARKS {
            let at = directory.join(mark);
            let kind = reader.kind(&at).map_err(|e| unreadable(&at.display().to_string(), &e))?;
            if kind != FileKind::Missing {
                return Ok(Some(directory.to_owned()));
            }
        }
    }
    Ok(None)
}

fn unreadable(path: &str, error: &io::Error) -> PinError {
    if Kind::of(error) == Kind::TooManyOpen {
        return crowded(path);
    }
    let message = format!("{path} cannot be read: {error}");
    PinError::new(E_MODULE_READ, message, "check the file and its permissions")
}

/// Nobody can say what is there while too many files are open.
pub(super) fn crowded(path: &str) -> PinError {
    PinError::new(E_CROWDED, format!("{path} cannot be opened"), "raise `ulimit -n`")
}

/// The sibling of a missing file whose name is closest.
fn did_you_mean(reader: &dyn SourceReader, missing: &Path) -> Option<String> {
    const CLOSE_ENOUGH: f64 = 0.75;
    let wanted = missing.file_name()?.to_str()?;
    let mut names = reader.list(missing.parent()?).ok()?;
    names.sort();
    let scored =
        names.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(wanted, &name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    (score >= CLOSE_ENOUGH).then_some(name)
}

/// Collects modules breadth first.
struct Loader<'r> {
    reader: &'r dyn SourceReader,
    root: PathBuf,
    library: Option<PathBuf>,
    files: BTreeMap<String, PinnedFile>,
    /// Real path of each file → the path it is pinned under.
    reals: BTreeMap<PathBuf, String>,
    open: VecDeque<(String, Option<Site>)>,
    warnings: Vec<String>,
    bytes: u64,
}

impl Loader<'_> {
    /// A real path as a path below the root.
    fn below_root(&self, path: &Path) -> Result<String, PinError> {
        let Ok(inner) = path.strip_prefix(&self.root) else {
            let (path, root) = (path.display(), self.root.display());
            let message = format!("the entry {path} lies outside the process root {root}");
            return Err(PinError::new(E_IMPORT_ESCAPE, message, "choose another --process-root"));
        };
        inner.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("the path {} is not UTF-8", path.display());
            PinError::new(E_MODULE_READ, message, "rename the file")
        })
    }

    /// The root that a pinned path belongs to, and the file it stands for.
    fn locate(&self, path: &str) -> (&Path, PathBuf) {
        let library = format!("{LIBRARY_PLACE}/{LIBRARY}/");
        match (&self.library, path.strip_prefix(&library)) {
            (Some(root), Some(rest)) => (root, root.join(rest)),
            _ => (&self.root, self.root.join(path)),
        }
    }

    fn kind(&self, path: &str) -> Result<FileKind, PinError> {
        self.reader.kind(&self.locate(path).1).map_err(|e| unreadable(path, &e))
    }

    /// Reads one module and queues what it asks for.
    fn load(&mut self, path: String, site: Option<&Site>) -> Result<(), PinError> {
        if self.files.contains_key(&path) {
            return Ok(());
        }
        if !is_pinnable(&path) {
            let message = format!("no file can be pinned as {path:?}");
            return Err(PinError::new(E_MODULE_READ, message, "rename the file").at(site));
        }
        let bytes = self.read(&path, site)?;
        let analysis = read_module(&path, &bytes)?;
        let digest = Digest::of(&bytes);
        let mut file =
            PinnedFile { path: path.clone(), bytes, digest, edges: Vec::new(), uses_sdk: false };
        self.warnings.extend(analysis.warnings);
        for (line, column) in analysis.computed_imports {
            self.warnings.push(format!(
                "{path}:{line}:{column}: a computed import() reaches only pinned modules: \
                 name others with --pin"
            ));
        }
        for import in &analysis.imports {
            file.uses_sdk |= selects_sdk(import);
            let site = Site { path: path.clone(), line: import.line, column: import.column };
            if let Some(found) = self.import(import, &site)? {
                add_edge(&mut file.edges, import, found.clone());
                self.open.push_back((found, Some(site)));
            }
        }
        self.files.insert(path, file);
        Ok(())
    }

    /// The bytes of a module, within the roots and the limits.
    fn read(&mut self, path: &str, site: Option<&Site>) -> Result<Vec<u8>, PinError> {
        let (root, file) = self.locate(path);
        let real = self.reader.canonicalize(&file).map_err(|e| unreadable(path, &e).at(site))?;
        if !real.starts_with(root) {
            return Err(escape(path, "is a link that leaves the process root").at(site));
        }
        let failed = |e: io::Error| unreadable(path, &e).at(site);
        if let FileKind::File(size) = self.reader.kind(&file).map_err(failed)? {
            self.admit(path, size).map_err(|e| e.at(site))?;
        }
        let bytes = self.reader.read(&file).map_err(failed)?;
        self.bytes += bytes.len() as u64;
        self.admit(path, 0).map_err(|e| e.at(site))?;
        if let Some(first) = self.reals.insert(real, path.to_owned()) {
            self.warnings.push(format!(
                "{path}: the same file as {first}: a module reached by two paths is two modules"
            ));
        }
        Ok(bytes)
    }

    /// Whether one more file of `size` bytes is within the limits.
    fn admit(&self, path: &str, size: u64) -> Result<(), PinError> {
        let hint = "a process should carry code; leave data to tasks or inputs";
        if self.files.len() >= MODULE_FILES_MAX {
            let message =
                format!("{path} is one of more than {MODULE_FILES_MAX} modules (module_files_max)");
            return Err(PinError::new(E_MODULE_LIMIT, message, hint));
        }
        if self.bytes + size > MODULE_BYTES_MAX {
            let message = format!(
                "with {path} the modules have more than {MODULE_BYTES_MAX} bytes (module_bytes_max)"
            );
            return Err(PinError::new(E_MODULE_LIMIT, message, hint));
        }
        Ok(())
    }

    /// The pinned path that an import leads to; none for built-in modules.
    fn import(&mut self, import: &Import, site: &Site) -> Result<Option<String>, PinError> {
        let specifier = &import.specifier;
        match sort(specifier) {
            Specifier::Builtin { .. } => return Ok(None),
            Specifier::Refused(code, message, hint) => {
                return Err(PinError::new(code, message, hint).at(Some(site)));
            }
            Specifier::Library(_) if self.library.is_none() => {
                let message = format!("{specifier:?} needs the process library");
                let hint = "set `library_root` to the directory that holds it";
                return Err(PinError::new(E_IMPORT_LIBRARY, message, hint).at(Some(site)));
            }
            Specifier::Library(_) | Specifier::Relative => {}
        }
        let found = match self.find(specifier, site) {
            Ok(path) => ModuleKind::of(&path).admit(&path).map(|()| path).map_err(|e| PinError {
                site: Some(site.clone()),
                message: format!("{specifier:?} is {}", e.message),
                ..e.into()
            }),
            Err(e) => Err(e),
        };
        let note = match import.kind {
            // Only a guess: some other `run` may take a path that is no module.
            ImportKind::ChildRun => Some("if it names a child run's process, that will fail"),
            // Its rejection may be what the author expects.
            ImportKind::Dynamic => Some("this import() will be rejected"),
            ImportKind::Static | ImportKind::Reexport => None,
        };
        if let (Err(e), Some(note)) = (&found, note) {
            self.warnings.push(format!("{site}: {}: {note}", e.message));
            return Ok(None);
        }
        let path = found?;
        if import.json && ModuleKind::of(&path) != ModuleKind::Json {
            let message = format!("{specifier:?} is imported as JSON and is not JSON");
            let hint = "remove the `with` clause";
            return Err(PinError::new(E_IMPORT_ATTRIBUTE, message, hint).at(Some(site)));
        }
        Ok(Some(path))
    }

    /// The file that a relative or library specifier means.
    fn find(&self, specifier: &str, site: &Site) -> Result<String, PinError> {
        let Some(wanted) = target(&site.path, specifier) else {
            return Err(escape(specifier, LEAVES).at(Some(site)));
        };
        let is_file = |path: &str| Ok(matches!(self.kind(path)?, FileKind::File(_)));
        if let Some(path) =
            first_of(&wanted, specifier, &is_file).map_err(|e: PinError| e.at(Some(site)))?
        {
            return Ok(path);
        }
        let error = if self.kind(&wanted)? == FileKind::Directory {
            let message = format!("{specifier:?} is a directory without index.js or index.ts");
            PinError::new(E_MODULE_DIRECTORY, message, "name the file")
        } else {
            let message = format!("{specifier:?} does not exist (looked for {wanted})");
            let hint = did_you_mean(self.reader, &self.locate(&wanted).1).map_or_else(
                || "check the path".to_owned(),
                |name| format!("did you mean {name}?"),
            );
            PinError::new(E_MODULE_NOT_FOUND, message, hint)
        };
        Err(error.at(Some(site)))
    }
}

fn escape(what: &str, how: &str) -> PinError {
    let hint = "move the module below the process root, or choose another --process-root";
    PinError::new(E_IMPORT_ESCAPE, format!("{what:?} {how}"), hint)
}

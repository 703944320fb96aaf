//! Files beside journals: of a root, of a run, of an operator.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse::codecs::event::Head;
use dormouse::codecs::format::line;
use dormouse::daemon::config::{Config, Given};
use dormouse::ground::digest::Sum;
use dormouse::ground::id::{RunId, Seq};
use dormouse::machines::replay::state::RunState;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::ports::disk::{Dir, Disk};
use dormouse::services::executor::agents;
use dormouse::shells::journal::reader;
use dormouse::shells::run_dir::dir::{RunDir, pretty};
use dormouse::shells::run_dir::{lock, root_file};

use super::choice;

fn root(disk: &MemoryDisk) -> Arc<dyn Dir> {
    disk.open_dir(Path::new("/")).unwrap_or_else(|e| panic!("{e}"))
}

/// A directory with one file in it.
fn with_file(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> Arc<dyn Dir> {
    let dir = root(disk);
    let written = dir.create_excl(name).and_then(|file| file.write_at(0, bytes));
    written.unwrap_or_else(|e| panic!("{e}"));
    dir
}

fn run_dir(disk: &MemoryDisk) -> RunDir {
    let id: RunId = "run-1".parse().unwrap_or_else(|e| panic!("{e}"));
    RunDir::new(Arc::new(disk.clone()), root(disk), id, None)
}

/// It is refused, or printed as it was read.
pub fn root_json(data: &[u8]) {
    let (how, data) = choice(data);
    let mut bytes = data.to_vec();
    if how % 2 == 1 {
        // The seal of this kind of file over whatever stands there.
        let mut genesis = blake3::Hasher::new();
        genesis.update(b"dormouse-root/1\n");
        let body = line::split(data).map_or(data, |(body, _)| body);
        let sum = line::chain(Sum::from_hasher(&genesis), body);
        bytes = [body, format!(",\"sum\":\"{sum}\"}}\n").as_bytes()].concat();
    }
    let disk = MemoryDisk::new(0);
    let dir = with_file(&disk, root_file::ROOT_JSON, &bytes);
    let Ok(Some(json)) = root_file::read(&*dir) else { return };
    let _ = root_file::uuid_bytes(&json.root);
    let file = root_file::RootFile::new(Arc::clone(&dir), json);
    file.replace(|_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(disk.content(Path::new("/root.json")), Some(bytes));
}

/// What is read is printed and read again; a journal beside it is judged.
pub fn run_json(data: &[u8]) {
    let disk = MemoryDisk::new(0);
    with_file(&disk, "run.json", data);
    let run = run_dir(&disk);
    let _ = reader::read(&run, None);
    let Some(json) = run.run_json() else { return };
    let printed = pretty(&json);
    run.write_run_json(&json).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(run.run_json(), Some(json));
    assert_eq!(disk.content(Path::new("/run.json")), Some(printed));
}

/// Any text is a note or none.
pub fn lock_note(data: &[u8]) {
    let disk = MemoryDisk::new(0);
    let dir = with_file(&disk, "run.lock", data);
    if let Some(note) = lock::read_note(&*dir, "run.lock") {
        let _ = (note.describe(), note.witness());
    }
}

/// A cache that is read is one that was written; what stands in it is a state or is not.
pub fn state_cache(data: &[u8]) {
    let (how, data) = choice(data);
    let disk = MemoryDisk::new(0);
    let run = run_dir(&disk);
    let head = Head { seq: Seq(9), sum: line::genesis(run.id()) };
    run.write_cache(head, data).unwrap_or_else(|e| panic!("{e}"));
    if how % 2 == 0 {
        disk.tamper(Path::new("/state/cache.mpk"), |bytes| *bytes = data.to_vec());
    } else {
        let cache = run.read_cache();
        assert_eq!(cache.map(|cache| cache.bytes).as_deref(), Some(data));
    }
    if let Some(cache) = run.read_cache() {
        let _ = rmp_serde::from_slice::<RunState>(&cache.bytes);
    }
}

/// A file of agents is read, or what is wrong with it is said with its line.
pub fn agents_yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(agents) = agents::file::read(text, Path::new("/"), &|name| name.len() % 2 == 0) else {
        return;
    };
    let _ = agents.limits();
    assert!(agents.agents.keys().all(|id| (1..=64).contains(&id.len())));
}

/// A file of settings is taken, or what is wrong with it is said.
pub fn config_toml(data: &[u8]) {
    let disk = MemoryDisk::new(0);
    with_file(&disk, "dormouse.toml", data);
    let file = Some(PathBuf::from("/dormouse.toml"));
    let given = Given { file, variable: &|_| None, options: Vec::new() };
    match Config::load(&disk, &given) {
        Ok((_, settings)) => assert!(!settings.rows().is_empty()),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

//! Patterns for `--pin`: `*` and `?` inside a name, `**` for any directories.
//!
//! May not know modules. Invariant: a walk looks at no more than [`WALK_ENTRIES_MAX`] names and
//! reports matches in order of their paths.

use super::graph::crowded;
use super::{E_PIN_GLOB, FileKind, PinError, SourceReader, resolve};
use crate::ports::disk::Kind;
use std::path::Path;

/// Names that one pattern may make us look at: a pattern at the top of a large tree must not hang.
const WALK_ENTRIES_MAX: usize = 100_000;
/// Directories that never hold modules of a process.
const SKIPPED: [&str; 3] = [".git", "node_modules", "target"];

/// Files below `root` that match `pattern`, as paths below it.
pub(super) fn expand(
    reader: &dyn SourceReader,
    root: &Path,
    pattern: &str,
) -> Result<Vec<String>, PinError> {
    let refuse = |message: &str, hint: &str| {
        Err(PinError::new(E_PIN_GLOB, format!("--pin {pattern:?} {message}"), hint))
    };
    let normal = match resolve::below(pattern) {
        Some(normal) if !pattern.starts_with('/') && !normal.is_empty() => normal,
        _ => return refuse("leaves the process root", "give a pattern below it"),
    };
    let parts: Vec<&str> = normal.split('/').collect();
    let mut walk = Walk { reader, root, seen: 0, found: Vec::new() };
    if !walk.directory("", &parts)? {
        return refuse("looks at too many files", "name the directory with the modules");
    }
    if walk.found.is_empty() {
        return refuse("matches no file", "the pattern is taken from the process root");
    }
    walk.found.sort();
    walk.found.dedup();
    Ok(walk.found)
}

struct Walk<'r> {
    reader: &'r dyn SourceReader,
    root: &'r Path,
    seen: usize,
    found: Vec<String>,
}

impl Walk<'_> {
    /// Looks for `parts` in the directory `at`; false when there is too much to look at.
    fn directory(&mut self, at: &str, parts: &[&str]) -> Result<bool, PinError> {
        let Some((&part, rest)) = parts.split_first() else { return Ok(true) };
        let failed = |e: std::io::Error| {
            if Kind::of(&e) == Kind::TooManyOpen {
                return crowded(at);
            }
            let message = format!("{at:?} cannot be listed: {e}");
            PinError::new(E_PIN_GLOB, message, "check the directory's permissions")
        };
        if part == "**" && !self.directory(at, rest)? {
            return Ok(false);
        }
        let mut names = self.reader.list(&self.root.join(at)).map_err(failed)?;
        names.sort();
        for name in names {
            self.seen += 1;
            if self.seen > WALK_ENTRIES_MAX {
                return Ok(false);
            }
            if !matches(part, &name) || SKIPPED.contains(&name.as_str()) && part != name {
                continue;
            }
            let path = if at.is_empty() { name } else { format!("{at}/{name}") };
            let kind = self.reader.kind(&self.root.join(&path)).map_err(failed)?;
            match kind {
                FileKind::File(_) if rest.is_empty() => self.found.push(path),
                FileKind::Directory => {
                    let below = if part == "**" { parts } else { rest };
                    if !self.directory(&path, below)? {
                        return Ok(false);
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    }
}

/// Whether one name matches one part of a pattern.
fn matches(part: &str, name: &str) -> bool {
    if part == "**" {
        return !name.starts_with('.');
    }
    let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
    // Where to go on if the last `*` has to take one more character.
    let (mut p, mut n, mut retry) = (0, 0, None);
    while n < name.len() {
        match part.get(p) {
            Some('*') => {
                retry = Some((p + 1, n + 1));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, next)) => {
                    (p, n) = (star, next);
                    retry = Some((star, next + 1));
                }
                None => return false,
            },
        }
    }
    part[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn names_match_parts() {
        for (part, name, yes) in [
            ("a.js", "a.js", true),
            ("*.js", "a.js", true),
            ("*.js", "a.ts", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.js", "ä.js", true),
            ("?.js", "ab.js", false),
            ("*", "", true),
            ("**", "a", true),
            ("**", ".hidden", false),
        ] {
            assert_eq!(matches(part, name), yes, "{part} {name}");
        }
    }
}

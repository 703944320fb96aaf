//! The text of process modules: what a module imports, and JavaScript out of TypeScript.
//!
//! May not know where a module is kept or what its specifiers lead to. Invariant: stripping types
//! moves nothing: every byte that remains stands where the author wrote it.

mod analyze;
mod blank;
mod depth;
mod parse;
mod strip;

pub use analyze::{Analysis, Import, ImportKind, analyze};
pub use strip::strip_types;

/// Code of an error: the text is not valid JavaScript (or TypeScript, or JSON).
pub const E_SYNTAX: &str = "E_SYNTAX";
/// Code of an error: TypeScript that cannot be erased, or JSX.
pub const E_TS_SYNTAX: &str = "E_TS_SYNTAX";
/// Code of an error: a CommonJS module.
pub const E_COMMONJS: &str = "E_COMMONJS";
/// Code of an error: a file that is no module at all.
pub const E_MODULE_KIND: &str = "E_MODULE_KIND";

/// Why a module's text is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}:{column}: {code}: {message}; {hint}")]
pub struct SourceError {
    /// Stable code, such as `E_TS_SYNTAX`.
    pub code: &'static str,
    /// The module, as the caller named it.
    pub path: String,
    /// Line, 1-based.
    pub line: u32,
    /// Column in characters, 1-based.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What the name of a file says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// `.js`, `.mjs`, or no extension.
    JavaScript,
    /// `.ts`, `.mts`.
    TypeScript,
    /// `.json`.
    Json,
    /// `.cjs`, `.cts`: refused.
    CommonJs,
    /// `.jsx`, `.tsx`: refused.
    Jsx,
    /// `.d.ts`, `.d.mts`: refused, there is no code in it.
    Declaration,
    /// Anything else: refused.
    Other,
}

impl ModuleKind {
    /// The kind of the file called `path`.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        if [".d.ts", ".d.mts", ".d.cts"].iter().any(|end| name.ends_with(end)) {
            return Self::Declaration;
        }
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            None | Some("js" | "mjs") => Self::JavaScript,
            Some("ts" | "mts") => Self::TypeScript,
            Some("json") => Self::Json,
            Some("cjs" | "cts") => Self::CommonJs,
            Some("jsx" | "tsx") => Self::Jsx,
            Some(_) => Self::Other,
        }
    }

    /// Refuses the kinds that are never modules of a process.
    ///
    /// # Errors
    /// For [`Self::CommonJs`], [`Self::Jsx`], [`Self::Declaration`] and [`Self::Other`].
    pub fn admit(self, path: &str) -> Result<(), SourceError> {
        let (code, message, hint) = match self {
            Self::JavaScript | Self::TypeScript | Self::Json => return Ok(()),
            Self::CommonJs => (
                E_COMMONJS,
                "a CommonJS module",
                "write an ES module (import and export) and name it .js, .mjs, .ts or .mts",
            ),
            Self::Jsx => (
                E_TS_SYNTAX,
                "JSX is not available in processes",
                "name the file .js or .ts and build values with plain functions",
            ),
            Self::Declaration => (
                E_TS_SYNTAX,
                "a declaration file has no code",
                "use `import type`, which needs no file when the process runs",
            ),
            Self::Other => (
                E_MODULE_KIND,
                "not a module",
                "a process consists of .js, .mjs, .ts, .mts and .json files",
            ),
        };
        Err(SourceError::at_start(code, path, message, hint))
    }
}

impl SourceError {
    /// An error about a file as a whole.
    #[must_use]
    pub fn at_start(code: &'static str, path: &str, message: &str, hint: &str) -> Self {
        let (message, hint) = (message.to_owned(), hint.to_owned());
        Self { code, path: path.to_owned(), line: 1, column: 1, message, hint }
    }
}

/// Line and column, 1-based, of a byte offset.
pub(crate) fn place(text: &str, offset: usize) -> (u32, u32) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let breaks = before.bytes().zip(before.bytes().skip(1).map(Some).chain([None]));
    let line =
        1 + breaks.filter(|&(b, next)| b == b'\n' || b == b'\r' && next != Some(b'\n')).count();
    let start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let column = before[start..].chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;

//! `--entry` and what belongs to it, shared by the verbs that take code.
//!
//! May not read a file. Invariant: paths are made absolute against the working directory.

use std::path::PathBuf;

use crate::doors::cli::failure::Failure;
use crate::doors::cli::input::absolute;
use crate::services::runs::Error;
use crate::services::runs::create::Source;
use crate::shells::pin::EntrySpec;

/// Where process code comes from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SourceArgs {
    /// Process module, with the export to call if it is not `process`
    #[arg(long, value_name = "FILE[#EXPORT]")]
    pub(crate) entry: Option<String>,
    /// Name of the process [default: the stem of the entry file]
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) process_id: Option<String>,
    /// Directory below which all modules must lie [default: found by looking upward]
    #[arg(long, value_name = "DIR")]
    pub(crate) process_root: Option<PathBuf>,
    /// Directory of the process library
    #[arg(long, env = "DORMOUSE_LIBRARY_ROOT", value_name = "DIR")]
    pub(crate) library_root: Option<PathBuf>,
    /// Further modules to pin, by pattern below the process root
    #[arg(long = "pin", value_name = "GLOB")]
    pub(crate) pins: Vec<String>,
}

impl SourceArgs {
    /// The source, if an entry was given.
    pub(crate) fn source(&self) -> Result<Option<Source>, Failure> {
        let Some(entry) = &self.entry else { return Ok(None) };
        let spec = EntrySpec::parse(entry).map_err(Error::from)?;
        Ok(Some(Source {
            entry: EntrySpec { path: absolute(&spec.path)?, ..spec },
            root: self.process_root.as_deref().map(absolute).transpose()?,
            library_root: self.library_root.as_deref().map(absolute).transpose()?,
            extra: self.pins.clone(),
            process_id: self.process_id.clone(),
        }))
    }

    /// The source; an entry is needed.
    pub(crate) fn needed(&self) -> Result<Source, Failure> {
        self.source()?.ok_or_else(|| Failure::usage("--entry is missing", "--entry FILE[#EXPORT]"))
    }
}

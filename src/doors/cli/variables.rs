//! Variables of the environment that begin with `DORMOUSE_`: switches, and names that nobody knows.
//!
//! May not know what a variable sets. Invariant: a misspelt name is told, never skipped silently.

use clap::CommandFactory as _;

use super::{Cli, completions, output};
use crate::codecs::trace::TraceContext;
use crate::daemon::config::{KEYS, Key};
use crate::ground::sabotage;

/// How far a name may be from the one that was meant.
const NEAR: usize = 3;

/// Reads a switch: yes, no, and nothing, which is no.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" | "t" => Ok(true),
        "" | "0" | "false" | "no" | "n" | "off" | "f" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

/// Where in a trace this command was started: inside a task, in that of its run.
pub(super) fn traceparent() -> Option<TraceContext> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}

/// Warns of variables that nothing reads.
pub(super) fn warn() {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in unknown(set) {
        output::remark(&format!("warning: {warning}"));
    }
}

fn unknown(set: impl Iterator<Item = String>) -> Vec<String> {
    let mut strange: Vec<String> = set.filter(|name| name.starts_with("DORMOUSE_")).collect();
    if strange.is_empty() {
        return strange;
    }
    let known = known();
    strange.retain(|name| !known.contains(name));
    strange.sort();
    strange.iter().map(|name| told(name, &known)).collect()
}

fn told(name: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|known| (strsim::osa_distance(known, name), known)).min();
    match nearest {
        Some((distance, near)) if distance <= NEAR => {
            format!("nothing reads the variable {name}; did you mean {near}?")
        }
        _ => format!("nothing reads the variable {name}"),
    }
}

/// The variables of all options, and of all keys.
fn known() -> Vec<String> {
    let mut known: Vec<String> = KEYS.iter().map(Key::variable).collect();
    known.extend([completions::VARIABLE, sabotage::VARIABLE].map(str::to_owned));
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        commands.extend(command.get_subcommands().cloned());
    }
    known.sort();
    known.dedup();
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nothing_reads_is_told_with_the_one_that_was_meant() {
        let set = ["DORMOUSE_NOPE", "DORMOUSE_SETTLE_IDEL", "DORMOUSE_OFLINE", "DORMOUSE_OFFLINE"];
        let set = set.iter().chain(&["DORMOUSE_AUDIT_RATE", "DORMOUSE_LIBRARY_ROOT", "HOME"]);
        let told = unknown(set.map(|name| (*name).to_owned()));
        let expected = [
            "nothing reads the variable DORMOUSE_NOPE",
            "nothing reads the variable DORMOUSE_OFLINE; did you mean DORMOUSE_OFFLINE?",
            "nothing reads the variable DORMOUSE_SETTLE_IDEL; did you mean DORMOUSE_SETTLE_IDLE?",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_switch_is_yes_or_no() {
        for (text, on) in [("1", true), ("Yes", true), ("0", false), ("", false), ("off", false)] {
            assert_eq!(switch(text), Ok(on), "{text}");
        }
        assert!(switch("maybe").is_err());
    }
}

//! The allow-list of commands: programs, and for each of their arguments a pattern.
//!
//! May not look at disks or environments: it gets paths without links. Invariant: what no rule
//! names is not allowed.

use std::fmt;
use std::path::Path;

/// What may be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Everything; it must have been written out.
    Any,
    /// What one of these names.
    Only(Vec<Rule>),
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A program, as a name or a path.
    pub program: String,
    /// A pattern for each argument; the last `*` stands for all that follow. Absent: any arguments.
    pub args: Option<Vec<String>>,
}

impl Default for Allow {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Allow {
    /// Whether a command may be executed. `program` is its path without links; `real` gives the
    /// same for the program of a rule, if there is one.
    #[must_use]
    pub fn permits(
        &self,
        program: &Path,
        args: &[String],
        real: impl Fn(&str) -> Option<std::path::PathBuf>,
    ) -> bool {
        match self {
            Self::Any => true,
            Self::Only(rules) => rules.iter().any(|rule| {
                rule.permits_args(args) && real(&rule.program).is_some_and(|its| its == program)
            }),
        }
    }
}

impl Rule {
    fn permits_args(&self, args: &[String]) -> bool {
        let Some(patterns) = &self.args else { return true };
        let (patterns, rest) = match patterns.split_last() {
            Some((last, before)) if last == "*" => (before, true),
            _ => (patterns.as_slice(), false),
        };
        let enough = if rest { args.len() >= patterns.len() } else { args.len() == patterns.len() };
        enough && patterns.iter().zip(args).all(|(pattern, arg)| matches(pattern, arg))
    }
}

/// Whether a text is what a pattern describes: `*` stands for any characters, `?` for one.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The last star, and what it had taken when it was last tried.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("\"any\""),
            Self::Only(rules) => {
                let rules: Vec<String> = rules.iter().map(Rule::to_string).collect();
                write!(f, "[{}]", rules.join(", "))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.args {
            None => write!(f, "{{ program = {:?} }}", self.program),
            Some(args) => write!(f, "{{ program = {:?}, args = {args:?} }}", self.program),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("*", "anything at all/..", true),
            ("--*=?", "--level=3", true),
            ("--*=?", "--level=33", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("ü*", "über", true),
            ("[a]", "a", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn what_no_rule_names_is_not_allowed() {
        let rule = |program: &str, args: Option<&[&str]>| Rule {
            program: program.to_owned(),
            args: args.map(|args| args.iter().map(|arg| (*arg).to_owned()).collect()),
        };
        let list = Allow::Only(vec![
            rule("git", Some(&["log", "*"])),
            rule("git", Some(&["status"])),
            rule("/opt/tool", None),
            rule("cp", Some(&["/data/*", "/backup/?"])),
            rule("gone", None),
        ]);
        let real = |name: &str| match name {
            "git" => Some("/usr/bin/git".into()),
            "cp" => Some("/usr/bin/coreutils".into()),
            "gone" => None,
            path => Some(path.into()),
        };
        for (program, args, fits) in [
            ("/usr/bin/git", &["log"][..], true),
            ("/usr/bin/git", &["log", "-1", "x"], true),
            ("/usr/bin/git", &["status"], true),
            ("/usr/bin/git", &["status", "-s"], false),
            ("/usr/bin/git", &["push"], false),
            ("/usr/bin/git", &[], false),
            ("/tmp/git", &["status"], false),
            ("/opt/tool", &[], true),
            ("/opt/tool", &["anything"], true),
            ("/usr/bin/coreutils", &["/data/a", "/backup/b"], true),
            ("/usr/bin/coreutils", &["/etc/shadow", "/backup/b"], false),
            ("/usr/bin/coreutils", &["/data/a", "/backup/bb"], false),
            ("gone", &[], false),
        ] {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(list.permits(Path::new(program), &args, real), fits, "{program} {args:?}");
            assert!(Allow::Any.permits(Path::new(program), &args, real));
            assert!(!Allow::Only(Vec::new()).permits(Path::new(program), &args, real));
        }
    }
}

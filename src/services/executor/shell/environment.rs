//! The environment of a command: nothing of the daemon's but what configuration passes on.
//!
//! May not read an environment itself. Invariant: a variable by which programs are told to load
//! code is set only if configuration names it in full.

use std::collections::BTreeMap;

use super::Rules;
use super::allow::matches;
use super::definition::Definition;

/// Patterns of names that load code, or change how texts are read.
const DANGEROUS: &[&str] =
    &["LD_*", "DYLD_*", "BASH_ENV", "ENV", "IFS", "*_OPTIONS", "GIT_SSH*", "DORMOUSE_*"];

/// The first variable of a definition that configuration does not allow.
pub(super) fn forbidden<'a>(def: &'a Definition, rules: &Rules) -> Option<&'a str> {
    def.env.keys().map(String::as_str).find(|name| !allows(&rules.env_allow, name))
}

fn allows(list: &[String], name: &str) -> bool {
    // What the runtime says about itself is nobody else's to say.
    if name.starts_with("DORMOUSE_") {
        return false;
    }
    let dangerous = DANGEROUS.iter().any(|pattern| matches(pattern, name));
    list.iter().any(|entry| if dangerous { entry == name } else { matches(entry, name) })
}

/// The whole environment: `passed` from the daemon's own, then the definition's, then `ours`.
pub(super) fn whole(
    def: &Definition,
    rules: &Rules,
    passed: &BTreeMap<String, String>,
    ours: Vec<(&'static str, String)>,
) -> Vec<(String, String)> {
    let path: Vec<String> = rules.path.iter().map(|dir| dir.display().to_string()).collect();
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), path.join(":")),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    all.extend(passed.clone());
    all.extend(def.env.clone());
    all.extend(ours.into_iter().map(|(name, value)| (name.to_owned(), value)));
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(env_allow: &[&str]) -> Rules {
        let env_allow = env_allow.iter().map(|name| (*name).to_owned()).collect();
        Rules { env_allow, path: vec!["/a".into(), "/b".into()], ..Rules::default() }
    }

    fn def(env: &[(&str, &str)]) -> Definition {
        let env: serde_json::Map<_, _> =
            env.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        Definition::read(&json!({ "argv": ["x"], "env": env })).unwrap()
    }

    #[test]
    fn names_are_allowed_by_pattern_and_dangerous_ones_in_full() {
        for (list, name, fits) in [
            (&[][..], "A", false),
            (&["A"], "A", true),
            (&["APP_*"], "APP_KEY", true),
            (&["*"], "PATH", true),
            (&["*"], "LD_PRELOAD", false),
            (&["LD_*"], "LD_PRELOAD", false),
            (&["LD_PRELOAD"], "LD_PRELOAD", true),
            (&["*"], "NODE_OPTIONS", false),
            (&["*"], "GIT_SSH_COMMAND", false),
            (&["*"], "IFS", false),
            (&["DORMOUSE_RUN_ID"], "DORMOUSE_RUN_ID", false),
        ] {
            let def = def(&[(name, "v")]);
            let found = forbidden(&def, &rules(list));
            assert_eq!(found, (!fits).then_some(name), "{list:?}");
        }
    }

    #[test]
    fn what_the_runtime_says_comes_last() {
        let passed = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        let ours = vec![("DORMOUSE_RUN_ID", "r".to_owned())];
        let all = whole(&def(&[("LANG", "C")]), &rules(&["LANG"]), &passed, ours);
        let words: Vec<String> =
            all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(words, ["DORMOUSE_RUN_ID=r", "HOME=/h", "LANG=C", "PATH=/a:/b"]);
    }
}

//! Which file a relative specifier means.
//!
//! May not know where files are. Invariant: the answer depends only on the importing path, the
//! specifier and on which of the candidates exist, so a pinned copy gives the answer of its origin.

/// Joins a specifier to the module that says it, both below one root. None: it leaves the root.
pub(super) fn join(importer: &str, specifier: &str) -> Option<String> {
    let directory = importer.rsplit_once('/').map_or("", |(directory, _)| directory);
    below(&format!("{directory}/{specifier}"))
}

/// A path without `.` and `..`. None: it leaves the root.
pub(super) fn below(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether a file may be pinned under `path`: below the root, in one spelling, without characters
/// that lists of paths separate by, and not in the place of the list itself.
pub(super) fn is_pinnable(path: &str) -> bool {
    !path.is_empty()
        && path != super::LOCK_FILE
        && !path.contains(char::is_control)
        && below(path).as_deref() == Some(path)
}

/// Paths that `path` may mean; the first that exists wins.
pub(super) fn candidates(path: &str, directory_only: bool) -> Vec<String> {
    let mut all = Vec::new();
    if !path.is_empty() && !directory_only {
        all.push(path.to_owned());
        for (from, to) in [(".js", ".ts"), (".mjs", ".mts")] {
            all.extend(path.strip_suffix(from).map(|stem| format!("{stem}{to}")));
        }
        all.extend([".js", ".mjs", ".ts", ".mts", ".json"].map(|end| format!("{path}{end}")));
    }
    let directory = if path.is_empty() { String::new() } else { format!("{path}/") };
    all.extend(["index.js", "index.ts"].map(|name| format!("{directory}{name}")));
    all
}

/// Whether a specifier can only mean a directory.
pub(super) fn means_directory(specifier: &str) -> bool {
    specifier.ends_with('/') || specifier == "." || specifier == ".." || specifier.ends_with("/..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_joined_below_the_root() {
        assert_eq!(join("a/b.js", "./c.js").as_deref(), Some("a/c.js"));
        assert_eq!(join("a/b.js", "../c.js").as_deref(), Some("c.js"));
        assert_eq!(join("b.js", "./d/../c.js").as_deref(), Some("c.js"));
        assert_eq!(join("b.js", "../c.js"), None);
        assert_eq!(join("a/b.js", "..").as_deref(), Some(""));
    }

    #[test]
    fn some_paths_are_not_pinned() {
        for (path, yes) in [
            ("a/b.js", true),
            ("a/process.lock.json", true),
            ("process.lock.json", false),
            ("a\nb.js", false),
            ("a//b.js", false),
            ("../b.js", false),
            ("/b.js", false),
            ("", false),
        ] {
            assert_eq!(is_pinnable(path), yes, "{path:?}");
        }
    }

    #[test]
    fn candidates_come_in_order() {
        assert_eq!(
            candidates("a/x.js", false),
            ["a/x.js", "a/x.ts", "a/x.js.js", "a/x.js.mjs", "a/x.js.ts", "a/x.js.mts"]
                .into_iter()
                .chain(["a/x.js.json", "a/x.js/index.js", "a/x.js/index.ts"])
                .collect::<Vec<_>>()
        );
        assert_eq!(candidates("x.mjs", false)[1], "x.mts");
        assert_eq!(candidates("lib", true), ["lib/index.js", "lib/index.ts"]);
        assert_eq!(candidates("", false), ["index.js", "index.ts"]);
    }
}

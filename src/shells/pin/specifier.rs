//! What an import specifier asks for, and why most kinds of it are refused.
//!
//! May not know files. Invariant: every text that is not one of the few accepted forms is refused
//! with a code and with what to write instead.

use super::{E_IMPORT_BARE, E_IMPORT_NODE, E_IMPORT_SUBPATH};

/// The package that existing processes import.
const SDK: &str = "@a5c-ai/babysitter-sdk";
/// The package around it: the same module.
const SDK_META: &str = "@a5c-ai/babysitter";
/// The package with ready-made processes.
pub(super) const LIBRARY: &str = "@a5c-ai/babysitter-library";

/// What the built-in module exports, for the message about paths inside it.
const EXPORTS: &str = "defineTask, agentTask, autoTask, externalAgentTask, nodeTask, \
    breakpointTask, humanTask, orchestratorTask, sleepTask, shellTask, skillTask, \
    globalTaskRegistry, resetGlobalTaskRegistry, the error classes, version, api";

/// Names under which Node offers its own modules without `node:`.
const NODE: [&str; 42] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// What a specifier asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Specifier<'s> {
    /// The built-in module; under the SDK's name it selects the babysitter profile.
    Builtin {
        /// By the SDK's name.
        sdk: bool,
    },
    /// A module beside the importing one.
    Relative,
    /// A module of the process library, by its path there.
    Library(&'s str),
    /// Refused: code, what it is, what to do.
    Refused(&'static str, String, String),
}

/// Sorts a specifier.
pub(super) fn sort(text: &str) -> Specifier<'_> {
    let inside = |package: &str| text.strip_prefix(package).and_then(|rest| rest.strip_prefix('/'));
    if text == "dormouse" {
        return Specifier::Builtin { sdk: false };
    }
    if text == SDK || text == SDK_META {
        return Specifier::Builtin { sdk: true };
    }
    if text == "." || text == ".." || text.starts_with("./") || text.starts_with("../") {
        return Specifier::Relative;
    }
    if let Some(path) = inside(LIBRARY).filter(|path| !path.is_empty()) {
        return Specifier::Library(path);
    }
    if inside(SDK).or_else(|| inside(SDK_META)).or_else(|| inside("dormouse")).is_some() {
        return Specifier::Refused(
            E_IMPORT_SUBPATH,
            format!("{text:?} is a path inside the SDK"),
            format!("import from {SDK:?} itself, which exports {EXPORTS}"),
        );
    }
    if let Some(name) = node_module(text) {
        let message = format!("{text:?} is a module of Node: not available in processes");
        return Specifier::Refused(E_IMPORT_NODE, message, instead_of_node(name).to_owned());
    }
    Specifier::Refused(
        E_IMPORT_BARE,
        format!("{text:?} is a package or a URL: not available in processes"),
        "import a file by a relative path, or do the work in a task".to_owned(),
    )
}

/// The name of the Node module that a specifier means.
fn node_module(text: &str) -> Option<&str> {
    let named = text.strip_prefix("node:");
    named.or_else(|| {
        let head = text.split('/').next().unwrap_or(text);
        NODE.contains(&head).then_some(text)
    })
}

/// What to write instead of a Node module.
fn instead_of_node(name: &str) -> &'static str {
    match name.split('/').next().unwrap_or(name) {
        "fs" => {
            "import static data with a JSON or relative import; leave files of run time to a task"
        }
        "path" | "url" => "use template strings and `new URL(rel, import.meta.url)`",
        "child_process" | "os" => "leave it to a shell or node task",
        "crypto" => "use ctx.uuid or ctx.random; leave hashing of files to a task",
        _ => "leave what needs it to a task",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_sorted() {
        assert_eq!(sort("dormouse"), Specifier::Builtin { sdk: false });
        assert_eq!(sort("@a5c-ai/babysitter-sdk"), Specifier::Builtin { sdk: true });
        assert_eq!(sort("@a5c-ai/babysitter"), Specifier::Builtin { sdk: true });
        assert_eq!(sort("../x.js"), Specifier::Relative);
        assert_eq!(sort("@a5c-ai/babysitter-library/a/b.js"), Specifier::Library("a/b.js"));
        for (text, code, hint) in [
            ("@a5c-ai/babysitter-sdk/dist/x.js", E_IMPORT_SUBPATH, "defineTask"),
            ("@a5c-ai/babysitter/x", E_IMPORT_SUBPATH, "defineTask"),
            ("node:fs", E_IMPORT_NODE, "JSON or relative import"),
            ("fs/promises", E_IMPORT_NODE, "JSON or relative import"),
            ("path", E_IMPORT_NODE, "new URL(rel, import.meta.url)"),
            ("node:url", E_IMPORT_NODE, "template strings"),
            ("node:child_process", E_IMPORT_NODE, "shell or node task"),
            ("os", E_IMPORT_NODE, "shell or node task"),
            ("crypto", E_IMPORT_NODE, "ctx.uuid"),
            ("node:anything", E_IMPORT_NODE, "task"),
            ("lodash", E_IMPORT_BARE, "relative path"),
            ("@a5c-ai/babysitter-library", E_IMPORT_BARE, "relative path"),
            ("https://example.org/x.js", E_IMPORT_BARE, "relative path"),
            ("/etc/x.js", E_IMPORT_BARE, "relative path"),
            ("", E_IMPORT_BARE, "relative path"),
        ] {
            match sort(text) {
                Specifier::Refused(got, _, said) => {
                    assert_eq!(got, code, "{text}");
                    assert!(said.contains(hint), "{text}: {said}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

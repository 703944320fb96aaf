//! Finds and loads modules: the prelude, and the pinned modules of the run; nothing else.
//!
//! May not touch files. Invariant: a specifier of an author's module resolves through the table
//! that was pinned with it, or to the built-in module, or not at all.

use super::prelude::{PRELUDE, Prelude};
use super::protocol::Module as Pinned;
use crate::codecs::json::{Surrogates, gate};
use crate::codecs::source::{ModuleKind, strip_types};
use crate::ground::limits::JSON_DEPTH_MAX;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Exception, Module, Result, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Names under which authors import the built-in module.
const BUILT_IN: [&str; 3] = ["dormouse", "@a5c-ai/babysitter-sdk", "@a5c-ai/babysitter"];

/// The pinned modules of a run, by path.
pub(super) struct Modules {
    by_path: HashMap<String, Pinned>,
    entry: String,
    /// Code of the first failure, for [`super::protocol::LoadFailure`].
    pub(super) failure: RefCell<Option<(&'static str, String)>>,
}

impl Modules {
    pub(super) fn new(modules: Vec<Pinned>, entry: &str) -> Rc<Self> {
        // A file that is called like the prelude could import what only the prelude may.
        let modules = modules.into_iter().filter(|module| !module.path.starts_with(PRELUDE));
        let by_path = modules.map(|module| (module.path.clone(), module)).collect();
        Rc::new(Self { by_path, entry: entry.to_owned(), failure: RefCell::new(None) })
    }

    fn fail(&self, ctx: &Ctx<'_>, code: &'static str, message: &str) -> Error {
        let text = format!("{code}: {message}");
        self.failure.borrow_mut().get_or_insert((code, message.to_owned()));
        throw_coded(ctx, code, &text).unwrap_or_else(|error| error)
    }

    fn resolve(&self, base: &str, name: &str) -> std::result::Result<String, String> {
        if base.is_empty() || base.starts_with(PRELUDE) {
            return Ok(name.to_owned());
        }
        if BUILT_IN.contains(&name) {
            return Ok(format!("{PRELUDE}sdk"));
        }
        let Some(module) = self.by_path.get(base) else {
            return Err(format!("{name} is imported by unknown module {base}"));
        };
        if is_json(base) && name.starts_with(PRELUDE) {
            return Ok(name.to_owned());
        }
        if let Some((_, path)) = module.imports.iter().find(|(specifier, _)| specifier == name) {
            return Ok(path.clone());
        }
        // A computed specifier is not in the table, but may name what was pinned for it.
        relative(base, name).filter(|path| self.by_path.contains_key(path)).ok_or_else(|| {
            format!("{name}, imported by {base}, is not among the pinned modules of this run")
        })
    }
}

/// The path that a relative specifier means, if it stays below the root.
fn relative(base: &str, specifier: &str) -> Option<String> {
    if !(specifier.starts_with("./") || specifier.starts_with("../")) {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

fn is_json(path: &str) -> bool {
    ModuleKind::of(path) == ModuleKind::Json
}

/// Throws an `Error` with a `code`.
fn throw_coded(ctx: &Ctx<'_>, code: &str, text: &str) -> Result<Error> {
    let error = Exception::from_message(ctx.clone(), text)?;
    error.as_object().set("code", code)?;
    Ok(error.throw())
}

/// The resolver half of [`Modules`].
pub(super) struct ByTable(pub(super) Rc<Modules>);

impl Resolver for ByTable {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        self.0.resolve(base, name).map_err(|why| self.0.fail(ctx, "E_IMPORT_NOT_PINNED", &why))
    }
}

/// The loader half of [`Modules`], with the prelude beside it.
pub(super) struct FromPinned(pub(super) Rc<Modules>, pub(super) Rc<Prelude>);

impl Loader for FromPinned {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        if name.starts_with(PRELUDE) {
            return self.1.load(ctx, name);
        }
        let Some(module) = self.0.by_path.get(name) else {
            let why = format!("{name} is not among the pinned modules of this run");
            return Err(self.0.fail(ctx, "E_IMPORT_NOT_PINNED", &why));
        };
        let source = self.source(ctx, module)?;
        let declared = Module::declare(ctx.clone(), name, source)?;
        let meta = declared.meta()?;
        meta.set("url", format!("dormouse:///{name}"))?;
        meta.set("main", name == self.0.entry)?;
        Ok(declared)
    }
}

impl FromPinned {
    /// The text that the engine gets for a module.
    fn source(&self, ctx: &Ctx<'_>, module: &Pinned) -> Result<String> {
        if is_json(&module.path) {
            return self.json_source(ctx, module);
        }
        if module.source.contains('\0') {
            let why = format!("{} holds a NUL character", module.path);
            return Err(self.0.fail(ctx, "E_MODULE_ERROR", &why));
        }
        strip_types(&module.path, &module.source)
            .map_err(|e| self.0.fail(ctx, e.code, &e.to_string()))
    }

    fn json_source(&self, ctx: &Ctx<'_>, module: &Pinned) -> Result<String> {
        let json = gate(module.source.as_bytes(), JSON_DEPTH_MAX, Surrogates::Paired)
            .map_err(|e| self.0.fail(ctx, "E_MODULE_ERROR", &format!("{}: {e}", module.path)))?;
        // The text becomes a string literal of the engine's language: JSON's own form is one.
        let literal = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let (path, text) = (literal(&module.path), literal(json.as_str()));
        Ok(format!(
            "import {{ parse }} from '{PRELUDE}json_module'; export default parse({path}, {text});"
        ))
    }
}

/// Name, message and stack of something that JavaScript threw while loading.
pub(super) fn thrown_text(thrown: &Value<'_>) -> (String, Option<String>) {
    let Some(object) = thrown.as_object() else {
        let text = thrown.get::<rquickjs::Coerced<String>>().map(|c| c.0);
        return (text.unwrap_or_else(|_| "something was thrown".to_owned()), None);
    };
    let field = |name: &str| object.get::<_, Option<String>>(name).ok().flatten();
    let name = field("name").unwrap_or_else(|| "Error".to_owned());
    let message = field("message").unwrap_or_default();
    (format!("{name}: {message}"), field("stack").filter(|stack| !stack.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_specifiers_stay_below_the_root() {
        assert_eq!(relative("a/b.js", "./c.js").as_deref(), Some("a/c.js"));
        assert_eq!(relative("a/b.js", "../c.js").as_deref(), Some("c.js"));
        assert_eq!(relative("a/b.js", "../../c.js"), None);
        assert_eq!(relative("b.js", "c.js"), None);
    }
}

//! The prelude: our own JavaScript, compiled once in a process and loaded into every instance.
//!
//! May not know runs or turns. Invariant: what is loaded as compiled code was compiled by this
//! process from its own files a moment ago; it is never stored, sent or received.
#![allow(unsafe_code)] // The engine cannot check compiled code; see the invariant.

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::{Declared, WriteOptions};
use rquickjs::{Context, Ctx, Error, Module, Result, Runtime};
use std::collections::HashMap;
use std::rc::Rc;

/// What names of prelude modules begin with.
pub(super) const PRELUDE: &str = "dormouse:";

/// Name of the prelude module that the host imports first.
pub(super) const PRELUDE_MAIN: &str = "dormouse:main";

/// The prelude, one file per intrinsic.
const PRELUDE_FILES: &[(&str, &str)] = &[
    ("native", include_str!("js/native.js")),
    ("errors", include_str!("js/errors.js")),
    ("state", include_str!("js/state.js")),
    ("json", include_str!("js/json.js")),
    ("options", include_str!("js/options.js")),
    ("call", include_str!("js/call.js")),
    ("define_task", include_str!("js/define_task.js")),
    ("task_ctx", include_str!("js/task_ctx.js")),
    ("builders", include_str!("js/builders.js")),
    ("task", include_str!("js/task.js")),
    ("breakpoint", include_str!("js/breakpoint.js")),
    ("sleep", include_str!("js/sleep.js")),
    ("orchestrator_task", include_str!("js/orchestrator_task.js")),
    ("hook", include_str!("js/hook.js")),
    ("run", include_str!("js/run.js")),
    ("signal", include_str!("js/signal.js")),
    ("parallel", include_str!("js/parallel.js")),
    ("control", include_str!("js/control.js")),
    ("values", include_str!("js/values.js")),
    ("log", include_str!("js/log.js")),
    ("timers", include_str!("js/timers.js")),
    ("web", include_str!("js/web.js")),
    ("sandbox", include_str!("js/sandbox.js")),
    ("ctx", include_str!("js/ctx.js")),
    ("sdk", include_str!("js/sdk.js")),
    ("json_module", include_str!("js/json_module.js")),
    ("main", include_str!("js/main.js")),
];

/// The compiled prelude, by module name.
pub(super) struct Prelude(HashMap<String, Vec<u8>>);

impl Prelude {
    /// Compiles all files.
    pub(super) fn compile() -> std::result::Result<Rc<Self>, String> {
        let text = |e: Error| format!("the prelude could not be compiled: {e}");
        let runtime = Runtime::new().map_err(text)?;
        runtime.set_loader(AsNamed, Empty);
        let context = Context::full(&runtime).map_err(text)?;
        let compiled = |(file, source): &(&str, &str)| {
            let name = format!("{PRELUDE}{file}");
            let bytes = context.with(|ctx| {
                // Without its source an instance is smaller by a third, and authors cannot read
                // it off a function. Line tables stay: places of calls are found with them.
                let options = WriteOptions { strip_source: true, ..WriteOptions::default() };
                Module::declare(ctx, name.as_str(), *source)?.write(options)
            });
            Ok((name, bytes?))
        };
        let modules: Result<_> = PRELUDE_FILES.iter().map(compiled).collect();
        Ok(Rc::new(Self(modules.map_err(text)?)))
    }

    /// The module of that name.
    pub(super) fn load<'js>(&self, ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
        let code = self.0.get(name).ok_or_else(|| Error::new_loading(name))?;
        // SAFETY: written by `compile` in this process and unchanged since.
        unsafe { Module::load(ctx.clone(), code) }
    }
}

/// While compiling, names mean what they say.
struct AsNamed;

impl Resolver for AsNamed {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        _base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        Ok(name.to_owned())
    }
}

/// While compiling, what is imported only has to exist.
struct Empty;

impl Loader for Empty {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        Module::declare(ctx.clone(), name, "")
    }
}

//! One way into the parser: text in, tree and tokens out, the first syntax error with its place.
//!
//! May not know what the tree is wanted for. Invariant: a tree is only shown when there were no
//! errors at all.

use super::depth::{DEEP_STACK_BYTES, Depth};
use super::{E_SYNTAX, E_TS_SYNTAX, ModuleKind, SourceError, place};
use oxc_allocator::Allocator;
use oxc_ast::ast::Program;
use oxc_parser::config::TokensParserConfig;
use oxc_parser::{Parser, Token};
use oxc_span::SourceType;

/// Parses `text` and shows the tree to `look`, on a stack that is large enough for both.
pub(super) fn with_tree<R: Send>(
    path: &str,
    text: &str,
    kind: ModuleKind,
    look: impl FnOnce(&Program<'_>, &[Token]) -> Result<R, SourceError> + Send,
) -> Result<R, SourceError> {
    let depth = Depth::of(text);
    let too_deep = || {
        let hint = "split the deepest expression, or end statements with semicolons";
        SourceError::at_start(E_SYNTAX, path, "nested too deeply", hint)
    };
    if depth.is_too_deep() {
        return Err(too_deep());
    }
    if !depth.is_deep() {
        return parse(path, text, kind, look);
    }
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES);
        let done = deep.spawn_scoped(scope, || parse(path, text, kind, look));
        done.ok().and_then(|done| done.join().ok()).unwrap_or_else(|| Err(too_deep()))
    })
}

fn parse<R>(
    path: &str,
    text: &str,
    kind: ModuleKind,
    look: impl FnOnce(&Program<'_>, &[Token]) -> Result<R, SourceError>,
) -> Result<R, SourceError> {
    let typed = kind == ModuleKind::TypeScript;
    let allocator = Allocator::default();
    let source_type = if typed { SourceType::ts() } else { SourceType::mjs() };
    let parsed = Parser::new(&allocator, text, source_type).with_config(TokensParserConfig).parse();
    let first = parsed.diagnostics.errors().min_by_key(|e| {
        // An abort is reported where the parser gave up; recovered errors may stand before it.
        e.labels.first().map_or(u32::MAX, |label| label.span().start)
    });
    if let Some(error) = first {
        let at = error.labels.first().map_or(0, |label| label.span().start as usize);
        let (line, column) = place(text, at);
        let help = error.help.as_deref().unwrap_or("correct the text there");
        let mut refusal = SourceError {
            code: E_SYNTAX,
            path: path.to_owned(),
            line,
            column,
            message: error.message.to_string(),
            hint: help.to_owned(),
        };
        if is_jsx(text, source_type) {
            refusal.code = if typed { E_TS_SYNTAX } else { E_SYNTAX };
            "JSX is not available in processes".clone_into(&mut refusal.message);
            "build values with plain functions".clone_into(&mut refusal.hint);
        }
        return Err(refusal);
    }
    if parsed.panicked {
        let hint = "correct the text";
        return Err(SourceError::at_start(E_SYNTAX, path, "cannot be parsed", hint));
    }
    look(&parsed.program, &parsed.tokens)
}

/// Whether text with errors is valid once JSX is allowed.
fn is_jsx(text: &str, source_type: SourceType) -> bool {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, source_type.with_jsx(true))
        .with_config(TokensParserConfig)
        .parse();
    !parsed.panicked && !parsed.diagnostics.has_errors()
}

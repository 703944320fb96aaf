//! What a module asks of others, read from its text without running it.
//!
//! May not know what a specifier leads to. Invariant: imports come in the order of the text, and
//! nothing that exists only for types is among them.

use super::parse::with_tree;
use super::strip::{states_only_types, strip};
use super::{E_COMMONJS, E_SYNTAX, E_TS_SYNTAX, ModuleKind, SourceError, place};
use crate::codecs::json::{Surrogates, gate};
use crate::ground::limits::JSON_DEPTH_MAX;
use oxc_ast::ast::{
    AccessorProperty, AssignmentExpression, AssignmentTarget, BindingIdentifier, CallExpression,
    Decorator, ExportAllDeclaration, ExportFromDeclaration, Expression, ImportDeclaration,
    ImportExpression, MemberExpression, Program, Statement, StringLiteral, TSType, TryStatement,
    UnaryExpression, WithClause,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::{GetSpan, Span};
use std::collections::HashSet;

/// How a module asks for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// `import … from "x"`, `import "x"`.
    Static,
    /// `export … from "x"`.
    Reexport,
    /// `import("x")`.
    Dynamic,
    /// `ctx.run("./x")` or `ctx.run({ process: "./x" })`: not an import, but the child run needs
    /// the module. Only a guess from the shape of a call: what it names need not exist.
    ChildRun,
}

/// One request for another module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// What stands between the quotes.
    pub specifier: String,
    /// How it is asked for.
    pub kind: ImportKind,
    /// It says `with { type: "json" }`.
    pub json: bool,
    /// Line of the specifier, 1-based.
    pub line: u32,
    /// Column of the specifier in characters, 1-based.
    pub column: u32,
}

/// What the text of one module says about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Analysis {
    /// In order of the text; the same specifier may come more than once.
    pub imports: Vec<Import>,
    /// Places (line, column) of `import(…)` whose specifier is computed.
    pub computed_imports: Vec<(u32, u32)>,
    /// Things worth telling that are no reason to refuse, with their places.
    pub warnings: Vec<String>,
}

/// Reads a module: `path` tells its kind and stands in errors.
///
/// # Errors
/// `E_SYNTAX`, `E_TS_SYNTAX`, `E_COMMONJS`, `E_MODULE_KIND`, with the place in the text.
pub fn analyze(path: &str, text: &str) -> Result<Analysis, SourceError> {
    let kind = ModuleKind::of(path);
    kind.admit(path)?;
    if kind == ModuleKind::Json {
        return analyze_json(path, text);
    }
    let mut stripped = None;
    let analysis = with_tree(path, text, kind, |program, tokens| {
        if kind == ModuleKind::TypeScript {
            stripped = Some(strip(path, text, program, tokens)?);
        }
        look(path, text, program)
    })?;
    if let Some(script) = stripped {
        // A second look at what will run: types that hid an error must not hide it until then.
        with_tree(path, &script, ModuleKind::JavaScript, |_, _| Ok(())).map_err(|e| {
            SourceError {
                code: E_TS_SYNTAX,
                message: format!("not valid once its types are erased: {}", e.message),
                ..e
            }
        })?;
    }
    Ok(analysis)
}

fn analyze_json(path: &str, text: &str) -> Result<Analysis, SourceError> {
    match gate(text.as_bytes(), JSON_DEPTH_MAX, Surrogates::Paired) {
        Ok(_) => Ok(Analysis::default()),
        Err(e) => {
            let (line, column) = place(text, e.offset);
            Err(SourceError {
                code: E_SYNTAX,
                path: path.to_owned(),
                line,
                column,
                message: format!("not valid JSON: {}", e.why),
                hint: "JSON modules are read strictly: no comments, no trailing commas".to_owned(),
            })
        }
    }
}

fn look(path: &str, text: &str, program: &Program<'_>) -> Result<Analysis, SourceError> {
    let mut looker = Looker { path, text, ..Looker::default() };
    looker.visit_program(program);
    let mut found = looker.found;
    for (name, span, guarded) in looker.commonjs {
        if looker.bound.contains(name) {
            continue;
        }
        let (line, column) = place(text, span.start as usize);
        if guarded || looker.probed.contains(name) {
            let note = "CommonJS is not available in processes; this stays without effect";
            found.warnings.push(format!("{path}:{line}:{column}: `{name}`: {note}"));
            continue;
        }
        looker.refused.get_or_insert(SourceError {
            code: E_COMMONJS,
            path: path.to_owned(),
            line,
            column,
            message: format!("`{name}` belongs to CommonJS, which is not available in processes"),
            hint: "write `import { … } from` and `export async function process`".to_owned(),
        });
    }
    looker.refused.map_or(Ok(found), Err)
}

/// Walks a tree and collects what [`Analysis`] holds.
#[derive(Default)]
struct Looker<'s> {
    path: &'s str,
    text: &'s str,
    found: Analysis,
    /// Uses of CommonJS names: (name, where, inside a `try` block).
    commonjs: Vec<(&'static str, Span, bool)>,
    /// CommonJS names that the module itself declares somewhere.
    bound: HashSet<&'static str>,
    /// CommonJS names that the module asks for with `typeof` first.
    probed: HashSet<&'static str>,
    try_depth: usize,
    refused: Option<SourceError>,
}

/// `require`, `module` and `exports` are CommonJS; other names are not.
fn commonjs_name(name: &str) -> Option<&'static str> {
    ["require", "module", "exports"].into_iter().find(|known| *known == name)
}

/// The CommonJS name that an assignment to `it` would export through.
fn export_root(it: &MemberExpression<'_>) -> Option<&'static str> {
    match it.object() {
        Expression::Identifier(id) if id.name == "exports" => Some("exports"),
        Expression::Identifier(id) if id.name == "module" => {
            (it.static_property_name() == Some("exports")).then_some("module")
        }
        inner => inner.as_member_expression().and_then(export_root),
    }
}

impl Looker<'_> {
    fn refuse(&mut self, span: Span, message: String, hint: &str) {
        let (line, column) = place(self.text, span.start as usize);
        let (path, hint) = (self.path.to_owned(), hint.to_owned());
        self.refused.get_or_insert(SourceError {
            code: E_SYNTAX,
            path,
            line,
            column,
            message,
            hint,
        });
    }

    fn import(&mut self, source: &StringLiteral<'_>, kind: ImportKind, json: bool) {
        let (line, column) = place(self.text, source.span.start as usize);
        let specifier = source.value.to_string();
        self.found.imports.push(Import { specifier, kind, json, line, column });
    }

    /// Whether a `with` clause asks for JSON; anything else in it is refused.
    fn wants_json(&mut self, clause: Option<&WithClause<'_>>) -> bool {
        let mut json = false;
        for entry in clause.iter().flat_map(|clause| &clause.with_entries) {
            let key = entry.key.as_arena_str();
            if key == "type" && entry.value.value == "json" {
                json = true;
            } else {
                let message = format!("import attribute `{key}: \"{}\"`", entry.value.value);
                self.refuse(entry.span, message, "the only one there is is `type: \"json\"`");
            }
        }
        json
    }

    /// A call `….run("./x")` or `….run({ process: "./x" })`.
    fn child_run(&mut self, it: &CallExpression<'_>) {
        let Some(member) = it.callee.as_member_expression() else { return };
        if member.static_property_name() != Some("run") {
            return;
        }
        let source = match it.arguments.first().and_then(|argument| argument.as_expression()) {
            Some(Expression::StringLiteral(source)) => Some(&**source),
            Some(Expression::ObjectExpression(object)) => object.properties.iter().find_map(|p| {
                let property = p.as_property()?;
                match (property.key.static_name()?.as_ref(), &property.value) {
                    ("process", Expression::StringLiteral(source)) => Some(&**source),
                    _ => None,
                }
            }),
            _ => None,
        };
        if let Some(source) = source
            && (source.value.starts_with("./") || source.value.starts_with("../"))
        {
            self.import(source, ImportKind::ChildRun, false);
        }
    }

    fn commonjs(&mut self, name: &'static str, span: Span) {
        self.commonjs.push((name, span, self.try_depth > 0));
    }
}

impl<'a> Visit<'a> for Looker<'_> {
    fn visit_import_declaration(&mut self, it: &ImportDeclaration<'a>) {
        if it.import_kind.is_type() {
            return;
        }
        if it.phase.is_some() {
            let message = "`import defer` and `import source` are not available".to_owned();
            self.refuse(it.span, message, "write a plain import");
        }
        let json = self.wants_json(it.with_clause.as_deref());
        self.import(&it.source, ImportKind::Static, json);
        walk::walk_import_declaration(self, it);
    }

    fn visit_export_from_declaration(&mut self, it: &ExportFromDeclaration<'a>) {
        if !it.export_kind.is_type() {
            let json = self.wants_json(it.with_clause.as_deref());
            self.import(&it.source, ImportKind::Reexport, json);
        }
    }

    fn visit_export_all_declaration(&mut self, it: &ExportAllDeclaration<'a>) {
        if !it.export_kind.is_type() {
            let json = self.wants_json(it.with_clause.as_deref());
            self.import(&it.source, ImportKind::Reexport, json);
        }
    }

    fn visit_import_expression(&mut self, it: &ImportExpression<'a>) {
        match &it.source {
            Expression::StringLiteral(source) => self.import(source, ImportKind::Dynamic, false),
            Expression::TemplateLiteral(source) if source.is_no_substitution_template() => {
                let (line, column) = place(self.text, source.span.start as usize);
                let cooked = source.quasis.first().and_then(|quasi| quasi.value.cooked);
                let specifier = cooked.map_or_else(String::new, |text| text.to_string());
                let kind = ImportKind::Dynamic;
                self.found.imports.push(Import { specifier, kind, json: false, line, column });
            }
            _ => self.found.computed_imports.push(place(self.text, it.span.start as usize)),
        }
        walk::walk_import_expression(self, it);
    }

    fn visit_statement(&mut self, it: &Statement<'a>) {
        // What TypeScript declares is not there at run time.
        if !states_only_types(it) {
            walk::walk_statement(self, it);
        }
    }

    fn visit_ts_type(&mut self, _: &TSType<'a>) {}

    fn visit_binding_identifier(&mut self, it: &BindingIdentifier<'a>) {
        self.bound.extend(commonjs_name(it.name.as_str()));
    }

    fn visit_try_statement(&mut self, it: &TryStatement<'a>) {
        self.try_depth += 1;
        self.visit_block_statement(&it.block);
        self.try_depth -= 1;
        if let Some(handler) = &it.handler {
            self.visit_catch_clause(handler);
        }
        if let Some(last) = &it.finalizer {
            self.visit_block_statement(last);
        }
    }

    fn visit_unary_expression(&mut self, it: &UnaryExpression<'a>) {
        if it.operator.is_typeof()
            && let Expression::Identifier(id) = &it.argument
        {
            self.probed.extend(commonjs_name(id.name.as_str()));
        }
        walk::walk_unary_expression(self, it);
    }

    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        if let Expression::Identifier(id) = &it.callee
            && id.name == "require"
        {
            self.commonjs("require", id.span);
        }
        self.child_run(it);
        walk::walk_call_expression(self, it);
    }

    fn visit_assignment_expression(&mut self, it: &AssignmentExpression<'a>) {
        let root = AssignmentTarget::as_member_expression(&it.left).and_then(export_root);
        if let Some(name) = root {
            self.commonjs(name, it.left.span());
        }
        walk::walk_assignment_expression(self, it);
    }

    fn visit_decorator(&mut self, it: &Decorator<'a>) {
        let hint = "call the function on the class or the method yourself";
        self.refuse(it.span, "decorators are not available in processes".to_owned(), hint);
    }

    fn visit_accessor_property(&mut self, it: &AccessorProperty<'a>) {
        let hint = "write a getter and a setter, or a plain field";
        self.refuse(it.span, "`accessor` fields are not available in processes".to_owned(), hint);
    }
}

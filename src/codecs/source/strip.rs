//! JavaScript out of TypeScript by erasing what is only there for types.
//!
//! May not know what types mean. Invariant: the result is the text with blanks written over types,
//! plus a `;` where a blank would otherwise join two statements and a bracket of an arrow function
//! moved across a line end inside its types; no identifier moves.

use super::blank::Blanks;
use super::parse::with_tree;
use super::{E_TS_SYNTAX, ModuleKind, SourceError, place};
use oxc_ast::ast::{
    AccessorProperty, AccessorPropertyType, ArrowFunctionExpression, Class, ClassElement,
    Declaration, Decorator, ExportDefaultDeclarationKind, ExportSpecifier, Expression,
    FormalParameter, ImportSpecifier, MethodDefinition, MethodDefinitionType, Program,
    PropertyDefinition, PropertyDefinitionType, PropertyKey, Statement, TSAsExpression,
    TSEnumDeclaration, TSExportAssignment, TSImportEqualsDeclaration, TSInstantiationExpression,
    TSNamespaceDeclaration, TSNamespaceDeclarationBody, TSNamespaceExportDeclaration,
    TSNonNullExpression, TSSatisfiesExpression, TSThisParameter, TSType, TSTypeAnnotation,
    TSTypeAssertion, TSTypeParameterDeclaration, TSTypeParameterInstantiation, VariableDeclarator,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::Token;
use oxc_span::{GetSpan, Span};

/// The JavaScript of a module: TypeScript loses its types, everything else comes back as it is.
///
/// # Errors
/// `E_SYNTAX` for what cannot be parsed, `E_TS_SYNTAX` for syntax that cannot be erased.
pub fn strip_types(path: &str, text: &str) -> Result<String, SourceError> {
    let kind = ModuleKind::of(path);
    kind.admit(path)?;
    if kind != ModuleKind::TypeScript {
        return Ok(text.to_owned());
    }
    with_tree(path, text, kind, |program, tokens| strip(path, text, program, tokens))
}

/// Strips a parsed module.
pub(super) fn strip(
    path: &str,
    text: &str,
    program: &Program<'_>,
    tokens: &[Token],
) -> Result<String, SourceError> {
    let mut stripper = Stripper { text, tokens, blanks: Blanks::default(), refused: None };
    stripper.visit_program(program);
    match stripper.refused {
        None => Ok(stripper.blanks.apply(text)),
        Some((at, message, hint)) => {
            let (line, column) = place(text, at);
            let (message, hint) = (message.to_owned(), hint.to_owned());
            Err(SourceError {
                code: E_TS_SYNTAX,
                path: path.to_owned(),
                line,
                column,
                message,
                hint,
            })
        }
    }
}

/// Walks a tree and notes what to blank.
struct Stripper<'s> {
    text: &'s str,
    tokens: &'s [Token],
    blanks: Blanks,
    /// The first thing that cannot be erased: offset, what it is, what to do.
    refused: Option<(usize, &'static str, &'static str)>,
}

/// Start and end of a span as indexes.
fn ends(span: Span) -> (usize, usize) {
    (span.start as usize, span.end as usize)
}

impl Stripper<'_> {
    fn blank(&mut self, span: Span) {
        let (start, end) = ends(span);
        self.blanks.blank(start, end);
    }

    fn refuse(&mut self, span: Span, message: &'static str, hint: &'static str) {
        let at = span.start as usize;
        if self.refused.is_none_or(|(first, ..)| at < first) {
            self.refused = Some((at, message, hint));
        }
    }

    /// Blanks a whole statement or class member and leaves a `;`, because the lines around it may
    /// have relied on it to stay apart.
    fn remove(&mut self, span: Span) {
        let (start, end) = ends(span);
        self.blanks.blank(start, end);
        self.semicolon(start, end);
    }

    /// Writes a `;` over the first ASCII byte of a blanked range.
    fn semicolon(&mut self, start: usize, end: usize) {
        let visible = |b: &u8| b.is_ascii() && !b.is_ascii_whitespace();
        if let Some(at) = self.text.as_bytes()[start..end].iter().position(visible) {
            self.blanks.mark(start + at, b';');
        }
    }

    /// Ends a statement or field whose last words were blanked: the next line must not continue it.
    fn close(&mut self, span: Span) {
        let end = span.end as usize;
        if let Some(start) = self.blanks.start_of_range_to(end) {
            self.semicolon(start, end);
        }
    }

    /// Index of the first token that starts at or after `at`.
    fn token_from(&self, at: u32) -> usize {
        self.tokens.partition_point(|token| token.start() < at)
    }

    fn token_text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| {
            let (start, end) = ends(token.span());
            &self.text[start..end]
        })
    }

    /// Blanks the first token from `at` on if it reads `text`.
    fn blank_token(&mut self, at: u32, text: &str) {
        let index = self.token_from(at);
        if self.token_text(index) == text {
            self.blank(self.tokens[index].span());
        }
    }

    /// Blanks a member of a list and the comma after it.
    fn blank_listed(&mut self, span: Span) {
        self.blank(span);
        self.blank_token(span.end, ",");
    }

    /// Blanks what stands between an expression and the end of the node around it.
    fn blank_after(&mut self, inner: &Expression<'_>, outer: Span) {
        self.blanks.blank(inner.span().end as usize, outer.end as usize);
    }

    /// Blanks modifiers of a class member that are only for types. One at its very start becomes a
    /// `;`: without it the member before could swallow what follows.
    fn modifiers(&mut self, member: Span, key: Span) {
        const ERASED: [&str; 7] =
            ["public", "private", "protected", "readonly", "override", "abstract", "declare"];
        let (from, to) = (self.token_from(member.start), self.token_from(key.start));
        for index in from..to {
            if ERASED.contains(&self.token_text(index)) {
                let span = self.tokens[index].span();
                self.blank(span);
                if index == from {
                    self.blanks.mark(span.start as usize, b';');
                }
            }
        }
    }

    /// Blanks the `?` or `!` after a member's key.
    fn key_mark(&mut self, key: &PropertyKey<'_>, computed: bool, mark: &str) {
        let mut index = self.token_from(key.span().end);
        if computed && self.token_text(index) == "]" {
            index += 1;
        }
        if let Some(token) = self.tokens.get(index) {
            self.blank_token(token.start(), mark);
        }
    }

    fn has_line_end(&self, start: u32, end: u32) -> bool {
        self.text[start as usize..end as usize].contains(['\n', '\r', '\u{2028}', '\u{2029}'])
    }

    /// No line may end between `)` and `=>`, nor between `async` or `return` and the `(` of an
    /// arrow function: if types did span lines there, the bracket moves to the types' other end.
    fn arrow_brackets(&mut self, it: &ArrowFunctionExpression<'_>) {
        let params = it.params.span;
        if let Some(types) = &it.type_parameters
            && self.has_line_end(types.span.start, params.start)
        {
            self.blanks.blank(params.start as usize, params.start as usize + 1);
            self.blanks.mark(types.span.start as usize, b'(');
        }
        if let Some(result) = &it.return_type
            && self.has_line_end(params.end, result.span.end)
        {
            let last = result.span.end as usize - 1;
            if self.text.as_bytes()[last].is_ascii() {
                self.blanks.blank(params.end as usize - 1, params.end as usize);
                self.blanks.mark(last, b')');
            } else {
                let hint = "put `=>` on the line on which the parameters end";
                self.refuse(result.span, "this return type cannot be erased", hint);
            }
        }
    }

    fn class_words(&mut self, it: &Class<'_>) {
        let class = self.token_from(it.span.start);
        for index in [class.saturating_sub(1), class] {
            if it.r#abstract && self.token_text(index) == "abstract" {
                self.blank(self.tokens[index].span());
            }
        }
        if let (Some(first), Some(last)) = (it.implements.first(), it.implements.last()) {
            let keyword = self.token_from(first.span.start).saturating_sub(1);
            let start = self.tokens.get(keyword).map_or(first.span.start, Token::start);
            self.blanks.blank(start as usize, last.span.end as usize);
        }
    }
}

/// Whether a declaration is only for types.
fn declares_only_types(it: &Declaration<'_>) -> bool {
    match it {
        Declaration::TSTypeAliasDeclaration(_)
        | Declaration::TSInterfaceDeclaration(_)
        | Declaration::TSExternalModuleDeclaration(_)
        | Declaration::TSGlobalDeclaration(_) => true,
        Declaration::VariableDeclaration(it) => it.declare,
        Declaration::FunctionDeclaration(it) => it.declare || it.body.is_none(),
        Declaration::ClassDeclaration(it) => it.declare,
        Declaration::TSEnumDeclaration(it) => it.declare,
        Declaration::TSNamespaceDeclaration(it) => it.declare || !has_values(it),
        Declaration::TSImportEqualsDeclaration(it) => it.import_kind.is_type(),
    }
}

/// Whether a namespace leaves something at run time.
fn has_values(it: &TSNamespaceDeclaration<'_>) -> bool {
    match &it.body {
        TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => has_values(inner),
        TSNamespaceDeclarationBody::TSModuleBlock(block) => {
            !block.body.iter().all(states_only_types)
        }
    }
}

/// Whether a statement is only for types.
pub(super) fn states_only_types(it: &Statement<'_>) -> bool {
    match it {
        Statement::ImportDeclaration(it) => it.import_kind.is_type(),
        Statement::ExportAllDeclaration(it) => it.export_kind.is_type(),
        Statement::ExportNamedDeclaration(it) => it.export_kind.is_type(),
        Statement::ExportFromDeclaration(it) => it.export_kind.is_type(),
        Statement::ExportDeclaration(it) => declares_only_types(&it.declaration),
        Statement::ExportDefaultDeclaration(it) => match &it.declaration {
            ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => true,
            ExportDefaultDeclarationKind::FunctionDeclaration(it) => it.body.is_none(),
            _ => false,
        },
        _ => it.as_declaration().is_some_and(declares_only_types),
    }
}

/// Whether a statement may end without a `;` of its own.
fn may_lack_semicolon(it: &Statement<'_>) -> bool {
    matches!(
        it,
        Statement::ExpressionStatement(_)
            | Statement::VariableDeclaration(_)
            | Statement::ReturnStatement(_)
            | Statement::ThrowStatement(_)
            | Statement::ExportDefaultDeclaration(_)
            | Statement::ExportDeclaration(_)
    )
}

/// Whether a class member is only for types.
pub(super) fn is_typed_member(it: &ClassElement<'_>) -> bool {
    match it {
        ClassElement::StaticBlock(_) => false,
        ClassElement::MethodDefinition(it) => {
            it.r#type == MethodDefinitionType::TSAbstractMethodDefinition || it.value.body.is_none()
        }
        ClassElement::PropertyDefinition(it) => {
            it.r#type == PropertyDefinitionType::TSAbstractPropertyDefinition || it.declare
        }
        ClassElement::AccessorProperty(it) => {
            it.r#type == AccessorPropertyType::TSAbstractAccessorProperty
        }
        ClassElement::TSIndexSignature(_) => true,
    }
}

impl<'a> Visit<'a> for Stripper<'_> {
    fn visit_statement(&mut self, it: &Statement<'a>) {
        if states_only_types(it) {
            return self.remove(it.span());
        }
        walk::walk_statement(self, it);
        if may_lack_semicolon(it) {
            self.close(it.span());
        }
    }

    fn visit_class(&mut self, it: &Class<'a>) {
        self.class_words(it);
        walk::walk_class(self, it);
    }

    fn visit_class_element(&mut self, it: &ClassElement<'a>) {
        if is_typed_member(it) {
            // A decorator would be removed with its member, silently.
            if let ClassElement::MethodDefinition(it) = it {
                self.visit_decorators(&it.decorators);
            }
            return self.remove(it.span());
        }
        walk::walk_class_element(self, it);
        if matches!(it, ClassElement::PropertyDefinition(_)) {
            self.close(it.span());
        }
    }

    fn visit_method_definition(&mut self, it: &MethodDefinition<'a>) {
        self.modifiers(it.span, it.key.span());
        if it.optional {
            self.key_mark(&it.key, it.computed, "?");
        }
        walk::walk_method_definition(self, it);
    }

    fn visit_property_definition(&mut self, it: &PropertyDefinition<'a>) {
        self.modifiers(it.span, it.key.span());
        if it.optional {
            self.key_mark(&it.key, it.computed, "?");
        }
        if it.definite {
            self.key_mark(&it.key, it.computed, "!");
        }
        walk::walk_property_definition(self, it);
    }

    fn visit_accessor_property(&mut self, it: &AccessorProperty<'a>) {
        let hint = "write a getter and a setter, or a plain field";
        self.refuse(it.span, "`accessor` fields are not available in processes", hint);
    }

    fn visit_arrow_function_expression(&mut self, it: &ArrowFunctionExpression<'a>) {
        self.arrow_brackets(it);
        walk::walk_arrow_function_expression(self, it);
    }

    fn visit_formal_parameter(&mut self, it: &FormalParameter<'a>) {
        if it.accessibility.is_some() || it.readonly || it.r#override {
            let hint = "declare a field and assign it in the constructor";
            self.refuse(it.span, "a parameter property cannot be erased", hint);
        }
        if it.optional {
            self.blank_token(it.pattern.span().end, "?");
        }
        walk::walk_formal_parameter(self, it);
    }

    fn visit_ts_this_parameter(&mut self, it: &TSThisParameter<'a>) {
        self.blank_listed(it.span);
    }

    fn visit_variable_declarator(&mut self, it: &VariableDeclarator<'a>) {
        if it.definite {
            self.blank_token(it.id.span().end, "!");
        }
        walk::walk_variable_declarator(self, it);
    }

    fn visit_ts_type_annotation(&mut self, it: &TSTypeAnnotation<'a>) {
        self.blank(it.span);
    }

    fn visit_ts_type_parameter_declaration(&mut self, it: &TSTypeParameterDeclaration<'a>) {
        self.blank(it.span);
    }

    fn visit_ts_type_parameter_instantiation(&mut self, it: &TSTypeParameterInstantiation<'a>) {
        self.blank(it.span);
    }

    fn visit_ts_type(&mut self, _: &TSType<'a>) {}

    fn visit_ts_as_expression(&mut self, it: &TSAsExpression<'a>) {
        self.visit_expression(&it.expression);
        self.blank_after(&it.expression, it.span);
    }

    fn visit_ts_satisfies_expression(&mut self, it: &TSSatisfiesExpression<'a>) {
        self.visit_expression(&it.expression);
        self.blank_after(&it.expression, it.span);
    }

    fn visit_ts_non_null_expression(&mut self, it: &TSNonNullExpression<'a>) {
        self.visit_expression(&it.expression);
        self.blank_after(&it.expression, it.span);
    }

    fn visit_ts_instantiation_expression(&mut self, it: &TSInstantiationExpression<'a>) {
        self.visit_expression(&it.expression);
        self.blank_after(&it.expression, it.span);
    }

    fn visit_import_specifier(&mut self, it: &ImportSpecifier<'a>) {
        if it.import_kind.is_type() {
            self.blank_listed(it.span);
        }
    }

    fn visit_export_specifier(&mut self, it: &ExportSpecifier<'a>) {
        if it.export_kind.is_type() {
            self.blank_listed(it.span);
        }
    }

    fn visit_ts_enum_declaration(&mut self, it: &TSEnumDeclaration<'a>) {
        let hint = "write a constant object, `const E = { A: \"a\" } as const`";
        self.refuse(it.span, "an enum cannot be erased", hint);
    }

    fn visit_ts_namespace_declaration(&mut self, it: &TSNamespaceDeclaration<'a>) {
        let hint = "put its members into a module and import that";
        self.refuse(it.span, "a namespace with values cannot be erased", hint);
    }

    fn visit_ts_import_equals_declaration(&mut self, it: &TSImportEqualsDeclaration<'a>) {
        let hint = "write `import … from`";
        self.refuse(it.span, "`import =` cannot be erased", hint);
    }

    fn visit_ts_export_assignment(&mut self, it: &TSExportAssignment<'a>) {
        self.refuse(it.span, "`export =` cannot be erased", "write `export default`");
    }

    fn visit_ts_namespace_export_declaration(&mut self, it: &TSNamespaceExportDeclaration<'a>) {
        let hint = "remove it: modules have no global name";
        self.refuse(it.span, "`export as namespace` cannot be erased", hint);
    }

    fn visit_decorator(&mut self, it: &Decorator<'a>) {
        let hint = "call the function on the class or the method yourself";
        self.refuse(it.span, "decorators are not available in processes", hint);
    }

    fn visit_ts_type_assertion(&mut self, it: &TSTypeAssertion<'a>) {
        let hint = "write `value as Type`";
        self.refuse(it.span, "a `<Type>value` assertion cannot be erased safely", hint);
    }
}

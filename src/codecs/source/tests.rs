//! Tables: text in, stripped text or error out; text in, imports out.
//!
//! Knows only the public functions. Invariant: every stripped text is parsed again as JavaScript,
//! and its identifiers stand where they stood.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::parse::with_tree;
use super::strip::{is_typed_member, states_only_types};
use super::{ImportKind, ModuleKind, SourceError, analyze, strip_types};
use oxc_ast::AstKind;
use oxc_ast::ast::{
    ClassElement, ExportSpecifier, ImportSpecifier, Statement, TSClassImplements, TSType,
    TSTypeAnnotation, TSTypeParameterDeclaration, TSTypeParameterInstantiation,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::GetSpan;

/// Every node that is there at run time: what it is, where it starts (unless types come first),
/// and what it is called.
#[derive(Default)]
struct Nodes(Vec<(String, Option<u32>, String)>);

impl<'a> Visit<'a> for Nodes {
    fn enter_node(&mut self, kind: AstKind<'a>) {
        let what = format!("{:?}", kind.ty());
        if what.starts_with("TS") || matches!(what.as_str(), "EmptyStatement" | "Program") {
            return;
        }
        let led_by_types = [
            "ArrowFunctionExpression",
            "ExpressionStatement",
            "FormalParameters",
            "Class",
            "Function",
            "MethodDefinition",
            "PropertyDefinition",
        ];
        let start = (!led_by_types.contains(&what.as_str())).then(|| kind.span().start);
        let name = match kind {
            AstKind::IdentifierName(it) => it.name.to_string(),
            AstKind::IdentifierReference(it) => it.name.to_string(),
            AstKind::BindingIdentifier(it) => it.name.to_string(),
            _ => String::new(),
        };
        self.0.push((what, start, name));
    }
    fn visit_statement(&mut self, it: &Statement<'a>) {
        if !states_only_types(it) {
            walk::walk_statement(self, it);
        }
    }
    fn visit_class_element(&mut self, it: &ClassElement<'a>) {
        if !is_typed_member(it) {
            walk::walk_class_element(self, it);
        }
    }
    fn visit_import_specifier(&mut self, it: &ImportSpecifier<'a>) {
        if !it.import_kind.is_type() {
            walk::walk_import_specifier(self, it);
        }
    }
    fn visit_export_specifier(&mut self, it: &ExportSpecifier<'a>) {
        if !it.export_kind.is_type() {
            walk::walk_export_specifier(self, it);
        }
    }
    fn visit_ts_class_implements(&mut self, _: &TSClassImplements<'a>) {}
    fn visit_ts_type(&mut self, _: &TSType<'a>) {}
    fn visit_ts_type_annotation(&mut self, _: &TSTypeAnnotation<'a>) {}
    fn visit_ts_type_parameter_declaration(&mut self, _: &TSTypeParameterDeclaration<'a>) {}
    fn visit_ts_type_parameter_instantiation(&mut self, _: &TSTypeParameterInstantiation<'a>) {}
}

/// The nodes of a text; the error if it is not valid.
fn nodes(path: &str, text: &str) -> Result<Vec<(String, Option<u32>, String)>, SourceError> {
    with_tree(path, text, ModuleKind::of(path), |program, _| {
        let mut nodes = Nodes::default();
        nodes.visit_program(program);
        nodes.0.sort();
        Ok(nodes.0)
    })
}

/// Strips, and checks what must hold for every text.
#[track_caller]
fn strip(text: &str) -> String {
    let out = strip_types("m.ts", text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(out.len(), text.len());
    assert_eq!(out.encode_utf16().count(), text.encode_utf16().count());
    assert_eq!(out.lines().count(), text.lines().count());
    let before = nodes("m.ts", text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let after = nodes("m.js", &out).unwrap_or_else(|e| panic!("{e}\n{text}\n{out}"));
    assert_eq!(before, after, "\n{text}\n{out}");
    assert_eq!(strip_types("m.ts", &out).as_ref(), Ok(&out), "stripped twice");
    analyze("m.ts", text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    out
}

/// Compares with every run of blanks as one space; line ends count. [`strip`] has seen to it that
/// nothing moved.
#[track_caller]
fn check(text: &str, expected: &str) {
    let squeeze = |s: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        s.split('\n').map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(squeeze(&strip(text)), squeeze(expected), "\n{text}");
}

#[test]
fn annotations_become_blanks() {
    check("let x: number = 1;", "let x = 1;");
    check("let x!: number;", "let x ;");
    check("let x ! : number;", "let x ;");
    check("function f(a: string, b?: number): void {}", "function f(a , b ) {}");
    check("function f(a?) {}", "function f(a ) {}");
    check("const f = ({ a }: { a?: string } = {}) => a;", "const f = ({ a } = {}) => a;");
    check("const f = (...a: number[]): number => a[0]!;", "const f = (...a ) => a[0] ;");
    check("try {} catch (e: unknown) {}", "try {} catch (e ) {}");
    check("for (const x of y as any) {}", "for (const x of y ) {}");
    check("for (let i = 0 as number; i < 2; i++) {}", "for (let i = 0 ; i < 2; i++) {}");
    check("const f = <T,>(x: T): T => x;", "const f = (x ) => x;");
    check("f<string>(1); new G<A<B>>();", "f (1); new G ();");
    check("const t = tag<string>`x`;", "const t = tag `x`;");
    check("const g = f<string>;", "const g = f ;");
    check("function f(this: Window, a: number) {}", "function f( a ) {}");
    check("function f(this: Window) {}", "function f( ) {}");
    check("const o = { m<T>(a: T) { return a; } };", "const o = { m (a ) { return a; } };");
    check(
        "function is(x: unknown): x is string { return true; }",
        "function is(x ) { return true; }",
    );
}

#[test]
fn expressions_lose_their_assertions() {
    check("const x = y as unknown as T;", "const x = y ;");
    check("const x = { a: 1 } as const;", "const x = { a: 1 } ;");
    check("const x = { a: 1 } satisfies T;", "const x = { a: 1 } ;");
    check("const x = a?.b!.c!;", "const x = a?.b .c ;");
    check("(a as any).b = 1;", "(a ).b = 1;");
    check("(a as any) = 1;", "(a ) = 1;");
    check("a! += b!;", "a += b ;");
    check("const f = () => ({}) as T;", "const f = () => ({}) ;");
    check("const f = async <T>(x: T): Promise<T> => x;", "const f = async (x ) => x;");
    check("const x = (await y) as T, z = <T,>(q: T) => q;", "const x = (await y) , z = (q ) => q;");
}

#[test]
fn declarations_that_are_only_types_leave_a_semicolon() {
    check("interface A { b: c }\nx();", "; \nx();");
    check("type A = string;\nx();", "; \nx();");
    check("export type A = string;", "; ");
    check("export interface A {}", "; ");
    check("export default interface A {}", "; ");
    check("declare const x: number;", "; ");
    check("declare function f(): void;", "; ");
    check("declare class A { m(): void }", "; ");
    check("declare enum E { A }", "; ");
    check("declare module \"m\" { const a: number }", "; ");
    check("declare global { interface Window {} }", "; ");
    check("declare namespace N { const a: number }", "; ");
    check("namespace N { export type A = 1; interface B {} }", "; ");
    check("function f(a: string): void;\nfunction f(a: any) {}", "; \nfunction f(a ) {}");
    check("export function f(): void;\nexport function f() {}", "; \nexport function f() {}");
    check(
        "export default function f(): void;\nexport default function f() {}",
        "; \nexport default function f() {}",
    );
    check("export declare const x: number;", "; ");
}

#[test]
fn type_imports_and_exports_go() {
    check("import type { A } from \"./a.js\";", "; ");
    check("import type A from \"./a.js\";", "; ");
    check("import type * as A from \"./a.js\";", "; ");
    check("import { type A, b } from \"./a.js\";", "import { b } from \"./a.js\";");
    check("import { a, type B } from \"./a.js\";", "import { a, } from \"./a.js\";");
    check("import { type A } from \"./a.js\";", "import { } from \"./a.js\";");
    check("import { A } from \"./a.js\";", "import { A } from \"./a.js\";");
    check("import type from \"./a.js\";", "import type from \"./a.js\";");
    check("import { type as x } from \"./a.js\";", "import { type as x } from \"./a.js\";");
    check("let a; export { a, type B };", "let a; export { a, };");
    check("export type { A } from \"./a.js\";", "; ");
    check("export type * from \"./a.js\";", "; ");
    check("export { type A, b } from \"./a.js\";", "export { b } from \"./a.js\";");
}

#[test]
fn classes_lose_what_is_only_typed() {
    check(
        "class A<T> extends B<T> implements C, D<T> { x?: T; y!: T; readonly z = 1; }",
        "class A extends B { x ; y ; ; z = 1; }",
    );
    check(
        "abstract class A { abstract m(): void; abstract x: number; [k: string]: any; }",
        " class A { ; ; ; }",
    );
    check("export abstract class A {}", "export class A {}");
    check("export default abstract class A {}", "export default class A {}");
    check(
        "class A { private static async m?(a: number): Promise<void> {} }",
        "class A { ; static async m (a ) {} }",
    );
    check(
        "class A { static readonly x: number = 1; static override y() {} }",
        "class A { static x = 1; static y() {} }",
    );
    check(
        "class A { constructor(a: string); constructor(a: any) {} }",
        "class A { ; constructor(a ) {} }",
    );
    check("class A { declare x: number; y = 1 }", "class A { ; y = 1 }");
    check(
        "class A { [\"a\"]?: number; get b(): number { return 1; } }",
        "class A { [\"a\"] ; get b() { return 1; } }",
    );
    check("const A = class implements B {};", "const A = class {};");
    check(
        "class A { private = 1; static = 2; readonly() {} }",
        "class A { private = 1; static = 2; readonly() {} }",
    );
    check(
        "class A { #x: number = 1; m() { return this.#x!; } }",
        "class A { #x = 1; m() { return this.#x ; } }",
    );
}

#[test]
fn blanks_never_join_two_statements() {
    check("const x = y as any\n(z)", "const x = y ; \n(z)");
    check("const x = y satisfies T\n[z]", "const x = y ; \n[z]");
    check("let x: T\n(y)", "let x; \n(y)");
    check("const a = b\ninterface C {}\n(d)", "const a = b\n; \n(d)");
    check("const a = b\ntype C = 1\n[d]", "const a = b\n; \n[d]");
    check("const a = b\ndeclare const c: 1\n`d`", "const a = b\n; \n`d`");
    check("if (a) b as any\nelse c", "if (a) b ; \nelse c");
    check("do a as any\nwhile (b)", "do a ; \nwhile (b)");
    check("export default a as any\n;(b)", "export default a \n;(b)");
    check("class A { x: T\n*g() {} }", "class A { x; \n*g() {} }");
    check("class A { x = 1 as any\n[\"y\"] = 2 }", "class A { x = 1 ; \n[\"y\"] = 2 }");
    check("class A { x = 1\npublic [\"y\"] = 2 }", "class A { x = 1\n; [\"y\"] = 2 }");
    check("class A { x = 1\ndeclare y: T\n[\"z\"] = 2 }", "class A { x = 1\n; \n[\"z\"] = 2 }");
    check("class A { x\nprivate *g() {} }", "class A { x\n; *g() {} }");
    check("class A { get: T\nm() {} }", "class A { get; \nm() {} }");
    check("const f = (): void => x as any\n(y)", "const f = () => x ; \n(y)");
}

#[test]
fn arrow_functions_survive_types_that_span_lines() {
    check("const f = (a): Promise<\n string\n> => a;", "const f = (a \n \n) => a;");
    check(
        "const f = async (\n a: { b: 1,\n c: 2 }\n): Promise<{\n d: 1\n}> => a;",
        "const f = async (\n a \n \n \n \n ) => a;",
    );
    check("const f = async <\n T\n>(a: T) => a;", "const f = async (\n \n a ) => a;");
    check("function g() { return <T,\n U>(a: T) => a; }", "function g() { return ( \n a ) => a; }");
    check("const f = (a) // note\n : T => a;", "const f = (a // note\n ) => a;");
    check("const f = (a: () => void): (() =>\n void) => a;", "const f = (a \n ) => a;");
}

#[test]
fn blanks_keep_columns_behind_foreign_letters() {
    check("let x: 'ä€😀' = f();", "let x = f();");
    check("interface Ü { ä: 1 }", ";");
    check(
        "class A { übung(): void; übung() {} }",
        "class A { ü; übung() {} }".replace("ü;", ";").as_str(),
    );
}

#[test]
fn a_whole_module_is_stripped() {
    check(
        "#!/usr/bin/env dormouse\nimport { defineTask, type Ctx } from 'dormouse';\n\
         import rules from './rules.json' with { type: 'json' };\n\
         export interface Inputs { topics: readonly string[]; limit?: number }\n\
         const draft = defineTask('draft', (args: { topic: string }) => ({\n\
         kind: 'agent' as const,\n\
         agent: { name: 'w', prompt: `about ${(args as any).topic!}` } }));\n\
         export async function process(inputs: Inputs, ctx: Ctx): Promise<{ n: number }> {\n\
         const all = await ctx.parallel.map<string, A>(inputs.topics, async (t): Promise<A> =>\n\
         ctx.task(draft, { topic: t }));\nreturn { n: all.length } satisfies { n: number };\n}\n",
        "#!/usr/bin/env dormouse\nimport { defineTask, } from 'dormouse';\n\
         import rules from './rules.json' with { type: 'json' };\n;\n\
         const draft = defineTask('draft', (args ) => ({\n\
         kind: 'agent' ,\n\
         agent: { name: 'w', prompt: `about ${(args ).topic }` } }));\n\
         export async function process(inputs , ctx ) {\n\
         const all = await ctx.parallel.map (inputs.topics, async (t) =>\n\
         ctx.task(draft, { topic: t }));\nreturn { n: all.length } ;\n}\n",
    );
}

#[test]
fn javascript_is_not_touched() {
    let text = "export const x = a < b; // : number\n";
    assert_eq!(strip_types("m.js", text).unwrap(), text);
    assert_eq!(strip_types("m.json", "{}").unwrap(), "{}");
}

/// Lines that end or begin in types, or that a blank before them could turn into something else.
const LINES: [&str; 44] = [
    "const a1 = b as any",
    "let a2: T",
    "let a3!: T[]",
    "a = b satisfies T",
    "a = b!",
    "a = f<string>",
    "a = new F<string>",
    "interface I {}",
    "type A = string",
    "type B = {\n  a: 1\n}",
    "declare const d: number",
    "declare function df(): void",
    "declare module \"m\"",
    "function g(a: string): void",
    "function g(a?: any) {}",
    "abstract class C1 {}",
    "class C2<T> implements I, J<T> {}",
    "const a4 = (x): x is T => x as any",
    "const a5 = async <T,\n>(x: T): Promise<\nT> => x!",
    "const a6 = (x: T): T =>\n  x",
    "if (a) b as any",
    "else c as any",
    "do a as any\nwhile (b)",
    "while (a) b as T",
    "for (const x of y as T[]) z as T",
    "throw a as any",
    "export const e1 = a as any",
    "export type { T1 }",
    "import type { T2 } from 'x'",
    "import { type T3 } from 'x'",
    "label: a as any",
    "switch (a) { case 1: type S = 1\n(b) }",
    "namespace N { type A = 1 }",
    "(a)",
    "[a] = b",
    "`a`",
    "/a/g",
    "+a",
    "-a as any",
    "++a",
    "*a",
    "<T,>(a: T) => a",
    "!a",
    ".a",
];

/// Class members of the same sort.
const MEMBERS: [&str; 30] = [
    "a",
    "a: T",
    "a!: T",
    "a?",
    "a = b as any",
    "a = b!",
    "a = (): T => b as T",
    "get",
    "get: T",
    "set?: T",
    "static: T",
    "static a: T",
    "async: T",
    "readonly a = b",
    "private a",
    "static readonly a = b as T",
    "declare a: T",
    "public [a] = b",
    "[a]: T",
    "[a: string]: T",
    "*a() {}",
    "private *a() {}",
    "async a(): Promise<T> {}",
    "public async *a<T>() {}",
    "protected get a(): T { return b }",
    "a(): T",
    "a(b?: T): T {}",
    "abstract a: T",
    "abstract a(): T",
    "static {}",
];

#[test]
fn every_pair_of_lines_keeps_its_meaning() {
    let mut valid = 0;
    for first in LINES {
        for second in LINES {
            for between in ["", "interface I {}\n", "declare const d: 1\n"] {
                let text = format!("{first}\n{between}{second}\n");
                // The same export twice is an error that only JavaScript reports.
                if first != second && nodes("m.ts", &text).is_ok() {
                    strip(&text);
                    valid += 1;
                }
            }
        }
    }
    assert!(valid > 4000, "{valid}");
}

#[test]
fn every_pair_of_class_members_keeps_its_meaning() {
    let mut valid = 0;
    for first in MEMBERS {
        for second in MEMBERS {
            for between in ["", "[k: string]: T\n", "declare d: T\n"] {
                let text = format!("abstract class X {{\n{first}\n{between}{second}\n}}\n");
                if nodes("m.ts", &text).is_ok() {
                    strip(&text);
                    valid += 1;
                }
            }
        }
    }
    assert!(valid > 2000, "{valid}");
}

/// Each refusal begins with its place and code.
#[track_caller]
fn check_refused(path: &str, text: &str, expected: &str) {
    let error = analyze(path, text).map(|_| ()).expect_err(text);
    let said = error.to_string();
    assert!(said.starts_with(expected), "{said}\nwanted {expected}\n{text}");
    assert!(!error.hint.is_empty());
    if error.code == super::E_TS_SYNTAX {
        assert_eq!(strip_types(path, text).expect_err(text), error);
    }
}

#[test]
fn typescript_that_cannot_be_erased_is_refused() {
    check_refused("a/m.ts", "let a;\n  enum E { A }", "a/m.ts:2:3: E_TS_SYNTAX: an enum");
    check_refused("m.ts", "export const enum E { A }", "m.ts:1:8: E_TS_SYNTAX: an enum");
    check_refused(
        "m.ts",
        "namespace N { export const a = 1 }",
        "m.ts:1:1: E_TS_SYNTAX: a namespace",
    );
    check_refused("m.ts", "namespace A.B { let x = 1 }", "m.ts:1:1: E_TS_SYNTAX: a namespace");
    check_refused(
        "m.ts",
        "class A { constructor(private a: string) {} }",
        "m.ts:1:23: E_TS_SYNTAX: a parameter property",
    );
    check_refused(
        "m.ts",
        "class A { constructor(readonly a: string) {} }",
        "m.ts:1:23: E_TS_SYNTAX: a parameter property",
    );
    check_refused("m.ts", "import a = require('a');", "m.ts:1:1: E_TS_SYNTAX: `import =`");
    check_refused("m.ts", "import a = N.b;", "m.ts:1:1: E_TS_SYNTAX: `import =`");
    check_refused("m.ts", "export = 1;", "m.ts:1:1: E_TS_SYNTAX: `export =`");
    check_refused("m.ts", "@dec class A {}", "m.ts:1:1: E_TS_SYNTAX: decorators");
    check_refused("m.ts", "class A { @dec m() {} }", "m.ts:1:11: E_TS_SYNTAX: decorators");
    check_refused("m.ts", "class A { accessor x = 1 }", "m.ts:1:11: E_TS_SYNTAX: `accessor`");
    check_refused("m.ts", "const a = <any>b;", "m.ts:1:11: E_TS_SYNTAX: a `<Type>value` assertion");
    check_refused("m.tsx", "let a = 1;", "m.tsx:1:1: E_TS_SYNTAX: JSX");
    check_refused("m.d.ts", "export {};", "m.d.ts:1:1: E_TS_SYNTAX: a declaration file");
    let jsx = analyze("m.ts", "const a = <p>b</p>;").unwrap_err();
    assert_eq!((jsx.code, jsx.line), ("E_TS_SYNTAX", 1));
}

#[test]
fn broken_text_is_refused_with_its_place() {
    check_refused("m.js", "let a;\nlet b = ;\n", "m.js:2:9: E_SYNTAX");
    check_refused("m.js", "let ä = 1; let b = ;\n", "m.js:1:20: E_SYNTAX");
    check_refused("m.js", "let a: number = 1;", "m.js:1:6: E_SYNTAX");
    check_refused("m.js", "const a = <p>b</p>;", "m.js:1:11: E_SYNTAX: JSX");
    check_refused("m.js", "@dec class A {}", "m.js:1:1: E_SYNTAX: decorators");
    check_refused(
        "m.js",
        "import a from 'a' with { type: 'css' };",
        "m.js:1:26: E_SYNTAX: import attribute",
    );
    check_refused("m.json", "{\n  \"a\": 1,\n}", "m.json:3:1: E_SYNTAX: not valid JSON");
    check_refused("m.json", "{\"a\": 1, \"a\": 2}", "m.json:1:");
    check_refused("m.txt", "hello", "m.txt:1:1: E_MODULE_KIND");
}

#[test]
fn commonjs_is_refused() {
    check_refused("m.js", "const a = require('a');", "m.js:1:11: E_COMMONJS: `require`");
    check_refused("m.js", "let x;\nmodule.exports = x;", "m.js:2:1: E_COMMONJS: `module`");
    check_refused("m.js", "module.exports.x = 1;", "m.js:1:1: E_COMMONJS: `module`");
    check_refused("m.js", "exports.x = 1;", "m.js:1:1: E_COMMONJS: `exports`");
    check_refused("m.ts", "exports.x = 1 as any;", "m.ts:1:1: E_COMMONJS: `exports`");
    let declared = "declare const require: any;\nlet f: (exports: 1) => 1 = require('a');";
    check_refused("m.ts", declared, "m.ts:2:28: E_COMMONJS: `require`");
    check_refused("m.cjs", "", "m.cjs:1:1: E_COMMONJS");
    check_refused("m.js", "export function f() { return require('fs'); }", "m.js:1:30: E_COMMONJS");
    for fine in [
        "const require = (x) => x; require('a');",
        "export function f(module) { module.exports = 1; }",
        "const exports = {}; exports.x = 1; export { exports };",
        "export const x = { require: 1 }.require;",
    ] {
        assert_eq!(analyze("m.js", fine).unwrap().warnings, [""; 0], "{fine}");
    }
    let guarded = "export const f = () => typeof require === 'function' ? require('fs') : null;";
    assert_eq!(analyze("m.js", guarded).unwrap().warnings.len(), 1);
    let tried = "try { require('fs'); } catch {}";
    assert_eq!(analyze("m.js", tried).unwrap().warnings.len(), 1);
}

#[test]
fn imports_come_in_order_with_places() {
    let text = "import a, { b } from './a.js';\nimport './side.js';\n\
        import type { T } from './t.js';\n\
        export * from './c.js';\nexport { d } from \"./d.js\";\nexport type { U } from './u.js';\n\
        import j from './j.json' with { type: 'json' };\nimport * as n from 'dormouse';\n\
        const e = await import('./e.js');\nconst f = () => import(`./f.js`);\n\
        const g = (x) => import(x);\n\
        export { type V } from './v.js';\n";
    let found = analyze("m.ts", text).unwrap();
    let row = |i: &super::Import| (i.specifier.clone(), i.kind, i.json, i.line, i.column);
    let rows: Vec<_> = found.imports.iter().map(row).collect();
    let want = |s: &str, kind, json, line, column| (s.to_owned(), kind, json, line, column);
    assert_eq!(
        rows,
        [
            want("./a.js", ImportKind::Static, false, 1, 22),
            want("./side.js", ImportKind::Static, false, 2, 8),
            want("./c.js", ImportKind::Reexport, false, 4, 15),
            want("./d.js", ImportKind::Reexport, false, 5, 19),
            want("./j.json", ImportKind::Static, true, 7, 15),
            want("dormouse", ImportKind::Static, false, 8, 20),
            want("./e.js", ImportKind::Dynamic, false, 9, 24),
            want("./f.js", ImportKind::Dynamic, false, 10, 24),
            want("./v.js", ImportKind::Reexport, false, 12, 24),
        ]
    );
    assert_eq!(found.computed_imports, [(11, 18)]);
}

#[test]
fn modules_of_child_runs_are_seen() {
    let text = "await ctx.run('./a.js', { inputs: 1 }); ctx.run({ process: '../b.ts', inputs });\n\
        ctx.run(task, './no.js'); tool.run('no.js'); run('./no.js'); ctx.run(name);";
    let found = analyze("m.js", text).unwrap();
    let rows: Vec<_> = found.imports.iter().map(|i| (i.specifier.as_str(), i.kind)).collect();
    assert_eq!(rows, [("./a.js", ImportKind::ChildRun), ("../b.ts", ImportKind::ChildRun)]);
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    for (open, middle, close, fine) in [
        ("(", "1", ")", 4_000),
        ("[", "1", "]", 4_000),
        ("(() => ", "1", ")", 2_000),
        ("`${", "1", "}`", 4_000),
        ("!", "1", "", 20_000),
        ("a => ", "1", "", 15_000),
        ("a ? b : ", "1", "", 15_000),
        ("", "a", ".b()", 20_000),
        ("", "1", " + 1", 20_000),
        ("", "1", " as T", 20_000),
    ] {
        let text = |n: usize| format!("x = {}{middle}{};", open.repeat(n), close.repeat(n));
        analyze("m.ts", &text(fine)).unwrap_or_else(|e| panic!("{open}{close}: {e}"));
        let error = analyze("m.ts", &text(200_000)).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), ("E_SYNTAX", "nested too deeply"));
    }
    let types = |n: usize| format!("let x: {}1{};", "[".repeat(n), "]".repeat(n));
    analyze("m.ts", &types(4_000)).unwrap();
    assert!(analyze("m.ts", &types(6_000)).is_err());
}

//! Reading: from the tree of a text to a [`Workflow`], with everything that is wrong on the way.
//!
//! May not run anything. Invariant: a wrong part is told once and read as if it were not there, so
//! that the rest is still checked.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::expression::Expression;
use super::fields::DOCUMENT;
use super::finding::{Finding, Findings, did_you_mean, member};
use super::model::{
    Backoff, Body, Conditions, Dag, Hook, Hooks, Loop, Moment, Node, Parameter, Retry, Source,
    Strategy, Task, Template, Tolerance, Workflow,
};
use super::reference::{Piece, Reference, pieces};
use super::shape::{self, EXTENSION, is_name};
use super::signatures::{self, Signatures};
use super::values::{Type, misfit};
use super::views::{Mention, Sight};
use super::{executors, graphs, rounds, span, views};
use crate::codecs::outline::{self, Notation, Outline, Place};
use crate::ground::id::is_secret_name;
use crate::ground::limits::{
    WORKFLOW_DOCUMENT_BYTES_MAX, WORKFLOW_DOCUMENT_DEPTH_MAX, WORKFLOW_NODES_MAX,
    WORKFLOW_PARAMETERS_MAX, WORKFLOW_TEMPLATES_MAX,
};

/// The kind of documents that make runs begin in time.
pub const CRON_WORKFLOW: &str = "CronWorkflow";
/// How long a run may take when nothing is said.
const TIMEOUT_MS_DEFAULT: u64 = 3_600_000;
/// How deep templates may stand in each other when nothing is said.
const DEPTH_DEFAULT: usize = 3;
/// How long a hook may take when nothing is said.
const HOOK_MS_DEFAULT: u64 = 60_000;

/// A document and what is wrong with it. With an error among the findings it must not be run.
#[derive(Debug)]
pub struct Reading {
    /// What was read.
    pub workflow: Workflow,
    /// What is wrong, by place.
    pub findings: Vec<Finding>,
}

impl Reading {
    /// Whether it can be run.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.findings.iter().any(Finding::is_error)
    }
}

/// Reads a document whose kinds of work nobody has described.
#[must_use]
pub fn read(text: &str, notation: Notation) -> Reading {
    read_for(text, notation, &Signatures::new(), false)
}

/// The part of an entry after `#` that says that its document is read leniently.
pub const LENIENT: &str = "lenient";

/// Reads a document, and checks its work against what is known of its kinds. What other engines put
/// up with is a warning if it is read leniently.
#[must_use]
pub fn read_for(
    text: &str,
    notation: Notation,
    signatures: &Signatures,
    is_lenient: bool,
) -> Reading {
    let mut findings = Findings::of(is_lenient);
    let Some(tree) = tree(text, notation, &mut findings) else {
        return Reading { workflow: Workflow::default(), findings: findings.sorted() };
    };
    if let Some(kind) = tree.member("kind").filter(|kind| kind.text() == Some(CRON_WORKFLOW)) {
        let finding = findings.add("E-KIND", "/kind", kind.at, "a schedule is not run by itself");
        finding.hint("`dormouse schedule apply FILE` makes its runs begin in time");
        return Reading { workflow: Workflow::default(), findings: findings.sorted() };
    }
    shape::object(&tree, &DOCUMENT, "", &mut findings);
    understand(&tree, signatures, findings)
}

/// The tree of a text, if it is one.
pub(super) fn tree(text: &str, notation: Notation, findings: &mut Findings) -> Option<Outline> {
    if text.len() > WORKFLOW_DOCUMENT_BYTES_MAX {
        let what = format!("a document has at most {WORKFLOW_DOCUMENT_BYTES_MAX} bytes");
        findings.add("E-LIMIT", "", Place { line: 1, column: 1 }, what);
        return None;
    }
    match outline::read(text, notation, WORKFLOW_DOCUMENT_DEPTH_MAX) {
        Ok(tree) => Some(tree),
        Err(e) => {
            let is_twice =
                e.why.starts_with("duplicate key") || e.why.ends_with("stands there twice");
            let code = if is_twice { "E-DUP-KEY" } else { "E-SYNTAX" };
            findings.add(code, "", e.at, e.why);
            None
        }
    }
}

/// What a tree means whose shape was checked.
pub(super) fn understand(tree: &Outline, signatures: &Signatures, findings: Findings) -> Reading {
    let mut reader = Reader { findings, ..Reader::default() };
    let workflow = reader.workflow(tree);
    let Reader { mut findings, mentions, places, .. } = reader;
    graphs::check(&workflow, &places, &mut findings);
    executors::check(&workflow, &places, &mut findings);
    signatures::check(&workflow, &places, signatures, &mut findings);
    views::check(&workflow, &mentions, &mut findings);
    Reading { workflow, findings: findings.sorted() }
}

/// What is known while a document is read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) findings: Findings,
    /// Templates by name.
    names: HashMap<String, usize>,
    /// Whether each named template is a task.
    tasks: Vec<bool>,
    pub(super) templates: Vec<Template>,
    /// Paths in the document, to be looked at when everything is read.
    pub(super) mentions: Vec<Mention>,
    /// Where templates and nodes stand, by pointer.
    places: HashMap<String, Place>,
    /// For all work that says nothing itself.
    idempotent: Option<bool>,
    on_uncertain: Option<String>,
}

pub(super) fn text(part: Option<&Outline>) -> Option<String> {
    part.and_then(Outline::text).filter(|text| !text.is_empty()).map(str::to_owned)
}

pub(super) fn flag(part: Option<&Outline>) -> Option<bool> {
    part.map(Outline::value).and_then(|value| value.as_bool())
}

pub(super) fn whole(part: Option<&Outline>) -> Option<i64> {
    part.map(Outline::value).and_then(|value| value.as_i64())
}

fn span_of(part: Option<&Outline>) -> Option<u64> {
    span::parse(part?.text()?, true)
}

pub(super) fn extension<'a>(part: &'a Outline, name: &str) -> Option<&'a Outline> {
    part.member(EXTENSION)?.member(name)
}

impl Reader {
    fn workflow(&mut self, tree: &Outline) -> Workflow {
        let nothing = Outline { at: tree.at, part: outline::Part::Null };
        let metadata = tree.member("metadata").unwrap_or(&nothing);
        let spec = tree.member("spec").unwrap_or(&nothing);
        self.idempotent = flag(extension(spec, "idempotent"));
        self.on_uncertain = text(extension(spec, "onUncertain"));
        let sight = Sight::run();
        let arguments =
            self.parameters(spec.member("arguments"), "/spec/arguments", &sight, Role::Argument);
        self.all_templates(spec.member("templates").unwrap_or(&nothing));
        let hooks = self.hooks(spec.member("hooks"), "/spec/hooks");
        let entry = self.entry(spec);
        let timeout = spec.member("timeout");
        if text(timeout).is_none() && self.can_wait_for_people() {
            let what = "a person may take longer than the hour that a run has";
            let finding = self.findings.add("W-DEFAULT-TIMEOUT", "/spec", spec.at, what);
            finding.hint("say how long: \"timeout\": \"7d\", or \"0s\" for ever");
        }
        let whole = |name| whole(spec.member(name));
        Workflow {
            name: text(metadata.member("name")).unwrap_or_default(),
            is_lenient: self.findings.is_lenient(),
            namespace: text(metadata.member("namespace")).unwrap_or_else(|| "default".to_owned()),
            arguments,
            timeout_ms: Some(span_of(timeout).unwrap_or(TIMEOUT_MS_DEFAULT)).filter(|ms| *ms > 0),
            priority: whole("priority").and_then(|n| u32::try_from(n).ok()),
            depth_max: whole("maxNestedDepth")
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(DEPTH_DEFAULT),
            templates: std::mem::take(&mut self.templates),
            entry: entry.unwrap_or(usize::MAX),
            hooks,
        }
    }

    fn can_wait_for_people(&self) -> bool {
        let waits = |kind: &str| matches!(kind, "breakpoint" | "approval" | "await" | "signal");
        self.templates.iter().filter_map(Template::task).any(|task| waits(&task.kind))
    }

    fn entry(&mut self, spec: &Outline) -> Option<usize> {
        let name = text(spec.member("entrypoint"))?;
        self.template_named(&name, "/spec/entrypoint", spec.member("entrypoint")?.at)
    }

    /// The template of a name that stands somewhere.
    pub(super) fn template_named(&mut self, name: &str, pointer: &str, at: Place) -> Option<usize> {
        let found = self.names.get(name).copied();
        if found.is_none() && !self.findings.is_full() {
            let mut known: Vec<&str> = self.names.keys().map(String::as_str).collect();
            known.sort_unstable();
            let hint = did_you_mean(name, known.into_iter());
            let what = format!("there is no template {name:?}");
            self.findings.add("E-TEMPLATE", pointer, at, what).hint(hint);
        }
        found
    }

    fn all_templates(&mut self, list: &Outline) {
        let items = list.items();
        if matches!(list.part, outline::Part::List(_)) && items.is_empty() {
            self.findings.add("E-RANGE", "/spec/templates", list.at, "there must be a template");
        }
        if items.len() > WORKFLOW_TEMPLATES_MAX {
            let what = format!("at most {WORKFLOW_TEMPLATES_MAX} templates");
            self.findings.add("E-LIMIT", "/spec/templates", list.at, what);
        }
        let items = &items[..items.len().min(WORKFLOW_TEMPLATES_MAX)];
        let kinds: Vec<_> = items.iter().enumerate().map(|(i, item)| self.kind(i, item)).collect();
        for (i, kind) in kinds.iter().enumerate() {
            self.tasks.push(matches!(kind, Some(("task", _))));
            let Some((word, body)) = kind else { continue };
            let Some(name) = text(body.member("name")) else { continue };
            let pointer = format!("/spec/templates/{i}/{word}/name");
            if let Some(first) = self.names.get(&name) {
                let what = format!("{name:?} is the name of template {first} already");
                let at = body.member("name").map_or(body.at, |part| part.at);
                self.findings.add("E-DUP-NAME", &pointer, at, what);
            } else {
                self.names.insert(name, i);
            }
        }
        // Executors of nodes become templates behind the named ones.
        for i in 0..items.len() {
            self.placeholder_template(&format!("/spec/templates/{i}"));
        }
        for (i, kind) in kinds.into_iter().enumerate() {
            let Some((word, body)) = kind else { continue };
            let pointer = format!("/spec/templates/{i}/{word}");
            self.places.insert(pointer.clone(), body.at);
            let template = self.template(i, word, body, pointer);
            self.templates[i] = template;
        }
    }

    /// A template that is filled in later, or stands for one that is not there.
    fn placeholder_template(&mut self, pointer: &str) -> usize {
        self.templates.push(Template {
            name: String::new(),
            pointer: pointer.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            timeout_ms: None,
            conditions: Conditions::default(),
            body: Body::Task(Box::default()),
        });
        self.templates.len() - 1
    }

    /// Which of the three a template is.
    fn kind<'a>(&mut self, i: usize, item: &'a Outline) -> Option<(&'static str, &'a Outline)> {
        let found: Vec<_> = ["task", "dag", "loop"]
            .into_iter()
            .filter_map(|word| item.member(word).map(|body| (word, body)))
            .filter(|(_, body)| body.part != outline::Part::Null)
            .collect();
        if found.len() != 1 && !item.members().is_empty() {
            let what = "a template is one of task, dag and loop";
            self.findings.add("E-TEMPLATE-KIND", &format!("/spec/templates/{i}"), item.at, what);
        }
        found.first().copied().filter(|(_, body)| matches!(body.part, outline::Part::Map(_)))
    }

    fn template(&mut self, own: usize, word: &str, body: &Outline, pointer: String) -> Template {
        let name = text(body.member("name")).unwrap_or_default();
        let call = Sight::call_site(own);
        let role = if word == "task" { Role::TaskInput } else { Role::Input };
        let inputs =
            self.parameters(body.member("inputs"), &format!("{pointer}/inputs"), &call, role);
        let timeout_ms = span_of(body.member("timeout")).filter(|ms| *ms > 0);
        let inside = match word {
            "task" => call.clone().with_own(),
            "dag" => Sight::inside_dag(own),
            _ => Sight::inside_loop(own),
        };
        let outputs = self.parameters(
            body.member("outputs"),
            &format!("{pointer}/outputs"),
            &inside,
            Role::Output,
        );
        let conditions = self.conditions(
            body.member("phaseConditions"),
            &format!("{pointer}/phaseConditions"),
            &inside.with_own(),
        );
        let body = match word {
            "task" => Body::Task(Box::new(self.task(own, body, &pointer))),
            "dag" => Body::Dag(self.dag(own, body, &pointer)),
            _ => Body::Loop(self.rounds(own, body, &pointer)),
        };
        Template { name, pointer, inputs, outputs, timeout_ms, conditions, body }
    }

    fn task(&mut self, own: usize, part: &Outline, pointer: &str) -> Task {
        let nothing = Outline { at: part.at, part: outline::Part::Null };
        let executor = part.member("executor").unwrap_or(&nothing);
        let path = member(pointer, "executor");
        let kind = text(executor.member("type")).unwrap_or_default();
        let in_kind = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b);
        if kind.len() > 63 || !kind.bytes().all(in_kind) {
            let what = format!("{kind:?} is not a kind of work");
            let at = executor.member("type").map_or(executor.at, |part| part.at);
            let finding = self.findings.add("E-NAME", &member(&path, "type"), at, what);
            finding.hint("1 to 63 of a-z, 0-9, dots, underscores, slashes and hyphens");
        }
        let config = executor.member("config");
        if let Some(config) = config {
            let sight = Sight::call_site(own);
            self.placeholders(&config.value(), &member(&path, "config"), config.at, &sight);
        }
        let members = |part: &Outline| as_object(part.value()).unwrap_or_default();
        let mut config = config.map(members).unwrap_or_default();
        if executors::is_ours(&kind) {
            config = config.into_iter().map(|(k, v)| (executors::kebab(&k), v)).collect();
        }
        Task {
            kind,
            config,
            resources: part.member("resources").map(members).unwrap_or_default(),
            idempotent: flag(extension(executor, "idempotent")).or(self.idempotent),
            on_uncertain: text(extension(executor, "onUncertain"))
                .or_else(|| self.on_uncertain.clone()),
            retry: self.retry(part.member("retry"), &member(pointer, "retry"), own),
            hooks: self.hooks(part.member("hooks"), &member(pointer, "hooks")),
        }
    }

    fn retry(&mut self, part: Option<&Outline>, pointer: &str, own: usize) -> Retry {
        let Some(part) = part else { return Retry::default() };
        let sight = Sight::call_site(own).with_own().with_retry();
        let expression =
            self.expression(part.member("expression"), &member(pointer, "expression"), &sight);
        let backoff = extension(part, "backoff").map(|given| {
            let usual = Backoff::default();
            let number = |name| given.member(name).map(Outline::value).and_then(|v| v.as_f64());
            Backoff {
                initial_ms: span_of(given.member("initial")).unwrap_or(usual.initial_ms),
                factor: number("factor").unwrap_or(usual.factor),
                max_ms: span_of(given.member("max")).unwrap_or(usual.max_ms),
                jitter: number("jitter").unwrap_or(usual.jitter),
            }
        });
        Retry {
            limit: whole(part.member("limit")).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            expression,
            backoff,
            max_elapsed_ms: span_of(extension(part, "maxElapsed")),
        }
    }

    fn conditions(&mut self, part: Option<&Outline>, pointer: &str, sight: &Sight) -> Conditions {
        let Some(part) = part else { return Conditions::default() };
        let mut read =
            |name: &str| self.expression(part.member(name), &member(pointer, name), sight);
        Conditions { succeeded: read("succeeded"), failed: read("failed"), error: read("error") }
    }

    pub(super) fn hooks(&mut self, part: Option<&Outline>, pointer: &str) -> Hooks {
        let mut all = Vec::new();
        for (word, moment) in Moment::ALL {
            let Some(hook) = part.and_then(|part| part.member(word)) else { continue };
            let Some(name) = text(hook.member("template")) else { continue };
            let path = format!("{pointer}/{word}/template");
            let at = hook.member("template").map_or(hook.at, |part| part.at);
            let Some(template) = self.template_named(&name, &path, at) else { continue };
            if !self.tasks.get(template).copied().unwrap_or(false) {
                let what = format!("a hook runs a task, and {name:?} is none");
                self.findings.add("E-HOOK-TEMPLATE", &path, at, what);
            }
            let timeout_ms = span_of(extension(hook, "timeout")).unwrap_or(HOOK_MS_DEFAULT);
            all.push((moment, Hook { template, timeout_ms }));
        }
        Hooks { all }
    }

    fn dag(&mut self, own: usize, part: &Outline, pointer: &str) -> Dag {
        let path = member(pointer, "tasks");
        let nothing = Outline { at: part.at, part: outline::Part::Null };
        let list = part.member("tasks").unwrap_or(&nothing);
        if matches!(list.part, outline::Part::List(_)) && list.items().is_empty() {
            self.findings.add("E-RANGE", &path, list.at, "there must be a task");
        }
        if list.items().len() > WORKFLOW_NODES_MAX {
            let what = format!("at most {WORKFLOW_NODES_MAX} tasks");
            self.findings.add("E-LIMIT", &path, list.at, what);
        }
        let items = &list.items()[..list.items().len().min(WORKFLOW_NODES_MAX)];
        let mut names: HashMap<String, usize> = HashMap::new();
        for (i, item) in items.iter().enumerate() {
            let Some(name) = text(item.member("name")) else { continue };
            match names.entry(name) {
                Entry::Vacant(free) => drop(free.insert(i)),
                Entry::Occupied(taken) => {
                    let what = format!("{:?} is the name of another task of this dag", taken.key());
                    self.findings.add("E-DUP-NAME", &format!("{path}/{i}/name"), item.at, what);
                }
            }
        }
        let nodes: Vec<Node> = items
            .iter()
            .enumerate()
            .map(|(i, item)| self.node(own, i, item, &format!("{path}/{i}"), &names))
            .collect();
        let tolerance = tolerance(part.member("continueOn")).unwrap_or_default();
        let mut dependents = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            for needed in &node.dependencies {
                dependents[*needed].push(i);
            }
        }
        let mut dag = Dag { nodes, names, dependents, tolerance };
        self.entrypoints(&mut dag, part.member("entrypoints"), &member(pointer, "entrypoints"));
        dag
    }

    fn node(
        &mut self,
        dag: usize,
        i: usize,
        part: &Outline,
        pointer: &str,
        names: &HashMap<String, usize>,
    ) -> Node {
        self.places.insert(pointer.to_owned(), part.at);
        let sight = Sight::node(dag, i);
        let template = self.target(dag, i, part, pointer);
        let path = member(pointer, "arguments");
        let arguments = self.parameters(part.member("arguments"), &path, &sight, Role::Argument);
        let (mut dependencies, mut known_needs) = (Vec::new(), HashSet::new());
        let given = part.member("dependencies").map(Outline::items).unwrap_or_default();
        for (k, needed) in given.iter().enumerate() {
            let Some(name) = needed.text() else { continue };
            let at = format!("{pointer}/dependencies/{k}");
            match names.get(name) {
                Some(found) if known_needs.insert(*found) => dependencies.push(*found),
                Some(_) => {}
                None if self.findings.is_full() => {}
                None => {
                    let mut known: Vec<&str> = names.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    let hint = did_you_mean(name, known.into_iter());
                    let what = format!("there is no task {name:?} in this dag");
                    self.findings.add("E-DEP", &at, needed.at, what).hint(hint);
                }
            }
        }
        let conditions = part.member("phaseConditions").filter(|given| !given.is_empty());
        let own = sight.clone().with_own();
        let is_inline = part.member("template").is_none_or(Outline::is_empty);
        let retry = part.member("retry").filter(|given| !given.is_empty());
        Node {
            name: text(part.member("name")).unwrap_or_default(),
            pointer: pointer.to_owned(),
            template,
            arguments,
            dependencies,
            when: self.expression(part.member("when"), &member(pointer, "when"), &sight),
            timeout_ms: span_of(part.member("timeout")).filter(|ms| *ms > 0),
            // An executor of its own has read its retry and hooks itself.
            retry: retry
                .filter(|_| !is_inline)
                .map(|given| self.retry(Some(given), &member(pointer, "retry"), template)),
            tolerance: tolerance(part.member("continueOn")),
            conditions: conditions.map(|given| {
                self.conditions(Some(given), &member(pointer, "phaseConditions"), &own)
            }),
            hooks: if is_inline {
                Hooks::default()
            } else {
                self.hooks(part.member("hooks"), &member(pointer, "hooks"))
            },
            is_live: true,
        }
    }

    /// What a node runs: a template, or an executor of its own, which becomes a template.
    fn target(&mut self, dag: usize, i: usize, part: &Outline, pointer: &str) -> usize {
        let given = |name: &str| part.member(name).filter(|given| !given.is_empty());
        let Some(template) = given("template") else {
            if given("executor").is_none() {
                let what = "a task needs an executor or a template";
                self.findings.add("E-NO-EXECUTOR", pointer, part.at, what);
            }
            let own = self.placeholder_template(pointer);
            let sight = Sight::node(dag, i);
            let path = format!("{pointer}/inputs");
            let inputs = self.parameters(part.member("inputs"), &path, &sight, Role::TaskInput);
            let path = format!("{pointer}/outputs");
            let outputs = self.parameters(part.member("outputs"), &path, &sight, Role::Output);
            let body = Body::Task(Box::new(self.task(own, part, pointer)));
            self.templates[own] = Template { inputs, outputs, body, ..self.templates[own].clone() };
            return own;
        };
        if let Some(executor) = given("executor") {
            let what = "a task has an executor or a template, not both";
            self.findings.add("E-BOTH", &member(pointer, "executor"), executor.at, what);
        }
        for name in ["inputs", "outputs", "resources"] {
            if let Some(given) = given(name).filter(|given| !is_hollow(given)) {
                let what = "the template says this: it would change nothing here";
                self.findings.add("E-NO-EFFECT", &member(pointer, name), given.at, what);
            }
        }
        let name = template.text().unwrap_or_default().to_owned();
        let path = member(pointer, "template");
        let Some(found) = self.template_named(&name, &path, template.at) else {
            return self.placeholder_template(pointer);
        };
        if !self.tasks.get(found).copied().unwrap_or(true) {
            if let Some(retry) = given("retry") {
                let what = "only work is tried again, and this template is a dag or a loop";
                self.findings.add("E-RETRY-CONTAINER", &member(pointer, "retry"), retry.at, what);
            }
            if let Some(given) = given("phaseConditions") {
                let path = member(pointer, "phaseConditions");
                let what = "a dag or a loop has conditions of its own: write them there";
                self.findings.add("E-PHASE-CALLSITE", &path, given.at, what);
            }
        }
        found
    }

    fn entrypoints(&mut self, dag: &mut Dag, part: Option<&Outline>, pointer: &str) {
        let Some(part) = part.filter(|part| part.part != outline::Part::Null) else { return };
        let names: Vec<&str> = match part.text() {
            Some(name) => vec![name],
            None => part.items().iter().filter_map(Outline::text).collect(),
        };
        if names.is_empty() {
            self.findings.add("E-ENTRYPOINTS", pointer, part.at, "there must be one");
            return;
        }
        let mut open = Vec::new();
        for name in names {
            let found = dag.nodes.iter().position(|node| node.name == name);
            if found.is_none() {
                let hint = did_you_mean(name, dag.nodes.iter().map(|node| node.name.as_str()));
                let what = format!("there is no task {name:?} in this dag");
                self.findings.add("E-ENTRYPOINTS", pointer, part.at, what).hint(hint);
            }
            open.extend(found);
        }
        dag.nodes.iter_mut().for_each(|node| node.is_live = false);
        while let Some(i) = open.pop() {
            if !std::mem::replace(&mut dag.nodes[i].is_live, true) {
                open.extend(&dag.dependents[i]);
            }
        }
        for node in dag.nodes.iter().filter(|node| node.is_live) {
            if let Some(dead) = node.dependencies.iter().find(|i| !dag.nodes[**i].is_live) {
                let (name, dead) = (&node.name, &dag.nodes[*dead].name);
                let what = format!("{name:?} needs {dead:?}, which no entrypoint leads to");
                self.findings.add("E-ENTRYPOINTS", pointer, part.at, what);
            }
        }
    }

    fn rounds(&mut self, own: usize, part: &Outline, pointer: &str) -> Loop {
        let body = text(part.member("body")).and_then(|name| {
            let at = part.member("body")?.at;
            self.template_named(&name, &member(pointer, "body"), at)
        });
        let sight = Sight::call_site(own).with_own_inputs();
        let path = member(pointer, "arguments");
        let arguments = self.parameters(part.member("arguments"), &path, &sight, Role::Argument);
        let aggregate = part.member("aggregate");
        let strategy = match aggregate.and_then(|a| a.member("strategy")).and_then(Outline::text) {
            Some("first") => Strategy::First,
            Some("list") => Strategy::List,
            _ => Strategy::Last,
        };
        let names = aggregate.and_then(|a| a.member("parameters")).map(Outline::items);
        let names: Vec<String> =
            names.unwrap_or_default().iter().filter_map(|n| text(Some(n))).collect();
        let declared = part.member("outputs").and_then(|o| o.member("parameters"));
        let declared = declared.map(Outline::items).unwrap_or_default();
        let declared = || declared.iter().filter_map(|p| text(p.member("name"))).collect();
        Loop {
            body: body.unwrap_or_else(|| self.placeholder_template(pointer)),
            rounds: rounds::of(self, own, part, pointer),
            concurrency: rounds::concurrency(part),
            max: rounds::most(part),
            arguments,
            strategy,
            names: if names.is_empty() { declared() } else { names },
            fail_fast: flag(extension(part, "failFast")).unwrap_or(false),
            phase_of_last: extension(part, "phaseFrom").and_then(Outline::text) == Some("last"),
        }
    }

    pub(super) fn expression(
        &mut self,
        part: Option<&Outline>,
        pointer: &str,
        sight: &Sight,
    ) -> Option<Expression> {
        let part = part?;
        let given = part.text().filter(|text| !text.is_empty())?;
        match Expression::parse(given) {
            Err(why) => {
                self.findings.add("E-EXPR", pointer, part.at, format!("{given:?}: {why}"));
                None
            }
            Ok(expression) => {
                for reference in &expression.references {
                    self.mention(reference.clone(), pointer, part.at, sight);
                }
                for word in &expression.words {
                    let what = format!("{word} counts as a text: put it in quotes");
                    self.findings.add("W-BAREWORD", pointer, part.at, what);
                }
                if let Some(path) = expression.quoted_number() {
                    let (pointer, at) = (pointer.to_owned(), part.at);
                    let (reference, sight) = (path.clone(), sight.clone());
                    let is_text = true;
                    self.mentions.push(Mention { reference, pointer, at, sight, is_text });
                }
                Some(expression)
            }
        }
    }

    pub(super) fn mention(
        &mut self,
        reference: Reference,
        pointer: &str,
        at: Place,
        sight: &Sight,
    ) {
        let (pointer, sight) = (pointer.to_owned(), sight.clone());
        self.mentions.push(Mention { reference, pointer, at, sight, is_text: false });
    }

    /// Notes the placeholders in a value.
    pub(super) fn placeholders(&mut self, value: &Value, pointer: &str, at: Place, sight: &Sight) {
        match value {
            Value::String(text) => {
                for piece in pieces(text) {
                    match piece {
                        Piece::Reference(reference, _) => {
                            self.mention(reference, pointer, at, sight);
                        }
                        Piece::Broken(path, why) => {
                            let what = format!("{path:?}: {why}");
                            self.findings.add("E-REF", pointer, at, what);
                        }
                        Piece::Text(_) | Piece::Other(_) => {}
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.placeholders(item, pointer, at, sight);
                }
            }
            Value::Object(members) => {
                for item in members.values() {
                    self.placeholders(item, pointer, at, sight);
                }
            }
            _ => {}
        }
    }

    fn parameters(
        &mut self,
        part: Option<&Outline>,
        pointer: &str,
        sight: &Sight,
        role: Role,
    ) -> Vec<Parameter> {
        let Some(list) = part.and_then(|part| part.member("parameters")) else {
            return Vec::new();
        };
        let path = member(pointer, "parameters");
        if list.items().len() > WORKFLOW_PARAMETERS_MAX {
            let what = format!("at most {WORKFLOW_PARAMETERS_MAX} parameters");
            self.findings.add("E-LIMIT", &path, list.at, what);
        }
        let mut all: Vec<Parameter> = Vec::new();
        for (i, item) in list.items().iter().take(WORKFLOW_PARAMETERS_MAX).enumerate() {
            let path = format!("{path}/{i}");
            let parameter = self.parameter(item, &path, sight, role);
            if all.iter().any(|known| known.name == parameter.name) {
                let what = format!("{:?} is the name of another parameter", parameter.name);
                let at = item.member("name").map_or(item.at, |name| name.at);
                self.findings.add("E-DUP-NAME", &member(&path, "name"), at, what);
            } else if !parameter.name.is_empty() {
                all.push(parameter);
            }
        }
        all
    }

    fn parameter(&mut self, part: &Outline, pointer: &str, sight: &Sight, role: Role) -> Parameter {
        let name = text(part.member("name")).unwrap_or_default();
        if matches!(role, Role::Input | Role::TaskInput) && !name.is_empty() && !is_name(&name) {
            let at = part.member("name").map_or(part.at, |name| name.at);
            let what = format!("{name:?} is not a name of an input");
            let hint = "1 to 63 of a-z, 0-9 and hyphens, a letter or digit at both ends";
            self.findings.add("E-NAME", &member(pointer, "name"), at, what).hint(hint);
        }
        let word = text(part.member("type"));
        let of_type = Type::of(word.as_deref().unwrap_or(""));
        let choices = part.member("enum").map(Outline::items).unwrap_or_default();
        let choices: Vec<Value> = choices.iter().map(Outline::value).collect();
        let verbatim = flag(extension(part, "verbatim")).unwrap_or(false);
        let present =
            |name: &str| part.member(name).filter(|given| given.part != outline::Part::Null);
        for name in ["value", "default"] {
            let Some(given) = present(name) else { continue };
            let (value, path) = (given.value(), member(pointer, name));
            if !verbatim {
                self.placeholders(&value, &path, given.at, sight);
            }
            let is_fixed = verbatim || !has_placeholder(&value);
            if let Some(why) = misfit(of_type, &choices, &value).filter(|_| is_fixed) {
                self.findings.add("E-PARAM-VALUE", &path, given.at, format!("this {why}"));
            }
        }
        let source = self.source(part, pointer, sight, role);
        let default = present("default").map(Outline::value);
        Parameter { name, word, of_type, source, default, choices, verbatim }
    }

    fn source(&mut self, part: &Outline, pointer: &str, sight: &Sight, role: Role) -> Source {
        let given =
            |name: &str| part.member(name).filter(|given| given.part != outline::Part::Null);
        if role == Role::Output && sight.is_task() {
            return Source::None;
        }
        let mut from = given("valueFrom").filter(|from| !from.is_empty());
        if let (Some(value), Some(_)) = (given("value"), from) {
            let what = "a value comes from the document or from elsewhere, not both";
            self.findings.add("E-VALUE-AND-FROM", &member(pointer, "value"), value.at, what);
            // Whoever reads leniently takes the value.
            from = from.filter(|_| !self.findings.is_lenient());
        }
        let Some(from) = from else {
            return given("value").map_or(Source::None, |value| Source::Value(value.value()));
        };
        let path = member(pointer, "valueFrom");
        let ways = ["parameter", "path", "expression", "secretKeyRef"];
        let named: Vec<(&str, &Outline)> = ways
            .into_iter()
            .filter_map(|way| from.member(way).map(|part| (way, part)))
            .filter(|(_, part)| !part.is_empty())
            .collect();
        let [(way, found)] = named[..] else {
            let what = "name one source: parameter or expression";
            self.findings.add("E-VALUEFROM", &path, from.at, what);
            return Source::None;
        };
        let path = member(&path, way);
        let words = found.text().unwrap_or_default();
        match way {
            "expression" => self
                .expression(Some(found), &path, sight)
                .map_or(Source::None, |expression| Source::Expression(Box::new(expression))),
            "parameter" | "path" if found.text().is_some() => {
                if way == "path" {
                    let what = "\"path\" is the old word for \"parameter\"";
                    self.findings.add("W-DEPRECATED", &path, found.at, what);
                }
                let bare = words.trim().strip_prefix("{{").and_then(|w| w.strip_suffix("}}"));
                match self.path(bare.unwrap_or(words), &path, found.at, sight) {
                    Some(reference) => Source::Path(reference),
                    None => Source::None,
                }
            }
            "secretKeyRef" => self.secret(found, &path),
            _ => Source::None,
        }
    }

    /// The mark that executors put a secret in the place of.
    fn secret(&mut self, part: &Outline, pointer: &str) -> Source {
        let name = text(part.member("name")).unwrap_or_default();
        let key = text(part.member("key")).map(|key| format!(".{key}")).unwrap_or_default();
        let name = format!("{name}{key}");
        if !is_secret_name(&name) {
            let what = format!("{name:?} is not the name of a secret");
            let hint = "1 to 64 letters, digits, dots, underscores and hyphens, with the key";
            self.findings.add("E-SECRET", pointer, part.at, what).hint(hint);
        }
        Source::Secret(format!("secret:{name}"))
    }

    /// A path that stands alone.
    pub(super) fn path(
        &mut self,
        text: &str,
        pointer: &str,
        at: Place,
        sight: &Sight,
    ) -> Option<Reference> {
        match Reference::parse(text) {
            Ok(reference) => {
                self.mention(reference.clone(), pointer, at, sight);
                Some(reference)
            }
            Err(why) => {
                let why = why.unwrap_or_else(|| "it begins with no known word".to_owned());
                let roots = super::reference::ROOTS.iter().map(|(name, _)| *name);
                let first = text.trim().split(['.', '[']).next().unwrap_or("").to_owned();
                let hint = did_you_mean(&first, roots);
                let what = format!("{text:?} is not a path: {why}");
                self.findings.add("E-REF", pointer, at, what).hint(hint);
                None
            }
        }
    }
}

/// What a list of parameters is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Input,
    TaskInput,
    Argument,
    Output,
}

fn as_object(value: Value) -> Option<serde_json::Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// Whether nothing but empty lists stands in an object.
fn is_hollow(part: &Outline) -> bool {
    part.is_empty() || part.members().iter().all(|member| member.value.is_empty())
}

/// Whether a value must be filled in before it can be judged.
#[must_use]
pub fn has_placeholder(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            pieces(text).iter().any(|p| matches!(p, Piece::Reference(..) | Piece::Broken(..)))
        }
        Value::Array(items) => items.iter().any(has_placeholder),
        Value::Object(members) => members.values().any(has_placeholder),
        _ => false,
    }
}

fn tolerance(part: Option<&Outline>) -> Option<Tolerance> {
    let part = part.filter(|part| matches!(part.part, outline::Part::Map(_)))?;
    let on = |name| flag(part.member(name)).unwrap_or(false);
    Some(Tolerance { failed: on("failed"), error: on("error"), timeout: on("timeout") })
}

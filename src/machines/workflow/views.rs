//! Views: what a path can see from where it stands.
//!
//! May not know values. Invariant: a path without findings leads to something that the document
//! declares, or to something that only running can tell.

use std::collections::HashSet;

use super::finding::{Findings, did_you_mean};
use super::model::{Body, Dag, Parameter, Template, Workflow};
use super::reference::{Reference, Root, longest};
use super::values::Type;
use crate::codecs::outline::Place;
use crate::ground::limits::WORKFLOW_SIGHTS_MAX;

/// A path in a document.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub(super) reference: Reference,
    pub(super) pointer: String,
    pub(super) at: Place,
    pub(super) sight: Sight,
    /// It is compared with a number in quotes.
    pub(super) is_text: bool,
}

/// From where something is seen.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    place: Whence,
    /// The inputs are those of the template itself, not of the one around it.
    own_inputs: bool,
    own: bool,
    retry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whence {
    /// The arguments of the run.
    Run,
    /// A node of a dag.
    Node(usize, usize),
    /// A template, wherever it is called.
    CallSite(usize),
    /// The whole of a dag.
    Dag(usize),
    /// The whole of a loop.
    Loop(usize),
}

impl Sight {
    const fn at(place: Whence) -> Self {
        Self { place, own_inputs: false, own: false, retry: false }
    }

    pub(super) const fn run() -> Self {
        Self::at(Whence::Run)
    }

    pub(super) const fn node(dag: usize, i: usize) -> Self {
        Self::at(Whence::Node(dag, i))
    }

    pub(super) const fn call_site(template: usize) -> Self {
        Self::at(Whence::CallSite(template))
    }

    pub(super) const fn inside_dag(template: usize) -> Self {
        Self::at(Whence::Dag(template))
    }

    pub(super) const fn inside_loop(template: usize) -> Self {
        Self::at(Whence::Loop(template))
    }

    pub(super) const fn with_own(mut self) -> Self {
        self.own = true;
        self
    }

    pub(super) const fn with_retry(mut self) -> Self {
        self.retry = true;
        self
    }

    pub(super) const fn with_own_inputs(mut self) -> Self {
        self.own_inputs = true;
        self
    }

    /// Whether it is the result of an executor.
    pub(super) const fn is_task(&self) -> bool {
        matches!(self.place, Whence::CallSite(_) | Whence::Node(..))
    }
}

/// Checks all paths.
pub(super) fn check(flow: &Workflow, mentions: &[Mention], findings: &mut Findings) {
    let sites = call_sites(flow);
    let mut needs = Needs::default();
    let mut left = WORKFLOW_SIGHTS_MAX;
    for mention in mentions {
        let places = match mention.sight.place {
            Whence::CallSite(template) => sites.get(template).map_or(0, Vec::len),
            _ => 1,
        };
        let Some(rest) = left.checked_sub(places) else {
            let what = format!("paths are looked at from more than {WORKFLOW_SIGHTS_MAX} places");
            findings.add("E-LIMIT", &mention.pointer, mention.at, what);
            return;
        };
        left = rest;
        if findings.is_full() {
            return;
        }
        let Whence::CallSite(template) = mention.sight.place else {
            look(flow, mention, mention.sight.place, &mut needs, findings);
            continue;
        };
        for site in sites.get(template).map_or(&[][..], Vec::as_slice) {
            look(flow, mention, *site, &mut needs, findings);
        }
    }
}

/// Where each template is called.
fn call_sites(flow: &Workflow) -> Vec<Vec<Whence>> {
    let mut sites = vec![Vec::new(); flow.templates.len()];
    if let Some(entry) = sites.get_mut(flow.entry) {
        entry.push(Whence::Run);
    }
    for (i, template) in flow.templates.iter().enumerate() {
        match &template.body {
            Body::Task(_) => {}
            Body::Dag(dag) => {
                for (k, node) in dag.nodes.iter().enumerate() {
                    sites[node.template].push(Whence::Node(i, k));
                }
            }
            Body::Loop(l) => sites[l.body].push(Whence::Loop(i)),
        }
    }
    sites
}

/// Why a path leads nowhere, and what was probably meant.
type Lost = (String, Option<String>);

/// What must be over before a task begins, of the last task that was asked about: paths come in
/// the order of tasks.
#[derive(Default)]
struct Needs {
    of: Option<(usize, usize)>,
    seen: HashSet<usize>,
}

impl Needs {
    fn has(&mut self, template: usize, dag: &Dag, own: usize, other: usize) -> bool {
        // Most paths lead to what stands among the dependencies.
        if dag.nodes[own].dependencies.contains(&other) {
            return true;
        }
        if self.of.replace((template, own)) != Some((template, own)) {
            self.seen.clear();
            let mut open = dag.nodes[own].dependencies.clone();
            while let Some(i) = open.pop() {
                if self.seen.insert(i) {
                    open.extend(&dag.nodes[i].dependencies);
                }
            }
        }
        self.seen.contains(&other)
    }
}

fn look(
    flow: &Workflow,
    mention: &Mention,
    from: Whence,
    needs: &mut Needs,
    findings: &mut Findings,
) {
    let Mention { reference, pointer, at, .. } = mention;
    let printed = reference.print();
    if mention.is_text {
        let of_type = declared_type(flow, mention, from);
        if matches!(of_type, Some(Type::Whole | Type::Number)) {
            let what = format!("{printed} is a number, and is compared with a text here");
            let finding = findings.add("W-TYPE", pointer, *at, what);
            finding.hint("leave the quotes out; with && or || around it this would be false");
        }
        return;
    }
    match lead(flow, mention, from) {
        Err((why, hint)) => {
            let finding = findings.add("E-REF", pointer, *at, format!("{printed}: {why}"));
            if let Some(hint) = hint {
                finding.hint(hint);
            }
        }
        Ok(()) => race(flow, mention, from, needs, findings),
    }
}

fn lead(flow: &Workflow, mention: &Mention, from: Whence) -> Result<(), Lost> {
    let reference = &mention.reference;
    let plain = |why: &str| Err((why.to_owned(), None));
    match reference.root {
        Root::Workflow => workflow(flow, reference),
        Root::System if matches!(reference.name(0), Some("os" | "arch")) => Ok(()),
        Root::System => plain("there are system.os and system.arch"),
        Root::Cron if reference.name(0) == Some("scheduledAt") => Ok(()),
        Root::Cron => plain("there is cron.scheduledAt"),
        Root::Hook => plain("only the inputs of a hook's template see this"),
        Root::Retry if !mention.sight.retry => plain("only retry.expression sees this"),
        Root::Retry => match reference.name(0) {
            Some("attempt" | "limit") => Ok(()),
            _ => plain("there are retry.attempt and retry.limit"),
        },
        Root::Outputs | Root::Phase | Root::Code | Root::Message => {
            let word = reference.root.word();
            // `outputs` of the thing itself; `tasks.NAME.outputs` are another path.
            let known = mention.sight.own;
            if known { Ok(()) } else { Err((format!("only phaseConditions see {word}"), None)) }
        }
        Root::Round if from == Whence::Run && !mention.sight.own_inputs => {
            plain("there is no loop around this")
        }
        Root::Round => Ok(()),
        Root::Inputs => inputs(flow, mention, from),
        Root::Tasks => tasks(flow, mention, from).map(|_| ()),
    }
}

fn workflow(flow: &Workflow, reference: &Reference) -> Result<(), Lost> {
    let facts = ["name", "namespace", "runID", "createdAt", "parameters"];
    match reference.name(0) {
        Some("parameters") => {
            named(reference, flow.arguments.iter().map(|p| p.name.as_str()), "argument of the run")
        }
        Some(name) if facts.contains(&name) => Ok(()),
        name => {
            let hint = did_you_mean(name.unwrap_or(""), facts.into_iter());
            Err(("a run has no such thing".to_owned(), Some(hint)))
        }
    }
}

/// Whether the parameter of a path is among `known`.
fn named<'a>(
    reference: &Reference,
    known: impl Iterator<Item = &'a str> + Clone,
    what: &str,
) -> Result<(), Lost> {
    let path = reference.parameter().unwrap_or(&[]);
    if path.is_empty() || longest(path, |name| known.clone().find(|k| *k == name)).is_some() {
        return Ok(());
    }
    let name = path[0].name().unwrap_or("");
    Err((format!("there is no {what} {name:?}"), Some(did_you_mean(name, known))))
}

fn inputs(flow: &Workflow, mention: &Mention, from: Whence) -> Result<(), Lost> {
    let around = match (mention.sight.place, from) {
        (Whence::CallSite(own), _) if mention.sight.own_inputs => Some(own),
        (_, Whence::Node(t, _) | Whence::Dag(t) | Whence::Loop(t)) => Some(t),
        _ => None,
    };
    let reference = &mention.reference;
    if reference.name(0) != Some("parameters") {
        return Err(("write inputs.parameters.NAME".to_owned(), None));
    }
    let Some(around) = around else {
        let why = "nothing is around this that has inputs".to_owned();
        return Err((
            why,
            Some("the arguments of the run are workflow.parameters.NAME".to_owned()),
        ));
    };
    let template = &flow.templates[around];
    let known = template.inputs.iter().map(|input| input.name.as_str());
    named(reference, known, &format!("input of {:?}:", template.name))
}

/// The template behind the task that a path names.
fn tasks<'a>(
    flow: &'a Workflow,
    mention: &Mention,
    from: Whence,
) -> Result<Option<&'a Template>, Lost> {
    let reference = &mention.reference;
    let Some(name) = reference.task() else {
        return Err(("write which task is meant".to_owned(), None));
    };
    let template = match from {
        Whence::Node(t, _) | Whence::Dag(t) => {
            let Body::Dag(dag) = &flow.templates[t].body else { return Ok(None) };
            let found = dag.names.get(name).map(|i| &dag.nodes[*i]);
            let Some(found) = found else {
                let hint = did_you_mean(name, dag.nodes.iter().map(|node| node.name.as_str()));
                return Err((format!("there is no task {name:?} in this dag"), Some(hint)));
            };
            &flow.templates[found.template]
        }
        Whence::Loop(t) => {
            let Body::Loop(l) = &flow.templates[t].body else { return Ok(None) };
            let body = &flow.templates[l.body];
            if body.name != name {
                let hint = did_you_mean(name, [body.name.as_str()].into_iter());
                return Err((format!("the body of this loop is not {name:?}"), Some(hint)));
            }
            body
        }
        Whence::Run | Whence::CallSite(_) => {
            return Err(("there are no tasks beside this".to_owned(), None));
        }
    };
    let parts = ["phase", "code", "msg", "retries", "outputs"];
    match reference.name(1) {
        None => {}
        Some("outputs") => {
            if let (Some("parameters"), Some(known)) = (reference.name(2), template.output_names())
            {
                named(reference, known.iter().copied(), &format!("output of {name:?}:"))?;
            } else if !matches!(reference.name(2), Some("parameters") | None) {
                return Err(("write outputs.parameters.NAME".to_owned(), None));
            }
        }
        Some(part) if parts.contains(&part) => {}
        Some(part) => {
            let hint = did_you_mean(part, parts.into_iter());
            return Err((format!("a task has no {part:?}"), Some(hint)));
        }
    }
    Ok(Some(template))
}

/// A value of a task that need not be over yet depends on who is faster.
fn race(
    flow: &Workflow,
    mention: &Mention,
    from: Whence,
    needs: &mut Needs,
    findings: &mut Findings,
) {
    let Whence::Node(t, own) = from else { return };
    let Body::Dag(dag) = &flow.templates[t].body else { return };
    let Some(name) = mention.reference.task() else { return };
    let Some(other) = dag.names.get(name).copied() else { return };
    if other == own && (mention.sight.own || mention.sight.retry) {
        return;
    }
    if !needs.has(t, dag, own, other) {
        let own = &dag.nodes[own].name;
        let what = format!("{name:?} need not be over when {own:?} looks at it");
        let finding = findings.add("W-RACE", &mention.pointer, mention.at, what);
        finding.hint(format!("add {name:?} to the dependencies of {own:?}"));
    }
}

fn declared_type(flow: &Workflow, mention: &Mention, from: Whence) -> Option<Type> {
    let reference = &mention.reference;
    let of = |list: &[Parameter]| {
        let path = reference.parameter()?;
        let found = longest(path, |name| list.iter().find(|p| p.name == name))?;
        (found.1 == path.len()).then_some(found.0.of_type)
    };
    match (reference.root, from) {
        (Root::Workflow, _) => of(&flow.arguments),
        (Root::Inputs, Whence::Node(t, _) | Whence::Dag(t) | Whence::Loop(t)) => {
            of(&flow.templates[t].inputs)
        }
        (Root::Tasks, _) => of(&tasks(flow, mention, from).ok()??.outputs),
        _ => None,
    }
}

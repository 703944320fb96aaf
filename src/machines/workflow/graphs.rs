//! The graphs of a document: what waits for what, and what calls what.
//!
//! May not read texts. Invariant: a document without findings has no cycle, and nothing in it
//! stands deeper than its author allows.

use std::collections::HashMap;

use super::finding::Findings;
use super::model::{Body, Dag, Workflow};
use crate::codecs::outline::Place;

/// Checks all graphs.
pub(super) fn check(flow: &Workflow, places: &HashMap<String, Place>, findings: &mut Findings) {
    let place =
        |pointer: &str| places.get(pointer).copied().unwrap_or(Place { line: 1, column: 1 });
    for template in &flow.templates {
        if let Body::Dag(dag) = &template.body
            && let Some(cycle) = waiting_cycle(dag)
        {
            let names: Vec<&str> = cycle.iter().map(|i| dag.nodes[*i].name.as_str()).collect();
            let what = format!("these wait for each other: {}", names.join(" → "));
            let pointer = format!("{}/dependencies", dag.nodes[cycle[0]].pointer);
            findings.add("E-CYCLE", &pointer, place(&dag.nodes[cycle[0]].pointer), what);
        }
    }
    let calls: Vec<Vec<usize>> = flow.templates.iter().map(|t| called(&t.body)).collect();
    let mut walk = Walk { calls: &calls, marks: vec![Mark::New; calls.len()], trail: Vec::new() };
    for start in 0..calls.len() {
        if let Some(cycle) = walk.visit(start) {
            let names: Vec<&str> = cycle.iter().map(|i| flow.templates[*i].name.as_str()).collect();
            let what = format!("a template that contains itself: {}", names.join(" → "));
            let pointer = &flow.templates[cycle[0]].pointer;
            findings.add("E-RECURSION", pointer, place(pointer), what);
            return;
        }
    }
    // Without a beginning nothing is used, and that is said already.
    if flow.entry < calls.len() {
        unused(flow, &calls, &place, findings);
        deep(flow, &calls, &place, findings);
    }
}

fn called(body: &Body) -> Vec<usize> {
    match body {
        Body::Task(_) => Vec::new(),
        Body::Dag(dag) => dag.nodes.iter().map(|node| node.template).collect(),
        Body::Loop(l) => vec![l.body],
    }
}

/// Tasks that wait for each other, the first again at the end.
fn waiting_cycle(dag: &Dag) -> Option<Vec<usize>> {
    let calls: Vec<Vec<usize>> = dag.nodes.iter().map(|node| node.dependencies.clone()).collect();
    let mut walk = Walk { calls: &calls, marks: vec![Mark::New; calls.len()], trail: Vec::new() };
    (0..calls.len()).find_map(|start| walk.visit(start))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// A walk in depth without recursion: graphs may be long chains.
struct Walk<'a> {
    calls: &'a [Vec<usize>],
    marks: Vec<Mark>,
    trail: Vec<(usize, usize)>,
}

impl Walk<'_> {
    /// A cycle that is reached from `start`, the first again at the end.
    fn visit(&mut self, start: usize) -> Option<Vec<usize>> {
        if self.marks[start] != Mark::New {
            return None;
        }
        self.marks[start] = Mark::Open;
        self.trail.push((start, 0));
        while let Some((at, next)) = self.trail.last_mut() {
            let Some(to) = self.calls[*at].get(*next).copied() else {
                self.marks[*at] = Mark::Done;
                self.trail.pop();
                continue;
            };
            *next += 1;
            match self.marks[to] {
                Mark::Done => {}
                Mark::New => {
                    self.marks[to] = Mark::Open;
                    self.trail.push((to, 0));
                }
                Mark::Open => {
                    let names = self.trail.iter().map(|(i, _)| *i).skip_while(|i| *i != to);
                    return Some(names.chain([to]).collect());
                }
            }
        }
        None
    }
}

fn unused(
    flow: &Workflow,
    calls: &[Vec<usize>],
    place: &impl Fn(&str) -> Place,
    findings: &mut Findings,
) {
    let mut used = vec![false; calls.len()];
    let mut open: Vec<usize> = vec![flow.entry];
    open.extend(flow.hooks.all.iter().map(|(_, hook)| hook.template));
    while let Some(i) = open.pop() {
        let Some(mark) = used.get_mut(i) else { continue };
        if std::mem::replace(mark, true) {
            continue;
        }
        open.extend(&calls[i]);
        match &flow.templates[i].body {
            Body::Task(task) => open.extend(task.hooks.all.iter().map(|(_, h)| h.template)),
            Body::Dag(dag) => open
                .extend(dag.nodes.iter().flat_map(|n| n.hooks.all.iter().map(|(_, h)| h.template))),
            Body::Loop(_) => {}
        }
    }
    for (template, used) in flow.templates.iter().zip(&used) {
        if !used && !template.name.is_empty() {
            let what = format!("nothing runs the template {:?}", template.name);
            findings.add("W-UNUSED", &template.pointer, place(&template.pointer), what);
        }
    }
}

/// How deep each template stands at most; there are no cycles any more.
fn deep(
    flow: &Workflow,
    calls: &[Vec<usize>],
    place: &impl Fn(&str) -> Place,
    findings: &mut Findings,
) {
    let mut level = vec![flow.entry];
    for depth in 0..=flow.depth_max {
        let mut next: Vec<usize> = level.iter().flat_map(|i| calls[*i].iter().copied()).collect();
        next.sort_unstable();
        next.dedup();
        if depth == flow.depth_max {
            for caller in level.iter().filter(|i| !calls[**i].is_empty()) {
                let most = flow.depth_max;
                let name = &flow.templates[*caller].name;
                let what = format!("what {name:?} runs stands deeper than {most}");
                let pointer = &flow.templates[*caller].pointer;
                let finding = findings.add("E-DEPTH", pointer, place(pointer), what);
                finding.hint("raise /spec/maxNestedDepth, at most 10");
            }
        }
        level = next;
    }
}

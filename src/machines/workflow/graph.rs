//! Pictures of a document: as text, as a Mermaid chart, as SVG.
//!
//! May not know runs. Invariant: every template that is used is drawn once, with every task in it.

use std::fmt::Write as _;

use super::model::{Body, Dag, ItemSource, Rounds, Template, Workflow};

/// The document as text: templates with their tasks, in the order in which they can begin.
#[must_use]
pub fn text(flow: &Workflow) -> String {
    let mut out = format!("{} ({})\n", flow.name, flow.namespace);
    for i in used(flow) {
        let template = &flow.templates[i];
        let mark = if i == flow.entry { " ← entry" } else { "" };
        let _ = writeln!(out, "\n{} {}{mark}", template.body.word(), template.name);
        match &template.body {
            Body::Task(task) => {
                let _ = writeln!(out, "  {}", task.kind);
            }
            Body::Loop(l) => {
                let body = &flow.templates[l.body].name;
                let _ = writeln!(out, "  {body} {}, {} at once", rounds(&l.rounds), l.concurrency);
            }
            Body::Dag(dag) => {
                for level in levels(dag) {
                    for i in level {
                        let _ = writeln!(out, "  {}", row(flow, dag, i));
                    }
                }
            }
        }
    }
    out
}

fn row(flow: &Workflow, dag: &Dag, i: usize) -> String {
    let node = &dag.nodes[i];
    let mut out = format!("{}: {}", node.name, runs(&flow.templates[node.template]));
    if !node.dependencies.is_empty() {
        let names: Vec<&str> =
            node.dependencies.iter().map(|i| dag.nodes[*i].name.as_str()).collect();
        let _ = write!(out, " after {}", names.join(", "));
    }
    if let Some(when) = &node.when {
        let _ = write!(out, " when {}", when.text);
    }
    out
}

/// What a node runs, in a word or two.
fn runs(template: &Template) -> String {
    match (&template.body, template.name.as_str()) {
        (Body::Task(task), "") => task.kind.clone(),
        (body, name) => format!("{} {name}", body.word()),
    }
}

fn rounds(rounds: &Rounds) -> String {
    match rounds {
        Rounds::Items(items) => format!("for {} items", items.len()),
        Rounds::From(ItemSource::Path(path)) => format!("for each of {}", path.print()),
        Rounds::From(ItemSource::Expression(expression)) => {
            format!("for each of {}", expression.text)
        }
        Rounds::While(condition) => format!("again while {}", condition.text),
    }
}

/// Templates that are used and have a name, in the author's order.
fn used(flow: &Workflow) -> Vec<usize> {
    let mut seen = vec![false; flow.templates.len()];
    let mut open = vec![flow.entry];
    while let Some(i) = open.pop() {
        if seen.get(i).is_none_or(|seen| *seen) {
            continue;
        }
        seen[i] = true;
        match &flow.templates[i].body {
            Body::Task(_) => {}
            Body::Dag(dag) => open.extend(dag.nodes.iter().map(|node| node.template)),
            Body::Loop(l) => open.push(l.body),
        }
    }
    let named = |i: &usize| seen[*i] && !flow.templates[*i].name.is_empty();
    (0..flow.templates.len()).filter(named).collect()
}

/// Tasks by the longest way to them.
fn levels(dag: &Dag) -> Vec<Vec<usize>> {
    let mut waits: Vec<usize> = dag.nodes.iter().map(|node| node.dependencies.len()).collect();
    let mut level: Vec<usize> = (0..dag.nodes.len()).filter(|i| waits[*i] == 0).collect();
    let mut out = Vec::new();
    while !level.is_empty() {
        let mut next = Vec::new();
        for i in &level {
            for dependent in &dag.dependents[*i] {
                waits[*dependent] -= 1;
                if waits[*dependent] == 0 {
                    next.push(*dependent);
                }
            }
        }
        next.sort_unstable();
        out.push(std::mem::replace(&mut level, next));
    }
    out
}

/// The document as a Mermaid flowchart: a box for each template, arrows for dependencies.
#[must_use]
pub fn mermaid(flow: &Workflow) -> String {
    let mut out = String::from("flowchart TD\n");
    for t in used(flow) {
        let template = &flow.templates[t];
        let title = label(&format!("{} {}", template.body.word(), template.name));
        let _ = writeln!(out, "  subgraph t{t}[\"{title}\"]");
        match &template.body {
            Body::Task(task) => {
                let _ = writeln!(out, "    t{t}n0[\"{}\"]", label(&task.kind));
            }
            Body::Loop(l) => {
                let _ = writeln!(out, "    t{t}n0([\"{}\"])", label(&rounds(&l.rounds)));
            }
            Body::Dag(dag) => {
                for (i, node) in dag.nodes.iter().enumerate() {
                    let what = runs(&flow.templates[node.template]);
                    let text = label(&format!("{}: {what}", node.name));
                    let _ = writeln!(out, "    t{t}n{i}[\"{text}\"]");
                }
                for (i, node) in dag.nodes.iter().enumerate() {
                    for needed in &node.dependencies {
                        let when = node.when.as_ref().map(|when| label(&when.text));
                        let arrow = when.map_or("-->".to_owned(), |w| format!("-->|\"{w}\"|"));
                        let _ = writeln!(out, "    t{t}n{needed} {arrow} t{t}n{i}");
                    }
                }
            }
        }
        out.push_str("  end\n");
    }
    for t in used(flow) {
        let calls: Vec<(usize, usize)> = match &flow.templates[t].body {
            Body::Task(_) => Vec::new(),
            Body::Loop(l) => vec![(0, l.body)],
            Body::Dag(dag) => dag.nodes.iter().map(|node| node.template).enumerate().collect(),
        };
        for (i, called) in calls.iter().filter(|(_, c)| !flow.templates[*c].name.is_empty()) {
            let _ = writeln!(out, "  t{t}n{i} -.-> t{called}");
        }
    }
    out
}

/// A text that may stand in a label.
fn label(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(LABEL_CHARS_MAX).collect();
    escape(&shown).replace('#', "&#35;").replace("&&#35;", "&#")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Longest text in a box.
const LABEL_CHARS_MAX: usize = 48;
const BOX_WIDTH: usize = 220;
const BOX_HEIGHT: usize = 44;
const GAP: usize = 36;
const MARGIN: usize = 20;
/// Characters that fit into a box.
const BOX_CHARS: usize = 28;

/// The document as an SVG picture: one row of boxes for each step of each dag.
#[must_use]
pub fn svg(flow: &Workflow) -> String {
    let mut body = String::new();
    let (mut top, mut widest) = (MARGIN, 0);
    for t in used(flow) {
        let template = &flow.templates[t];
        let title = format!("{} {}", template.body.word(), template.name);
        let _ = writeln!(
            body,
            "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            top + 14,
            escape(&title)
        );
        top += 28;
        let rows: Vec<Vec<(usize, String, String)>> = match &template.body {
            Body::Task(task) => vec![vec![(0, template.name.clone(), task.kind.clone())]],
            Body::Loop(l) => {
                let name = flow.templates[l.body].name.clone();
                vec![vec![(0, name, rounds(&l.rounds))]]
            }
            Body::Dag(dag) => levels(dag)
                .into_iter()
                .map(|level| {
                    let cell = |i: usize| {
                        let node = &dag.nodes[i];
                        (i, node.name.clone(), runs(&flow.templates[node.template]))
                    };
                    level.into_iter().map(cell).collect()
                })
                .collect(),
        };
        let places = place(&rows, top);
        if let Body::Dag(dag) = &template.body {
            arrows(&mut body, dag, &places);
        }
        for (i, name, what) in rows.iter().flatten() {
            let Some((x, y)) = places.iter().find(|(n, _, _)| n == i).map(|p| (p.1, p.2)) else {
                continue;
            };
            cell(&mut body, x, y, name, what);
        }
        widest = rows.iter().map(Vec::len).max().unwrap_or(0).max(widest);
        top += rows.len() * (BOX_HEIGHT + GAP) + MARGIN;
    }
    let width = MARGIN * 2 + widest.max(1) * (BOX_WIDTH + GAP);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" \
         viewBox=\"0 0 {width} {top}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>rect{{fill:#f4f1ea;stroke:#7a6a53}}path{{fill:none;stroke:#7a6a53}}\
         .title{{font-weight:bold}}.what{{fill:#6b6b6b;font-size:11px}}</style>\n\
         <defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8\"/></marker></defs>\n{body}</svg>\n"
    )
}

/// Number, left and top of each box.
type Places = Vec<(usize, usize, usize)>;

fn place(rows: &[Vec<(usize, String, String)>], top: usize) -> Places {
    let mut out = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        for (c, (i, _, _)) in row.iter().enumerate() {
            let x = MARGIN + c * (BOX_WIDTH + GAP);
            out.push((*i, x, top + r * (BOX_HEIGHT + GAP)));
        }
    }
    out.sort_unstable();
    out
}

fn arrows(out: &mut String, dag: &Dag, places: &Places) {
    let at = |i: usize| places.binary_search_by_key(&i, |p| p.0).ok().map(|at| places[at]);
    for (i, node) in dag.nodes.iter().enumerate() {
        for needed in &node.dependencies {
            let (Some((_, x1, y1)), Some((_, x2, y2))) = (at(*needed), at(i)) else { continue };
            let (x1, x2) = (x1 + BOX_WIDTH / 2, x2 + BOX_WIDTH / 2);
            let (y1, middle) = (y1 + BOX_HEIGHT, y1 + BOX_HEIGHT + GAP / 2);
            let curve = format!("M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}");
            let _ = writeln!(out, "<path marker-end=\"url(#tip)\" d=\"{curve}\"/>");
        }
    }
}

fn cell(out: &mut String, x: usize, y: usize, name: &str, what: &str) {
    let short = |text: &str| {
        let mut shown: String = text.chars().take(BOX_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        escape(&shown)
    };
    let _ = writeln!(
        out,
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" \
         height=\"{BOX_HEIGHT}\" rx=\"6\"/><text x=\"{}\" y=\"{}\">{}</text>\
         <text class=\"what\" x=\"{}\" y=\"{}\">{}</text></g>",
        escape(&format!("{name}: {what}")),
        x + 10,
        y + 18,
        short(name),
        x + 10,
        y + 35,
        short(what)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::outline::Notation;
    use crate::machines::workflow::read::read;

    const FLOW: &str = "
apiVersion: aether/v1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
    - dag:
        name: main
        tasks:
          - {name: b, template: many, dependencies: [a], when: \"tasks.a.code == 0\"}
          - {name: a, executor: {type: work}}
    - loop: {name: many, body: one, items: [1, 2]}
    - task: {name: one, executor: {type: '9<b'}}
";

    #[test]
    fn all_tasks_are_drawn() {
        let flow = read(FLOW, Notation::Yaml).workflow;
        assert_eq!(
            text(&flow),
            "w (default)\n\ndag main ← entry\n  a: work\n  b: loop many after a when tasks.a.code \
             == 0\n\nloop many\n  one for 2 items, 1 at once\n\ntask one\n  9<b\n"
        );
        let chart = mermaid(&flow);
        for part in [
            "subgraph t0[\"dag main\"]",
            "t0n1 -->|\"tasks.a.code == 0\"| t0n0",
            "t0n0 -.-> t1",
            "9&lt;b",
        ] {
            assert!(chart.contains(part), "{part}\n{chart}");
        }
        let picture = svg(&flow);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!(picture.matches("<rect ").count(), 4);
        assert_eq!(picture.matches("marker-end").count(), 1);
        assert!(!picture.contains("9<b"));
    }
}

//! The page of a job as HTML text.
//!
//! May not know HTTP. Invariant: every text that is not written here goes through [`escape`].

use std::fmt::Write as _;

use super::super::trace::Step;
use super::{Ask, Page};
use crate::codecs::json::Json as Text;
use crate::ground::clock::Timestamp;
use crate::ground::limits::COMPAT_SHOWN_CHARS_MAX;

const STYLE: &str = include_str!("../page.css");
/// How often a page looks again, in seconds, while its job goes on by itself.
const REFRESH_S: u32 = 3;
/// Most characters of a heading.
const HEADING_CHARS_MAX: usize = 240;

/// A text that means itself in HTML, in quotes as well.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The beginning of a text, and whether that is all.
fn clip(text: &str, chars_max: usize) -> (String, bool) {
    let head: String = text.chars().take(chars_max).collect();
    let is_whole = head.len() == text.len();
    (head, is_whole)
}

/// A value for people: a text as it is, other JSON with line breaks.
fn value(value: &Text) -> String {
    let text = value.read::<String>().unwrap_or_else(|_| {
        let pretty = serde_json::to_string_pretty(&value.to_value());
        pretty.unwrap_or_else(|_| value.as_str().to_owned())
    });
    match clip(&text, COMPAT_SHOWN_CHARS_MAX) {
        (text, true) => escape(&text),
        (head, false) => format!("{}\n… it goes on", escape(&head)),
    }
}

/// A time span for people.
fn span(millis: i64) -> String {
    match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => {
            let seconds = u64::try_from(millis / 1_000).unwrap_or(0);
            humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
        }
    }
}

impl Page {
    /// The page; its style is known by `nonce`.
    pub(super) fn html(&self, nonce: &str) -> String {
        let mut out = String::new();
        // Writing into a text does not fail.
        let _ = self.head(&mut out, nonce);
        let _ = self.ending(&mut out);
        for ask in &self.asks {
            let _ = self.ask(&mut out, ask);
        }
        let _ = self.steps(&mut out);
        let _ = self.records(&mut out);
        let _ = self.foot(&mut out);
        out
    }

    fn head(&self, out: &mut String, nonce: &str) -> std::fmt::Result {
        let goal = self.trace.goal.as_deref().unwrap_or("A run without a goal");
        let (heading, is_whole) = clip(goal, HEADING_CHARS_MAX);
        let (heading, more) = (escape(&heading), if is_whole { "" } else { " …" });
        let status = self.trace.status.word();
        let goes_on = ["pending", "running", "retrying", "waiting"].contains(&status);
        writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
        writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
        // Nobody loses what they are writing.
        if goes_on && self.asks.is_empty() {
            writeln!(out, "<meta http-equiv=\"refresh\" content=\"{REFRESH_S}\">")?;
        }
        writeln!(
            out,
            "<title>{heading}{more}</title>\n<style nonce=\"{nonce}\">\n{STYLE}</style>"
        )?;
        let (id, agent) = (escape(self.trace.job_id.as_str()), escape(self.job.agent()));
        let of = if agent.is_empty() { String::new() } else { format!(" for {agent}") };
        writeln!(out, "</head>\n<body>\n<main>\n<p class=\"soft\">job <code>{id}</code>{of}</p>")?;
        writeln!(out, "<h1>{heading}{more}</h1>")?;
        let began = self.job.created_at();
        let (last, _) = self.job.progress();
        let until = if goes_on || status == "parked" { self.now } else { last };
        let took = span(until.millis().saturating_sub(began.millis()).max(0));
        let why = self.job.wait_reason().map_or_else(String::new, |why| format!(" · {why}"));
        writeln!(
            out,
            "<p><span class=\"badge {status}\">{status}</span><span class=\"soft\">{took} · since \
             {}{}</span></p>",
            began.iso_millis(),
            escape(&why),
        )
    }

    /// What came of it.
    fn ending(&self, out: &mut String) -> std::fmt::Result {
        if let Some(error) = self.job.error() {
            let error = escape(error);
            writeln!(
                out,
                "<h2>Error</h2>\n<div class=\"card failed\"><p class=\"big\">{error}</p></div>"
            )?;
        }
        let Some(shown) = self.job.shown() else { return Ok(()) };
        writeln!(
            out,
            "<h2>Answer</h2>\n<div class=\"card\"><p class=\"big\">{}</p></div>",
            value(shown)
        )
    }

    /// The form for something that waits for an answer.
    fn ask(&self, out: &mut String, ask: &Ask) -> std::fmt::Result {
        let (run, effect) = (escape(self.trace.job_id.as_str()), ask.effect);
        let (title, token) = (escape(&ask.title), escape(&ask.token));
        writeln!(out, "<h2>Waits for an answer</h2>\n<form class=\"card ask\" method=\"post\"")?;
        writeln!(out, " action=\"/api/jobs/{run}/answer\">\n<p><strong>{title}</strong> ")?;
        writeln!(out, "<span class=\"soft\">{effect}</span></p>")?;
        if let Some(shown) = &ask.shown {
            writeln!(out, "<pre>{}</pre>", value(shown))?;
        }
        writeln!(out, "<input type=\"hidden\" name=\"effect\" value=\"{effect}\">")?;
        writeln!(out, "<input type=\"hidden\" name=\"token\" value=\"{token}\">")?;
        let (label, needed) =
            if ask.is_decision { ("Words for it", "") } else { ("The answer", " required") };
        write!(out, "<textarea name=\"response\" aria-label=\"{label}\" ")?;
        writeln!(out, "placeholder=\"{label}\"{needed}></textarea>")?;
        if ask.is_decision {
            writeln!(out, "<button name=\"action\" value=\"approve\">Approve</button>")?;
            writeln!(out, "<button class=\"no\" name=\"action\" value=\"reject\">Reject</button>")?;
        } else {
            writeln!(out, "<button name=\"action\" value=\"send\">Send</button>")?;
        }
        writeln!(out, "</form>")
    }

    fn steps(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "<h2>Steps</h2>\n<div class=\"card\">")?;
        if self.trace.steps.is_empty() {
            writeln!(out, "<p class=\"soft\">None yet.</p>")?;
        }
        let began = self.trace.steps.first().and_then(|step| step.start_time);
        for step in &self.trace.steps {
            self.step(out, step, began.unwrap_or(self.now))?;
        }
        writeln!(out, "</div>")?;
        if let Some(next) = self.trace.next_cursor {
            writeln!(out, "<p><a href=\"?cursor={next}\">The steps after these</a></p>")?;
        }
        Ok(())
    }

    fn step(&self, out: &mut String, step: &Step, began: Timestamp) -> std::fmt::Result {
        let (name, status, kind) = (escape(&step.name), step.status, escape(&step.kind));
        let took =
            if step.start_time.is_some() { span(step.duration_ms) } else { "–".to_owned() };
        writeln!(
            out,
            "<details>\n<summary><span class=\"dot {status}\" title=\"{status}\"></span>"
        )?;
        writeln!(out, "<span class=\"name\">{name}</span>")?;
        let (x, width) = self.bar(step, began);
        writeln!(
            out,
            "<svg viewBox=\"0 0 1000 6\" preserveAspectRatio=\"none\" class=\"{status}\" \
             aria-hidden=\"true\"><rect class=\"track\" width=\"1000\" height=\"6\" rx=\"3\"/>\
             <rect class=\"bar\" x=\"{x}\" width=\"{width}\" height=\"6\" rx=\"3\"/></svg>"
        )?;
        writeln!(out, "<span class=\"time\">{took}</span></summary>\n<dl>")?;
        let attempts = step.attempts.to_string();
        let node = step.node_id.to_string();
        let reason = step.reason.as_deref().map(escape);
        for (term, text) in [
            ("status", Some(status)),
            ("kind", Some(kind.as_str())),
            ("effect", Some(node.as_str())),
            ("attempts", Some(attempts.as_str())),
            ("reason", reason.as_deref()),
        ] {
            if let Some(text) = text {
                writeln!(out, "<dt>{term}</dt><dd>{text}</dd>")?;
            }
        }
        writeln!(out, "</dl>")?;
        let call = &step.tool_invocation;
        for (word, shown) in [("asked", &call.input), ("came", &call.output)] {
            if let Some(shown) = shown {
                writeln!(out, "<p class=\"soft\">{word}</p><pre>{}</pre>", value(shown))?;
            }
        }
        writeln!(out, "</details>")
    }

    /// Where a step lies in the time of the page, and how wide it is, in thousandths.
    fn bar(&self, step: &Step, began: Timestamp) -> (i64, i64) {
        let ends =
            self.trace.steps.iter().filter_map(|step| {
                Some(step.start_time?.millis().saturating_add(step.duration_ms))
            });
        let whole = ends.max().unwrap_or(0).saturating_sub(began.millis()).max(1);
        let Some(start) = step.start_time else { return (0, 0) };
        let share = |millis: i64| millis.max(0).saturating_mul(1_000) / whole;
        let x = share(start.millis().saturating_sub(began.millis())).min(1_000);
        (x, share(step.duration_ms).clamp(8, 1_000))
    }

    fn records(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "<h2>Events</h2>\n<div class=\"card\"><table>")?;
        for moment in &self.trace.timeline {
            let node = moment.node_id.map_or_else(String::new, |node| node.to_string());
            let (at, kind) = (moment.created_at.iso_millis(), moment.kind);
            writeln!(out, "<tr><td class=\"soft\">{at}</td><td>{kind}</td><td>{node}</td></tr>")?;
        }
        writeln!(out, "</table></div>")
    }

    fn foot(&self, out: &mut String) -> std::fmt::Result {
        let id = escape(self.trace.job_id.as_str());
        let link =
            |what: &str| format!("<a href=\"/api/jobs/{id}{what}\">/api/jobs/{id}{what}</a>");
        let links = [link(""), link("/trace"), link("/events")].join(" · ");
        writeln!(out, "<footer><p>{links}</p></footer>\n</main>\n</body>\n</html>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_themselves() {
        let text = r#"<script a="b" c='d'>&"#;
        assert_eq!(escape(text), "&lt;script a=&quot;b&quot; c=&#39;d&#39;&gt;&amp;");
        assert_eq!(value(&Text::of("<b>")), "&lt;b&gt;");
        assert_eq!(value(&Text::of(&serde_json::json!({ "<": 1 }))), "{\n  &quot;&lt;&quot;: 1\n}");
        assert_eq!(clip("ärger", 2), ("är".to_owned(), false));
    }

    #[test]
    fn spans_are_short() {
        for (millis, text) in [(0, "0 ms"), (999, "999 ms"), (1_250, "1.2 s"), (61_000, "1m 1s")] {
            assert_eq!(span(millis), text);
        }
    }
}

//! Documents of the kind `CronWorkflow`: when runs of a workflow begin by themselves.
//!
//! May not decide about a time. Invariant: a document without an error has a timetable, and its
//! workflow can be run.

use serde_json::Value;

use super::fields::CRON_DOCUMENT;
use super::finding::{Finding, Findings, did_you_mean};
use super::read::{CRON_WORKFLOW, extension, flag, read_for, text, tree, understand, whole};
use super::shape;
use super::signatures::Signatures;
use crate::codecs::outline::{Member, Notation, Outline, Part, Place};
use crate::ground::clock::Timestamp;
use crate::machines::schedule::expression::Expression;
use crate::machines::schedule::timetable::{Timetable, zone, zones};
use crate::machines::schedule::{CatchUp, NAMESPACE_DEFAULT, Name, Overlap, Plan};

/// On whose clocks, when nothing is said.
const ZONE_DEFAULT: &str = "UTC";
/// How many runs that ended well are kept, when nothing is said.
const KEEP_SUCCEEDED_DEFAULT: i64 = 3;
/// How many others are.
const KEEP_FAILED_DEFAULT: i64 = 1;
/// How many missed times are made up for, when nothing is said.
const CATCH_UP_DEFAULT: i64 = 100;
/// The label of schedules whose runs are never removed.
const KEEP_LABEL: &str = "dormouse/keep";

/// A schedule as a document describes it.
#[derive(Debug, Clone)]
pub struct Described {
    /// What it is called.
    pub name: Name,
    /// When.
    pub plan: Plan,
    /// The document of its runs.
    pub workflow: Value,
}

/// A document and what is wrong with it.
#[derive(Debug)]
pub struct Reading {
    /// What was read; nothing if there is an error.
    pub schedule: Option<Described>,
    /// What is wrong, by place.
    pub findings: Vec<Finding>,
}

/// Reads a document.
#[must_use]
pub fn read(text: &str, notation: Notation) -> Reading {
    let mut findings = Findings::default();
    let schedule = tree(text, notation, &mut findings).and_then(|tree| {
        shape::object(&tree, &CRON_DOCUMENT, "", &mut findings);
        schedule(&tree, &mut findings)
    });
    let findings = findings.sorted();
    let is_valid = !findings.iter().any(Finding::is_error);
    Reading { schedule: schedule.filter(|_| is_valid), findings }
}

/// What is wrong with a document of either kind.
#[must_use]
pub fn findings(
    text: &str,
    notation: Notation,
    signatures: &Signatures,
    is_lenient: bool,
) -> Vec<Finding> {
    let tree = tree(text, notation, &mut Findings::default());
    let kind = tree.as_ref().and_then(|tree| tree.member("kind")).and_then(Outline::text);
    if kind == Some(CRON_WORKFLOW) {
        return read(text, notation).findings;
    }
    read_for(text, notation, signatures, is_lenient).findings
}

fn schedule(tree: &Outline, findings: &mut Findings) -> Option<Described> {
    let (metadata, spec) = (tree.member("metadata")?, tree.member("spec")?);
    let workflow = workflow(tree, metadata, spec);
    let inside = understand(&workflow, &Signatures::new(), Findings::default());
    findings.adopt(inside.findings, "/spec", "/spec/workflowSpec");
    let timetable = timetable(spec, findings);
    let namespace = text(metadata.member("namespace")).unwrap_or(NAMESPACE_DEFAULT.to_owned());
    let name = Name { namespace, name: text(metadata.member("name"))? };
    let word = |name| text(spec.member(name)).unwrap_or_default();
    let number = |part: Option<&Outline>, usual: i64| {
        usize::try_from(whole(part).unwrap_or(usual)).unwrap_or(0)
    };
    let deadline = whole(spec.member("startingDeadlineSeconds"));
    let label = metadata.member("labels").and_then(|labels| labels.member(KEEP_LABEL));
    let plan = Plan {
        timetable: timetable?,
        overlap: match word("concurrencyPolicy").as_str() {
            "Forbid" => Overlap::Forbid,
            "Replace" => Overlap::Replace,
            _ => Overlap::Allow,
        },
        catch_up: match text(extension(spec, "catchUp")).as_deref() {
            Some("all") => CatchUp::All,
            Some("none") => CatchUp::None,
            _ => CatchUp::Latest,
        },
        catch_up_max: number(extension(spec, "maxCatchUp"), CATCH_UP_DEFAULT),
        deadline_s: deadline.and_then(|s| u64::try_from(s).ok()),
        keep_succeeded: number(spec.member("successfulJobsHistoryLimit"), KEEP_SUCCEEDED_DEFAULT),
        keep_failed: number(spec.member("failedJobsHistoryLimit"), KEEP_FAILED_DEFAULT),
        keeps_all: text(label).as_deref() == Some("true"),
        is_suspended: flag(spec.member("suspend")).unwrap_or(false),
    };
    Some(Described { name, plan, workflow: workflow.value() })
}

/// The document of the runs, whose parts stand where the author wrote them.
fn workflow(tree: &Outline, metadata: &Outline, spec: &Outline) -> Outline {
    let nothing = Outline { at: spec.at, part: Part::Null };
    let version = tree.member("apiVersion").unwrap_or(&nothing);
    let kind = Outline { at: tree.at, part: Part::Text("Workflow".to_owned()) };
    let inside = spec.member("workflowSpec").unwrap_or(&nothing);
    let members = [
        ("apiVersion", version.clone()),
        ("kind", kind),
        ("metadata", metadata.clone()),
        ("spec", inside.clone()),
    ];
    let member = |(name, value): (&str, Outline)| Member { at: value.at, name: name.into(), value };
    Outline { at: tree.at, part: Part::Map(members.into_iter().map(member).collect()) }
}

fn timetable(spec: &Outline, findings: &mut Findings) -> Option<Timetable> {
    let at = |name: &str| spec.member(name).map_or(spec.at, |part| part.at);
    let expression = text(spec.member("schedule")).and_then(|text| {
        let wrong = |why: String| {
            let finding = findings.add("E-SCHEDULE", "/spec/schedule", at("schedule"), why);
            finding.hint("minute hour day-of-month month day-of-week, such as `30 6 * * MON-FRI`");
        };
        Expression::parse(&text).map_err(wrong).ok()
    });
    let named = text(spec.member("timezone")).unwrap_or(ZONE_DEFAULT.to_owned());
    let zone = zone(&named);
    if zone.is_none() {
        let what = format!("there is no time zone {named:?}");
        let known = zones();
        let hint = did_you_mean(&named, known.iter().map(String::as_str));
        findings.add("E-TIMEZONE", "/spec/timezone", at("timezone"), what).hint(hint);
    }
    let begin = moment(spec, "startAt", at("startAt"), findings);
    let end = moment(spec, "endAt", at("endAt"), findings);
    if let (Some(begin), Some(end)) = (begin, end)
        && end <= begin
    {
        let what = "endAt is not after startAt";
        findings.add("E-WINDOW", "/spec/endAt", at("endAt"), what);
    }
    Some(Timetable { expression: expression?, zone: zone?, begin, end })
}

fn moment(spec: &Outline, name: &str, at: Place, findings: &mut Findings) -> Option<Timestamp> {
    let given = text(spec.member(name))?;
    let read = Timestamp::read(&given);
    if read.is_none() {
        let what = format!("{given:?} is not a time");
        let finding = findings.add("E-WINDOW", &format!("/spec/{name}"), at, what);
        finding.hint("such as 2026-11-20T12:00:00Z, or with an offset: +01:00");
    }
    read
}

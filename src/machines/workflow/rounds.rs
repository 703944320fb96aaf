//! The rounds of a loop, as an author describes them.
//!
//! May not run them. Invariant: a loop without findings has exactly one source of rounds, and a
//! number that they never exceed.

use serde_json::Value;

use super::finding::member;
use super::model::{ItemSource, Rounds};
use super::read::{Reader, text, whole};
use super::views::Sight;
use crate::codecs::outline::Outline;
use crate::ground::limits::{WORKFLOW_ITERATIONS_MAX, WORKFLOW_LIVE_ITERATIONS_MAX};

/// Most rounds of a loop.
pub(super) fn most(part: &Outline) -> usize {
    whole(part.member("maxIterations"))
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(WORKFLOW_ITERATIONS_MAX)
}

/// Rounds at once: one, unless told otherwise; 0 means many.
pub(super) fn concurrency(part: &Outline) -> usize {
    match whole(part.member("concurrency")).and_then(|n| usize::try_from(n).ok()) {
        Some(0) => WORKFLOW_LIVE_ITERATIONS_MAX,
        Some(n) => n,
        None => 1,
    }
}

/// Where the rounds of a loop come from.
pub(super) fn of(reader: &mut Reader, own: usize, part: &Outline, pointer: &str) -> Rounds {
    let nothing = Rounds::Items(Vec::new());
    let given = |name: &str| part.member(name).filter(|given| !given.is_empty());
    let named: Vec<(&str, &Outline)> = ["items", "itemsFrom", "repeatCondition"]
        .into_iter()
        .filter_map(|name| given(name).map(|part| (name, part)))
        .collect();
    let [(way, found)] = named[..] else {
        if named.is_empty() && part.member("items").is_some() {
            let what = "there must be an item";
            reader.findings.add("E-ITEMS-EMPTY", &member(pointer, "items"), part.at, what);
        } else {
            let what = "a loop has one of items, itemsFrom and repeatCondition";
            reader.findings.add("E-LOOP-MODE", pointer, part.at, what);
        }
        return nothing;
    };
    let path = member(pointer, way);
    match way {
        "items" => items(reader, part, found, &path),
        "itemsFrom" => from(reader, own, found, &path).map_or(nothing, Rounds::From),
        _ => {
            if part.member("maxIterations").is_none() {
                let what = "a condition that stays true must end: say maxIterations";
                reader.findings.add("E-LOOP-MAX", pointer, part.at, what);
            }
            if let Some(at) = part.member("concurrency").filter(|c| whole(Some(c)) > Some(0)) {
                let what = "rounds that follow from each other come one after the other";
                let path = member(pointer, "concurrency");
                reader.findings.add("E-LOOP-CONCURRENCY", &path, at.at, what);
            }
            let sight = Sight::inside_loop(own);
            let condition = reader.expression(Some(found), &path, &sight);
            condition.map_or(nothing, Rounds::While)
        }
    }
}

fn items(reader: &mut Reader, part: &Outline, found: &Outline, path: &str) -> Rounds {
    let items: Vec<Value> = found.items().iter().map(Outline::value).collect();
    let most = most(part);
    if items.len() > most {
        let what = format!("{} items are more than {most} rounds", items.len());
        reader.findings.add("E-ITEMS-LIMIT", path, found.at, what);
    }
    // Only a document that is read leniently comes further with more.
    Rounds::Items(items.into_iter().take(most).collect())
}

/// A path, a placeholder or an expression.
fn from(reader: &mut Reader, own: usize, found: &Outline, path: &str) -> Option<ItemSource> {
    let given = text(Some(found))?;
    let sight = Sight::call_site(own).with_own_inputs();
    let bare = given.trim();
    let inner = bare.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    let inner = inner.filter(|inner| !inner.contains("{{")).unwrap_or(bare);
    let in_path = |c: char| c.is_alphanumeric() || "_-.[]'\" ".contains(c);
    if inner.trim().chars().all(in_path)
        && let Ok(reference) = super::reference::Reference::parse(inner)
    {
        reader.mention(reference.clone(), path, found.at, &sight);
        return Some(ItemSource::Path(reference));
    }
    let expression = reader.expression(Some(found), path, &sight)?;
    Some(ItemSource::Expression(Box::new(expression)))
}

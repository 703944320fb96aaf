//! Binding: the inputs of a task run, from its call, its round and its declaration.
//!
//! May not start anything. Invariant: what is bound fits its type, and stays as it is.

use serde_json::{Map, Value};

use super::seen::Seen;
use super::unit::Round;
use crate::ground::limits::VALUE_BYTES_MAX;
use crate::machines::workflow::expression::Scope;
use crate::machines::workflow::model::{Parameter, Source};
use crate::machines::workflow::values::misfit;

/// Why something cannot begin: code and message.
pub(super) type Fault = (&'static str, String);

/// What a task run is called with.
pub(super) struct Call<'a> {
    /// What the template declares.
    pub(super) declared: &'a [Parameter],
    /// What the caller gives.
    pub(super) given: &'a [Parameter],
    /// Where the caller's values are looked up.
    pub(super) caller: Seen<'a>,
    /// Where the declared values are looked up.
    pub(super) own: Seen<'a>,
    /// The round of a loop that this is.
    pub(super) round: Option<&'a Round>,
    /// Inputs that nothing gives are left out, and values of other types are taken.
    pub(super) is_lenient: bool,
}

/// The inputs, and what is worth telling about them.
pub(super) type Bound = (Map<String, Value>, Vec<String>);

/// Binds all inputs.
pub(super) fn bind(call: &Call<'_>) -> Result<Bound, Fault> {
    let mut inputs = Map::new();
    let mut notes = Vec::new();
    for declared in call.declared {
        let given = call.given.iter().find(|given| given.name == declared.name);
        let value = given.and_then(|given| value(given, call, &call.caller, &mut notes));
        let value = value.or_else(|| of_round(call.round, &declared.name));
        let value = value.or_else(|| self::value(declared, call, &call.own, &mut notes));
        let Some(value) = value else {
            if call.is_lenient {
                notes.push(format!("{} has no value", declared.name));
                continue;
            }
            let why = notes.last().map(|note| format!(": {note}")).unwrap_or_default();
            return Err(("E-UNRESOLVED-INPUT", format!("{} has no value{why}", declared.name)));
        };
        if let Some(why) = misfit(declared.of_type, &declared.choices, &value) {
            let why = format!("{} {why}", declared.name);
            if !call.is_lenient {
                return Err(("E-INPUT-TYPE", why));
            }
            notes.push(why);
        }
        inputs.insert(declared.name.clone(), value);
    }
    for given in call.given.iter().filter(|g| call.declared.iter().all(|d| d.name != g.name)) {
        if let Some(value) = value(given, call, &call.caller, &mut notes) {
            inputs.insert(given.name.clone(), value);
        }
    }
    if let Some(round) = call.round {
        rest_of_round(round, &mut inputs);
    }
    if weight(&inputs) > VALUE_BYTES_MAX {
        return Err(("E-VALUE-SIZE", format!("inputs of more than {VALUE_BYTES_MAX} bytes")));
    }
    Ok((inputs, notes))
}

/// The value of a parameter, or its default.
fn value(
    parameter: &Parameter,
    call: &Call<'_>,
    seen: &Seen<'_>,
    notes: &mut Vec<String>,
) -> Option<Value> {
    let bare = call.round.and_then(|round| round.item.as_ref());
    match sourced(parameter, seen, bare) {
        Ok(Some(value)) => Some(value),
        Ok(None) => fallback(parameter, seen),
        Err(why) => {
            let fallback = fallback(parameter, seen);
            let end = if fallback.is_some() { "the default is taken" } else { "nothing is there" };
            notes.push(format!("{}: {why}: {end}", parameter.name));
            fallback
        }
    }
}

/// The value of a parameter without its default.
pub(super) fn sourced(
    parameter: &Parameter,
    seen: &Seen<'_>,
    bare: Option<&Value>,
) -> Result<Option<Value>, String> {
    match &parameter.source {
        Source::None => Ok(None),
        Source::Secret(mark) => Ok(Some(mark.as_str().into())),
        Source::Value(value) if parameter.verbatim => Ok(Some(value.clone())),
        Source::Value(value) => seen.fill(value, bare).map(Some),
        Source::Path(reference) => seen.get(reference).map(Some).ok_or_else(|| reference.print()),
        Source::Expression(expression) => {
            expression.value(seen).map(|value| Some(value).filter(|value| !value.is_null()))
        }
    }
}

/// The default of a parameter.
pub(super) fn fallback(parameter: &Parameter, seen: &Seen<'_>) -> Option<Value> {
    let default = parameter.default.as_ref()?;
    if parameter.verbatim { Some(default.clone()) } else { seen.fill(default, None).ok() }
}

fn of_round(round: Option<&Round>, name: &str) -> Option<Value> {
    let round = round?;
    match name {
        "loop_iter.index" => Some(round.index.into()),
        "loop_iter.item" => round.item.clone(),
        _ => round.item.as_ref()?.get(name).cloned(),
    }
}

fn rest_of_round(round: &Round, inputs: &mut Map<String, Value>) {
    let mut add = |name: &str, value: Value| {
        if !inputs.contains_key(name) {
            inputs.insert(name.to_owned(), value);
        }
    };
    add("loop_iter.index", round.index.into());
    if let Some(item) = &round.item {
        add("loop_iter.item", item.clone());
        for (name, value) in item.as_object().into_iter().flatten() {
            add(name, value.clone());
        }
    }
}

/// About how many bytes values have.
pub(super) fn weight(map: &Map<String, Value>) -> usize {
    fn one(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len() + 16,
            Value::Array(items) => items.iter().map(one).sum::<usize>() + 16,
            Value::Object(members) => weight(members),
            _ => 16,
        }
    }
    map.iter().map(|(name, value)| name.len() + one(value)).sum::<usize>() + 16
}

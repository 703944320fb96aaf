// One effect call, whatever the intrinsic: key, number, build, request, promise; and its outcome.
// May not know what any kind means. Invariant: a call's promise is settled only by the outcome of
// its own effect, never by looking something up by name.

import { config, native, strict, when } from "dormouse:native";
import {
  EffectCancelledError, InvalidTaskDefinitionError, InvocationCollisionError, RunCancelledError,
  fromPosted,
} from "dormouse:errors";
import {
  ambient, countOutput, exceed, guard, scopeOf, shieldOf, site, state, warn,
} from "dormouse:state";

const open = new Map(); // ordinal → entry, in request order
const explicit = new Map(); // explicit key → entry
const byPromise = new WeakMap(); // promise → entry

export const entryOf = (promise) => byPromise.get(promise);
export const openEntries = () => open.values();

// Makes a call. `spec`: what (for messages), name, userKey?, digest (JSON text that identifies the
// call, or undefined), args (JSON text or undefined), and build(ids) → {kind, def (JSON text),
// taskId?, title?, label?, labels?, options?, finish?, fail?} or a promise of it.
export function call(view, spec) {
  guard(spec.what);
  const scope = scopeOf(view);
  const shielded = shieldOf(view);
  if (state.cancelled !== null && !shielded) {
    return Promise.reject(cancelledError());
  }
  let digest;
  try {
    digest = native.argsDigest(spec.digest);
  } catch (error) {
    return Promise.reject(error);
  }
  const userKey = spec.userKey === undefined ? undefined : String(spec.userKey).toWellFormed();
  if (userKey !== undefined) {
    const key = native.explicitKey(spec.name, userKey);
    const entry = explicit.get(key);
    if (entry !== undefined) return again(entry, digest, scope, shielded);
    return begin(newEntry(key, "", spec, digest, scope, shielded), spec, true);
  }
  const n = scope.calls.get(spec.name) ?? 0;
  scope.calls.set(spec.name, n + 1);
  const key = native.countedKey(scope.path, spec.name, n);
  return begin(newEntry(key, scope.path, spec, digest, scope, shielded), spec, false);
}

function newEntry(key, scopePath, spec, digest, scope, shielded) {
  const ordinal = config.known.get(key) ?? config.nextOrdinal++;
  return {
    key, scopePath, digest, scope, shielded, ordinal, effectId: native.effectId(ordinal),
    name: spec.name, kind: undefined, taskId: undefined, signal: undefined,
    order: state.order++, waiters: [], outcome: null, finish: undefined, fail: undefined,
  };
}

function begin(entry, spec, remember) {
  const promise = wait(entry, entry.scope, entry.shielded);
  if (remember) explicit.set(entry.key, entry);
  const where = site();
  let built;
  state.building += 1;
  try {
    built = spec.build({ effectId: entry.effectId, key: entry.key });
  } catch (error) {
    settleNow(entry, { error });
    return promise;
  } finally {
    state.building -= 1;
  }
  if (built instanceof Promise) {
    when(
      built,
      (parts) => request(entry, spec, parts, where),
      (error) => settleNow(entry, { error }),
    );
  } else {
    request(entry, spec, built, where);
  }
  return promise;
}

const wellFormed = (text) => text === undefined ? undefined : String(text).toWellFormed();

// A definition that took a while is requested even if the process has returned meanwhile: the call
// was made before.
function request(entry, spec, parts, where) {
  try {
    if (state.cancelled !== null && !entry.shielded) throw cancelledError();
    if (parts.ready !== undefined) return settleNow(entry, parts.ready);
    if (open.size >= config.limits.openEffects) {
      throw exceed("open_effects_max", config.limits.openEffects);
    }
    const options = policyOf(parts);
    countOutput();
    entry.kind = parts.kind;
    entry.taskId = parts.taskId;
    entry.signal = parts.signal;
    entry.finish = parts.finish;
    entry.fail = parts.fail;
    native.request({
      order: entry.order, ordinal: entry.ordinal, key: entry.key, name: entry.name,
      scope: entry.scopePath, kind: wellFormed(parts.kind), taskId: parts.taskId,
      title: wellFormed(parts.title), label: wellFormed(parts.label),
      labels: parts.labels ?? [], def: parts.def, args: spec.args, argsDigest: entry.digest,
      options, cleanup: entry.shielded, site: where,
    });
    open.set(entry.ordinal, entry);
  } catch (error) {
    settleNow(entry, { error });
  }
}

// Options that cannot be read are refused before anything is requested; others that make no sense
// are requested and refused in the record. Upstream ignores them: under its rules they are left
// out and said.
function policyOf(parts) {
  const why = native.policyError(wellFormed(parts.kind), parts.options, strict);
  if (why === undefined) return parts.options;
  if (strict) throw new InvalidTaskDefinitionError(why, { taskId: parts.taskId });
  warn(`the options of ${parts.taskId ?? parts.kind} are left out: ${why}`);
  return undefined;
}

// A second call with the same explicit key: the same outcome, no new effect.
function again(entry, digest, scope, shielded) {
  if (entry.digest !== digest) {
    const text = `the key ${entry.key} was used before with other arguments`;
    if (strict) {
      const fields = { invocationKey: entry.key, digests: [entry.digest, digest] };
      return Promise.reject(new InvocationCollisionError(text, fields));
    }
    warn(text);
  }
  if (entry.outcome === null) return wait(entry, scope, shielded);
  return new Promise((resolve, reject) => hand(entry, entry.outcome, { resolve, reject }));
}

function wait(entry, scope, shielded) {
  const promise = new Promise((resolve, reject) => {
    entry.waiters.push({ resolve, reject, scope, shielded });
  });
  byPromise.set(promise, entry);
  return promise;
}

// Gives an outcome to one waiter; every waiter gets a copy of its own.
function hand(entry, outcome, waiter) {
  try {
    if (outcome.text !== undefined) {
      const value = JSON.parse(outcome.text);
      waiter.resolve(entry.finish === undefined ? value : entry.finish(value));
    } else if (outcome.posted !== undefined) {
      const error = fromPosted(outcome.posted, entry, outcome.attempts);
      if (entry.fail === undefined) waiter.reject(error);
      else waiter.resolve(entry.fail(error, outcome.posted));
    } else if (outcome.error !== undefined) {
      waiter.reject(outcome.error);
    } else {
      waiter.resolve(outcome.value);
    }
  } catch (error) {
    waiter.reject(error);
  }
}

// An outcome that needs nobody outside: a failed build, a sleep into the past.
function settleNow(entry, outcome) {
  entry.outcome = outcome;
  for (const waiter of entry.waiters.splice(0)) hand(entry, outcome, waiter);
}

// Prepares the settling of one effect. Returns the steps, one per waiter: the jobs of each are
// drained before the next, so that attribution stays exact.
export function settle(ordinal, outcome) {
  const entry = open.get(ordinal);
  if (entry === undefined) return [];
  open.delete(ordinal);
  entry.outcome = outcome;
  return entry.waiters.splice(0).map((waiter) => () => {
    enter(waiter);
    hand(entry, outcome, waiter);
  });
}

function enter(waiter) {
  ambient.scope = waiter.scope;
  ambient.shielded = waiter.shielded;
}

export function cancelledOutcome(ordinal, reason) {
  const entry = open.get(ordinal);
  const effectId = entry?.effectId ?? native.effectId(ordinal);
  const message = `Effect ${effectId} cancelled: ${reason}`;
  return { error: new EffectCancelledError(message, { effectId, reason }) };
}

export function cancelledError() {
  const reason = state.cancelled?.reason ?? undefined;
  const why = reason === undefined ? "" : `: ${reason}`;
  return new RunCancelledError(`The run was cancelled${why}`, { reason });
}

// All unshielded pending promises reject, in request order; later outcomes are not fed.
export function rejectUnshielded() {
  const steps = [];
  for (const [ordinal, entry] of open) {
    if (entry.shielded) continue;
    open.delete(ordinal);
    const outcome = { error: cancelledError() };
    entry.outcome = outcome;
    for (const waiter of entry.waiters.splice(0)) {
      steps.push(() => {
        enter(waiter);
        hand(entry, outcome, waiter);
      });
    }
  }
  return steps;
}

// Asks the runtime to give up one effect; its answer is an input of its own.
export function giveUp(entry, reason) {
  if (!open.has(entry.ordinal) || entry.givenUp) return;
  entry.givenUp = true;
  native.cancel(entry.ordinal, String(reason).toWellFormed());
}

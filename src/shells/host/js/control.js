// How a process ends, goes on or is interrupted: halt, continueAsNew, cancellation, onCleanup,
// patched. May not know effects of any kind. Invariant: the first end of a run counts.

import { config, native, when } from "dormouse:native";
import { DormouseError, RunHaltedError, coded } from "dormouse:errors";
import {
  ambient, countOutput, endWith, guard, scopeOf, shieldOf, state, warnOf,
} from "dormouse:state";
import { cancelledError, openEntries } from "dormouse:call";
import { toText } from "dormouse:json";

const isObject = (value) => value !== null && typeof value === "object";

export const halt = () => (reason, payload) => {
  guard("halt");
  if (typeof reason !== "string" || reason.trim() === "") {
    throw new TypeError("ctx.halt: the reason must be a non-empty string");
  }
  if (payload !== undefined && !isObject(payload)) {
    throw new TypeError("ctx.halt: the payload must be an object");
  }
  const text = toText(payload, "the payload of ctx.halt");
  endWith({ type: "halted", reason: reason.toWellFormed(), payload: text });
  throw new RunHaltedError(`The run was halted: ${reason}`, { reason, payload });
};

// Never returns: the promise stays pending, the next generation starts in its place.
export const continueAsNew = () => (inputs, options) => {
  guard("continueAsNew");
  for (const entry of openEntries()) {
    const error = coded("E_CONTINUE_PENDING", `effect ${entry.effectId} (${entry.key}) is pending`);
    return Promise.reject(error);
  }
  try {
    const { entry, carry } = options ?? {};
    endWith({
      type: "continued",
      inputs: toText(inputs, "the inputs of ctx.continueAsNew"),
      entry: entry === undefined ? undefined : String(entry).toWellFormed(),
      carry: toText(carry, "carry of ctx.continueAsNew"),
    });
  } catch (error) {
    return Promise.reject(error);
  }
  return new Promise(() => {});
};

const decided = new Map();

// Whether the changed code applies: true from the first live turn that asks, in a replay exactly
// when that turn had asked.
export const patched = () => (id) => {
  guard("patched");
  if (typeof id !== "string" || id === "") {
    throw new TypeError("ctx.patched: the id must be a non-empty string");
  }
  const name = id.toWellFormed();
  if (!decided.has(name)) decided.set(name, decide(name));
  return decided.get(name);
};

export const deprecatePatch = (view) => (id) => {
  patched(view)(id);
};

function decide(id) {
  if (config.knownMarks.has(id)) return true;
  if (state.byKey) return false;
  const recorded = state.marks.includes(id);
  const live = state.liveAfter && state.outputs >= state.journaledOutputs;
  if (!recorded && !live) return false;
  countOutput();
  native.mark(state.order++, native.countedKey("", `@patch:${id}`, 0), id);
  return true;
}

const cleanups = [];

export const onCleanup = () => (fn) => {
  guard("onCleanup");
  if (typeof fn !== "function") throw new TypeError("ctx.onCleanup: wants a function");
  cleanups.push(fn);
};

// Runs the last clean-up function that did not run; false when none is left.
export function cleanUpOnce() {
  const fn = cleanups.pop();
  if (fn === undefined) return false;
  try {
    const result = fn();
    if (isObject(result) && typeof result.then === "function") {
      result.then(undefined, (error) => warnOf("an onCleanup function failed", error));
    }
  } catch (error) {
    warnOf("an onCleanup function failed", error);
  }
  return true;
}

let raise;
const raised = new Promise((resolve) => {
  raise = resolve;
});

export function raiseCancelled(reason) {
  state.cancelled = { reason };
  return () => {
    ambient.scope = scopeOf({});
    raise(reason);
  };
}

// `makeCtx` gives the shielded function a ctx of its own, whose calls are exempt for certain.
export const cancellation = (view, makeCtx) => Object.freeze({
  get requested() {
    return state.cancelled !== null;
  },
  get reason() {
    return state.cancelled?.reason ?? undefined;
  },
  promise: raised,
  throwIfRequested() {
    if (state.cancelled !== null) throw cancelledError();
  },
  shield(fn) {
    guard("cancellation.shield");
    if (typeof fn !== "function") throw new DormouseError("shield wants a function");
    const before = { scope: scopeOf(view), shielded: shieldOf(view) };
    const leave = () => Object.assign(ambient, before);
    ambient.shielded = true;
    let result;
    try {
      result = Promise.resolve(fn(makeCtx({ scope: view.scope, shielded: true })));
    } catch (error) {
      result = Promise.reject(error);
    } finally {
      leave();
    }
    return new Promise((resolve, reject) => {
      when(
        result,
        (value) => {
          leave();
          resolve(value);
        },
        (error) => {
          leave();
          reject(error);
        },
      );
    });
  },
});

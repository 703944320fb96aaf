// The prelude's door to the Rust half: begin a turn, take a step, finish. May not know intrinsics.
// Invariant: between two steps the job queue is drained, so that attribution and order are exact.

import { config, native, setConfig, strict, when } from "dormouse:native";
import { cancelledOutcome, rejectUnshielded, settle } from "dormouse:call";
import { cleanUpOnce, raiseCancelled } from "dormouse:control";
import { makeCtx, setGiven } from "dormouse:ctx";
import { describe } from "dormouse:errors";
export { describe };
import { deepFreeze, toText } from "dormouse:json";
import { resetLog } from "dormouse:log";
import { ambient, endWith, root, state, warn, warnOf } from "dormouse:state";
import { fireDue } from "dormouse:timers";
import { freeze } from "dormouse:sandbox";
import "dormouse:sdk";

const unhandled = new Map(); // promise → reason
let steps = [];
let entry = null;
let ended = false;
freeze();

// Says for which run this is; until then no author's code is there.
export function configure(text) {
  setConfig(text);
  state.clockMs = config.clockMs;
}

// The engine tells of rejections without handler, and of handlers that came later.
export function rejected(promise, reason, handled) {
  if (handled) unhandled.delete(promise);
  else unhandled.set(promise, reason);
}

// Finds the function to call (process API §1.3); returns null or [code, message].
export function findEntry(namespace, exportName) {
  const names = Object.keys(namespace);
  const found = lookUpExport(namespace, exportName);
  if (found === undefined) {
    const wanted = exportName === null
      ? "neither process nor default is exported" : `${exportName} is not exported`;
    const list = names.length === 0 ? "nothing" : names.join(", ");
    return ["E_EXPORT_NOT_FOUND", `${wanted}; the module exports ${list}`];
  }
  if (typeof found.value !== "function") {
    return ["E_EXPORT_NOT_FUNCTION", `export ${found.name} is not a function`];
  }
  entry = found.value;
  return null;
}

function lookUpExport(namespace, exportName) {
  const own = (name) => Object.hasOwn(namespace, name);
  if (exportName !== null) {
    if (own(exportName)) return { name: exportName, value: namespace[exportName] };
    if (strict || !(own("process") || own("default"))) return undefined;
    warn(`${exportName} is not exported; falling back to process or default`);
  }
  if (own("process")) return { name: "process", value: namespace.process };
  if (!own("default")) return undefined;
  const byDefault = namespace.default;
  if (typeof byDefault === "function") return { name: "default", value: byDefault };
  if (typeof byDefault?.process === "function") {
    return { name: "default.process", value: byDefault.process };
  }
  return { name: "default", value: byDefault };
}

export function begin(turn) {
  Object.assign(state, {
    clockMs: turn.clockMs, byKey: turn.byKey, liveAfter: turn.liveAfter, outputs: 0,
    journaledOutputs: turn.journaledOutputs, marks: JSON.parse(turn.marks),
  });
  steps = stepsOf(turn);
}

function stepsOf(turn) {
  switch (turn.feed) {
    case "started":
      return [start];
    case "resolved":
      return settle(turn.ordinal, { text: turn.value ?? "null", attempts: turn.attempts });
    case "failed": {
      const { ordinal, attempts, name, message, stack, data } = turn;
      return settle(ordinal, { posted: { name, message, stack, data }, attempts });
    }
    case "cancelled":
      return settle(turn.ordinal, cancelledOutcome(turn.ordinal, turn.reason));
    case "cancel_requested": {
      if (state.cancelled !== null) return [];
      const raise = raiseCancelled(turn.reason);
      return [raise, ...rejectUnshielded()];
    }
    default:
      throw new Error(`unknown feed ${turn.feed}`);
  }
}

function start() {
  const inputs = config.inputs === null ? {} : JSON.parse(config.inputs);
  const carried = config.carried === null ? undefined : JSON.parse(config.carried);
  if (strict) deepFreeze(inputs);
  setGiven({ inputs, carried });
  ambient.scope = root;
  state.running = true;
  const ctx = makeCtx({ scope: undefined, shielded: false });
  let result;
  try {
    result = Promise.resolve(entry(inputs, ctx, undefined));
  } catch (error) {
    result = Promise.reject(error);
  }
  when(result, returned, threw);
}

function returned(value) {
  try {
    if (!strict && value !== null && typeof value === "object" && value.halt === true) {
      warn("returning {halt: true} is deprecated: call ctx.halt(reason, payload)");
      const reason = String(value.reason ?? value.phase ?? "halted").toWellFormed();
      endWith({ type: "halted", reason, payload: toText(value, "the output") });
      return;
    }
    endWith({ type: "completed", output: toText(value, "the output") ?? "null" });
  } catch (error) {
    threw(error);
  }
}

function threw(error) {
  endWith({ type: "failed", error: describe(error) });
}

// One step of the turn; the caller drains the job queue, then asks again. False: the turn is over.
export function step() {
  const next = steps.shift();
  if (next !== undefined) {
    next();
    return true;
  }
  if (fireDue()) return true;
  // A generation that goes on as a new one is not the end of the run.
  const over = state.end !== null && state.end.type !== "continued" && !ended;
  return over && cleanUpOnce();
}

export function finish() {
  for (const [, reason] of unhandled) warnOf("unhandled rejection", reason);
  unhandled.clear();
  const dropped = resetLog();
  if (dropped > 0) warn(`${dropped} log lines of this turn were dropped`);
  if (state.end === null || ended) return;
  ended = true;
  native.end(state.end);
}

// setTimeout and clearTimeout as durable timers; queueMicrotask is the engine's own.
// May not read a clock. Invariant: a delay of zero makes no effect and runs at the end of the turn.

import { when } from "dormouse:native";
import { ambient, guard, state, warnOf } from "dormouse:state";
import { entryOf, giveUp } from "dormouse:call";
import { timer } from "dormouse:sleep";

let nextId = 1;
const timers = new Map(); // id → promise, or null for a timer of the end of this turn
const due = []; // [id, fn, args]

export function setTimeout(fn, delay, ...args) {
  if (typeof fn !== "function") throw new TypeError("setTimeout: wants a function");
  if (!state.running) throw new TypeError("setTimeout: only inside a running process");
  guard("sleep");
  const id = nextId++;
  const ms = Number(delay);
  if (!(ms > 0)) {
    timers.set(id, null);
    due.push([id, fn, args, { ...ambient }]);
    return id;
  }
  const at = state.clockMs + Math.ceil(Math.min(ms, 8e15 - state.clockMs));
  const promise = timer({}, "sleep", at, { label: "setTimeout" });
  timers.set(id, promise);
  when(promise, () => fire(id, fn, args), () => timers.delete(id));
  return id;
}

export function clearTimeout(id) {
  const promise = timers.get(id);
  timers.delete(id);
  const entry = promise === null || promise === undefined ? undefined : entryOf(promise);
  if (entry !== undefined) giveUp(entry, "clearTimeout");
}

function fire(id, fn, args) {
  if (!timers.delete(id)) return;
  try {
    fn(...args);
  } catch (error) {
    warnOf("a setTimeout function failed", error);
  }
}

// Runs one function that waited for the end of the turn; false when none is left.
export function fireDue() {
  const [id, fn, args, where] = due.shift() ?? [];
  if (id === undefined) return false;
  Object.assign(ambient, where);
  if (!state.closed) fire(id, fn, args);
  return true;
}

// What the intrinsics of one instance share: whose turn it is, whether the process still runs, and
// to whom a call is attributed. May not know intrinsics. Invariant: `ambient` changes only where
// the process API says so (its §6.1).

import { config, native, strict } from "dormouse:native";
import { coded, describe } from "dormouse:errors";

// A place in the tree of branches: counters for groups, keys and draws live here.
export function makeScope(path, depth) {
  return { path, depth, groups: 0, calls: new Map(), draws: 0 };
}

export const root = makeScope("", 0);

// To whom a call is attributed when it does not say so itself.
export const ambient = { scope: root, shielded: false };

export const state = {
  clockMs: 0,
  running: false, // The process function was called.
  closed: false, // No more calls: it settled, halted or continued.
  building: 0, // Depth of definition builders on the stack.
  end: null, // How the run ends, once known.
  cancelled: null, // {reason} after a cancel request.
  byKey: false, // This turn replays what was recorded under other code.
  liveAfter: true,
  journaledOutputs: 0,
  marks: [], // Patch ids journaled in this turn.
  outputs: 0, // How many outputs this turn has.
  order: 0, // Number of the next call; outputs are sorted by it.
};

// Refuses a call that may not be made now. Called first by every intrinsic.
export function guard(what) {
  if (state.building > 0) {
    throw coded("E_CTX_IN_BUILD", `ctx.${what} was called while a task definition was built`);
  }
  guardOpen(what);
}

function guardOpen(what) {
  if (state.closed) {
    throw coded("E_CTX_CLOSED", `ctx.${what} was called after the process ended`);
  }
}

// The same for members that ask for nothing: upstream's rules let builders read them.
export function guardRead(what) {
  if (strict) guard(what);
  else guardOpen(what);
}

// The scope of a call made through `view`: its own, or the ambient one.
export const scopeOf = (view) => view.scope ?? ambient.scope;
export const shieldOf = (view) => view.shielded || ambient.shielded;

// Marks that the run ends; the first end counts.
export function endWith(end) {
  if (state.end === null) state.end = end;
  state.closed = true;
}

// Ends the run because the process asks for too much.
export function exceed(limit, max) {
  const message = `limit:effects: ${limit} is ${max}`;
  const data = JSON.stringify({ limit: "effects", name: limit, max });
  endWith({ type: "failed", error: { name: "LimitError", message, data } });
  return coded("E_LIMIT", message);
}

// Counts one more output of this turn.
export function countOutput() {
  if (state.outputs >= config.limits.turnOutputs) {
    throw exceed("turn_outputs_max", config.limits.turnOutputs);
  }
  state.outputs += 1;
}

export function warn(text) {
  native.warn(String(text).toWellFormed());
}

export function warnOf(what, thrown) {
  const error = describe(thrown);
  const stack = error.stack ? `\n${error.stack}` : "";
  warn(`${what}: ${error.name}: ${error.message}${stack}`);
}

// Where in the author's code we are: `file:line:column`.
export function site() {
  const { stack } = new Error();
  return typeof stack === "string" ? native.site(stack.toWellFormed()) : undefined;
}

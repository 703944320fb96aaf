// The way down: what the Rust half of the host offers to the prelude, and what the run was
// started with. May not know authors' code. Invariant: nothing outside the prelude reaches it, and
// the prelude is complete before it is known for which run.

export const native = globalThis.__dormouse_native;
delete globalThis.__dormouse_native;

// Empty until the run is known, then with members runId, runDir, cwd, processId, generation,
// clockMs, nextOrdinal, inputs and carried (JSON text or null), known, knownMarks, limits.
export const config = {};

export function setConfig(text) {
  Object.assign(config, JSON.parse(text));
  config.known = new Map(config.known);
  config.knownMarks = new Set(config.knownMarks);
}

// `then` as it was: where built-ins are not frozen, an author may replace it.
const { apply } = Reflect;
const { then } = Promise.prototype;
export const when = (promise, ok, failed) => apply(then, promise, [ok, failed]);

// Whether the rules of the `dormouse` profile apply; else those of `babysitter`.
export const { strict } = native;

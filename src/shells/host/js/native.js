// The way down: what the Rust half of the host offers to the prelude, and what the run was
// started with. May not know authors' code. Invariant: nothing outside the prelude reaches it.

export const native = globalThis.__dormouse_native;
delete globalThis.__dormouse_native;

const start = JSON.parse(native.start);

// Members: runId, runDir, cwd, processId, dormouseProfile, generation, clockMs, nextOrdinal,
// inputs and carried (JSON text or null), known, knownMarks, limits, version.
export const config = start;

// `then` as it was: where built-ins are not frozen, an author may replace it.
const { apply } = Reflect;
const { then } = Promise.prototype;
export const when = (promise, ok, failed) => apply(then, promise, [ok, failed]);

// Whether the rules of the `dormouse` profile apply; else those of `babysitter`.
export const strict = start.dormouseProfile;

// The way down: what the Rust half of the host offers to the prelude, and what the run was
// started with. May not know authors' code. Invariant: nothing outside the prelude reaches it.

export const native = globalThis.__dormouse_native;
delete globalThis.__dormouse_native;

const start = JSON.parse(native.start);

// Members: runId, runDir, cwd, processId, dormouseProfile, generation, clockMs, nextOrdinal,
// inputs and carried (JSON text or null), known, knownMarks, limits, version.
export const config = start;

// Whether the rules of the `dormouse` profile apply; else those of `babysitter`.
export const strict = start.dormouseProfile;

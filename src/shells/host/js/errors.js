// Error classes that authors see, and how posted errors become them.
// May not know promises or turns. Invariant: every class extends DormouseError, and no message
// holds a path of the machine.

export class DormouseError extends Error {
  constructor(message, fields) {
    super(message);
    define(this, "name", new.target.name);
    for (const key of ["category", "suggestions", "nextSteps", "details"]) {
      define(this, key, undefined);
    }
    for (const key of Object.keys(fields ?? {})) define(this, key, fields[key]);
  }
}

// Defines instead of assigning: the prototypes of built-ins are frozen in one profile.
function define(target, key, value) {
  Object.defineProperty(target, key, {
    value, writable: true, configurable: true, enumerable: value !== undefined && key !== "name",
  });
}

export class TaskError extends DormouseError {}
export class TaskTimeoutError extends TaskError {}
export class EffectCancelledError extends DormouseError {}
export class UncertainEffectError extends DormouseError {}
export class ChildRunError extends DormouseError {}
export class SignalTimeoutError extends DormouseError {}
export class RunCancelledError extends DormouseError {}
export class InvalidTaskDefinitionError extends DormouseError {}
export class InvocationCollisionError extends DormouseError {}
export class InvalidSleepTargetError extends DormouseError {}
export class PolicyDeniedError extends DormouseError {}
export class HookFailedError extends DormouseError {}
export class RunHaltedError extends DormouseError {}

// Names that the public SDK throws internally. Here a pending effect is a pending promise, so
// nothing ever throws them; they exist so that guards in authors' code link and stay inert.
export class EffectRequestedError extends DormouseError {}
export class EffectPendingError extends DormouseError {}
export class ParallelPendingError extends DormouseError {}
export class BabysitterIntrinsicError extends DormouseError {}
export const isIntrinsicError = () => false;

// An error with a stable code: misuse of the API rather than something that went wrong outside.
export function coded(code, message) {
  return new DormouseError(`${code}: ${message}`, { code, category: "usage" });
}

const CLASSES = {
  TaskTimeoutError, UncertainEffectError, PolicyDeniedError, EffectCancelledError, HookFailedError,
};

// The error that a posted or recorded one becomes. `entry` is the effect it ends.
export function fromPosted(posted, entry, attempts) {
  const data = posted.data === undefined ? undefined : JSON.parse(posted.data);
  const more = data !== null && typeof data === "object" && !Array.isArray(data) ? data : {};
  const message = posted.message === "" ? "Task failed" : posted.message;
  const common = { effectId: entry.effectId, attempts };
  let error;
  if (entry.kind === "run" && !Object.hasOwn(CLASSES, posted.name)) {
    const cause = more.error ?? { name: posted.name, message };
    const fields = { runId: more.runId, state: more.state, error: cause };
    error = new ChildRunError(message, { ...common, ...fields });
  } else if (entry.kind === "signal" && posted.name === "SignalTimeoutError") {
    error = new SignalTimeoutError(message, { ...common, signal: entry.signal });
  } else if (Object.hasOwn(CLASSES, posted.name) && posted.name !== "TaskTimeoutError") {
    // What was posted may add fields; who and what it is about stands.
    const { message: _, name: __, stack: ___, ...added } = more;
    error = new CLASSES[posted.name](message, { ...added, ...common });
  } else {
    const Class = CLASSES[posted.name] ?? TaskError;
    error = new Class(message, {
      ...common, data, taskId: entry.taskId, kind: entry.kind, causeName: "task",
    });
    if (Class === TaskTimeoutError) define(error, "timeoutMs", more.timeoutMs);
    if (posted.name !== "") define(error, "name", posted.name);
  }
  if (posted.stack !== undefined) define(error, "stack", posted.stack);
  return error;
}

const HINTS = {
  setInterval: "use ctx.sleep in a loop",
  setImmediate: "use queueMicrotask, or setTimeout(fn, 0)",
  fetch: "do it in a task: only its result is recorded",
  XMLHttpRequest: "do it in a task: only its result is recorded",
  WebSocket: "do it in a task: only its result is recorded",
  Worker: "start branches with ctx.parallel",
  require: "use a relative import of a pinned module",
  Buffer: "use TextEncoder, TextDecoder, btoa or atob",
  __dirname: "use ctx.runDir, or new URL(path, import.meta.url)",
  __filename: "use import.meta.url",
  process: "use ctx.runDir, ctx.repoRoot or the inputs",
  performance: "use ctx.now()",
  WeakRef: "it depends on the machine; keep the value itself",
  FinalizationRegistry: "it depends on the machine; use ctx.onCleanup",
  Atomics: "it depends on the machine",
  SharedArrayBuffer: "it depends on the machine",
  WebAssembly: "it depends on the machine; do it in a task",
  Intl: "texts must not depend on the machine; toLocaleString of numbers works",
};

// Whatever was thrown, as name, message, stack and data, with a hint where a missing global is
// named.
export function describe(thrown) {
  if (thrown === null || typeof thrown !== "object") {
    return { name: "Error", message: wellFormed(thrown), data: plain(thrown) };
  }
  try {
    const isError = thrown instanceof Error;
    const name = wellFormed(thrown.name ?? (isError ? "Error" : "NonError"));
    let message = wellFormed(thrown.message ?? (isError ? "" : plain(thrown) ?? "thrown object"));
    if (name === "ReferenceError" || name === "TypeError") {
      const missing = Object.keys(HINTS).find((word) => names(message, word));
      if (missing !== undefined) {
        message += ` (${missing} is not available in processes: ${HINTS[missing]})`;
      }
    }
    const own = isError ? thrown.data ?? fieldsOf(thrown) : thrown;
    return { name, message, stack: cleanStack(thrown.stack), data: plain(own) };
  } catch {
    return { name: "Error", message: "something was thrown that cannot be read" };
  }
}

// Whether a message of the engine names one identifier, as a word of its own.
function names(message, word) {
  const at = message.indexOf(word);
  const around = (i) => /[A-Za-z0-9_$]/.test(message[i] ?? " ");
  const ends = ["is not defined", "cannot read property", "not a function"];
  return at >= 0 && !around(at - 1) && !around(at + word.length) &&
    ends.some((end) => message.includes(end)) && !Object.hasOwn(globalThis, word);
}

function fieldsOf(error) {
  const fields = {};
  for (const key of Object.keys(error)) {
    if (key !== "stack" && key !== "message") fields[key] = error[key];
  }
  return Object.keys(fields).length === 0 ? undefined : fields;
}

// Frames of the prelude are of no use to anyone.
export function cleanStack(stack) {
  if (typeof stack !== "string") return undefined;
  const lines = stack.split("\n").filter((line) => {
    return line.trim() !== "" && !line.includes("(dormouse:") && !line.includes(" dormouse:") &&
      !line.includes("(native)");
  });
  return wellFormed(lines.join("\n"));
}

export function wellFormed(value) {
  try {
    return String(value).toWellFormed();
  } catch {
    return "unprintable value";
  }
}

function plain(value) {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

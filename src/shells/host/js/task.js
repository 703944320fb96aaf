// ctx.task: one effect of the kind that its definition says. May not know executors.
// Invariant: nothing is thrown synchronously but for misuse of ctx; a failing build requests
// nothing.

import { strict } from "dormouse:native";
import { InvalidTaskDefinitionError } from "dormouse:errors";
import { guard } from "dormouse:state";
import { call } from "dormouse:call";
import { defaultsOf, lookUp } from "dormouse:define_task";
import { toText } from "dormouse:json";
import { keyOf, policyText, readOptions } from "dormouse:options";
import { makeTaskCtx } from "dormouse:task_ctx";

const isObject = (value) => value !== null && typeof value === "object";

export const task = (view) => (first, args, options) => {
  guard("task");
  const handle = lookUp(first);
  if (handle === undefined) {
    const what = typeof first === "string" ? `no task is defined as ${first}` : badHandle(first);
    return Promise.reject(new InvalidTaskDefinitionError(`ctx.task: ${what}`));
  }
  let opts, argsText;
  try {
    opts = readOptions("task", options);
    argsText = toText(args, `the arguments of task ${handle.id}`);
  } catch (error) {
    return Promise.reject(error);
  }
  return call(view, {
    what: "task", name: handle.id, userKey: keyOf(opts), digest: argsText, args: argsText,
    build: (ids) => build(handle, args, opts, ids),
  });
};

function badHandle(value) {
  const type = value === null ? "null" : Array.isArray(value) ? "an array" : typeof value;
  return `wants what defineTask returned or a task id, got ${type}`;
}

function build(handle, args, opts, ids) {
  const label = opts.label === undefined ? undefined : String(opts.label);
  const taskCtx = makeTaskCtx({
    ...ids, taskId: handle.id, label, labels: label === undefined ? [] : [label], args,
  });
  const built = handle.build(args, taskCtx);
  if (isObject(built) && typeof built.then === "function") {
    return Promise.resolve(built).then((def) => normalise(handle, def, label, opts));
  }
  return normalise(handle, built, label, opts);
}

function normalise(handle, built, label, opts) {
  const taskId = handle.id;
  const wrong = (why) => {
    throw new InvalidTaskDefinitionError(`task ${taskId}: ${why}`, { taskId });
  };
  if (!isObject(built) || Array.isArray(built)) wrong("the definition is not an object");
  const def = { ...built };
  if (typeof def.kind !== "string" || def.kind.trim() === "") wrong("the definition has no kind");
  if (def.title !== undefined && def.title !== null) {
    if (typeof def.title !== "string") wrong("the title is not a string");
    if (strict && def.title.trim() === "") wrong("the title is empty");
  }
  if (def.kind === "shell") gatherShell(def);
  const labels = cleanLabels(def.labels, label);
  if (labels.length > 0) def.labels = labels;
  const isShell = def.kind === "shell";
  return {
    kind: def.kind, taskId, labels,
    title: typeof def.title === "string" ? def.title : undefined,
    label: label ?? (typeof def.label === "string" ? def.label : undefined),
    def: toText(def, `the definition of task ${taskId}`),
    options: policyText(kindTimeout(def), defaultsOf(handle), def.policy, opts),
    fail: isShell ? shellFailure : undefined,
  };
}

const BARE_SHELL = [
  "command", "args", "cwd", "env", "expectedExitCode", "timeout", "timeoutMs", "parseOutput",
  "outputPath",
];

// Fields of a shell task that stand beside `shell` are moved into it; a text is its command.
function gatherShell(def) {
  const shell = isObject(def.shell) ? { ...def.shell }
    : typeof def.shell === "string" ? { command: def.shell } : {};
  for (const key of BARE_SHELL) {
    if (def[key] === undefined) continue;
    if (shell[key] === undefined) shell[key] = def[key];
    delete def[key];
  }
  if (isObject(def.shell) || Object.keys(shell).length > 0) def.shell = shell;
}

function kindTimeout(def) {
  const { shell, node, agent } = def;
  const timeout = def.kind === "shell" ? shell?.timeout ?? shell?.timeoutMs
    : def.kind === "node" ? node?.timeoutMs
    : def.kind === "agent" ? agent?.timeout ?? agent?.timeoutMs
    : undefined;
  return { timeout };
}

// Trimmed, unique, sorted by code point.
export function cleanLabels(labels, label) {
  const list = Array.isArray(labels) ? labels : labels === undefined ? [] : [labels];
  const all = label === undefined ? list : [label, ...list];
  const texts = all.filter((text) => typeof text === "string").map((text) => text.trim());
  const unique = [...new Set(texts.filter((text) => text !== ""))];
  return unique.map((text) => text.toWellFormed()).sort();
}

// A shell task never throws: its failure is a value.
function shellFailure(error, posted) {
  const data = posted.data === undefined ? {} : JSON.parse(posted.data) ?? {};
  return {
    success: false, exitCode: data.exitCode ?? null, stdout: data.stdout ?? "",
    stderr: data.stderr ?? "", error: error.message,
  };
}

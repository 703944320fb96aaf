// Builders: defineTask with the shape of one kind. Options are values or (args, taskCtx) => value.
// May not make calls. Invariant: what a builder returns is a handle like defineTask's.

import { InvalidTaskDefinitionError } from "dormouse:errors";
import { defineTask } from "dormouse:define_task";

const SECRET = /SECRET|TOKEN|PASSWORD|KEY/i;

// Reads options: each a value, or a function of (args, taskCtx) that may be async.
async function resolved(options, args, taskCtx) {
  const out = {};
  for (const [key, value] of Object.entries(options ?? {})) {
    out[key] = typeof value === "function" ? await value(args, taskCtx) : value;
  }
  return out;
}

function heading(opts, taskCtx, fallback) {
  const own = Array.isArray(opts.labels) ? opts.labels : [];
  const label = taskCtx.label;
  const labels = [...label === undefined ? [] : [label], ...own];
  const title = opts.title ?? opts.label ?? labels[0] ?? fallback;
  return { title, labels: labels.length > 0 ? labels : [fallback] };
}

const COMMON = ["title", "label", "labels", "description", "io", "metadata", "policy", "execution"];

function without(opts, names) {
  return Object.fromEntries(Object.entries(opts).filter(([key]) => !names.includes(key)));
}

function common(opts) {
  const out = {};
  for (const key of ["description", "io", "metadata", "policy", "execution"]) {
    if (opts[key] !== undefined) out[key] = opts[key];
  }
  return out;
}

function builder(id, options, shape) {
  return defineTask(id, async (args, taskCtx) => {
    const opts = await resolved(options, args, taskCtx);
    return shape(opts, args, taskCtx);
  });
}

function agentDef(id, opts, taskCtx, extra) {
  const inner = opts.agent ?? without(opts, COMMON);
  const agent = { ...inner, ...extra };
  const outside = agent.external === true || agent.responderType === "agent";
  if (outside && agent.adapter === undefined) {
    throw new InvalidTaskDefinitionError(`task ${id}: an external agent needs an adapter`, {
      taskId: id,
    });
  }
  return { kind: "agent", ...heading(opts, taskCtx, "agent"), ...common(opts), agent };
}

export const agentTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => agentDef(id, opts, taskCtx, {}));

export const autoTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) =>
    agentDef(id, opts, taskCtx, { responderType: "auto" }));

export const externalAgentTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => agentDef(id, opts, taskCtx, { external: true }));

// Takes secrets out of an environment; returns what stays and the names of what went.
function redacted(env) {
  const names = Object.keys(env ?? {}).filter((name) => SECRET.test(name));
  return { env: env === undefined ? undefined : without(env, names), names: names.sort() };
}

function withRedacted(metadata, names) {
  return names.length === 0 ? metadata : { ...metadata, redactedEnvKeys: names };
}

export const nodeTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => {
    const node = { timeoutMs: 900_000, ...opts.node ?? without(opts, COMMON) };
    const { env, names } = redacted(node.env);
    if (env !== undefined) node.env = env;
    const dir = `tasks/${taskCtx.effectId}`;
    const io = {
      inputJsonPath: `${dir}/inputs.json`, outputJsonPath: `${dir}/result.json`,
      stdoutPath: `${dir}/stdout.log`, stderrPath: `${dir}/stderr.log`, ...opts.io,
    };
    const metadata = withRedacted(opts.metadata, names);
    return { kind: "node", ...heading(opts, taskCtx, "node"), ...common(opts), io, metadata, node };
  });

export const shellTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => {
    const shell = { ...opts.shell ?? without(opts, COMMON) };
    const { env, names } = redacted(shell.env);
    if (env !== undefined) shell.env = env;
    const metadata = withRedacted(opts.metadata, names);
    return { kind: "shell", ...heading(opts, taskCtx, "shell"), ...common(opts), metadata, shell };
  });

export const skillTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => {
    const skill = opts.skill ?? without(opts, COMMON);
    return { kind: "skill", ...heading(opts, taskCtx, "skill"), ...common(opts), skill };
  });

function breakpointDef(opts, args, taskCtx, extra) {
  const routing = without(opts, [...COMMON, "payload"]);
  const breakpoint = { ...routing, ...extra, payload: opts.payload ?? args };
  const head = heading(opts, taskCtx, "breakpoint");
  return { kind: "breakpoint", ...head, ...common(opts), breakpoint };
}

export const breakpointTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => breakpointDef(opts, args, taskCtx, {}));

export const humanTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) =>
    breakpointDef(opts, args, taskCtx, { responderType: "human" }));

export const orchestratorTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => {
    const payload = opts.payload ?? args;
    const metadata = { ...opts.metadata, payload, orchestratorTask: true };
    const head = heading(opts, taskCtx, "orchestrator-task");
    const kind = "orchestrator_task";
    return { kind, ...head, ...common(opts), metadata, orchestratorTask: { payload } };
  });

export const sleepTask = (id, options) =>
  builder(id, options, (opts, args, taskCtx) => {
    if (typeof args?.iso !== "string" || !Number.isFinite(args?.targetEpochMs)) {
      throw new InvalidTaskDefinitionError(`task ${id}: sleep wants args {iso, targetEpochMs}`, {
        taskId: id,
      });
    }
    const sleep = { targetEpochMs: args.targetEpochMs, iso: args.iso };
    return { kind: "sleep", ...heading(opts, taskCtx, "sleep"), ...common(opts), sleep };
  });

// ctx.breakpoint, ctx.checkpoint, ctx.getBreakpointData: a person decides. May not know who
// answers. Invariant: an answer is a value; a rejection of the proposal never throws.

import { call } from "dormouse:call";
import { guard, guardRead } from "dormouse:state";
import { deepFreeze, toText } from "dormouse:json";
import { keyOf, policyText, readOptions } from "dormouse:options";
import { cleanLabels } from "dormouse:task";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const answers = new Map(); // breakpointId → JSON text of the last answer

const ROUTING = [
  "breakpointId", "expert", "tags", "strategy", "quorum", "autoApproveAfterN",
  "presentAlwaysApprove", "onTimeout",
];
// Options that a payload may hold; they count when the call gives none.
const IN_PAYLOAD = ["expert", "tags", "breakpointId", "strategy", "autoApproveAfterN"];

export const breakpoint = (view) => (payload, options) => ask(view, "breakpoint", payload, options);

// Like a breakpoint, but for showing rather than asking: the runtime answers it at once.
export const checkpoint = (view) => (payload, options) =>
  ask(view, "checkpoint", payload, options);

export const getBreakpointData = () => (id) => {
  guardRead("getBreakpointData");
  const text = answers.get(String(id));
  return text === undefined ? undefined : JSON.parse(text);
};

export function slug(label) {
  const text = label.toLowerCase().replace(/[^a-z0-9.]+/g, "-").replace(/^-+|-+$/g, "");
  return text === "" ? "breakpoint" : text;
}

const list = (value) => Array.isArray(value) ? value : [value];

function ask(view, what, payload, options) {
  guard(what);
  let parts;
  try {
    parts = read(what, payload, options);
  } catch (error) {
    return Promise.reject(error);
  }
  const { presented, opts, routing, label, argsText, digest } = parts;
  return call(view, {
    what, name: `@bp:${routing.breakpointId}`, userKey: keyOf(opts), digest, args: argsText,
    build: () => {
      const title = typeof presented?.title === "string" ? presented.title : label;
      const labels = cleanLabels(routing.tags, undefined);
      const asked = { ...routing, label, payload: presented };
      const def = { kind: "breakpoint", title, breakpoint: asked };
      if (labels.length > 0) def.labels = labels;
      return {
        kind: "breakpoint", title, label, labels, def: toText(def, "the breakpoint"),
        options: policyText(opts),
        finish: (answer) => {
          answers.set(routing.breakpointId, JSON.stringify(answer));
          return answer;
        },
      };
    },
  });
}

function read(what, payload, options) {
  let presented = payload;
  let given = options;
  if (typeof payload === "string") {
    // The second object of a string payload is details and options in one.
    presented = isObject(options) ? { title: payload, ...options } : { title: payload };
    given = isObject(options) ? optionsIn(options) : undefined;
  }
  const opts = readOptions(what, given, ROUTING);
  const inPayload = isObject(presented) ? presented : {};
  const label = String(opts.label ?? inPayload.label ?? "breakpoint").toWellFormed();
  const routing = {};
  for (const key of ROUTING) {
    const value = opts[key] ?? (IN_PAYLOAD.includes(key) ? inPayload[key] : undefined);
    if (value !== undefined && value !== null) routing[key] = value;
  }
  if (routing.tags !== undefined) routing.tags = list(routing.tags);
  if (what === "checkpoint") {
    routing.tags = [...routing.tags ?? [], "checkpoint"];
    routing.checkpoint = true;
  }
  if (opts.timeout !== undefined) routing.timeout = opts.timeout;
  routing.breakpointId = String(routing.breakpointId ?? slug(label)).toWellFormed();
  const argsText = toText(presented, "the breakpoint's payload");
  const { expert, tags, strategy, breakpointId } = routing;
  const digest = toText({ payload: presented, expert, tags, strategy, breakpointId }, "breakpoint");
  return { presented, opts, routing: deepFreeze({ ...routing }), label, argsText, digest };
}

const OPTION_NAMES = new Set([...ROUTING, "label", "key", "stableKey", "timeout"]);

function optionsIn(details) {
  return Object.fromEntries(Object.entries(details).filter(([key]) => OPTION_NAMES.has(key)));
}

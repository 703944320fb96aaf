// Invocation options: which exist, how call, definition and defaults are merged.
// May not know what they mean at run time. Invariant: options never enter identity or digest,
// except `key`.

import { strict } from "dormouse:native";

const POLICY = [
  "timeout", "startTimeout", "deadline", "retry", "idempotent", "idempotencyKey", "onUncertain",
  "probe", "priority", "limitKeys", "executorLabels",
];
const IDENTITY = ["key", "stableKey", "label"];

// The options object of a call, checked for names that do not exist.
export function readOptions(what, options, extra = []) {
  if (options === undefined || options === null) return {};
  if (typeof options !== "object") {
    if (strict) throw new TypeError(`ctx.${what}: the options must be an object`);
    return {};
  }
  if (strict) {
    const allowed = new Set([...POLICY, ...IDENTITY, ...extra]);
    const wrong = Object.keys(options).find((key) => !allowed.has(key));
    if (wrong !== undefined) {
      const list = [...allowed].join(", ");
      throw new TypeError(`ctx.${what}: unknown option ${wrong}; the options are ${list}`);
    }
  }
  return options;
}

export const keyOf = (options) => options.key ?? options.stableKey;

// Merges from weakest to strongest; undefined when nothing is set. JSON text.
export function policyText(...sources) {
  const merged = {};
  let any = false;
  for (const source of sources) {
    if (source === null || typeof source !== "object") continue;
    for (const name of POLICY) {
      if (source[name] !== undefined && source[name] !== null) {
        merged[name] = source[name];
        any = true;
      }
    }
  }
  return any ? JSON.stringify(merged) : undefined;
}

// ctx.hook: runs the hooks of one type, once. May not know which hooks there are.
// Invariant: a hook's result is journaled and never computed again in a replay.

import { HookFailedError } from "dormouse:errors";
import { guard } from "dormouse:state";
import { call } from "dormouse:call";
import { toText } from "dormouse:json";
import { keyOf, policyText, readOptions } from "dormouse:options";

const TIMEOUT_MS = 30_000;

export const hook = (view) => (type, payload, options) => {
  guard("hook");
  let opts, text;
  try {
    if (typeof type !== "string" || type.trim() === "") {
      throw new TypeError("ctx.hook: the type must be a non-empty string");
    }
    opts = readOptions("hook", options, ["throwOnFailure"]);
    text = toText(payload, `the payload of hook ${type}`);
  } catch (error) {
    return Promise.reject(error);
  }
  const hookType = type.toWellFormed();
  return call(view, {
    what: "hook", name: `@hook:${hookType}`, userKey: keyOf(opts), digest: text, args: text,
    build: () => {
      const title = opts.label === undefined ? `hook ${hookType}` : String(opts.label);
      const timeout = opts.timeout ?? TIMEOUT_MS;
      const def = { kind: "hook", title, hook: { hookType, payload, timeout } };
      return {
        kind: "hook", title, label: opts.label === undefined ? undefined : title,
        def: toText(def, `hook ${hookType}`), options: policyText({ timeout }, opts),
        finish: (result) => finish(hookType, result, opts),
      };
    },
  });
};

function finish(hookType, result, opts) {
  if (opts.throwOnFailure === true && result?.success === false) {
    const why = result.error ?? "a hook failed";
    throw new HookFailedError(`hook ${hookType}: ${why}`, { hookType, details: result });
  }
  return result;
}

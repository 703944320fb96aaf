// ctx.signal, ctx.waitForSignal: waits for something sent to the run. May not know senders.
// Invariant: one signal settles at most one wait.

import { guard } from "dormouse:state";
import { call } from "dormouse:call";
import { toText } from "dormouse:json";
import { keyOf, policyText, readOptions } from "dormouse:options";

export const signal = (view) => (name, options) => {
  guard("signal");
  let opts;
  try {
    if (typeof name !== "string" || name === "") {
      throw new TypeError("ctx.signal: the name must be a non-empty string");
    }
    opts = readOptions("signal", options, ["correlationKey", "default"]);
    toText(opts.default, "the default of ctx.signal");
  } catch (error) {
    return Promise.reject(error);
  }
  const called = name.toWellFormed();
  const correlationKey =
    opts.correlationKey === undefined ? undefined : String(opts.correlationKey).toWellFormed();
  const text = JSON.stringify({ name: called, correlationKey });
  return call(view, {
    what: "signal", name: `@signal:${called}`, userKey: keyOf(opts), digest: text, args: text,
    build: () => {
      const label = opts.label === undefined ? undefined : String(opts.label).toWellFormed();
      const title = label ?? `signal ${called}`;
      const { timeout, default: fallback } = opts;
      const wait = { name: called, correlationKey, timeout, default: fallback };
      return {
        kind: "signal", title, label, signal: called, options: policyText(opts),
        def: JSON.stringify({ kind: "signal", title, signal: wait }),
      };
    },
  });
};

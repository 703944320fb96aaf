// ctx.run and ctx.subprocess: child runs. May not know how a child is executed.
// Invariant: a task handle as first argument makes ctx.run the same as ctx.task.

import { guard } from "dormouse:state";
import { call } from "dormouse:call";
import { isHandle } from "dormouse:define_task";
import { toText } from "dormouse:json";
import { keyOf, policyText, readOptions } from "dormouse:options";
import { task } from "dormouse:task";

const RUN_OPTIONS = ["onParentEnd", "detached"];

export const run = (view) => (spec, second, third) => {
  if (isHandle(spec)) return task(view)(spec, second, third);
  guard("run");
  try {
    const child = typeof spec === "string" ? { process: spec } : spec;
    if (child === null || typeof child !== "object" || typeof child.process !== "string") {
      throw new TypeError("ctx.run wants a task handle, a path, or {process, …}");
    }
    return start(view, "run", child, readOptions("run", second, RUN_OPTIONS));
  } catch (error) {
    return Promise.reject(error);
  }
};

export const subprocess = (view) => (invocation, options) => {
  guard("subprocess");
  try {
    if (typeof invocation?.processPath !== "string") {
      throw new TypeError("ctx.subprocess wants {processPath, …}");
    }
    const child = { ...invocation, process: invocation.processPath, subprocess: true };
    return start(view, "subprocess", child, readOptions("subprocess", options, RUN_OPTIONS));
  } catch (error) {
    return Promise.reject(error);
  }
};

function start(view, what, child, opts) {
  const { process, exportName, inputs } = child;
  const processId = String(child.processId ?? process).toWellFormed();
  const args = toText(inputs, "the inputs of the child run");
  const digest = toText({ process, exportName, inputs }, "the child run");
  return call(view, {
    what, name: `@run:${processId}`, userKey: keyOf(opts), digest, args,
    build: () => {
      const title = opts.label === undefined ? `run ${processId}` : String(opts.label);
      const onParentEnd = opts.onParentEnd ?? "cancel";
      const detached = opts.detached === true;
      const def = { kind: "run", title, run: { ...child, processId, onParentEnd, detached } };
      return {
        kind: "run", title, label: opts.label === undefined ? undefined : title,
        def: toText(def, "the child run"), options: policyText(opts),
      };
    },
  });
}

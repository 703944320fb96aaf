// ctx.orchestratorTask: asks whoever drives the run. May not know who that is.
// Invariant: the posted value comes back as it was posted.

import { guard } from "dormouse:state";
import { call } from "dormouse:call";
import { toText } from "dormouse:json";
import { keyOf, policyText, readOptions } from "dormouse:options";

export const orchestratorTask = (view) => (payload, options) => {
  guard("orchestratorTask");
  let opts, text;
  try {
    opts = readOptions("orchestratorTask", options);
    text = toText(payload, "the payload of ctx.orchestratorTask");
  } catch (error) {
    return Promise.reject(error);
  }
  const label = String(opts.label ?? "orchestrator-task").toWellFormed();
  return call(view, {
    what: "orchestratorTask", name: "@orch", userKey: keyOf(opts), digest: text, args: text,
    build: () => {
      const def = {
        kind: "orchestrator_task", title: label, orchestratorTask: { payload },
        metadata: { payload, orchestratorTask: true },
      };
      const kind = "orchestrator_task";
      const defText = toText(def, "the orchestrator task");
      return { kind, title: label, label, def: defText, options: policyText(opts) };
    },
  });
};

/**
 * An incident runbook: look, call someone, wait for the fix, watch that it holds.
 *
 * Waiting is what this process mostly does, and it survives every restart: the signal may come
 * before the wait for it, and a sleep ends at its time even if nothing was running meanwhile.
 */
import { defineTask } from "dormouse";

const page = defineTask("page-on-call", (args) => ({
  kind: "agent",
  title: `Page the on-call of ${args.service}`,
  agent: { name: "pager", prompt: { task: "Page the person on call", context: args } },
}));

const access = defineTask("break-glass-access", (args) => ({
  kind: "node",
  title: `${args.grant ? "Grant" : "Revoke"} emergency access to ${args.service}`,
  labels: ["access"],
}));

export async function process(inputs, ctx) {
  const { service, endpoints, quietFor = "5m", looks = 3 } = inputs;
  const look = (when) =>
    ctx.run(
      { process: "./checks.js", inputs: { service, endpoints } },
      { label: `checks ${when}` },
    );

  const before = await look("before");
  if (before.failing.length === 0) {
    return { service, outcome: "false alarm" };
  }

  try {
    await ctx.task(access, { service, grant: true });
    await ctx.task(page, { service, failing: before.failing });

    // Someone says what they did: `dormouse run signal RUN mitigated --payload fix.json`.
    const fix = await ctx.signal("mitigated", { timeout: "4h", default: null });
    if (fix === null) {
      return { service, outcome: "handed over", failing: before.failing };
    }

    // A fix counts once it has held for a while: so many looks, all good.
    for (let n = 1; n <= looks; n++) {
      await ctx.sleep(quietFor, { label: `watch ${n} of ${looks}` });
      const after = await look(`after fix, ${n}`);
      if (after.failing.length > 0) {
        return { service, outcome: "came back", fix, failing: after.failing };
      }
    }
    return { service, outcome: "resolved", fix };
  } finally {
    // However this ends, nobody keeps the keys. Shielded work is done even when the run is
    // cancelled: only then does the run end.
    await ctx.cancellation.shield(() => ctx.task(access, { service, grant: false }));
  }
}

/** The child run of the runbook: one probe for each endpoint. It is pinned with its parent. */
import { defineTask } from "dormouse";

const probe = defineTask("probe", (args) => ({
  kind: "node",
  title: `Probe ${args.endpoint}`,
  labels: ["probe"],
  // Looking twice does no harm: an attempt with an unknown outcome is simply made again.
  policy: { idempotent: true, timeout: "30s" },
}));

export async function process({ endpoints }, ctx) {
  const seen = await ctx.parallel.map(endpoints, async (endpoint) => {
    try {
      return await ctx.task(probe, { endpoint });
    } catch {
      // A probe that could not look has not seen that all is well.
      return { ok: false };
    }
  });
  return { failing: endpoints.filter((_, index) => !seen[index].ok) };
}

/**
 * A data pipeline: every source is extracted and cleaned on its own, then all are loaded at once.
 *
 * TypeScript needs no build: types are erased when the module is loaded, and a stack trace points
 * at the lines of this file.
 */
import { defineTask } from "dormouse";
import { reject, summary, type Batch, type Rules, type Source } from "./quality.js";
import rules from "./rules.json" with { type: "json" };

interface Inputs {
  day: string;
  sources: Source[];
}

const extract = defineTask("extract", (args: { source: Source; day: string }) => ({
  kind: "node",
  title: `Extract ${args.source.name} of ${args.day}`,
  labels: ["extract", args.source.kind],
}));

const clean = defineTask("clean", (args: { batch: Batch; rules: Rules }) => ({
  kind: "node",
  title: `Clean ${args.batch.rows} rows of ${args.batch.name}`,
  labels: ["clean"],
}));

const load = defineTask("load", (args: { day: string; batches: Batch[] }) => ({
  kind: "node",
  title: `Load ${args.batches.length} batches of ${args.day}`,
  labels: ["load"],
}));

export async function process(inputs: Inputs, ctx: any) {
  // Two steps for each source, at most three sources at a time. A source that is fast does not
  // wait for one that is slow: each branch goes on as its own results come in.
  const batches: Batch[] = await ctx.parallel.map(
    inputs.sources,
    async (source: Source): Promise<Batch> => {
      const raw: Batch = await ctx.task(extract, { source, day: inputs.day });
      return ctx.task(clean, { batch: raw, rules });
    },
    { maxConcurrency: 3, branchKey: (source: Source) => source.name },
  );

  const bad = batches.filter((batch) => reject(batch, rules as Rules));
  if (bad.length > 0) {
    const answer = await ctx.breakpoint({
      breakpointId: "pipeline.bad-batches",
      title: `${bad.length} of ${batches.length} batches lost too many rows`,
      question: "Load the others without them?",
      context: { runId: ctx.runId, summary: bad.map(summary).join("\n") },
    });
    if (!answer.approved) {
      return { day: inputs.day, loaded: 0, rejected: bad.map((batch) => batch.name) };
    }
  }

  const good = batches.filter((batch) => !bad.includes(batch));
  const { rows } = await ctx.task(load, { day: inputs.day, batches: good });
  return { day: inputs.day, loaded: rows, rejected: bad.map((batch) => batch.name) };
}

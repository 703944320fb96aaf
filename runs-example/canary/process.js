/**
 * A canary release: a few users get the new version, it soaks, numbers are compared, a person
 * decides, and everybody gets it or nobody.
 *
 * `dormouse demo` plays this process and kills the program that drives it twice: while it sleeps,
 * and in the middle of the comparison.
 */
import { defineTask } from "dormouse";

const ROUNDS = 40_000;

const shift = defineTask("shift-traffic", (args) => ({
  kind: "agent",
  title: `Send ${args.share} % of ${args.service} to ${args.version}`,
  agent: { name: "deployer", prompt: { task: "Shift traffic, then look at it", context: args } },
}));

const measure = defineTask("measure", (args) => ({
  kind: "agent",
  title: `Measure ${args.service} before and after`,
  agent: { name: "observer", prompt: { task: "Sample latencies in ms", context: args } },
}));

export async function process({ service, version, soak = "10m" }, ctx) {
  await ctx.task(shift, { service, version, share: 5 });

  // A deadline in the journal, not a timer in a program: it passes whether anything runs or not.
  await ctx.sleep(soak, { label: "soak" });

  const { before, canary } = await ctx.task(measure, { service, version });
  const risk = chanceThatSlower(before, canary);
  ctx.log("canary", `slower by 5 % with probability ${risk}`);

  const answer = await ctx.breakpoint({
    breakpointId: "canary.promote",
    title: `Promote ${service} ${version}`,
    question: `It is slower with probability ${risk}. Give it to everybody?`,
    options: ["Promote", "Roll back"],
    context: { runId: ctx.runId, summary: `${canary.length} samples, risk ${risk}` },
  });

  const share = answer.approved ? 100 : 0;
  await ctx.task(shift, { service, version, share });
  return { service, version, outcome: answer.approved ? "promoted" : "rolled back", risk };
}

/** Bootstrap. `Math.random` is seeded by the run: a replay draws the same numbers. */
function chanceThatSlower(before, canary) {
  let slower = 0;
  for (let round = 0; round < ROUNDS; round++) {
    if (resampledSum(canary) > resampledSum(before) * 1.05) slower++;
  }
  return Math.round((slower / ROUNDS) * 1000) / 1000;
}

function resampledSum(sample) {
  let sum = 0;
  for (let n = 0; n < sample.length; n++) {
    sum += sample[Math.floor(Math.random() * sample.length)];
  }
  return sum;
}

/**
 * An agent builds a feature, another agent reviews it, a person has the last word.
 *
 * Up to three rounds: what the reviewer finds, or what the person answers, goes back to the
 * builder. Written for `@a5c-ai/babysitter-sdk`: nothing in it is special to dormouse.
 *
 * @inputs { feature: string, repository?: string }
 * @outputs { status: "approved" | "abandoned", rounds: number, summary: string }
 */
import { defineTask } from "@a5c-ai/babysitter-sdk";

const ROUNDS = 3;

export async function process(inputs, ctx) {
  const { feature, repository = "." } = inputs;

  const plan = await ctx.task(planFeature, { feature, repository });

  let feedback = [];
  let change;
  for (let round = 1; round <= ROUNDS; round++) {
    change = await ctx.task(buildFeature, { feature, repository, steps: plan.steps, feedback });

    const review = await ctx.task(reviewChange, { feature, change });
    ctx.log("review", `round ${round}: ${review.verdict}`);
    if (review.verdict !== "approve") {
      feedback = review.findings;
      continue;
    }

    // The run is parked here, for a minute or for a week, and costs nothing meanwhile.
    const answer = await ctx.breakpoint({
      breakpointId: "feature.approve",
      title: `Approve: ${feature}`,
      question: "The review found nothing more to change. Take this change?",
      options: ["Take it", "Ask for changes"],
      attempt: round,
      previousFeedback: feedback.join("\n") || undefined,
      context: { runId: ctx.runId, summary: change.summary, files: change.files },
    });
    if (answer.approved) {
      return { status: "approved", rounds: round, summary: change.summary };
    }
    feedback = [answer.response || answer.feedback || "Please look at it once more."];
  }

  return { status: "abandoned", rounds: ROUNDS, summary: change.summary };
}

const planFeature = defineTask("plan-feature", (args) => ({
  kind: "agent",
  title: `Plan: ${args.feature}`,
  labels: ["feature", "plan"],
  agent: {
    name: "planner",
    prompt: {
      role: "senior engineer who knows the repository",
      task: `Plan the smallest change that gives users: ${args.feature}`,
      context: { repository: args.repository },
      instructions: ["Read before you plan", "Name the files of each step", "At most seven steps"],
      outputFormat: "JSON",
    },
    outputSchema: {
      type: "object",
      required: ["steps"],
      properties: { steps: { type: "array", items: { type: "string" } } },
    },
  },
}));

const buildFeature = defineTask("build-feature", (args) => ({
  kind: "agent",
  title: args.feedback.length === 0 ? `Build: ${args.feature}` : `Rework: ${args.feature}`,
  labels: ["feature", "build"],
  agent: {
    name: "builder",
    prompt: {
      role: "engineer who writes tests first",
      task: `Build the feature: ${args.feature}`,
      context: { repository: args.repository, steps: args.steps, feedback: args.feedback },
      instructions: ["Follow the steps", "Answer every point of the feedback", "Run the tests"],
      outputFormat: "JSON",
    },
    outputSchema: {
      type: "object",
      required: ["summary", "files"],
      properties: { summary: { type: "string" }, files: { type: "array" } },
    },
  },
}));

const reviewChange = defineTask("review-change", (args) => ({
  kind: "agent",
  title: `Review: ${args.feature}`,
  labels: ["feature", "review"],
  agent: {
    name: "reviewer",
    prompt: {
      role: "reviewer who did not write the change",
      task: `Decide whether this change gives users: ${args.feature}`,
      context: { change: args.change },
      instructions: ["Approve only what you would maintain", "Make each finding one action"],
      outputFormat: "JSON",
    },
    outputSchema: {
      type: "object",
      required: ["verdict", "findings"],
      properties: {
        verdict: { type: "string", enum: ["approve", "rework"] },
        findings: { type: "array", items: { type: "string" } },
      },
    },
  },
}));

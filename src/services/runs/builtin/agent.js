// builtin:agent@1: one message for one agent. May not know how agents are reached.
// Invariant: one effect, and an output with an answer, whatever form the agent's value has.

import { defineTask } from "dormouse";

export async function process({ agent, message, metadata, priority }, ctx) {
  // Here, for its definition needs more than what the agent is told.
  const ask = defineTask("agent", () => ({
    kind: "agent", title: `Ask ${agent}`, agent: { name: agent }, metadata,
  }));
  const value = await ctx.task(ask, message, { priority });
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isObject || !Object.hasOwn(value, "answer")) return { answer: value, metadata: {} };
  return { answer: value.answer, metadata: value.metadata ?? {} };
}

/**
 * A release: check, build, ask, publish.
 *
 * Shell tasks never throw: they resolve to `{ success, exitCode, stdout, … }`, and this process
 * decides what a failure means. Publishing twice would be worse than not publishing: it is not
 * marked idempotent, so after a crash in the middle the run waits for someone who looks.
 */
import { defineTask } from "dormouse";

const shell = (id, title, command, more = {}) =>
  defineTask(id, (args) => ({
    kind: "shell",
    title: title(args),
    shell: { command: command(args), expectedExitCode: 0, timeout: 600_000, ...more },
    labels: ["release"],
  }));

// `git rev-parse` fails when there is no such tag: here that is what we want to see.
const tagIsFree = shell(
  "tag-is-free",
  ({ version }) => `v${version} is not tagged yet`,
  ({ version }) => `git rev-parse --quiet --verify refs/tags/v${version}`,
  { expectedExitCode: 1 },
);
const test = shell("test", () => "Run the tests", () => "npm test");
const pack = shell("pack", ({ version }) => `Pack ${version}`, () => "npm pack --json");
const publish = shell(
  "publish",
  ({ version }) => `Publish ${version}`,
  ({ version }) => `git tag v${version} && git push origin v${version} && npm publish`,
);

export async function process(inputs, ctx) {
  const { version, channel = "next" } = inputs;
  if (!/^\d+\.\d+\.\d+(-[0-9a-z.]+)?$/.test(version)) {
    throw new TypeError(`not a version: ${version}`);
  }

  const must = async (task) => {
    const result = await ctx.task(task, { version });
    if (!result.success) {
      ctx.halt(`${task.id} failed`, { version, exitCode: result.exitCode, error: result.error });
    }
    return result;
  };

  await must(tagIsFree);
  await must(test);
  const packed = await must(pack);

  const answer = await ctx.breakpoint({
    breakpointId: "release.publish",
    title: `Publish ${version} to ${channel}?`,
    question: "The tests passed. Publishing cannot be undone.",
    expert: "release-manager",
    context: { runId: ctx.runId, summary: packed.stdout },
  });
  if (!answer.approved) {
    // A halted run is over and is not a success: nothing downstream may take it for a release.
    ctx.halt("release refused", { version, why: answer.response ?? null });
  }

  await must(publish);
  return { version, channel, published: true };
}

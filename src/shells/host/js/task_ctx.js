// What a definition's builder gets as its second argument. May not make calls.
// Invariant: all paths it hands out lie below the run directory.

import { config, native, strict } from "dormouse:native";
import { state } from "dormouse:state";

const isObject = (value) => value !== null && typeof value === "object";

// Definition builders: the shape for a kind, with what belongs to the definition lifted out.
const DEF_KEYS = [
  "title", "description", "labels", "io", "metadata", "policy", "execution", "outputSchema",
  "inputSchema",
];

function shaped(kind, field, spec) {
  if (!isObject(spec)) return { kind, [field]: spec };
  const def = { kind };
  const inner = {};
  for (const [key, value] of Object.entries(spec)) {
    const lifted = DEF_KEYS.includes(key) && !(field === "agent" && key.endsWith("Schema"));
    (lifted ? def : inner)[key] = value;
  }
  def[field] = inner;
  return def;
}

export function makeTaskCtx({ effectId, key, taskId, label, labels, args }) {
  const taskDir = `${config.runDir}/tasks/${effectId}`;
  return Object.freeze({
    effectId, invocationKey: key, taskId, runId: config.runId, runDir: config.runDir, taskDir,
    tasksDir: `${config.runDir}/tasks`, label, labels: Object.freeze([...labels]), args,
    now: () => new Date(state.clockMs),
    toTaskRelativePath: (path) => relative(effectId, path),
    createBlobRef: (name, value, options) => blob(effectId, name, value, options ?? {}),
    agent: (spec) => shaped("agent", "agent", spec),
    shell: (spec) => shaped("shell", "shell", spec),
    task: (spec) => spec,
    breakpoint: (spec) => ({ kind: "breakpoint", title: spec?.title, breakpoint: spec }),
  });
}

function relative(effectId, path) {
  const text = String(path);
  if (text.startsWith("/") || text.split(/[\\/]/).includes("..")) {
    throw new Error(`toTaskRelativePath: ${text} does not stay inside the task's directory`);
  }
  return `tasks/${effectId}/${text.replace(/^(\.\/)+/, "")}`;
}

async function blob(effectId, name, value, options) {
  const safe = String(name).replace(/[^A-Za-z0-9._-]/g, "-").slice(0, 128) || "blob";
  const raw = options.asJson !== true && (typeof value === "string" || ArrayBuffer.isView(value));
  const hash = strict ? "b3" : "sha256";
  const dir = `tasks/${effectId}/blobs`;
  if (raw && typeof value === "string") {
    return native.textBlob(dir, safe, "txt", value.toWellFormed(), hash);
  }
  if (raw) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return native.bytesBlob(dir, safe, "bin", Array.from(bytes), hash);
  }
  const text = `${JSON.stringify(value, null, 2)}\n`;
  return native.textBlob(dir, safe, "json", text.toWellFormed(), hash);
}

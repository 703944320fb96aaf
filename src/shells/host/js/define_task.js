// defineTask and the registry of one module graph. May not know how a task is called.
// Invariant: what a handle stands for cannot be changed, whatever is stamped on it.

import { strict } from "dormouse:native";
import { warn } from "dormouse:state";

const byId = new Map();
const tasks = new WeakMap(); // build function → {handle, options}

// The registry that upstream exports; `definitions` maps ids to {id, handle}.
export const registry = Object.freeze({
  definitions: byId,
  hasTask: (id) => byId.has(id),
  listDefinitions: () => [...byId.values()],
  clear: () => byId.clear(),
});

export function resetRegistry() {
  byId.clear();
}

const isObject = (value) => value !== null && typeof value === "object";

// defineTask(id, impl, options?), defineTask(id, object), defineTask({id|name, run|kind, …}).
export function defineTask(first, second, options) {
  const { id, impl, defaults } = read(first, second, options);
  if (typeof id !== "string" || id.trim() === "") {
    throw new Error("defineTask: the task id must be a non-empty string");
  }
  if (typeof impl !== "function" && !isObject(impl)) {
    throw new Error(`defineTask(${id}): wants a function or a definition object`);
  }
  const parts = {
    id: id.trim().toWellFormed(), impl, defaults: isObject(defaults) ? defaults : {},
    options: isObject(options) ? options : undefined,
  };
  const handle = makeHandle(parts);
  tasks.set(handle.build, { handle, options: parts.options });
  if (byId.has(parts.id)) warn(`task id ${parts.id} is defined twice; strings name the last`);
  byId.set(parts.id, Object.freeze({ id: parts.id, handle, options: parts.defaults }));
  return handle;
}

// Frozen; under upstream's rules open to further members, which authors there may stamp on it.
function makeHandle(parts) {
  const build = (args, taskCtx) => buildWith(parts, args, taskCtx);
  if (strict) return Object.freeze({ id: parts.id, build });
  const fixed = (value) => ({ value, enumerable: true, writable: false, configurable: false });
  return Object.defineProperties({}, { id: fixed(parts.id), build: fixed(build) });
}

function read(first, second, options) {
  if (!isObject(first)) return { id: first, impl: second, defaults: options };
  const { id, name, run, inputs, outputs, ...rest } = first;
  const defaults = { ...rest };
  if (isObject(inputs)) defaults.inputSchema = inputs;
  if (isObject(outputs)) defaults.outputSchema = outputs;
  if (typeof run === "function") return { id: id ?? name, impl: run, defaults };
  return { id: id ?? name, impl: second ?? defaults, defaults: options };
}

// A function's result or the object itself, completed by the defaults.
function buildWith(parts, args, taskCtx) {
  const built = typeof parts.impl === "function" ? parts.impl(args, taskCtx) : parts.impl;
  const complete = (def) => {
    if (!isObject(def) || Array.isArray(def)) return def;
    const merged = { ...def };
    for (const [key, value] of Object.entries(parts.defaults)) {
      if (merged[key] === undefined) merged[key] = value;
    }
    return merged;
  };
  if (isObject(built) && typeof built.then === "function") {
    return Promise.resolve(built).then(complete);
  }
  return complete(built);
}

// The handle that a handle, a copy of one, or the id of one stands for; undefined for anything
// else.
export function lookUp(handle) {
  if (typeof handle === "string") return byId.get(handle)?.handle;
  if (!isObject(handle) || typeof handle.build !== "function") return undefined;
  return tasks.get(handle.build)?.handle;
}

// Options given as defineTask's third argument. Upstream knows no such options, so that words of
// its authors (such as a `priority`) are not taken for them.
export const defaultsOf = (handle) => strict ? tasks.get(handle.build).options : undefined;

export const isHandle = (value) => isObject(value) && lookUp(value) !== undefined;

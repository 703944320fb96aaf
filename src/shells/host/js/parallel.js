// ctx.parallel: branches that run side by side. It has no effect of its own. May not know what
// branches do. Invariant: results stand where their branches stood, whatever the order in which
// they settled.

import { config, native, strict, when } from "dormouse:native";
import { coded } from "dormouse:errors";
import { ambient, guard, makeScope, scopeOf, shieldOf } from "dormouse:state";
import { entryOf, giveUp, openEntries } from "dormouse:call";

const OPTIONS = ["maxConcurrency", "concurrency", "onError", "executionStrategy", "branchKey"];
const ON_ERROR = ["cancel", "settle", "leave"];

export const parallel = (view, makeCtx) => Object.freeze({
  all: (list, options) => {
    guard("parallel.all");
    return attempt(() => {
      const items = toArray(list, "all");
      items.forEach((item, i) => {
        if (typeof item !== "function" && !isThenable(item)) {
          throw new TypeError(`ctx.parallel.all: element ${i} is neither a function nor a promise`);
        }
      });
      const start = (i, branch) => typeof items[i] === "function" ? items[i](branch) : items[i];
      return group(view, makeCtx, items, start, readOptions(options, "all"));
    });
  },
  map: (list, fn, options) => {
    guard("parallel.map");
    return attempt(() => {
      if (typeof fn !== "function") throw new TypeError("ctx.parallel.map: wants a function");
      const items = toArray(list, "map");
      const start = (i, branch) => fn(items[i], i, branch);
      return group(view, makeCtx, items, start, readOptions(options, "map"));
    });
  },
});

function attempt(fn) {
  try {
    return fn();
  } catch (error) {
    return Promise.reject(error);
  }
}

const isThenable = (value) => value !== null && typeof value === "object" &&
  typeof value.then === "function";

function toArray(list, what) {
  if (Array.isArray(list)) return [...list];
  if (list === null || list === undefined || typeof list === "string" ||
      typeof list[Symbol.iterator] !== "function") {
    throw new TypeError(`ctx.parallel.${what}: wants an array or another iterable`);
  }
  return Array.from(list);
}

function readOptions(options, what) {
  const opts = options !== null && typeof options === "object" ? options : {};
  if (strict) {
    const wrong = Object.keys(opts).find((key) => !OPTIONS.includes(key));
    if (wrong !== undefined) {
      const all = OPTIONS.join(", ");
      throw new TypeError(`ctx.parallel.${what}: unknown option ${wrong}; the options are ${all}`);
    }
  }
  const max = opts.maxConcurrency ?? opts.concurrency;
  const sequential = opts.executionStrategy === "sequential";
  const usable = Number.isFinite(max) && max >= 1;
  if (strict && max !== undefined && max !== Infinity && !usable) {
    throw new TypeError(`ctx.parallel.${what}: maxConcurrency must be a number from 1`);
  }
  if (opts.onError !== undefined && !ON_ERROR.includes(opts.onError)) {
    throw new TypeError(`ctx.parallel.${what}: onError is one of ${ON_ERROR.join(", ")}`);
  }
  return {
    limit: sequential ? 1 : usable ? Math.floor(max) : Infinity,
    onError: opts.onError ?? "cancel",
    branchKey: typeof opts.branchKey === "function" ? opts.branchKey : undefined,
  };
}

// One label per branch: the index, or what branchKey says, made unique in index order.
function labelsOf(items, branchKey) {
  const used = new Set();
  return items.map((item, i) => {
    const wanted = branchKey === undefined ? String(i) : String(branchKey(item, i)).toWellFormed();
    let label = wanted;
    for (let n = 1; used.has(label); n += 1) label = `${wanted}~${n}`;
    used.add(label);
    return label;
  });
}

function group(view, makeCtx, items, start, opts) {
  const scope = scopeOf(view);
  const shielded = shieldOf(view);
  if (scope.depth >= config.limits.parallelDepth) {
    throw new RangeError(`parallel_depth_max: groups are nested deeper than ${scope.depth}`);
  }
  const number = scope.groups++;
  const labels = labelsOf(items, opts.branchKey);
  const branches = labels.map((label) =>
    makeScope(native.branchScope(scope.path, number, label), scope.depth + 1));
  const run = {
    items, opts, scope, shielded, branches, results: new Array(items.length).fill(undefined),
    next: 0, active: 0, settled: 0, failed: false, firstError: undefined,
    startOne: (i) => {
      const branchView = { scope: branches[i], shielded: view.shielded };
      const branch = makeCtx(branchView, { index: i, key: labels[i] });
      return start(i, branch);
    },
  };
  return new Promise((resolve, reject) => {
    run.resolve = resolve;
    run.reject = reject;
    if (items.length === 0) resolve([]);
    else fill(run);
  });
}

// Starts branches in index order while there is room.
function fill(run) {
  const stops = run.failed && run.opts.onError !== "settle";
  while (!stops && run.active < run.opts.limit && run.next < run.items.length) {
    const i = run.next++;
    run.active += 1;
    const promise = startBranch(run, i);
    when(
      promise,
      (value) => settled(run, i, true, value),
      (error) => settled(run, i, false, error),
    );
  }
}

function startBranch(run, i) {
  ambient.scope = run.branches[i];
  try {
    return Promise.resolve(run.startOne(i));
  } catch (error) {
    return Promise.reject(error);
  } finally {
    ambient.scope = run.scope;
    ambient.shielded = run.shielded;
  }
}

function settled(run, i, ok, value) {
  ambient.scope = run.scope;
  ambient.shielded = run.shielded;
  run.active -= 1;
  run.settled += 1;
  if (ok) {
    run.results[i] = value;
  } else if (!run.failed) {
    run.failed = true;
    run.firstError = value;
    if (run.opts.onError === "cancel") cancelSiblings(run);
    if (run.opts.onError !== "settle") run.reject(value);
  }
  fill(run);
  if (run.settled === run.items.length) {
    if (run.failed) run.reject(run.firstError);
    else run.resolve(run.results);
  }
}

// Gives up what the other branches wait for.
function cancelSiblings(run) {
  const inside = run.branches.map((branch) => branch.path);
  const mine = new Set(run.items.map((item) => isThenable(item) ? entryOf(item) : undefined));
  for (const entry of openEntries()) {
    const path = entry.scope.path;
    if (mine.has(entry) || inside.some((p) => path === p || path.startsWith(`${p}/`))) {
      giveUp(entry, "a sibling branch failed");
    }
  }
}

// ctx.cancel: gives up one pending effect.
export const cancel = () => (promise, reason) => {
  guard("cancel");
  const entry = isThenable(promise) ? entryOf(promise) : undefined;
  if (entry === undefined) {
    throw coded("E_NOT_AN_EFFECT", "ctx.cancel wants the promise that a ctx call returned");
  }
  giveUp(entry, reason ?? "cancelled by the process");
};

// ctx.sleep, ctx.sleepUntil: one timer effect with an absolute target. May not read a clock.
// Invariant: a target that is not ahead of the run clock resolves in the same turn, without effect.

import { native } from "dormouse:native";
import { InvalidSleepTargetError } from "dormouse:errors";
import { guard, state } from "dormouse:state";
import { call } from "dormouse:call";
import { keyOf, readOptions } from "dormouse:options";

const LATEST_MS = 8.64e15;

// Milliseconds of a number or of a duration text such as `1h 30m`; NaN for anything else.
export function durationMs(value) {
  if (typeof value === "number") return value;
  if (typeof value === "string") return native.durationMs(value.toWellFormed()) ?? NaN;
  return NaN;
}

function targetMs(target) {
  if (target instanceof Date) return target.getTime();
  if (typeof target === "string") return Date.parse(target);
  return typeof target === "number" ? target : NaN;
}

export const sleepUntil = (view) => (target, options) => {
  guard("sleepUntil");
  return until(view, "sleepUntil", targetMs(target), target, options);
};

export const sleep = (view) => (duration, options) => {
  guard("sleep");
  const ms = durationMs(duration);
  return until(view, "sleep", ms < 0 ? NaN : state.clockMs + ms, duration, options);
};

function until(view, what, at, given, options) {
  const atMs = Math.ceil(at);
  if (!(atMs >= 0 && atMs <= LATEST_MS)) {
    const message = `ctx.${what}: ${show(given)} is not a point in time`;
    return Promise.reject(new InvalidSleepTargetError(message, { target: given }));
  }
  let opts;
  try {
    opts = readOptions(what, options);
  } catch (error) {
    return Promise.reject(error);
  }
  return timer(view, what, atMs, opts);
}

// The effect itself; also behind setTimeout.
export function timer(view, what, atMs, opts) {
  const args = { targetEpochMs: atMs, iso: new Date(atMs).toISOString() };
  const label = opts.label === undefined ? undefined : String(opts.label).toWellFormed();
  return call(view, {
    what, name: "@sleep", userKey: keyOf(opts), args: JSON.stringify(args),
    digest: JSON.stringify({ targetEpochMs: atMs }),
    build: () => {
      if (atMs <= state.clockMs) return { ready: { value: undefined } };
      const title = label ?? `sleep until ${args.iso}`;
      const def = JSON.stringify({ kind: "sleep", title, sleep: args });
      return { kind: "sleep", title, label, def, finish: () => undefined };
    },
  });
}

function show(value) {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return "the target";
  }
}

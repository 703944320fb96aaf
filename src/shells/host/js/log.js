// ctx.log and console: lines of the run's log stream. May not fail.
// Invariant: a line's place in its turn is the same in every replay.

import { config, native } from "dormouse:native";
import { wellFormed } from "dormouse:errors";

const LEVELS = ["debug", "info", "warn", "error"];
const counts = { lines: 0, bytes: 0, dropped: 0 };

// Starts a new turn; returns how many lines of the last one were dropped.
export function resetLog() {
  const dropped = counts.dropped;
  Object.assign(counts, { lines: 0, bytes: 0, dropped: 0 });
  return dropped;
}

function write(level, label, message, data) {
  const n = counts.lines++;
  const size = message.length + (label?.length ?? 0) + (data?.length ?? 0);
  counts.bytes += size;
  if (n >= config.limits.logLines || counts.bytes > config.limits.logBytes) {
    counts.dropped += 1;
    return;
  }
  native.log(n, level, label, message, data);
}

function jsonOf(value) {
  try {
    const text = JSON.stringify(value);
    return text !== undefined && native.fits(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

export const log = () => (...args) => {
  try {
    const hasLabel = args.length >= 2 && typeof args[0] === "string";
    const label = hasLabel ? args[0].toWellFormed() : undefined;
    const [message, ...rest] = hasLabel ? args.slice(1) : args;
    const level = LEVELS.includes(label) ? label : "info";
    const isText = message === null || typeof message !== "object" || message instanceof Error;
    const data = isText ? rest[0] : message;
    const text = message instanceof Error ? errorText(message) : isText ? wellFormed(message) : "";
    write(level, label, text, data === undefined ? undefined : jsonOf(data) ?? "null");
  } catch {
    // A log line never decides anything.
  }
};

function errorText(error) {
  return wellFormed(`${error.name}: ${error.message}`);
}

function consoleText(value) {
  if (value instanceof Error) return errorText(value);
  if (value !== null && typeof value === "object") return wellFormed(jsonOf(value) ?? value);
  return wellFormed(value);
}

const printer = (level) => (...args) => {
  try {
    write(level, undefined, args.map(consoleText).join(" "), undefined);
  } catch {
    // As above.
  }
};

export const console = Object.freeze({
  debug: printer("debug"),
  log: printer("info"),
  info: printer("info"),
  warn: printer("warn"),
  error: printer("error"),
  trace: printer("debug"),
});

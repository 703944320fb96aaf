// JSON modules: the frozen value of a text. May not know where the text came from.
// Invariant: importers share one value that none of them can change.

import { deepFreeze } from "dormouse:json";

const byPath = new Map();

// The engine loads a module once with and once without import attributes: one value for both.
export function parse(path, text) {
  if (!byPath.has(path)) byPath.set(path, deepFreeze(JSON.parse(text)));
  return byPath.get(path);
}

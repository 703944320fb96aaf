// Crossing the boundary as JSON: what leaves is text, what comes in is a fresh copy.
// May not know what a value is for. Invariant: text that leaves passed the size and depth limits.

import { native } from "dormouse:native";
import { site, warn } from "dormouse:state";

const collapsing = [Map, Set, RegExp, WeakMap, WeakSet, ArrayBuffer];
const warned = new Set();
const stringify = JSON.stringify;

// The JSON text of `value`, or undefined when there is none. `what` names it in errors.
export function toText(value, what) {
  if (value === undefined) return undefined;
  let lost = null;
  const text = stringify(value, (_, member) => {
    if (lost === null && member !== null && typeof member === "object") {
      lost = collapsing.find((Class) => member instanceof Class) ?? null;
    }
    return member;
  });
  if (lost !== null) {
    const place = site() ?? what;
    if (!warned.has(place)) {
      warned.add(place);
      warn(`${place}: ${what} holds a ${lost.name}, which becomes {} in JSON`);
    }
  }
  if (text !== undefined) native.check(text, what);
  return text;
}

export function deepFreeze(value) {
  if (value !== null && typeof value === "object" && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const key of Reflect.ownKeys(value)) deepFreeze(value[key]);
  }
  return value;
}

// The globals of the sandbox: removes what depends on the machine, adds what is pure, freezes what
// the profile demands. May not know effects. Invariant: nothing that stays reads a clock,
// randomness, the locale or the time zone of the machine.

import { native, strict } from "dormouse:native";
import { console } from "dormouse:log";
import { scopeOf, state } from "dormouse:state";
import { clearTimeout, setTimeout } from "dormouse:timers";
import * as web from "dormouse:web";

const GlobalDate = globalThis.Date;

function install(name, value) {
  Object.defineProperty(globalThis, name, {
    value, writable: true, configurable: true, enumerable: false,
  });
}

function method(target, name, length, fn) {
  Object.defineProperty(fn, "name", { value: name });
  Object.defineProperty(fn, "length", { value: length });
  Object.defineProperty(target, name, {
    value: fn, writable: true, configurable: true, enumerable: false,
  });
}

// --- Code from text: only pinned source may run.

function blocked(prototype, name) {
  const Blocked = function () {
    throw new EvalError(`${name}: code from text may not run in a process; only pinned source may`);
  };
  Object.defineProperty(Blocked, "name", { value: name });
  Object.defineProperty(Blocked, "prototype", { value: prototype, writable: false });
  Object.defineProperty(prototype, "constructor", {
    value: Blocked, writable: false, configurable: false, enumerable: false,
  });
  return Blocked;
}

const prototypeOf = Object.getPrototypeOf;
install("Function", blocked(Function.prototype, "Function"));
blocked(prototypeOf(async () => {}), "AsyncFunction");
blocked(prototypeOf(function* () {}), "GeneratorFunction");
blocked(prototypeOf(async function* () {}), "AsyncGeneratorFunction");
install("eval", {
  eval() {
    throw new EvalError("eval: code from text may not run in a process; only pinned source may");
  },
}.eval);

for (const name of [
  "WeakRef", "FinalizationRegistry", "Atomics", "SharedArrayBuffer", "WebAssembly", "performance",
  "Intl", "print", "navigator", "gc",
]) {
  delete globalThis[name];
}

// --- Date: the present is the run clock, the time zone is UTC.

function RunDate(...args) {
  if (new.target === undefined) return new RunDate().toString();
  return Reflect.construct(GlobalDate, args.length === 0 ? [state.clockMs] : args, new.target);
}
Object.defineProperty(RunDate, "name", { value: "Date" });
Object.defineProperty(RunDate, "length", { value: 7 });
Object.defineProperty(RunDate, "prototype", { value: GlobalDate.prototype, writable: false });
Object.defineProperty(GlobalDate.prototype, "constructor", {
  value: RunDate, writable: true, configurable: true, enumerable: false,
});
method(RunDate, "now", 0, () => state.clockMs);
method(RunDate, "parse", 1, GlobalDate.parse.bind(GlobalDate));
method(RunDate, "UTC", 7, GlobalDate.UTC.bind(GlobalDate));
install("Date", RunDate);
const iso = GlobalDate.prototype.toISOString;
const valueOfDate = GlobalDate.prototype.getTime;
const orInvalid = (date, text) => Number.isNaN(valueOfDate.call(date)) ? "Invalid Date" : text();
// The engine leaves out the zone's name, which other engines print.
for (const name of ["toString", "toTimeString"]) {
  const plain = GlobalDate.prototype[name];
  method(GlobalDate.prototype, name, 0, function () {
    const text = plain.call(this);
    return text.endsWith("GMT+0000") ? `${text} (Coordinated Universal Time)` : text;
  });
}
method(GlobalDate.prototype, "toLocaleString", 0, function () {
  return orInvalid(this, () => iso.call(this));
});
method(GlobalDate.prototype, "toLocaleDateString", 0, function () {
  return orInvalid(this, () => iso.call(this).split("T")[0]);
});
method(GlobalDate.prototype, "toLocaleTimeString", 0, function () {
  return orInvalid(this, () => iso.call(this).split("T")[1]);
});

// --- Randomness.

let mathDraws = 0;
method(Math, "random", 0, () => native.random("@math", mathDraws++));
install("crypto", Object.freeze({
  randomUUID: () => {
    const scope = scopeOf({});
    return native.uuid(scope.path, scope.draws++);
  },
  getRandomValues: (view) => {
    if (!ArrayBuffer.isView(view) || view instanceof DataView) {
      throw new TypeError("getRandomValues wants an array of integers");
    }
    if (view.byteLength > 65_536) {
      throw new DOMException("getRandomValues: at most 65536 bytes", "QuotaExceededError");
    }
    const scope = scopeOf({});
    const bytes = native.randomBytes(scope.path, scope.draws++, view.byteLength);
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(bytes);
    return view;
  },
}));

// --- Numbers and texts for people, the same on every machine.

function groupedDigits(digits) {
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

function fractionDigits(options) {
  let min = 0;
  let max = 3;
  for (const [key, value] of Object.entries(options ?? {})) {
    if (value === undefined) continue;
    const wanted = Number(value);
    if (!["minimumFractionDigits", "maximumFractionDigits"].includes(key) ||
        !Number.isInteger(wanted) || wanted < 0 || wanted > 100) {
      throw new RangeError(`toLocaleString: ${key}: ${String(value)} is not available here`);
    }
    if (key.startsWith("min")) min = wanted;
    else max = wanted;
  }
  const givenMax = options?.maximumFractionDigits !== undefined;
  if (givenMax && min > max) throw new RangeError("toLocaleString: minimum above maximum");
  return { min, max: Math.max(min, max) };
}

function checkLocale(locale) {
  const name = Array.isArray(locale) ? locale[0] : locale;
  if (name !== undefined && name !== "en-US" && name !== "en") {
    throw new RangeError(`toLocaleString: only en-US is available in processes, not ${name}`);
  }
}

method(Number.prototype, "toLocaleString", 0, function (locale, options) {
  const value = Number(this);
  checkLocale(locale);
  const { min, max } = fractionDigits(options);
  if (Number.isNaN(value)) return "NaN";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  if (!Number.isFinite(value)) return `${sign}∞`;
  const [whole, fraction] = native.decimal(Math.abs(value), max).split(".");
  let rest = (fraction ?? "").replace(/0+$/, "");
  rest = rest.padEnd(min, "0");
  return `${sign}${groupedDigits(whole)}${rest === "" ? "" : `.${rest}`}`;
});
method(BigInt.prototype, "toLocaleString", 0, function (locale) {
  checkLocale(locale);
  const text = BigInt(this).toString();
  return text.startsWith("-") ? `-${groupedDigits(text.slice(1))}` : groupedDigits(text);
});

// Primary order of ASCII in the root collation; other control characters have no weight.
const ORDER = "\t\n\v\f\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789";
const weights = new Map();
for (const c of ORDER) weights.set(c.codePointAt(0), weights.size + 1);
for (let i = 0; i < 26; i += 1) {
  weights.set(97 + i, 100 + i);
  weights.set(65 + i, 100 + i);
}

function weighed(text) {
  const out = [];
  for (const c of text) {
    const code = c.codePointAt(0);
    const weight = code < 128 ? weights.get(code) : code + 1000;
    if (weight !== undefined) out.push([weight, code >= 65 && code <= 90 ? 1 : 0]);
  }
  return out;
}

function compareBy(a, b, level) {
  for (let i = 0; i < Math.min(a.length, b.length); i += 1) {
    if (a[i][level] !== b[i][level]) return a[i][level] < b[i][level] ? -1 : 1;
  }
  return Math.sign(a.length - b.length);
}

const toText = String;
method(String.prototype, "localeCompare", 1, function (other) {
  if (this === null || this === undefined) throw new TypeError("localeCompare of nothing");
  const [a, b] = [weighed(toText(this)), weighed(toText(other))];
  return compareBy(a, b, 0) || compareBy(a, b, 1);
});
for (const [name, plain] of [["toLocaleLowerCase", "toLowerCase"],
  ["toLocaleUpperCase", "toUpperCase"]]) {
  const change = String.prototype[plain];
  method(String.prototype, name, 0, function () {
    return change.call(this);
  });
}

// --- What is added.

const added = {
  console, setTimeout, clearTimeout, structuredClone: web.structuredClone,
  TextEncoder: web.TextEncoder, TextDecoder: web.TextDecoder, URL: web.URL,
  URLSearchParams: web.URLSearchParams, atob: web.atob, btoa: web.btoa,
  AbortController: web.AbortController, AbortSignal: web.AbortSignal,
};
for (const [name, value] of Object.entries(added)) install(name, value);

// --- Freezing.

// Members that code commonly sets on objects of its own. A frozen prototype would refuse that, so
// these become accessors whose setter defines the member on the object.
const SETTABLE = [
  "constructor", "name", "message", "toString", "valueOf", "toJSON", "toLocaleString", "next",
  "hasOwnProperty", "cause", "stack",
];

function makeSettable(prototype) {
  if (typeof prototype.constructor !== "function") return;
  for (const key of SETTABLE) {
    const own = Object.getOwnPropertyDescriptor(prototype, key);
    if (own === undefined || !("value" in own) || !own.configurable) continue;
    const { value } = own;
    Object.defineProperty(prototype, key, {
      get() {
        return value;
      },
      set(replacement) {
        if (this === prototype) throw new TypeError(`${key} of a built-in is read-only`);
        Object.defineProperty(this, key, {
          value: replacement, writable: true, configurable: true, enumerable: true,
        });
      },
      enumerable: false, configurable: true,
    });
  }
}

function lock(names) {
  for (const name of names) {
    const own = Object.getOwnPropertyDescriptor(globalThis, name);
    if (own !== undefined && own.configurable && "value" in own) {
      Object.defineProperty(globalThis, name, { ...own, writable: false, configurable: false });
    }
  }
}

// Called once the prelude is complete.
export function freeze() {
  if (strict) {
    const names = Reflect.ownKeys(globalThis);
    const hidden = [
      prototypeOf(async () => {}), prototypeOf(function* () {}), prototypeOf(async function* () {}),
      prototypeOf([][Symbol.iterator]()), prototypeOf(new Map().entries()),
      prototypeOf(new Set().values()), prototypeOf(""[Symbol.iterator]()),
      prototypeOf("".matchAll(/x/g)), prototypeOf(Uint8Array),
    ];
    const values = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name).value);
    native.freeze([...values, ...hidden], makeSettable);
    lock(names);
  } else {
    const host = [...Object.keys(added), "Date", "crypto", "Function", "eval"];
    for (const name of host) {
      const value = globalThis[name];
      Object.freeze(value);
      const isAdded = Object.hasOwn(added, name);
      if (isAdded && value.prototype !== undefined) Object.freeze(value.prototype);
    }
    lock(host);
  }
}

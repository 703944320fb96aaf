// Pure parts of the web platform: text coding, base64, URL, structuredClone, AbortController.
// May not reach outside the instance. Invariant: nothing here depends on the machine.

import { native } from "dormouse:native";

const bytesOf = (value) => {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  }
  throw new TypeError("wants an ArrayBuffer or a view of one");
};

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return native.utf8Encode(String(text).toWellFormed());
  }
  encodeInto(text, target) {
    const source = String(text).toWellFormed();
    let read = 0;
    let written = 0;
    for (const c of source) {
      const bytes = native.utf8Encode(c);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      written += bytes.length;
      read += c.length;
    }
    return { read, written };
  }
}

export class TextDecoder {
  #fatal;
  #ignoreBOM;
  #rest = new Uint8Array(0);
  constructor(label = "utf-8", options = {}) {
    const name = String(label).trim().toLowerCase();
    if (!["utf-8", "utf8", "unicode-1-1-utf-8"].includes(name)) {
      throw new RangeError(`TextDecoder: only utf-8 is available, not ${label}`);
    }
    this.#fatal = options.fatal === true;
    this.#ignoreBOM = options.ignoreBOM === true;
  }
  get encoding() {
    return "utf-8";
  }
  get fatal() {
    return this.#fatal;
  }
  get ignoreBOM() {
    return this.#ignoreBOM;
  }
  decode(input, options = {}) {
    const given = input === undefined ? new Uint8Array(0) : bytesOf(input);
    const all = new Uint8Array(this.#rest.length + given.length);
    all.set(this.#rest);
    all.set(given, this.#rest.length);
    const keep = options.stream === true ? unfinished(all) : 0;
    this.#rest = all.slice(all.length - keep);
    const text = native.utf8Decode(Array.from(all.subarray(0, all.length - keep)), this.#fatal);
    if (text === undefined) throw new TypeError("TextDecoder: the bytes are not UTF-8");
    return !this.#ignoreBOM && text.startsWith("\ufeff") ? text.slice(1) : text;
  }
}

// How many bytes at the end begin a character that is not complete.
function unfinished(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back];
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) {
      const wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return wanted > back ? back : 0;
    }
  }
  return 0;
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

export function btoa(data) {
  const text = String(data);
  let out = "";
  for (let i = 0; i < text.length; i += 3) {
    const codes = [0, 1, 2].map((k) => i + k < text.length ? text.charCodeAt(i + k) : 0);
    if (codes.some((code) => code > 255)) {
      throw new DOMException("btoa: a character is beyond Latin-1", "InvalidCharacterError");
    }
    const bits = codes[0] << 16 | codes[1] << 8 | codes[2];
    const have = Math.min(3, text.length - i);
    for (let k = 0; k < 4; k += 1) out += k <= have ? ALPHABET[bits >> 18 - 6 * k & 63] : "=";
  }
  return out;
}

export function atob(data) {
  let text = String(data).replace(/[\t\n\f\r ]/g, "");
  if (text.length % 4 === 0) text = text.replace(/={1,2}$/, "");
  if (text.length % 4 === 1 || /[^A-Za-z0-9+/]/.test(text)) {
    throw new DOMException("atob: the text is not base64", "InvalidCharacterError");
  }
  let out = "";
  let bits = 0;
  let have = 0;
  for (const c of text) {
    bits = bits << 6 | ALPHABET.indexOf(c);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += String.fromCharCode(bits >> have & 255);
      bits &= (1 << have) - 1;
    }
  }
  return out;
}

const PARTS = ["protocol", "username", "password", "host", "hostname", "port", "pathname",
  "search", "hash"];

export class URL {
  #parts;
  #params;
  constructor(text, base) {
    const baseText = base === undefined ? undefined : String(base).toWellFormed();
    const parts = native.urlParse(String(text).toWellFormed(), baseText);
    if (parts === undefined) throw new TypeError(`Invalid URL: ${text}`);
    this.#parts = JSON.parse(parts);
  }
  static canParse(text, base) {
    const baseText = base === undefined ? undefined : String(base).toWellFormed();
    return native.urlParse(String(text).toWellFormed(), baseText) !== undefined;
  }
  static parse(text, base) {
    return URL.canParse(text, base) ? new URL(text, base) : null;
  }
  static {
    for (const name of PARTS) {
      Object.defineProperty(URL.prototype, name, {
        get() {
          return this.#parts[name];
        },
        set(value) {
          this.#change(name, String(value).toWellFormed());
        },
        enumerable: true, configurable: true,
      });
    }
  }
  #change(name, value, keepParams) {
    const parts = native.urlSet(this.#parts.href, name, value);
    if (parts !== undefined) this.#parts = JSON.parse(parts);
    if (name === "search" && !keepParams && this.#params !== undefined) {
      adopt(this.#params, this.#parts.search);
    }
  }
  get href() {
    return this.#parts.href;
  }
  set href(text) {
    const parts = native.urlParse(String(text).toWellFormed(), undefined);
    if (parts === undefined) throw new TypeError(`Invalid URL: ${text}`);
    this.#parts = JSON.parse(parts);
    if (this.#params !== undefined) adopt(this.#params, this.#parts.search);
  }
  get origin() {
    return this.#parts.origin;
  }
  get searchParams() {
    if (this.#params === undefined) {
      this.#params = new URLSearchParams(this.#parts.search);
      watch(this.#params, (text) => this.#change("search", text, true));
    }
    return this.#params;
  }
  toString() {
    return this.#parts.href;
  }
  toJSON() {
    return this.#parts.href;
  }
}

var adopt;
var watch;

export class URLSearchParams {
  #list = [];
  #changed = () => {};
  static {
    adopt = (params, text) => {
      params.#list = JSON.parse(native.formDecode(text.replace(/^\?/, "")));
    };
    watch = (params, fn) => {
      params.#changed = () => fn(params.toString());
    };
  }
  constructor(init = "") {
    if (init !== null && typeof init === "object") {
      const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
      for (const pair of pairs) {
        const [name, value, ...rest] = pair;
        if (value === undefined || rest.length > 0) {
          throw new TypeError("URLSearchParams: every pair is a name and a value");
        }
        this.#list.push([String(name).toWellFormed(), String(value).toWellFormed()]);
      }
    } else {
      adopt(this, String(init).toWellFormed());
    }
  }
  get size() {
    return this.#list.length;
  }
  append(name, value) {
    this.#list.push([String(name).toWellFormed(), String(value).toWellFormed()]);
    this.#changed();
  }
  delete(name, value) {
    this.#list = this.#list.filter(([n, v]) =>
      n !== String(name) || (value !== undefined && v !== String(value)));
    this.#changed();
  }
  get(name) {
    return this.#list.find(([n]) => n === String(name))?.[1] ?? null;
  }
  getAll(name) {
    return this.#list.filter(([n]) => n === String(name)).map(([, v]) => v);
  }
  has(name, value) {
    return this.#list.some(([n, v]) =>
      n === String(name) && (value === undefined || v === String(value)));
  }
  set(name, value) {
    const pair = [String(name).toWellFormed(), String(value).toWellFormed()];
    const at = this.#list.findIndex(([n]) => n === pair[0]);
    if (at < 0) this.#list.push(pair);
    else this.#list = this.#list.filter(([n], i) => i <= at || n !== pair[0]).with(at, pair);
    this.#changed();
  }
  sort() {
    this.#list.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0);
    this.#changed();
  }
  forEach(fn, self) {
    for (const [name, value] of this.#list) fn.call(self, value, name, this);
  }
  *entries() {
    for (const [name, value] of this.#list) yield [name, value];
  }
  *keys() {
    for (const [name] of this.#list) yield name;
  }
  *values() {
    for (const [, value] of this.#list) yield value;
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  toString() {
    return native.formEncode(JSON.stringify(this.#list));
  }
}

// The structured clone algorithm over the types that exist here.
export function structuredClone(value) {
  return clone(value, new Map());
}

function clone(value, seen) {
  if (typeof value === "function" || typeof value === "symbol") refuse(value);
  if (value === null || typeof value !== "object") return value;
  if (seen.has(value)) return seen.get(value);
  const remember = (copy) => {
    seen.set(value, copy);
    return copy;
  };
  if (value instanceof Date) return remember(new Date(value.getTime()));
  if (value instanceof RegExp) return remember(new RegExp(value.source, value.flags));
  for (const Box of [Boolean, Number, String]) {
    if (value instanceof Box) return remember(Object(value.valueOf()));
  }
  if (value instanceof ArrayBuffer) return remember(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    const buffer = clone(value.buffer, seen);
    const length = value instanceof DataView ? value.byteLength : value.length;
    return remember(new value.constructor(buffer, value.byteOffset, length));
  }
  if (value instanceof Map) {
    const copy = remember(new Map());
    for (const [k, v] of [...value]) copy.set(clone(k, seen), clone(v, seen));
    return copy;
  }
  if (value instanceof Set) {
    const copy = remember(new Set());
    for (const v of [...value]) copy.add(clone(v, seen));
    return copy;
  }
  if (value instanceof Error) return cloneError(value, seen, remember);
  if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet) {
    refuse(value);
  }
  const copy = remember(Array.isArray(value) ? new Array(value.length) : {});
  for (const key of Object.keys(value)) copy[key] = clone(value[key], seen);
  return copy;
}

const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

function cloneError(value, seen, remember) {
  const Class = Object.hasOwn(ERRORS, value.name) ? ERRORS[value.name] : Error;
  const copy = remember(Object.create(Class.prototype));
  for (const key of ["message", "stack", "cause"]) {
    if (Object.hasOwn(value, key)) {
      const member = { value: clone(value[key], seen), writable: true, configurable: true };
      Object.defineProperty(copy, key, member);
    }
  }
  return copy;
}

function refuse(value) {
  throw new DOMException(`${typeof value} cannot be cloned`, "DataCloneError");
}

export class AbortSignal {
  #aborted = false;
  #reason = undefined;
  #listeners = [];
  onabort = null;
  get aborted() {
    return this.#aborted;
  }
  get reason() {
    return this.#reason;
  }
  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }
  addEventListener(type, fn, options) {
    if (type === "abort") this.#listeners.push([fn, options?.once === true]);
  }
  removeEventListener(type, fn) {
    if (type === "abort") this.#listeners = this.#listeners.filter(([f]) => f !== fn);
  }
  static abort(reason) {
    const controller = new AbortController();
    controller.abort(reason);
    return controller.signal;
  }
  static any(signals) {
    const controller = new AbortController();
    for (const signal of signals) {
      if (signal.aborted) controller.abort(signal.reason);
      else signal.addEventListener("abort", () => controller.abort(signal.reason));
    }
    return controller.signal;
  }
  static {
    fireAbort = (signal, reason) => {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason;
      const event = { type: "abort", target: signal };
      const listeners = signal.#listeners;
      signal.#listeners = listeners.filter(([, once]) => !once);
      for (const [fn] of listeners) {
        if (typeof fn === "function") fn.call(signal, event);
        else fn?.handleEvent?.(event);
      }
      if (typeof signal.onabort === "function") signal.onabort(event);
    };
  }
}

var fireAbort;

export class AbortController {
  #signal = new AbortSignal();
  get signal() {
    return this.#signal;
  }
  abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    fireAbort(this.#signal, reason);
  }
}

// JSON modules: the frozen value of a text. May not know where the text came from.
// Invariant: importers share one value that none of them can change.

import { deepFreeze } from "dormouse:json";

export const parse = (text) => deepFreeze(JSON.parse(text));

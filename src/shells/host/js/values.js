// Clock, randomness, ids: values that replay the same. May not know effects.
// Invariant: every draw is a function of run, generation, scope and how many came before.

import { native } from "dormouse:native";
import { guardRead, scopeOf, state } from "dormouse:state";

// now() is the recorded time of the current turn's input.
export const now = () => () => {
  guardRead("now");
  return new Date(state.clockMs);
};

export const random = (view) => () => {
  guardRead("random");
  const scope = scopeOf(view);
  return native.random(scope.path, scope.draws++);
};

export const uuid = (view) => () => {
  guardRead("uuid");
  const scope = scopeOf(view);
  return native.uuid(scope.path, scope.draws++);
};

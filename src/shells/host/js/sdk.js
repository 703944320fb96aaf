// The module that authors import, under all its names. Invariant: its members are frozen and the
// default export has the same ones.

import { native } from "dormouse:native";
import * as errors from "dormouse:errors";
import { defineTask, registry, resetRegistry } from "dormouse:define_task";
import * as builders from "dormouse:builders";

export { defineTask };
export const globalTaskRegistry = registry;
export const resetGlobalTaskRegistry = resetRegistry;
export const version = native.version;
export const api = 1;
export {
  agentTask, autoTask, externalAgentTask, nodeTask, breakpointTask, humanTask, orchestratorTask,
  sleepTask, shellTask, skillTask,
} from "dormouse:builders";
export {
  DormouseError, TaskError, TaskTimeoutError, EffectCancelledError, UncertainEffectError,
  ChildRunError, SignalTimeoutError, RunCancelledError, InvalidTaskDefinitionError,
  InvocationCollisionError, InvalidSleepTargetError, PolicyDeniedError, HookFailedError,
  RunHaltedError, EffectRequestedError, EffectPendingError, ParallelPendingError,
  BabysitterIntrinsicError, isIntrinsicError,
} from "dormouse:errors";
export const BabysitterRuntimeError = errors.DormouseError;

const { coded, fromPosted, describe, cleanStack, wellFormed, ...classes } = errors;
export default Object.freeze({
  defineTask, globalTaskRegistry, resetGlobalTaskRegistry, version, api, ...builders, ...classes,
  BabysitterRuntimeError,
});

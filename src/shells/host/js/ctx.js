// The ctx object: every intrinsic, bound to a view (a scope of its own or the ambient one).
// May not know how a call works. Invariant: what it returns is frozen.

import { config, strict } from "dormouse:native";
import { breakpoint, checkpoint, getBreakpointData } from "dormouse:breakpoint";
import {
  cancellation, continueAsNew, deprecatePatch, halt, onCleanup, patched,
} from "dormouse:control";
import { hook } from "dormouse:hook";
import { log } from "dormouse:log";
import { orchestratorTask } from "dormouse:orchestrator_task";
import { cancel, parallel } from "dormouse:parallel";
import { run, subprocess } from "dormouse:run";
import { signal } from "dormouse:signal";
import { sleep, sleepUntil } from "dormouse:sleep";
import { task } from "dormouse:task";
import { now, random, uuid } from "dormouse:values";

const intrinsics = {
  task, breakpoint, checkpoint, getBreakpointData, sleep, sleepUntil, orchestratorTask, hook, run,
  subprocess, signal, waitForSignal: signal, parallel, now, random, uuid, log, halt, onCleanup,
  cancellation, cancel, continueAsNew, patched, deprecatePatch,
};

let plain = {};

// What is known only when the process starts.
export function setGiven(values) {
  plain = {
    runId: config.runId,
    runDir: config.runDir,
    artifactsDir: `${config.runDir}/artifacts`,
    repoRoot: config.cwd ?? undefined,
    processId: config.processId,
    generation: config.generation,
    profile: strict ? "dormouse" : "babysitter",
    ...values,
  };
}

export function makeCtx(view, more) {
  const ctx = { ...plain, ...more };
  for (const name of Object.keys(intrinsics)) ctx[name] = intrinsics[name](view, makeCtx);
  return Object.freeze(ctx);
}

/**
 * `deno task serve`: hands the process's arguments and environment, and the loader of real models, to
 * the command. It decides nothing itself.
 */
import config from "../deno.json" with { type: "json" };
import { Lembas } from "../adapters/lembas.ts";
import { standardErrorProgress } from "../src/checkpoint/progress.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import type { ServeFlags } from "./flags.ts";
import type { Log } from "./log.ts";
import { type Loaded, runServer } from "./run_server.ts";

/** Loads what the flags name. */
async function load(flags: ServeFlags, listener: EngineListener, log: Log): Promise<Loaded> {
  if (flags.dtype === "fp16") {
    throw new TypeError("Cannot serve in fp16: the CPU has no float16 kernels; pass --dtype int8");
  }
  return await Lembas.load({
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...(flags.adapters === undefined ? {} : { adapters: flags.adapters }),
    ...(flags.maxContext === undefined ? {} : { maxContext: flags.maxContext }),
    ...(flags.kvMemory === undefined ? {} : { kvMemory: flags.kvMemory }),
    ...(flags.coreMemory === undefined ? {} : { coreMemory: flags.coreMemory }),
    factors: flags.factors,
    device: flags.device,
    dtype: flags.dtype,
    maxBatch: flags.maxBatch,
    maxQueue: flags.maxQueue,
    listener,
    progress: standardErrorProgress(),
    onWarning: ({ path, message }) => log.warning(`skipped ${path}: ${message}`),
  });
}

if (import.meta.main) {
  Deno.exitCode = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: config.version,
    load,
  });
}

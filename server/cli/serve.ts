/**
 * `deno task serve`: hands the process's arguments and environment, and the loader of real models,
 * to the command.
 */
import config from "../../deno.json" with { type: "json" };
import { Lembas } from "../../adapters/lembas.ts";
import type { MakerProgress } from "../../adapters/lotr/make/gradient_factors.ts";
import { standardErrorProgress } from "../../src/checkpoint/fetch/progress.ts";
import type { EngineListener } from "../../src/engine/metrics.ts";
import { isEncoder } from "../../src/checkpoint/encoder/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { vulkanAdapters } from "../../src/runtime/vulkan.ts";
import { keepAllocatorSmall } from "../../src/runtime/memory.ts";
import { checkPaths, loadModules, readTemplate } from "./named_paths.ts";
import type { DeviceChoice } from "../../adapters/parts.ts";
import { type FrontOptions, runFront } from "../front/front.ts";
import { loadEncoder } from "./serve/encoder.ts";
import { parseFlags, type ServeFlags } from "./serve_flags.ts";
import type { Log } from "../telemetry/log.ts";
import type { Loaded } from "../loaded.ts";
import { runServer } from "../run_server.ts";

/** Loads what the flags name. */
async function load(flags: ServeFlags, listener: EngineListener, log: Log): Promise<Loaded> {
  await checkPaths(flags);
  const path = await resolveModel(flags.model, { progress: standardErrorProgress() });
  if (await isEncoder(path)) return await loadEncoder(path, flags, listener, log);
  const chatTemplate = await readTemplate(flags.chatTemplate);
  const lembas = await Lembas.load({
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...(flags.adapters === undefined ? {} : { adapters: flags.adapters }),
    ...(flags.maxContext === undefined ? {} : { maxContext: flags.maxContext }),
    ...(flags.kvMemory === undefined ? {} : { kvMemory: flags.kvMemory }),
    ...(flags.coreMemory === undefined ? {} : { coreMemory: flags.coreMemory }),
    chatTemplate,
    chatTemplateKwargs: flags.defaultChatTemplateKwargs,
    generationConfig: flags.generationConfig,
    laneMemory: flags.laneMemory,
    maxLoraRank: flags.maxLoraRank,
    factors: flags.factors,
    device: flags.device as DeviceChoice,
    dtype: flags.dtype,
    maxBatch: flags.maxBatch,
    maxQueue: flags.maxQueue,
    jumpForward: flags.jumpForward,
    trainShare: flags.trainShare,
    onFactors: factorsLog(log),
    listener,
    progress: standardErrorProgress(),
    onWarning: ({ path, message }) => log.warning(`${path}: ${message}`),
  });
  try {
    await loadModules(flags.loraModules, lembas.registry);
  } catch (error) {
    await lembas.close();
    throw error;
  }
  // what cannot be loaded is told in one line
  logDevice(flags, log, lembas);
  return lembas;
}

/** Says where the model runs and why, and what holds there. */
function logDevice(flags: ServeFlags, log: Log, lembas: Lembas): void {
  const { activations, adapter, chosen } = lembas;
  if (chosen !== undefined) {
    log.info(`--device auto takes ${chosen.device}${chosen.why === "" ? "" : `: ${chosen.why}`}`);
  }
  const device = chosen?.device ?? flags.device;
  if (device === "cpu") return;
  const adapters = Deno.build.os === "linux" ? vulkanAdapters() ?? [] : [];
  log.info(
    `--device ${device} computes in ${activations} on ${adapter ?? "the system's graphics device"}`,
  );
  if (device === "webgpu" && adapters.length > 1) {
    log.info(`webgpu:0 to webgpu:${adapters.length - 1} are there: deno task doctor lists them`);
  }
  log.warning(
    device.startsWith("cuda")
      ? "CUDA is not yet run on a GPU: tested over a runtime that computes nothing"
      : "WebGPU is not yet run on a GPU: tested on a software device",
  );
}

/** Says that the default factor set is being made, and when it is done. */
function factorsLog(log: Log): (progress: MakerProgress) => void {
  let told = "";
  return ({ phase, done, total }) => {
    const text = `making the default factor set: ${phase} ${Math.floor(4 * done / total) * 25}%`;
    if (text !== told) log.info(text);
    told = text;
  };
}

const SCRIPT = new URL(import.meta.url);

/** What several devices are served by; undefined for one, and where the command does not serve. */
function frontOf(args: readonly string[]): FrontOptions | undefined {
  try {
    const asked = parseFlags(args, (name) => Deno.env.get(name));
    if (asked.type !== "serve" || !asked.flags.device.includes(",")) return undefined;
    const { device, host, port } = asked.flags;
    return { script: SCRIPT, args, devices: device.split(","), host, port };
  } catch {
    return undefined; // told by the server's own reading
  }
}

if (import.meta.main) {
  keepAllocatorSmall();
  const front = frontOf(Deno.args);
  const env = (name: string) => Deno.env.get(name);
  Deno.exitCode = front === undefined
    ? await runServer({ args: Deno.args, env, version: config.version, load })
    : await runFront(front);
}

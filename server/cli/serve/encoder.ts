/** Loads the encoder that `deno task serve`'s flags name, and refuses what only a decoder has. */
import { EncoderModel } from "../../../adapters/encoder_model.ts";
import { DEFAULT_SPEC } from "../../../src/checkpoint/fetch/resolve.ts";
import type { EngineListener } from "../../../src/engine/metrics.ts";
import type { EncoderDtype } from "../../../src/executor/encoder/encoder_base.ts";
import { encoderLoaded } from "../../encode/loaded_encoder.ts";
import type { Loaded } from "../../loaded.ts";
import type { Log } from "../../telemetry/log.ts";
import type { ServeFlags } from "../serve_flags.ts";

/** @throws {TypeError} for a flag that an encoder cannot follow, or a model that cannot be loaded */
export async function loadEncoder(
  path: string,
  flags: ServeFlags,
  listener: EngineListener,
  log: Log,
): Promise<Loaded> {
  refuse(flags);
  const model = await EncoderModel.load({
    path,
    dtype: dtypeOf(flags.dtype),
    factors: flags.factors,
    adapters: flags.adapters,
    coreMemory: flags.coreMemory,
    maxTokens: flags.maxContext,
    maxQueue: flags.maxQueue,
    listener,
    onWarning: ({ path, message }) => log.warning(`${path}: ${message}`),
  });
  return encoderLoaded(model, flags.model ?? DEFAULT_SPEC);
}

function dtypeOf(asked: ServeFlags["dtype"]): EncoderDtype {
  if (asked === "auto") return "fp32";
  if (asked === "fp32" || asked === "int8") return asked;
  throw new TypeError(`Cannot use --dtype ${asked}: encoders are served in fp32 (auto) or int8`);
}

function refuse({ device, loraModules }: ServeFlags): void {
  if (device !== "auto" && device !== "cpu") {
    throw new TypeError(`Cannot use --device ${device}: encoders are served on the CPU`);
  }
  if (loraModules.length > 0) {
    throw new TypeError("Cannot use --lora-modules: an encoder takes cores, and no LoRAs");
  }
}

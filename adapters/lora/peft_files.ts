/**
 * A PEFT LoRA as its directory has it: `adapter_config.json` beside `adapter_model.safetensors`, read
 * linear by linear, the tensors in the type in which they lie there.
 */
import {
  parseSafetensors,
  type SafetensorsTensor,
} from "../../src/checkpoint/formats/safetensors.ts";
import { type ModuleName, MODULES } from "../../src/models/hook.ts";
import { FieldError, FieldRangeError } from "../../src/util/errors.ts";
import { isModule, weightName } from "../lotr/stack.ts";
import { parsePeftConfig, type PeftConfig } from "./peft_config.ts";

export const CONFIG_FILE = "adapter_config.json";
export const WEIGHTS_FILE = "adapter_model.safetensors";
const PICKLE_FILE = "adapter_model.bin";
const MAX_CONFIG_BYTES = 2 ** 20;
const MAX_WEIGHTS_BYTES = 2 ** 30;

/** The two files of a LoRA directory. */
export interface PeftFiles {
  /** `adapter_config.json`, parsed. */
  readonly config: unknown;
  /** `adapter_model.safetensors`. */
  readonly weights: Uint8Array;
}

/** One linear's LoRA, `ΔW = scale · B·A`. */
export interface PeftLinear {
  readonly layer: number;
  readonly module: ModuleName;
  readonly rank: number;
  readonly scale: number;
  /** [rank, d_in]. */
  readonly a: SafetensorsTensor;
  /** [d_out, rank]. */
  readonly b: SafetensorsTensor;
}

/**
 * Reads the two files of a PEFT directory. @throws {FieldError} naming the file at fault.
 *
 * @example
 * ```ts
 * import { readPeftDirectory } from "@lembas/lembas";
 *
 * const { config, weights } = await readPeftDirectory("tests/fixtures/adapters/peft_lora");
 * console.assert(config !== undefined && weights.length > 0);
 * ```
 */
export async function readPeftDirectory(path: string): Promise<PeftFiles> {
  const text = new TextDecoder().decode(
    await readBounded(`${path}/${CONFIG_FILE}`, MAX_CONFIG_BYTES),
  );
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new FieldError("path", `Cannot read LoRA: ${path}/${CONFIG_FILE} is not JSON`, { cause });
  }
  await refusePickle(path);
  return { config, weights: await readBounded(`${path}/${WEIGHTS_FILE}`, MAX_WEIGHTS_BYTES) };
}

/** @throws {FieldError} where the tensors are there as a pickle alone */
export async function refusePickle(path: string): Promise<void> {
  if (await isThere(`${path}/${WEIGHTS_FILE}`) || !await isThere(`${path}/${PICKLE_FILE}`)) return;
  throw new FieldError(
    "path",
    `Cannot read LoRA: ${path}/${PICKLE_FILE} is a pickle, which can run code when it is read. ` +
      `Make ${WEIGHTS_FILE} of it where you trust it: python -c "import torch; ` +
      `from safetensors.torch import save_file; ` +
      `save_file(torch.load('${PICKLE_FILE}', weights_only=True), '${WEIGHTS_FILE}')"`,
  );
}

/**
 * The linears that a LoRA adapts.
 * @throws {TypeError} naming what is unsupported, missing, or not as the config says
 */
export function peftLinears({ config, weights }: PeftFiles): readonly PeftLinear[] {
  const peft = parsePeftConfig(config);
  const pairs = new Map<string, { a?: SafetensorsTensor; b?: SafetensorsTensor }>();
  for (const [name, tensor] of parseSafetensors(weights).tensors) {
    const [, key = "", part] = TENSOR_NAME.exec(name) ?? refuseTensor(name);
    pairs.set(key, { ...pairs.get(key), [part === "A" ? "a" : "b"]: tensor });
  }
  if (pairs.size === 0) throw new TypeError("Cannot read LoRA: it has no tensors");
  return [...pairs].map(([key, { a, b }]) => {
    if (a === undefined || b === undefined) {
      const missing = a === undefined ? "lora_A" : "lora_B";
      throw new TypeError(
        `Cannot read LoRA: '${key}' has only one of lora_A and lora_B: ${missing} is missing`,
      );
    }
    return linearOf(key, a, b, peft);
  });
}

/** The module's name within the base, and which half it is. */
const TENSOR_NAME =
  /^base_model\.model\.((?:model\.)?layers\.\d{1,6}\.(?:self_attn|mlp)\.[a-z_]+)\.lora_([AB])\.weight$/;

function refuseTensor(name: string): never {
  const what = name.includes("lora_embedding")
    ? "an embedding's LoRA"
    : name.includes("lora_magnitude")
    ? "DoRA's magnitude"
    : name.includes("lora_")
    ? "the LoRA of a module that is none of a layer's linears"
    : "no LoRA tensor";
  throw new TypeError(`Cannot read LoRA: tensor '${name}' is ${what}, which is not supported`);
}

function linearOf(
  key: string,
  a: SafetensorsTensor,
  b: SafetensorsTensor,
  config: PeftConfig,
): PeftLinear {
  const [module = "", , number] = key.split(".").reverse();
  const layer = Number(number);
  if (!isModule(module) || !weightName(layer, module).endsWith(`${key}.weight`)) {
    throw new TypeError(
      `Cannot read LoRA: it adapts '${key}', known linears are ${MODULES.join(", ")}`,
    );
  }
  const field = config.leaves(key);
  if (field !== undefined) {
    throw new TypeError(
      `Cannot read LoRA: it adapts '${key}', which the config's ${field} leaves out`,
    );
  }
  const { rank, scale } = config.at(key);
  if (a.shape.length !== 2 || b.shape.length !== 2 || a.shape[0] !== rank || b.shape[1] !== rank) {
    throw new TypeError(
      `Cannot read LoRA: '${key}' has shapes [${a.shape}] and [${b.shape}], ` +
        `its config says rank ${rank}`,
    );
  }
  return { layer, module, rank, scale, a, b };
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}

/** A plain file of at most so many bytes. @throws {FieldRangeError} naming it */
export async function readBounded(path: string, most: number): Promise<Uint8Array> {
  const { size, isFile } = await Deno.stat(path);
  if (!isFile || size > most) {
    throw new FieldRangeError(
      "path",
      `Cannot read ${path}: it is no plain file of at most ${most} bytes, its size is ${size}`,
    );
  }
  return await Deno.readFile(path);
}

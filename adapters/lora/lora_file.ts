/**
 * A LoRA as lembas keeps it: one safetensors file of its halves, in the type in which they came, with
 * its base and each linear's scale in the metadata. The same content is the same bytes, whose SHA-256
 * is the LoRA's name; whatever is not exactly such a file is refused.
 */
import { createHash } from "node:crypto";
import {
  parseSafetensors,
  safetensorsStart,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../src/checkpoint/formats/safetensors.ts";
import { SITE_OF } from "../../src/models/hook.ts";
import { type Lora, type LoraLinear, type LoraRanks, ranksOf } from "../../src/models/lora.ts";
import { decode } from "../lotr/format.ts";
import { checkDigest, checkFinite, isModule, MAX_RANK, type Stack } from "../lotr/stack.ts";
import type { PeftLinear } from "./peft_files.ts";

export const LORA_FORMAT = "lembas.lora/1";
/** A LoRA of rank 64 over all linears of an 8B model takes 336 MB in bfloat16. */
export const MAX_LORA_BYTES = 512 * 2 ** 20;

/** What a file says of its LoRA, and its numbers. */
export interface LoraContent extends Lora {
  /** SHA-256 of the base checkpoint, hex. */
  readonly base: string;
  /** The highest of each module's ranks. */
  readonly ranks: LoraRanks;
}

export interface LoraLimits {
  /** The highest rank that is taken; default: 64. */
  readonly maxRank?: number;
}

/**
 * A PEFT LoRA of this base as a file.
 * @throws {TypeError | RangeError} naming the linear that the base has not, or in another width; a rank
 *   above the limit; a number that is none
 */
export function writeLora(
  linears: readonly PeftLinear[],
  stack: Stack,
  { maxRank = MAX_RANK }: LoraLimits = {},
): Uint8Array<ArrayBuffer> {
  const tensors: [string, SafetensorsTensor][] = [];
  for (const linear of linears) {
    checkRank(linear, maxRank);
    checkPlace(linear, stack);
    const name = nameOf(linear);
    for (const [half, tensor] of [["A", linear.a], ["B", linear.b]] as const) {
      checkFinite(`${name}.lora_${half}`, decode(`${name}.lora_${half}`, tensor));
      tensors.push([`${name}.lora_${half}`, tensor]);
    }
  }
  const scales = linears.map((linear): [string, number] => [nameOf(linear), linear.scale])
    .sort(([a], [b]) => a < b ? -1 : 1);
  return writeSafetensors(
    tensors,
    Object.entries({
      format: LORA_FORMAT,
      base: stack.base,
      rank: String(Math.max(...linears.map(({ rank }) => rank))),
      scales: JSON.stringify(Object.fromEntries(scales)),
    }),
  );
}

/**
 * Reads a LoRA file.
 * @throws {TypeError | RangeError} naming what is wrong
 */
export function readLora(bytes: Uint8Array): LoraContent {
  if (bytes.length > MAX_LORA_BYTES) {
    throw new RangeError(
      `Cannot read LoRA: it has ${bytes.length} bytes, at most ${MAX_LORA_BYTES} are read`,
    );
  }
  const { metadata, tensors } = parseSafetensors(bytes);
  const base = metadata.get("base") ?? "";
  if (metadata.get("format") !== LORA_FORMAT) {
    const format = JSON.stringify(metadata.get("format"));
    throw new TypeError(`Cannot read LoRA: its format is ${format}, ${LORA_FORMAT} is wanted`);
  }
  checkDigest("the LoRA's base", base);
  const { start } = safetensorsStart(tensors, metadata);
  if (!start.every((byte, at) => bytes[at] === byte)) {
    throw new TypeError(
      "Cannot read LoRA: its tensors lie in another order than lembas writes; load the PEFT " +
        "directory again",
    );
  }
  const linears = [...scalesOf(metadata.get("scales"))].map(([name, scale]) =>
    linearOf(name, scale, tensors)
  );
  if (2 * linears.length !== tensors.size || linears.length === 0) {
    throw new TypeError(
      `Cannot read LoRA: it has ${tensors.size} tensors and ${linears.length} scales`,
    );
  }
  const digest = createHash("sha256").update(bytes).digest("hex");
  return { digest, base, linears, ranks: ranksOf(linears) };
}

/** Whether the bytes say that they are such a file. */
export function isLoraFile(bytes: Uint8Array): boolean {
  return parseSafetensors(bytes).metadata.get("format") === LORA_FORMAT;
}

/** The highest of all ranks. */
export function rankOf(ranks: LoraRanks): number {
  return Math.max(...Object.values(ranks));
}

/** @throws {RangeError | TypeError} for a LoRA of another base, or of too high a rank */
export function checkLora(
  { base, linears }: LoraContent,
  stack: Stack,
  { maxRank = MAX_RANK }: LoraLimits = {},
): void {
  if (base !== stack.base) {
    throw new TypeError(`Cannot use LoRA: its base is ${base}, served is ${stack.base}`);
  }
  for (const linear of linears) {
    checkRank(linear, maxRank);
    const { rank, a, b } = linear;
    checkWidths(linear, [a.length / rank, b.length / rank], stack);
  }
}

function checkRank({ rank, layer, module }: PeftLinear | LoraLinear, most: number): void {
  if (rank <= most) return;
  throw new RangeError(
    `Cannot use LoRA: the rank of ${module} in layer ${layer} is ${rank}, ` +
      `at most ${most} is served (--max-lora-rank, which goes up to ${MAX_RANK})`,
  );
}

function checkPlace(linear: PeftLinear, stack: Stack): void {
  checkWidths(linear, [linear.a.shape[1] ?? 0, linear.b.shape[0] ?? 0], stack);
}

function checkWidths(
  { layer, module }: PeftLinear | LoraLinear,
  [inputs, outputs]: readonly [number, number],
  stack: Stack,
): void {
  if (layer >= stack.layers) {
    throw new RangeError(
      `Cannot use LoRA: it adapts layer ${layer}, the base has ${stack.layers} layers`,
    );
  }
  const wanted = [stack.inputs[SITE_OF[module]], stack.outputs[module]];
  if (inputs === wanted[0] && outputs === wanted[1]) return;
  throw new TypeError(
    `Cannot use LoRA: ${module} of layer ${layer} goes ${inputs}→${outputs}, ` +
      `the base's ${wanted.join("→")}: it was trained for another base`,
  );
}

function nameOf({ layer, module }: PeftLinear | LoraLinear): string {
  return `layers.${layer}.${module}`;
}

function linearOf(
  name: string,
  scale: number,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
): LoraLinear {
  const [, layer = "", module = ""] = /^layers\.(\d{1,6})\.(\w+)$/.exec(name) ?? [];
  if (!isModule(module)) throw new TypeError(`Cannot read LoRA: '${name}' is no linear`);
  const half = (part: "A" | "B") => {
    const tensor = tensors.get(`${name}.lora_${part}`);
    if (tensor?.shape.length === 2) return tensor;
    throw new TypeError(`Cannot read LoRA: '${name}' has no matrix lora_${part}`);
  };
  const [a, b] = [half("A"), half("B")];
  const [rank = 0] = a.shape;
  if (rank < 1 || b.shape[1] !== rank) {
    throw new TypeError(`Cannot read LoRA: '${name}' has shapes [${a.shape}] and [${b.shape}]`);
  }
  return { layer: Number(layer), module, rank, scale, a: finite(name, a), b: finite(name, b) };
}

function finite(name: string, tensor: SafetensorsTensor): Float32Array {
  const values = decode(name, tensor);
  checkFinite(name, values);
  return values;
}

function scalesOf(text: string | undefined): Map<string, number> {
  const entries = Object.entries(parsedObject(text) ?? {});
  return new Map(entries.map(([name, scale]): [string, number] => {
    if (typeof scale === "number" && Number.isFinite(scale)) return [name, scale];
    throw new TypeError(`Cannot read LoRA: the scale of '${name}' is ${JSON.stringify(scale)}`);
  }));
}

function parsedObject(text: string | undefined): object | undefined {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined; // then it has no scales, which is told
  }
}

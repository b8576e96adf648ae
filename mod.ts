/**
 * lembas: one frozen base model served to many tenants, each by its own LoTR core (arXiv 2402.01376).
 * This is the library without HTTP; `deno task serve` is the server. Importing it does nothing.
 *
 * @example
 * ```ts
 * import { Lembas, randomFactors, zeroCore } from "@lembas/lembas";
 *
 * await using lembas = await Lembas.load({ maxBatch: 2, maxContext: 256 });
 * const factors = randomFactors({ stack: lembas.registry.stack, rank: 16 });
 * lembas.addFactors(factors);
 * lembas.addCore("acme/untrained", zeroCore(factors));
 * for await (
 *   const { text } of lembas.stream("The road goes ever", {
 *     adapter: "acme/untrained",
 *     maxTokens: 4,
 *   })
 * ) {
 *   console.assert(typeof text === "string");
 * }
 * ```
 *
 * @module
 */

// A base with its cores: load, generate, chat, train.
export {
  type Generated,
  type GenerateOptions,
  Lembas,
  type TrainOptions,
} from "./adapters/lembas.ts";
export type { LembasOptions } from "./adapters/parts.ts";
export type { TrainResult } from "./adapters/training/training.ts";
export type { GenerationDelta } from "./src/engine/request/request.ts";
export { ContextLengthError, FieldError, OverloadedError } from "./src/util/errors.ts";

// Cores and their algebra.
export {
  average,
  combine,
  Core,
  interpolate,
  negate,
  scale,
  zeroCore,
} from "./adapters/lotr/core.ts";

// Factor sets, which cores of one base share.
export { FactorSet } from "./adapters/lotr/factors.ts";
export { randomFactors, svdFactors } from "./adapters/lotr/make/makers.ts";
export { compareFactors } from "./adapters/lotr/energy.ts";
export { stackOf } from "./adapters/lotr/stack.ts";

// Their files, and the way from and to PEFT and plain weights.
export { readCore, readFactors, writeCore, writeFactors } from "./adapters/lotr/format.ts";
export { importPeft, LossyImportError } from "./adapters/lotr/peft/peft_import.ts";
export { readPeftDirectory } from "./adapters/lora/peft_files.ts";
export { writePeftDirectory } from "./adapters/catalog/directory.ts";
export { mergedSafetensors } from "./adapters/lotr/merge.ts";

// Checkpoints as they lie on disk.
export type { ChatMessage, Checkpoint } from "./src/checkpoint/checkpoint.ts";
export { openCheckpoint } from "./src/checkpoint/open.ts";
export { resolveModel } from "./src/checkpoint/fetch/resolve.ts";

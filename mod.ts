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
export * from "./adapters/lembas.ts";
export * from "./adapters/mod.ts";
export type { ChatMessage, Checkpoint, Tokenizer } from "./src/checkpoint/checkpoint.ts";
export { openCheckpoint } from "./src/checkpoint/open.ts";
export { resolveModel } from "./src/checkpoint/fetch/resolve.ts";
export { ContextLengthError, OverloadedError } from "./src/util/errors.ts";
export {
  type GenerationDelta,
  type SamplingParams,
  type Usage,
} from "./src/engine/request/request.ts";
export { type ModuleName, MODULES } from "./src/models/hook.ts";

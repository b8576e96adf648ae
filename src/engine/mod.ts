/** The engine's public names, for `adapters`, `server` and the library's users. */
export * from "./adapter.ts";
export * from "./engine.ts";
export type { TokenMatcher } from "./grammar/matcher.ts";
export { GrammarPool, type GrammarPoolOptions, type GrammarSource } from "./grammar/pool.ts";
export * from "./metrics.ts";
export * from "./model.ts";
export * from "./request.ts";
export * from "./sampling.ts";

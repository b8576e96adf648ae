/** The engine's public names, for `adapters`, `server` and the library's users. */
export * from "./request/adapter.ts";
export * from "./engine.ts";
export type { TokenMatcher } from "../grammar/matcher.ts";
export { GrammarPool, type GrammarPoolOptions, type GrammarSource } from "../grammar/pool.ts";
export * from "./metrics.ts";
export * from "../executor/model.ts";
export * from "./request/request.ts";
export * from "./request/sampling.ts";

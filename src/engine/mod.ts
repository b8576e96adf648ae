/** The engine's public names. */
export * from "./request/adapter.ts";
export * from "./engine.ts";
export { DEFAULT_LANE_MEMORY, type EngineOptions, type LaneOptions } from "./state.ts";
export type { TokenMatcher } from "../grammar/matcher.ts";
export { GrammarPool, type GrammarPoolOptions, type GrammarSource } from "../grammar/pool.ts";
export * from "./metrics.ts";
export * from "../executor/model.ts";
export * from "./request/request.ts";
export * from "./request/sampling.ts";

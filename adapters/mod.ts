/**
 * The public face of the adapters: LoTR factor sets and cores, their files, algebra, PEFT import and
 * export, merging, and the registry and cache that serve them.
 */
export * from "./base_gradients.ts";
export * from "./cache.ts";
export * from "./core.ts";
export * from "./corpus.ts";
export * from "./default_factors.ts";
export * from "./directory.ts";
export * from "./energy.ts";
export * from "./factors.ts";
export * from "./gradient_factors.ts";
export * from "./makers.ts";
export * from "./merge.ts";
export * from "./peft_export.ts";
export * from "./peft_import.ts";
export * from "./format.ts";
export * from "./name.ts";
export * from "./registry.ts";
export * from "./stack.ts";

/**
 * The public face of the adapters: LoTR factor sets and cores, their files, algebra, PEFT import and
 * export, merging, and the registry and cache that serve them.
 */
export * from "./lotr/make/base_gradients.ts";
export * from "./catalog/cache.ts";
export * from "./lotr/core.ts";
export * from "./lotr/make/corpus.ts";
export * from "./lotr/make/default_factors.ts";
export * from "./catalog/directory.ts";
export * from "./lotr/energy.ts";
export * from "./lotr/factors.ts";
export * from "./lotr/make/gradient_factors.ts";
export * from "./lotr/make/makers.ts";
export * from "./lotr/merge.ts";
export * from "./lotr/peft/peft_export.ts";
export * from "./lotr/peft/peft_import.ts";
export * from "./lotr/format.ts";
export * from "./catalog/name.ts";
export * from "./catalog/registry.ts";
export * from "./lotr/stack.ts";

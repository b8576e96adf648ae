/**
 * The part of `@std/cli` that lembas uses, for machines that cannot reach JSR: take the two `links`
 * out of deno.json and the published package answers to the same imports.
 */
export * from "./parse_args.ts";

/**
 * Whether the tests run at length: LEMBAS_TEST_LONG is set, as `.ci/run` does. What they prove is
 * the same; at length they prove it on more cores, windows, rounds or rows, and measure memory, which
 * takes a quarter of a minute each.
 */
export const LONG = Deno.env.has("LEMBAS_TEST_LONG");

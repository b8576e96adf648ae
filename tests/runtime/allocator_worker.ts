// deno-lint-ignore-file no-console -- its output is what the test reads
/**
 * Allocates on many threads at once and prints how many of glibc's arenas there are then; with the
 * argument "small", after the allocator was told to keep few.
 */
import { keepAllocatorSmall } from "../../src/runtime/memory.ts";

/** Where glibc lets an arena begin. */
const ARENA_ALIGNMENT = 64n * 2n ** 20n;

if (Deno.args[0] === "small") keepAllocatorSmall();
const { symbols } = Deno.dlopen("libc.so.6", {
  calloc: { parameters: ["usize", "usize"], result: "pointer", nonblocking: true },
  usleep: { parameters: ["u32"], result: "i32", nonblocking: true },
});
const busy = Array.from({ length: 24 }, () => symbols.usleep(100_000));
const made = Array.from({ length: 200 }, () => symbols.calloc(60n, 1000n));
await Promise.all([...busy, ...made]);
const mappings = Deno.readTextFileSync("/proc/self/maps").trim().split("\n");
const arenas = mappings.filter((line) => {
  const anonymous = line.trim().split(/\s+/).length === 5;
  return anonymous && BigInt(`0x${line.split("-")[0]}`) % ARENA_ALIGNMENT === 0n;
});
console.log(arenas.length);

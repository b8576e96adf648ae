/**
 * glibc's allocator in a process that runs for long. By default every few threads get an arena of
 * their own, and after the first large block was freed, such blocks stay in the arenas: where
 * sessions are compiled on one thread and released on another, the arenas grow around what little
 * is left in each. Trap: the settings hold for the whole process, so only a program's entry may
 * call this.
 */

/** glibc's `mallopt` parameters. */
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;

const ARENAS = 2;
/**
 * From this size on (bytes), a block is a mapping of its own and goes back to the system when
 * freed.
 */
const MAPPED_BYTES = 2 ** 20;

/**
 * Makes threads share arenas, and freed large blocks go back at once. Does nothing without glibc.
 */
export function keepAllocatorSmall(): void {
  if (Deno.build.os !== "linux") return;
  const library = Deno.dlopen("libc.so.6", {
    mallopt: { parameters: ["i32", "i32"], result: "i32", optional: true },
  });
  library.symbols.mallopt?.(M_ARENA_MAX, ARENAS);
  library.symbols.mallopt?.(M_MMAP_THRESHOLD, MAPPED_BYTES);
  library.close();
}

/**
 * The C library's allocator in a process that lives long. By itself glibc gives every few threads an
 * arena of their own, and after the first large block that was freed it keeps such blocks in them:
 * where sessions are compiled on one thread and released on another, arenas grow around what little
 * is left in each. It is set for the whole process, so only a program's entry calls this.
 */

/** glibc's `mallopt` parameters. */
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;

const ARENAS = 2;
/** From this size on a block is a mapping of its own, which is gone when it is freed. */
const MAPPED_BYTES = 2 ** 20;

/** Has threads share arenas and large blocks go when they are freed; nothing without glibc. */
export function keepAllocatorSmall(): void {
  if (Deno.build.os !== "linux") return;
  const library = Deno.dlopen("libc.so.6", {
    mallopt: { parameters: ["i32", "i32"], result: "i32", optional: true },
  });
  library.symbols.mallopt?.(M_ARENA_MAX, ARENAS);
  library.symbols.mallopt?.(M_MMAP_THRESHOLD, MAPPED_BYTES);
  library.close();
}

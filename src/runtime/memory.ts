/**
 * Memory given back to the operating system: pages through the C library's `madvise`, and what
 * glibc's allocator keeps of freed memory through `malloc_trim`.
 */

export interface PageReleaser {
  /** Gives back the pages that lie wholly within `bytes`; what they held is lost. */
  discard(bytes: Uint8Array<ArrayBuffer>): void;
  /** Keeps the system from backing the pages within `bytes` with huge ones. */
  keepSmall(bytes: Uint8Array<ArrayBuffer>): void;
  /**
   * Gives back freed memory that the allocator keeps: hundreds of megabytes after a session was
   * compiled or released. Takes tens of milliseconds, off the event loop; does nothing without
   * glibc.
   */
  trim(): Promise<void>;
  close(): void;
}

interface System {
  readonly library: string;
  /** Linux's MADV_DONTNEED drops pages at once and they read as zeros; Darwin has MADV_FREE. */
  readonly advice: number;
  /** Linux's MADV_NOHUGEPAGE; undefined where the system gives no huge pages by itself. */
  readonly smallPages?: number;
  readonly pageBytes: number;
}

const SYSTEMS: Readonly<Partial<Record<typeof Deno.build.os, System>>> = {
  linux: { library: "libc.so.6", advice: 4, smallPages: 15, pageBytes: 4096 },
  darwin: { library: "libSystem.dylib", advice: 5, pageBytes: 16384 },
};

/** The releaser of this operating system; one that does nothing where there is no `madvise`. */
export function openPageReleaser(): PageReleaser {
  const system = SYSTEMS[Deno.build.os];
  if (system === undefined) {
    const nothing = () => {};
    return { discard: nothing, keepSmall: nothing, trim: async () => {}, close: nothing };
  }
  const library = Deno.dlopen(system.library, {
    madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
    malloc_trim: { parameters: ["usize"], result: "i32", nonblocking: true, optional: true },
  });
  const advise = (bytes: Uint8Array<ArrayBuffer>, advice: number) => {
    const pages = wholePages(bytes, BigInt(system.pageBytes));
    if (pages !== undefined) library.symbols.madvise(pages.pointer, pages.length, advice);
  };
  return {
    discard: (bytes) => advise(bytes, system.advice),
    keepSmall: (bytes) => {
      if (system.smallPages !== undefined) advise(bytes, system.smallPages);
    },
    trim: async () => void await library.symbols.malloc_trim?.(0n),
    close: () => library.close(),
  };
}

function wholePages(bytes: Uint8Array<ArrayBuffer>, page: bigint) {
  if (BigInt(bytes.byteLength) < page) return undefined;
  const start = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
  const first = (start + page - 1n) / page * page;
  const end = (start + BigInt(bytes.byteLength)) / page * page;
  if (end <= first) return undefined;
  return { pointer: Deno.UnsafePointer.create(first), length: end - first };
}

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
 * Makes threads share glibc's arenas, and freed large blocks go back to the system at once. By
 * default every few threads get an arena of their own, and after the first large block was freed,
 * such blocks stay in the arenas: where sessions are compiled on one thread and released on
 * another, the arenas grow around what little is left in each. Does nothing without glibc. Trap: it
 * holds for the whole process, so only a program's entry may call this.
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

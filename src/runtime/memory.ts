/**
 * Pages of host memory given back to the operating system, through the C library's `madvise`. It
 * knows addresses and lengths, not tensors.
 */

/** Gives back the pages that lie wholly within `bytes`; what they held is lost. */
export interface PageReleaser {
  discard(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

interface System {
  readonly library: string;
  /** Linux's MADV_DONTNEED drops pages at once and they read as zeros; Darwin has MADV_FREE. */
  readonly advice: number;
  readonly pageBytes: number;
}

const SYSTEMS: Readonly<Partial<Record<typeof Deno.build.os, System>>> = {
  linux: { library: "libc.so.6", advice: 4, pageBytes: 4096 },
  darwin: { library: "libSystem.dylib", advice: 5, pageBytes: 16384 },
};

/** The releaser of this operating system; one that does nothing where there is no `madvise`. */
export function openPageReleaser(): PageReleaser {
  const system = SYSTEMS[Deno.build.os];
  if (system === undefined) return { discard: () => {}, close: () => {} };
  const library = Deno.dlopen(system.library, {
    madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  });
  return {
    discard: (bytes) => {
      const pages = wholePages(bytes, BigInt(system.pageBytes));
      if (pages === undefined) return;
      library.symbols.madvise(pages.pointer, pages.length, system.advice);
    },
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

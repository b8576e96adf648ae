/**
 * Where the checkpoint fixtures are and how their JSON is read. `tests/fixtures/checkpoint/make.py`
 * made them.
 */

/** The path of a fixture. */
export function fixture(name: string): string {
  return decodeURIComponent(new URL(`../fixtures/checkpoint/${name}`, import.meta.url).pathname);
}

/** A fixture's JSON; the caller says what is in it. */
export function fixtureJson<T>(name: string): T {
  return JSON.parse(Deno.readTextFileSync(fixture(name))) as T;
}

/** Runs `body` with the path of a file of these bytes, which is gone afterwards. */
export function withFile<T>(bytes: Uint8Array, body: (path: string) => T): T {
  const path = Deno.makeTempFileSync({ suffix: ".bin" });
  try {
    Deno.writeFileSync(path, bytes);
    return body(path);
  } finally {
    Deno.removeSync(path);
  }
}

/** Runs `body` with a directory that is gone afterwards. */
export async function withDirectory(body: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempDir();
  try {
    await body(path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

/** A small, seeded source of numbers in [0, 1): mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

/** What serving costs a base, kept where servers find it. */
import { assertEquals, assertMatch } from "@std/assert";
import { keepQuality, keptQuality, qualityWarning } from "../../adapters/quality.ts";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { SITES } from "../../src/models/hook.ts";
import type { Smoothing } from "../../src/models/parameters.ts";

const MEASURED = { percent: 1.3, error: 0.2, divergence: 0.01, agreement: 94, tokens: 1000 };

/** Smoothing of one layer whose scales are all `c`. */
function smoothing(c: number): Smoothing {
  const scales = Float32Array.of(c);
  const sites = SITES.map((site) => [site, scales]);
  return { layers: [Object.fromEntries(sites)], head: scales };
}

function checkpointOf(digest: string): Checkpoint {
  return { digest: () => Promise.resolve(digest) } as unknown as Checkpoint;
}

async function withCache(run: (cache: string) => Promise<void>): Promise<void> {
  const cache = await Deno.makeTempDir();
  try {
    await run(cache);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

Deno.test("what was measured is found for the same base, kernels and scales alone", async () => {
  await withCache(async (cache) => {
    const [checkpoint, other] = [checkpointOf("a"), checkpointOf("b")];
    const base = { kernel: "w8a8", smoothing: smoothing(1) } as const;
    const kept = (of: Parameters<typeof keptQuality>[1], where = checkpoint) =>
      keptQuality(where, of, cache);
    assertEquals(await kept(base), undefined);
    await keepQuality(checkpoint, base, MEASURED, cache);
    assertEquals(await kept(base), MEASURED);
    assertEquals(await kept(base, other), undefined);
    assertEquals(await kept({ ...base, kernel: "stored" }), undefined);
    assertEquals(await kept({ ...base, smoothing: smoothing(2) }), undefined);
    assertEquals(await kept({ ...base, smoothing: undefined }), undefined);
  });
});

Deno.test("a figure of fewer tokens does not take the place of one of more", async () => {
  await withCache(async (cache) => {
    const checkpoint = checkpointOf("a");
    const base = { kernel: "nbits8", smoothing: undefined } as const;
    const keep = (percent: number, tokens: number) =>
      keepQuality(checkpoint, base, { ...MEASURED, percent, tokens }, cache);
    await keep(1.3, 1000);
    await keep(9, 999);
    assertEquals((await keptQuality(checkpoint, base, cache))?.percent, 1.3);
    await keep(0.4, 1000);
    assertEquals((await keptQuality(checkpoint, base, cache))?.percent, 0.4);
  });
});

Deno.test("a damaged figure is none", async () => {
  await withCache(async (cache) => {
    const checkpoint = checkpointOf("a");
    const base = { kernel: "nbits8", smoothing: undefined } as const;
    await keepQuality(checkpoint, base, MEASURED, cache);
    const folder = `${cache}/quality/a`;
    const [{ name }] = [...Deno.readDirSync(folder)];
    for (const text of ["{", "{}", '{"percent":"1"}']) {
      await Deno.writeTextFile(`${folder}/${name}`, text);
      assertEquals(await keptQuality(checkpoint, base, cache), undefined);
    }
  });
});

Deno.test("a loss above one percent is told with its figure and what to do, others are not", () => {
  assertMatch(qualityWarning(MEASURED) ?? "", /\+1\.3 ± 0\.2% of perplexity.*1000 tokens.*fp32/);
  for (const percent of [-0.2, 0, 1]) {
    assertEquals(qualityWarning({ ...MEASURED, percent }), undefined);
  }
});

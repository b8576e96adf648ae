/** What serving costs a base, kept where servers find it. */
import { assertEquals, assertMatch } from "@std/assert";
import { KeptQuality, qualityWarning } from "../../adapters/quality.ts";
import { SITES } from "../../src/models/hook.ts";
import type { Smoothing } from "../../src/models/parameters.ts";

const MEASURED = { percent: 1.3, error: 0.2, divergence: 0.01, agreement: 94, tokens: 1000 };

/** Smoothing of one layer whose scales are all `c`. */
function smoothing(c: number): Smoothing {
  const scales = Float32Array.of(c);
  const sites = SITES.map((site) => [site, scales]);
  return { layers: [Object.fromEntries(sites)], head: scales };
}

/** What is kept for a base, opened anew. */
function open(cache: string, base: Parameters<typeof KeptQuality.open>[1], digest = "a") {
  return KeptQuality.open({ digest: () => Promise.resolve(digest) }, base, cache);
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
    const base = { kernel: "w8a8", smoothing: smoothing(1) } as const;
    const kept = await open(cache, base);
    assertEquals(kept.measured, undefined);
    await kept.keep(MEASURED);
    assertEquals((await open(cache, base)).measured, MEASURED);
    assertEquals((await open(cache, base, "b")).measured, undefined);
    const others = [{ kernel: "stored" }, { smoothing: smoothing(2) }, { smoothing: undefined }];
    for (const other of others as Partial<typeof base>[]) {
      assertEquals((await open(cache, { ...base, ...other })).measured, undefined);
    }
  });
});

Deno.test("a figure of fewer tokens does not take the place of one of more", async () => {
  await withCache(async (cache) => {
    const base = { kernel: "nbits8", smoothing: undefined } as const;
    const keep = async (percent: number, tokens: number) => {
      await (await open(cache, base)).keep({ ...MEASURED, percent, tokens });
      return (await open(cache, base)).measured?.percent;
    };
    assertEquals(await keep(1.3, 1000), 1.3);
    assertEquals(await keep(9, 999), 1.3);
    assertEquals(await keep(0.4, 1000), 0.4);
  });
});

Deno.test("a damaged figure is none", async () => {
  await withCache(async (cache) => {
    const base = { kernel: "nbits8", smoothing: undefined } as const;
    await (await open(cache, base)).keep(MEASURED);
    const folder = `${cache}/quality/a`;
    const [{ name }] = [...Deno.readDirSync(folder)];
    for (const text of ["{", "{}", '{"percent":"1"}']) {
      await Deno.writeTextFile(`${folder}/${name}`, text);
      assertEquals((await open(cache, base)).measured, undefined);
    }
  });
});

Deno.test("a loss above one percent is told with its figure and what to do, others are not", () => {
  assertMatch(qualityWarning(MEASURED) ?? "", /\+1\.3 ± 0\.2% of perplexity.*1000 tokens.*fp32/);
  for (const percent of [-0.2, 0, 1]) {
    assertEquals(qualityWarning({ ...MEASURED, percent }), undefined);
  }
});

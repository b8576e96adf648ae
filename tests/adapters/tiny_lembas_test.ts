/** `Lembas` over a tiny model: factor sets that come late, fail once, or are too many; and loading that stops half way. */
import { assertEquals, assertRejects } from "@std/assert";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { Lembas } from "../../adapters/lembas.ts";
import type { LembasOptions } from "../../adapters/parts.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { folderOf, randomCore } from "../engine/tiny.ts";

const OPTIONS: LembasOptions = {
  model: folderOf("llama"),
  dtype: "fp32",
  maxBatch: 2,
  maxContext: 64,
  kvMemory: 2 ** 22,
};
const ASKED = { temperature: 0, maxTokens: 6, ignoreEos: true };

function factorsFor(lembas: Lembas, seed: number): FactorSet {
  return randomFactors({ stack: lembas.registry.stack, rank: 4, seed });
}

Deno.test("slots are as long as the model's limit, and no longer than memory has room for a row", async () => {
  const { maxContext: _, kvMemory: _all, ...options } = OPTIONS;
  await using roomy = await Lembas.load(options);
  const { maxPositions, numLayers, numKvHeads, headDim } = roomy.checkpoint.config;
  assertEquals([roomy.engine.maxContext, roomy.training?.maxContext], [maxPositions, maxPositions]);
  const kvMemory = 48 * numLayers * 2 * numKvHeads * headDim * 4;
  for (const maxContext of [undefined, maxPositions]) {
    const asked = maxContext === undefined ? {} : { maxContext };
    await using tight = await Lembas.load({ ...options, ...asked, kvMemory });
    assertEquals([tight.engine.maxContext, tight.training?.maxContext], [48, 48]);
  }
  await using short = await Lembas.load({ ...options, kvMemory, maxContext: 32 });
  assertEquals([short.engine.maxContext, short.training?.maxContext], [32, 32]);
});

Deno.test("a factor set whose lane could not be made once is served by the next request", async () => {
  await using lembas = await Lembas.load(OPTIONS);
  const factors = factorsFor(lembas, 1);
  const { b } = factors;
  let broken = true;
  // its shape is looked at when it is added
  let looks = factors.modules.length;
  factors.b = (module) => {
    if (broken && looks-- <= 0) throw new Error("no memory");
    return b.call(factors, module);
  };
  lembas.addFactors(factors);
  lembas.addCore("acme/helper", randomCore(factors, 1));
  const ask = () => lembas.generate([1, 2, 3], { ...ASKED, adapter: "acme/helper" });
  await assertRejects(ask, Error, "no memory");
  broken = false;
  assertEquals((await ask()).tokens.length, 6);
});

/** Files of the model that this process has open. */
function openFiles(): string[] {
  return [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
    try {
      const path = Deno.readLinkSync(`/proc/self/fd/${name}`);
      return path.endsWith(".safetensors") ? path : [];
    } catch {
      return [];
    }
  });
}

const loading = { ignore: Deno.build.os !== "linux" };

Deno.test("loading that stops half way closes the model's files", loading, async () => {
  const adapters = "/nowhere/at/all";
  await assertRejects(() => Lembas.load({ ...OPTIONS, adapters }), Deno.errors.NotFound);
  const factors = ["/nowhere/factors.safetensors"];
  await assertRejects(() => Lembas.load({ ...OPTIONS, factors }), TypeError, "--factors /nowhere/");
  await assertRejects(() => Lembas.load({ ...OPTIONS, kvMemory: 1 }), RangeError, "KV memory");
  assertEquals(openFiles(), []);
  const whole = await Lembas.load(OPTIONS);
  assertEquals(openFiles().length, 1, "the measure must see what is open");
  await whole.close();
  assertEquals(openFiles(), []);
});

/** The engine of an encoder over a tiny one: fairness, lanes, refusals, and that nothing is left behind. */
import { assertEquals, assertLess, assertRejects } from "@std/assert";
import { EncoderModel, type EncoderOptions } from "../../adapters/encoder_model.ts";
import { coreFrom } from "../../adapters/lotr/core.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import type { EmbedRequest } from "../../src/engine/embed/embedding.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { distance, randomArray } from "../graph/run.ts";

function open(options: Partial<EncoderOptions> = {}): Promise<EncoderModel> {
  const path = new URL("../fixtures/encoders/bert", import.meta.url).pathname;
  return EncoderModel.load({ path, ...options });
}

function request(model: EncoderModel, texts: readonly string[], more: Partial<EmbedRequest> = {}) {
  return {
    ...{ id: "1", tenant: "t", standing: undefined, adapter: undefined, background: false },
    texts: texts.map((text) => model.frameOne(model.tokens(text))),
    signal: new AbortController().signal,
    ...more,
  };
}

Deno.test("a tenant's one text does not wait for another's many, which came before", async () => {
  await using model = await open({ maxRows: 2 });
  const ended: string[] = [];
  const ask = async (tenant: string, count: number) => {
    await model.engine.embed(request(model, new Array(count).fill("the road"), { tenant }));
    ended.push(tenant);
  };
  const many = ask("many", 60);
  const more = ask("more", 60);
  await ask("one", 1);
  await Promise.all([many, more]);
  assertEquals(ended[0], "one");
  model.engine.checkIntegrity();
});

Deno.test("what nobody waits for goes behind, though it came before", async () => {
  await using model = await open({ maxRows: 2 });
  const ended: string[] = [];
  const ask = async (name: string, background: boolean) => {
    await model.engine.embed(request(model, new Array(20).fill("one"), { background }));
    ended.push(name);
  };
  await Promise.all([ask("behind", true), ask("front", false)]);
  assertEquals(ended, ["front", "behind"]);
});

Deno.test("cores of two factor sets and the base are asked at once, each right", async () => {
  await using model = await open();
  const { registry, engine } = model;
  const served = [1, 2].map((seed) => {
    const factors = randomFactors({ stack: registry.stack, rank: 4, seed });
    registry.factors.add(factors);
    const numbers = randomArray(factors.layers * factors.modules.length * 16, seed);
    return registry.add(`t/core${seed}`, { core: coreFrom(factors, 4, numbers), source: "memory" });
  });
  const texts = ["the road goes", "there"];
  const asked = [served[0], undefined, served[1], served[0]];
  const together = await Promise.all(
    asked.map((adapter) => engine.embed(request(model, texts, { adapter }))),
  );
  for (const [i, adapter] of asked.entries()) {
    const alone = await engine.embed(request(model, texts, { adapter }));
    alone.forEach((vector, t) => assertLess(distance(vector, together[i][t]), 1e-5));
  }
  engine.checkIntegrity();
});

Deno.test("a request that is left, and what is too much, end with nothing behind", async () => {
  await using model = await open({ maxRows: 1, maxQueue: 2 });
  const leaving = new AbortController();
  const left = model.engine.embed(
    request(model, new Array(30).fill("one"), { signal: leaving.signal }),
  );
  const stays = model.engine.embed(request(model, ["there"]));
  await assertRejects(() => model.engine.embed(request(model, ["one"])), OverloadedError);
  leaving.abort();
  await assertRejects(() => left, DOMException);
  assertEquals((await stays).length, 1);
  const { finished, rejected, running, waiting } = model.engine.stats();
  assertEquals([finished.abort, finished.stop, rejected, running, waiting], [1, 1, 1, 0, 0]);
  model.engine.checkIntegrity();
});

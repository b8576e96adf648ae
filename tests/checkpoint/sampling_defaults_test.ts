/** How a checkpoint's authors would have it sampled: which file says so, and what is taken of it. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { GgufValue } from "../../src/checkpoint/formats/gguf.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import {
  configSampling,
  ggufSampling,
  outputLimit,
  samplingDefaults,
} from "../../src/checkpoint/sampling_defaults.ts";
import { fixture, withDirectory } from "./fixtures.ts";

/** Qwen2.5's, but for the fields of the end of text. */
const QWEN = {
  "do_sample": true,
  "repetition_penalty": 1.05,
  "temperature": 0.7,
  "top_p": 0.8,
  "top_k": 20,
};

Deno.test("a generation_config.json gives what vLLM takes of it, and do_sample nothing", () => {
  const qwen = { repetitionPenalty: 1.05, temperature: 0.7, topP: 0.8, topK: 20 };
  assertEquals(configSampling(QWEN), qwen);
  assertEquals(configSampling({ ...QWEN, "do_sample": false }), qwen);
  assertEquals(configSampling({ "do_sample": false }), {});
  assertEquals(configSampling({ "max_new_tokens": 2048, "min_p": 0.1, "top_k": null }), {
    maxTokens: 2048,
    minP: 0.1,
  });
  assertEquals(configSampling(undefined), {});
  const wrong = { "temperature": "0.7" };
  assertThrows(() => configSampling(wrong), TypeError, "generation_config.json: temperature is");
});

Deno.test("a GGUF's own keys are read as its converter wrote them, in float32", () => {
  const metadata = new Map<string, GgufValue>([
    ["general.sampling.temp", Math.fround(0.2)],
    ["general.sampling.top_p", Math.fround(0.95)],
    ["general.sampling.top_k", 40],
    ["general.sampling.min_p", Math.fround(0.05)],
    ["general.sampling.penalty_repeat", Math.fround(1.1)],
  ]);
  const all = { temperature: 0.2, topP: 0.95, topK: 40, minP: 0.05, repetitionPenalty: 1.1 };
  assertEquals(ggufSampling({ metadata }), all);
  assertEquals(ggufSampling({ metadata: new Map() }), {});
});

Deno.test("auto, model, none and a folder are four sources", async () => {
  await withDirectory(async (folder) => {
    const own = { id: "SmolLM2-135M-Instruct", sampling: { topK: 7 } };
    const silent = { ...own, sampling: {} };
    const card = { temperature: 0.2, topP: 0.9 };
    assertEquals(await samplingDefaults("auto", silent), card);
    assertEquals(await samplingDefaults("auto", own), { topK: 7 });
    assertEquals(await samplingDefaults("auto", { id: "other", sampling: {} }), {});
    assertEquals(await samplingDefaults("model", silent), {});
    assertEquals(await samplingDefaults("model", own), { topK: 7 });
    assertEquals(await samplingDefaults("none", own), {});
    const missing = () => samplingDefaults(folder, own);
    await assertRejects(missing, TypeError, "auto, model, none or a folder that has one");
    await Deno.writeTextFile(`${folder}/generation_config.json`, JSON.stringify(QWEN));
    assertEquals((await samplingDefaults(folder, own)).temperature, 0.7);
    await Deno.writeTextFile(`${folder}/generation_config.json`, "{");
    await assertRejects(missing, TypeError, "is not JSON");
  });
});

Deno.test("a model's directory brings its generation_config.json; the default base has its card's", async () => {
  await withDirectory(async (into) => {
    for (const { name } of Deno.readDirSync(fixture("qwen3"))) {
      await Deno.copyFile(`${fixture("qwen3")}/${name}`, `${into}/${name}`);
    }
    await Deno.writeTextFile(`${into}/generation_config.json`, JSON.stringify(QWEN));
    using checkpoint = await openCheckpoint(into);
    assertEquals((await samplingDefaults("auto", checkpoint)).topK, 20);
  });
  using base = await openCheckpoint(await resolveModel(undefined));
  assertEquals(await samplingDefaults("auto", base), { temperature: 0.2, topP: 0.9 });
});

Deno.test("an output is bounded by the model's own bound, also where a request asks for more", () => {
  assertEquals(outputLimit(undefined, {}), undefined);
  assertEquals(outputLimit(5, {}), 5);
  assertEquals(outputLimit(undefined, { maxTokens: 3 }), 3);
  assertEquals(outputLimit(5, { maxTokens: 3 }), 3);
  assertEquals(outputLimit(2, { maxTokens: 3 }), 2);
});

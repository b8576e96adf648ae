// deno-lint-ignore-file camelcase -- names of the wire format
/** `deno task serve --device webgpu` on a graphics device in software, beside the same server on the CPU. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import OpenAI from "openai";
import { writeCore, writeFactors } from "../../adapters/lotr/format.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { KvCache } from "../../src/executor/kv_cache.ts";
import { MODULES } from "../../src/models/hook.ts";
import { BALANCED } from "../../server/books.ts";
import { factorsOf, folderOf, randomCore } from "../engine/tiny.ts";
import { inFloat16, openLavapipe } from "../programs/lavapipe.ts";
import { onWebGpu, SoftwareGpu } from "../programs/software_gpu.ts";
import { ServerProcess } from "./server_process.ts";
import { until, upload } from "./tuning_server.ts";

const SERVE = new URL("../../server/cli/serve.ts", import.meta.url);
const MODEL = "llama";
/** Longer than a run in device memory may be, and with blocks that are cached. */
const TEXT = "the road goes ever on and on, ".repeat(3);
const ASKED = { model: MODEL, temperature: 0, max_tokens: 8 } as const;

/** A factor set, a directory with a core of `acme/one`, and another core. */
class Cores implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    readonly inline: string,
    readonly kvBytesPerToken: number,
    readonly digest: string,
  ) {}

  get args(): readonly string[] {
    return ["--factors", `${this.folder}/set.safetensors`, "--adapters", `${this.folder}/adapters`];
  }

  static async make(): Promise<Cores> {
    using checkpoint = await openCheckpoint(folderOf(MODEL));
    const options = { rank: 4, modules: MODULES };
    const factors = factorsOf(checkpoint, await checkpoint.digest(), options);
    const folder = await Deno.makeTempDir();
    await Deno.mkdir(`${folder}/adapters/acme`, { recursive: true });
    await Deno.writeFile(`${folder}/set.safetensors`, writeFactors(factors));
    const [stored, inline] = [1, 2].map((seed) => writeCore(randomCore(factors, seed, 0.3)));
    await Deno.writeFile(`${folder}/adapters/acme/one.safetensors`, stored);
    const { numLayers: layers, numKvHeads: kvHeads, headDim } = checkpoint.config;
    const bytes = KvCache.bytesPerToken({ layers, kvHeads, headDim });
    return new Cores(folder, inline.toBase64(), bytes, factors.digest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

function start(cores: Cores, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const options = ["--port", "0", "--model", folderOf(MODEL), "--max-batch", "4", ...cores.args];
  return new ServerProcess(SERVE, { args: [...options, ...args], env });
}

/** What a server answers: rows of one batch with a core each and without, then what is cached. */
async function answers(url: string, cores: Cores) {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  const chat = async (text: string, more: Record<string, unknown> = {}) => {
    const messages = [{ role: "user" as const, content: text }];
    const answer = await client.chat.completions.create({ ...ASKED, ...more, messages });
    return answer.choices[0]?.message.content;
  };
  const streamed = async () => {
    const stream = await client.completions.create({ ...ASKED, prompt: TEXT, stream: true });
    let text = "";
    for await (const { choices } of stream) text += choices[0]?.text ?? "";
    return text;
  };
  const together = await Promise.all([
    chat(TEXT),
    streamed(),
    chat("hello", { model: "acme/one" }),
    chat("hello", { adapter: { cores: cores.inline } }),
    chat("hello"),
  ]);
  const again = await client.completions.create({ ...ASKED, prompt: TEXT });
  assert(await cachedTokens(url) > 0, "no cached prefix was taken");
  return [...together, again.choices[0]?.text];
}

/** Trains a core beside requests; what the base and the core say of a row's prompt. */
async function tune(url: string, { digest: factors }: Cores): Promise<readonly string[]> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  const rows = ["road", "fire", "ring"].map((word) =>
    JSON.stringify({ prompt: `the ${word} goes`, completion: ` ever on and on, ${word}` })
  );
  const training_file = await upload(client, rows.join("\n"));
  const learned = { n_epochs: 12, batch_size: 3, learning_rate_multiplier: 30, rank: 4 };
  const hyperparameters = { ...learned, factors };
  const job = await client.fineTuning.jobs.create({ model: MODEL, training_file, hyperparameters });
  const ask = async (model: string) => {
    const { choices } = await client.completions.create({
      ...ASKED,
      model,
      prompt: "the road goes",
    });
    return choices[0]?.text ?? "";
  };
  const [{ fine_tuned_model, trained_tokens }, before] = await Promise.all([
    until(client, job.id, "succeeded"),
    ask(MODEL),
  ]);
  assert((trained_tokens ?? 0) > 0);
  const { data: events } = await client.fineTuning.jobs.listEvents(job.id);
  assert(events.some(({ type }) => type === "metrics"), JSON.stringify(events));
  const { data: kept } = await client.fineTuning.jobs.checkpoints.list(job.id);
  assert(kept.length > 0, "no checkpoint was kept");
  return [before, await ask(fine_tuned_model ?? ""), await ask(MODEL)];
}

/** How likely each token of a prompt is, and of what comes; null for the first. */
async function scored(url: string): Promise<readonly (number | null)[]> {
  const answer = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...ASKED, prompt: TEXT, echo: true, logprobs: 1 }),
  });
  const body = await answer.json();
  assertEquals(answer.status, 200, JSON.stringify(body));
  return body.choices[0].logprobs.token_logprobs;
}

async function cachedTokens(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^vllm:prefix_cache_hits_total\S* (\d+)/m.exec(text)?.[1]);
}

async function stop(server: ServerProcess): Promise<string> {
  server.kill("SIGTERM");
  const { code, lines } = await server.ended();
  const text = lines.join("\n");
  assertEquals(code, 0, text);
  assertStringIncludes(text, BALANCED);
  return text;
}

Deno.test(
  onWebGpu(
    "a server on WebGPU answers as one on the CPU does, trains a core and serves it, and ends well",
  ),
  async () => {
    await using gpu = await SoftwareGpu.unpack();
    await using cores = await Cores.make();
    const memory = String(5 * 113 * cores.kvBytesPerToken);
    const here = start(cores, ["--device", "cpu", "--dtype", "fp32", "--max-context", "112"]);
    const wanted = await answers(await here.url(), cores);
    const likely = await scored(await here.url());
    await stop(here);

    const there = start(
      cores,
      ["--device", "webgpu", "--dtype", "fp32", "--kv-memory", memory],
      gpu.env,
    );
    const url = await there.url();
    const found = await answers(url, cores);
    assertEquals(found, wanted);
    assertEquals(new Set(found.slice(2, 5)).size, 3, "cores say what the base says");

    const [before, tuned, after] = await tune(url, cores);
    assertEquals(after, before);
    assert(tuned !== before, "the core that was trained says what the base says");
    const scores = await scored(url);
    assertEquals(scores.length, likely.length);
    scores.forEach((logprob, i) => assertAlmostEquals(logprob ?? 0, likely[i] ?? 0, 1e-3));

    const text = await stop(there);
    assertMatch(
      text,
      /--device webgpu computes in float32 on SwiftShader.*, software, .*subgroups of 4/,
    );
    assertMatch(text, /not yet run on a GPU: tested on a software device/);
    assertMatch(text, /fp32 on webgpu/);
    assertMatch(text, /webgpu: the faster attention over prompts is wrong on this graphics device/);
    // four slots and a row apart, each with room for one token more
    assertMatch(text, /context 112 tokens \(what --kv-memory holds/);
  },
);

Deno.test(
  onWebGpu("a server on WebGPU serves 8 bits in blocks unless told, and each core says its own"),
  async () => {
    await using gpu = await SoftwareGpu.unpack();
    await using cores = await Cores.make();
    const there = start(cores, ["--device", "webgpu", "--max-context", "112"], gpu.env);
    const found = await answers(await there.url(), cores);
    assertEquals(new Set(found.slice(2, 5)).size, 3, "cores say what the base says");
    // the second time a part of it comes from the prefix cache
    assertEquals(found[5], found[1]);
    const text = await stop(there);
    assertMatch(text, /int8 on webgpu \(--dtype auto, of a file in F32\)/);
  },
);

Deno.test(
  inFloat16("a server on WebGPU computes in float16 where its shaders do, and trains in float32"),
  async () => {
    await using gpu = await openLavapipe();
    await using cores = await Cores.make();
    const args = ["--device", "webgpu", "--dtype", "fp16", "--max-context", "112"];
    const there = start(cores, args, gpu.env);
    const url = await there.url();
    const found = await answers(url, cores);
    assertEquals(new Set(found.slice(2, 5)).size, 3, "cores say what the base says");
    assertEquals(found[5], found[1]);
    const [before, tuned, after] = await tune(url, cores);
    assertEquals(after, before);
    assert(tuned !== before, "the core that was trained says what the base says");
    const text = await stop(there);
    assertMatch(text, /computes in float16 on llvmpipe.*, software, /);
    assertMatch(text, /fp16 on webgpu/);
  },
);

Deno.test("fp16 on the CPU is refused in one sentence that names what works", async () => {
  await using cores = await Cores.make();
  const { code, lines } = await start(cores, ["--device", "cpu", "--dtype", "fp16"]).ended();
  assertEquals([code, lines.length], [1, 1], lines.join("\n"));
  assertStringIncludes(lines[0] ?? "", "the CPU has no float16 kernels; pass --dtype int8");
});

/** `deno task serve --device webgpu` on a graphics device in software, beside the same server on the CPU. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { writeCore, writeFactors } from "../../adapters/lotr/format.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { KvCache } from "../../src/executor/kv_cache.ts";
import { MODULES } from "../../src/models/hook.ts";
import { BALANCED } from "../../server/books.ts";
import { factorsOf, folderOf, randomCore } from "../engine/tiny.ts";
import { onWebGpu, SoftwareGpu } from "../programs/software_gpu.ts";
import { ServerProcess } from "./server_process.ts";

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
    return new Cores(folder, inline.toBase64(), bytes);
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
  onWebGpu("a server on WebGPU answers as one on the CPU does, and ends well"),
  async () => {
    await using gpu = await SoftwareGpu.unpack();
    await using cores = await Cores.make();
    const memory = String(5 * 112 * cores.kvBytesPerToken);
    const here = start(cores, ["--device", "cpu", "--dtype", "fp32", "--max-context", "112"]);
    const wanted = await answers(await here.url(), cores);
    await stop(here);

    const there = start(cores, ["--device", "webgpu", "--kv-memory", memory], gpu.env);
    const url = await there.url();
    const found = await answers(url, cores);
    assertEquals(found, wanted);
    assertEquals(new Set(found.slice(2, 5)).size, 3, "cores say what the base says");

    const refused = await fetch(`${url}/v1/fine_tuning/jobs`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: MODEL, training_file: "file-none" }),
    });
    assertEquals(refused.status, 400);
    assertEquals(await refused.json(), {
      error: {
        message: "This server cannot train: training runs on the CPU alone for now.",
        type: "invalid_request_error",
        param: null,
        code: "training_unavailable",
      },
    });
    const scoring = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...ASKED, prompt: TEXT, echo: true, logprobs: 1 }),
    });
    assertEquals(scoring.status, 400);
    await scoring.body?.cancel();

    const text = await stop(there);
    assertMatch(
      text,
      /--device webgpu finds SwiftShader.*\(software\) and computes in fp32 \(--dtype auto\)/,
    );
    assertMatch(text, /not yet run on a GPU: tested on a software device/);
    assertMatch(text, /fp32 on webgpu/);
    // four slots and a row apart
    assertMatch(text, /context 112 tokens \(what --kv-memory holds/);
  },
);

Deno.test("a precision that WebGPU lacks is refused in one sentence that names what works", async () => {
  await using cores = await Cores.make();
  for (const dtype of ["int8", "fp16"]) {
    const { code, lines } = await start(cores, ["--device", "webgpu", "--dtype", dtype]).ended();
    assertEquals([code, lines.length], [1, 1], lines.join("\n"));
    assertStringIncludes(
      lines[0] ?? "",
      `Cannot serve ${dtype} on webgpu: it computes in float32 alone so far, pass --dtype fp32`,
    );
  }
});

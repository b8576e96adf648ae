// deno-lint-ignore-file no-console -- stdout is this program's protocol
/**
 * The peer: llama.cpp in a process of its own, driven through its batch API so that nothing but its
 * kernels is measured. It loads once, then answers a command a line on stdin with a JSON line on
 * stdout, so that `bench/main.ts` can alternate it with lembas within one run. It knows no lembas.
 *
 *     deno run -A --no-config --no-lock --node-modules-dir=none bench/peers/llama.ts model.gguf
 *
 * Commands: `decode BATCH TOKENS [sample]` (64-token prompts, prefilled outside the clock, then
 * TOKENS steps), `prefill BATCH LENGTH`, `quit`. Without `sample` no token is drawn from the logits:
 * the kernels' time alone, which flatters llama.cpp.
 */
import { parseArgs } from "node:util";
import { type Addon, type AddonContext, type AddonModel, loadAddon } from "./llama_addon.ts";

const PROMPT = 64;
const KV_TYPES: Readonly<Record<string, number>> = { "f32": 0, "f16": 1, "q8_0": 8 };

interface Settings {
  readonly threads: number;
  readonly flashAttention: boolean;
  readonly kv: string;
  readonly room: number;
  readonly microBatch: number;
}

/** Tokens that are the same in every run: no end-of-text among them, and none is drawn. */
function fakeTokens(seed: number, length: number): Uint32Array {
  return Uint32Array.from({ length }, (_, i) => 1000 + (seed * 7919 + i * 104729) % 40000);
}

/** One loaded model with a context for each batch size asked for. */
class Peer {
  readonly #contexts = new Map<number, AddonContext>();

  constructor(
    readonly addon: Addon,
    readonly model: AddonModel,
    readonly settings: Settings,
  ) {}

  async #context(batch: number): Promise<AddonContext> {
    const known = this.#contexts.get(batch);
    if (known !== undefined) return known;
    const { settings } = this;
    const kv = KV_TYPES[settings.kv] ?? 1;
    const context = new this.addon.AddonContext(this.model, {
      contextSize: batch * settings.room,
      batchSize: settings.microBatch,
      sequences: batch,
      flashAttention: settings.flashAttention,
      threads: settings.threads,
      kvCacheKeyType: kv,
      kvCacheValueType: kv,
    });
    if (!await context.init()) throw new Error(`Cannot make a context of ${batch} sequences`);
    this.#contexts.set(batch, context);
    return context;
  }

  /** Fills `batch` empty sequences with prompts of `length`; resolves to milliseconds. */
  async prefill(batch: number, length: number): Promise<number> {
    const context = await this.#context(batch);
    for (let s = 0; s < batch; s++) context.disposeSequence(s);
    const perRun = Math.max(1, Math.floor(this.settings.microBatch / length));
    const last = Uint32Array.of(length - 1);
    const start = performance.now();
    for (let first = 0; first < batch; first += perRun) {
      const rows = Math.min(perRun, batch - first);
      context.initBatch(rows * length);
      for (let s = first; s < first + rows; s++) {
        context.addToBatch(s, 0, fakeTokens(s, length), last);
      }
      await context.decodeBatch();
    }
    return performance.now() - start;
  }

  /** Milliseconds of each of `steps` decode steps over `batch` sequences. */
  async decode(batch: number, steps: number, sample: boolean): Promise<number[]> {
    const context = await this.#context(batch);
    await this.prefill(batch, PROMPT);
    const sampler = new this.addon.AddonSampler(this.model);
    sampler.applyConfig({ temperature: 0 });
    const tokens = fakeTokens(batch, batch);
    const times: number[] = [];
    const only = Uint32Array.of(0);
    for (let step = 0; step < steps; step++) {
      const start = performance.now();
      context.initBatch(batch);
      const rows = Array.from(
        tokens,
        (token, s) => context.addToBatch(s, PROMPT + step, Uint32Array.of(token), only)[0] ?? 0,
      );
      await context.decodeBatch();
      for (let s = 0; sample && s < batch; s++) {
        tokens[s] = await context.sampleToken(rows[s] ?? 0, sampler);
      }
      times.push(performance.now() - start);
    }
    return times;
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

async function answer(peer: Peer, command: string): Promise<Record<string, unknown>> {
  const [op, first, second, extra] = command.trim().split(/\s+/);
  const [batch, count] = [Number(first), Number(second)];
  if (!(batch >= 1 && count >= 1)) throw new RangeError(`Cannot read command: ${command}`);
  if (op === "prefill") {
    const ms = await peer.prefill(batch, count);
    return { op, batch, length: count, ms, tokensPerSecond: batch * count / ms * 1e3 };
  }
  if (op === "decode") {
    if (PROMPT + count > peer.settings.room) {
      throw new RangeError(
        `Cannot decode ${count} tokens: a row has room for ${peer.settings.room}`,
      );
    }
    const times = await peer.decode(batch, count, extra === "sample");
    const ms = times.reduce((a, b) => a + b, 0);
    return {
      op,
      batch,
      tokens: count,
      sampled: extra === "sample",
      ms,
      stepMs: median(times),
      tokensPerSecond: batch * count / ms * 1e3,
    };
  }
  throw new RangeError(`Cannot run ${op}: the commands are decode, prefill and quit`);
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream() as TransformStream)) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest !== "") yield rest;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: {
      threads: { type: "string", default: String(navigator.hardwareConcurrency) },
      "no-flash": { type: "boolean", default: false },
      "no-mmap": { type: "boolean", default: false },
      kv: { type: "string", default: "f16" },
      room: { type: "string", default: "256" },
      "micro-batch": { type: "string", default: "512" },
    },
  });
  const path = positionals[0];
  if (path === undefined) throw new TypeError("Cannot start: pass a GGUF file");
  const addon = await loadAddon();
  const model = new addon.AddonModel(path, { gpuLayers: 0, useMmap: !values["no-mmap"] });
  if (!await model.init()) throw new TypeError(`Cannot load ${path}`);
  const settings: Settings = {
    threads: Number(values.threads),
    flashAttention: !values["no-flash"],
    kv: values.kv,
    room: Number(values.room),
    microBatch: Number(values["micro-batch"]),
  };
  const peer = new Peer(addon, model, settings);
  const description = model.getModelDescription();
  console.log(JSON.stringify({ ready: true, description, bytes: model.getModelSize(), settings }));
  for await (const command of lines(Deno.stdin.readable)) {
    if (command.trim() === "quit") break;
    if (command.trim() === "") continue;
    try {
      console.log(JSON.stringify(await answer(peer, command)));
    } catch (error) {
      console.log(JSON.stringify({ error: error instanceof Error ? error.message : `${error}` }));
    }
  }
  Deno.exit(0);
}

if (import.meta.main) await main();

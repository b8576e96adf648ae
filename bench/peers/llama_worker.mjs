// deno-lint-ignore-file no-console -- stdout is this program's protocol
/**
 * The peer's inside: llama.cpp through node-llama-cpp's prebuilt addon and its batch API, so that
 * nothing but its kernels is measured. It runs under Node with UV_THREADPOOL_SIZE=1, which
 * `llama.ts` sets: with more threads calling, each step starts on another one, llama.cpp's two
 * workers meet on one core for a scheduler's tick and a step of 5 ms takes 16. It knows no lembas.
 *
 * Argument: a JSON object of settings. Commands, a line each on stdin: `decode BATCH TOKENS BEHIND`
 * (prompts of BEHIND tokens, filled outside the clock; no token is drawn from the logits: the
 * kernels' time alone), `sample BATCH TOKENS BEHIND` (the same with a greedy token drawn for each
 * row), `prefill BATCH LENGTH`, `quit`. Answers: a JSON line each on stdout.
 */
import { createRequire } from "node:module";
import process from "node:process";
import { createInterface } from "node:readline";

/**
 * @typedef {object} Settings
 * @property {string} bins the folder of the addon and its kernels
 * @property {string} model a GGUF file
 * @property {number} threads
 * @property {boolean} flashAttention
 * @property {number} kvType ggml's type number: 0 = float32, 1 = float16, 8 = Q8_0
 * @property {number} room tokens a sequence has room for
 * @property {number} microBatch most tokens of one run
 */

/** @type {Settings} */
const settings = JSON.parse(process.argv[2] ?? "{}");

const addon = createRequire(import.meta.url)(`${settings.bins}/llama-addon.node`);
addon.setLogger(() => {}); // its own logger writes progress dots into stdout
addon.loadBackends();
addon.loadBackends(settings.bins);
await addon.init();
const model = new addon.AddonModel(settings.model, { gpuLayers: 0, useMmap: true });
if (!await model.init()) throw new TypeError(`Cannot load ${settings.model}`);
const sampler = new addon.AddonSampler(model);
sampler.applyConfig({ temperature: 0 });
const contexts = new Map();

/** A context of exactly `batch` sequences: idle ones would cost llama.cpp time. */
async function contextOf(batch) {
  const known = contexts.get(batch);
  if (known !== undefined) return known;
  const context = new addon.AddonContext(model, {
    contextSize: batch * settings.room,
    batchSize: settings.microBatch,
    sequences: batch,
    flashAttention: settings.flashAttention,
    threads: settings.threads,
    kvCacheKeyType: settings.kvType,
    kvCacheValueType: settings.kvType,
  });
  if (!await context.init()) throw new Error(`Cannot make a context of ${batch} sequences`);
  contexts.set(batch, context);
  return context;
}

/** Ordinary token ids, the same in every run. */
function fakeTokens(seed, length) {
  return Uint32Array.from({ length }, (_, i) => 1000 + (seed * 7919 + i * 104729) % 40000);
}

/** Fills `batch` empty sequences with prompts; resolves to milliseconds. */
async function prefill(batch, length) {
  const context = await contextOf(batch);
  for (let s = 0; s < batch; s++) context.disposeSequence(s);
  if (length > settings.microBatch) return await prefillLong(context, batch, length);
  const rowsPerRun = Math.max(1, Math.floor(settings.microBatch / length));
  const last = Uint32Array.of(length - 1);
  const start = performance.now();
  for (let first = 0; first < batch; first += rowsPerRun) {
    const rows = Math.min(rowsPerRun, batch - first);
    context.initBatch(rows * length);
    for (let s = first; s < first + rows; s++) {
      context.addToBatch(s, 0, fakeTokens(s, length), last);
    }
    await context.decodeBatch();
  }
  return performance.now() - start;
}

/** The same where a prompt is longer than a run: one after the other, a run of each at a time. */
async function prefillLong(context, batch, length) {
  const start = performance.now();
  for (let s = 0; s < batch; s++) {
    const prompt = fakeTokens(s, length);
    for (let past = 0; past < length; past += settings.microBatch) {
      const chunk = prompt.slice(past, past + settings.microBatch);
      context.initBatch(chunk.length);
      context.addToBatch(s, past, chunk, Uint32Array.of(chunk.length - 1));
      await context.decodeBatch();
    }
  }
  return performance.now() - start;
}

/** Milliseconds of each of `steps` decode steps over `batch` sequences. */
async function decode(batch, steps, behind, sampled) {
  if (behind + steps > settings.room) {
    throw new RangeError(`Cannot decode ${steps} tokens: a row has room for ${settings.room}`);
  }
  await prefill(batch, behind);
  const context = await contextOf(batch);
  const tokens = fakeTokens(batch, batch);
  const only = Uint32Array.of(0);
  const times = [];
  for (let step = 0; step < steps; step++) {
    const start = performance.now();
    context.initBatch(batch);
    const rows = Array.from(
      tokens,
      (token, s) => context.addToBatch(s, behind + step, Uint32Array.of(token), only)[0],
    );
    await context.decodeBatch();
    for (let s = 0; sampled && s < batch; s++) {
      tokens[s] = await context.sampleToken(rows[s], sampler);
    }
    times.push(performance.now() - start);
  }
  return times;
}

async function answer(command) {
  const [op, first, second, third] = command.split(/\s+/);
  const batch = Number(first);
  const count = Number(second);
  if (!(batch >= 1 && count >= 1)) throw new RangeError(`Cannot read command: ${command}`);
  if (op === "prefill") return { op, batch, tokens: count, ms: [await prefill(batch, count)] };
  if (op === "decode" || op === "sample") {
    const ms = await decode(batch, count, Number(third), op === "sample");
    return { op, batch, tokens: count, ms };
  }
  throw new RangeError(`Cannot run ${op}: the commands are decode, sample, prefill and quit`);
}

console.log(JSON.stringify({ ready: model.getModelDescription(), bytes: model.getModelSize() }));
for await (const line of createInterface({ input: process.stdin })) {
  const command = line.trim();
  if (command === "quit") break;
  if (command === "") continue;
  const reply = await answer(command).catch((error) => ({ error: String(error.message ?? error) }));
  console.log(JSON.stringify(reply));
}
process.exit(0);

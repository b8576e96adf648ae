// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * The executor on WebGPU beside the one on the CPU: greedy texts of ragged prompts, longer than a run
 * too, each row with a core of its own; then a row that is moved, one that is saved, loaded elsewhere
 * and goes on. Prints whether tokens agree, and the largest difference of log-probabilities; and
 * the same of a text that is scored, and between decode steps that are recorded and repeated and those
 * that are not; and the bytes of keys and values that the lane reserves. Arguments: the model, and how
 * it is served on WebGPU.
 */
import { toResident } from "../../../adapters/lotr/core.ts";
import type { SampleRow } from "../../../src/executor/model.ts";
import type { Executor } from "../../../src/executor/executor.ts";
import type { ServingDtype } from "../../../src/executor/plan/serving_plan.ts";
import { MODULES } from "../../../src/models/hook.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { seeded } from "../../engine/harness.ts";
import { greedy, mostLikely } from "../../engine/greedy.ts";
import { randomCore, randomPrompt, Tiny } from "../../engine/tiny.ts";
import { distance } from "../../graph/run.ts";

const LENGTHS = [3, 40, 1, 17, 70];
const [name, dtype = "fp32"] = Deno.args as [string, ServingDtype?];

/** What a base says on a device. */
async function speak(device: "cpu" | "webgpu", recording = true) {
  using opened = openDevice(device);
  using tiny = await Tiny.open(name, {
    ...{ device: opened, recording },
    dtype: device === "cpu" ? "fp32" : dtype,
  });
  const factors = tiny.factors(8, MODULES);
  const model = await tiny.base.lane(factors);

  const rows = LENGTHS.map((length, i) => ({
    prompt: randomPrompt(length, i),
    core: i === 2 ? undefined : toResident(randomCore(factors, i, 0.3), factors),
  }));
  const spoken = await greedy(model, rows, 8);
  const tokens = spoken.map((row) => row.tokens);
  const logprobs = spoken.flatMap((row) => row.logprobs);
  const next = (slot: number, length: number) => oneMore(model, slot, length, logprobs, tokens);

  // slot 4 leaves, as the engine has the last row move into a hole
  model.move(4, 1, LENGTHS[4] + 7);
  model.free(4);
  await next(1, LENGTHS[4] + 7);

  const blocks = [model.save(3, 0, 16), model.save(3, 16, 24)];
  model.free(3);
  await model.prefill([{ slot: 3, tokens: randomPrompt(50, 9), past: 0, last: true }]);
  model.setAdapter(2, rows[3].core);
  blocks.forEach((block, i) => model.load(2, i * 16, block));
  for (const block of blocks) block.release();
  await next(2, 24);
  model.checkIntegrity();
  const ahead = await aheads(model);
  const scored = await scores(model, opened);
  return {
    ahead,
    tokens,
    logprobs,
    records: model.records,
    laneBytes: tiny.base.laneBytes(factors),
    ...scored,
  };
}

/** Logits of a text of 60 tokens in two parts, and whether a whole prompt's are refused. */
async function scores(model: Executor, device: Device) {
  model.setAdapter(0, undefined);
  const text = randomPrompt(60, 5);
  const logits: number[] = [];
  for (const past of [0, 30]) {
    using out = device.tensor("float32", [30, model.vocabSize]);
    await model.logitsOf(text.slice(past, past + 30), past, out);
    logits.push(...out.data as Float32Array);
  }
  using out = device.tensor("float32", [60, model.vocabSize]);
  const whole = await model.logitsOf(text, 0, out).then(() => "scored", ({ message }) => message);
  return { logits, whole };
}

/** One more step; what the row in a slot says. */
async function oneMore(
  model: Executor,
  slot: number,
  length: number,
  logprobs: number[],
  tokens: number[][],
): Promise<void> {
  const lengths = new Array<number>(slot + 1).fill(0);
  lengths[slot] = length;
  await model.decode(new Array<number>(slot + 1).fill(7), lengths);
  const { token, logprob = NaN } = (await mostLikely(model, slot + 1))[slot];
  logprobs.push(logprob);
  tokens.push([token]);
}

/**
 * Steps of two rows that follow each other without the host, one row drawing its best, and the same
 * one by one; and how many there are where the slots hold no more.
 */
async function aheads(model: Executor) {
  const rows: SampleRow[] = [0, 0.9].map((temperature, row) => ({ row, temperature, uniform: 0 }));
  const lengths = [20, 31];
  const prompts = lengths.map((length, i) => randomPrompt(length, 3 + i));
  await model.prefill(prompts.map((tokens, slot) => ({ slot, tokens, past: 0, last: true })));
  const uniforms = seeded(3);
  const given = Array.from({ length: 6 }, () => [uniforms(), uniforms()]);
  const one: number[][] = [[7, 9]];
  for (const [i, step] of given.entries()) {
    await model.decode(one[i], lengths.map((length) => length + i));
    const drawn = await model.sample(rows.map((row, at) => ({ ...row, uniform: step[at] })));
    one.push(drawn.map(({ token }) => token));
  }
  const { ahead } = model;
  if (ahead === undefined) return { one: one.slice(1) };
  const many = await ahead.run(one[0], lengths, rows, given);
  const full = await ahead.run(one[0], [20, model.maxContext - 2], rows, given);
  const host = ahead.most(rows.map((row) => ({ ...row, topK: 3 })));
  return { one: one.slice(1), many, most: ahead.most(rows), host, full: full.length };
}

const wanted = await speak("cpu");
const found = await speak("webgpu");
const plain = await speak("webgpu", false);
console.log(JSON.stringify({
  alike: JSON.stringify(wanted.tokens) === JSON.stringify(found.tokens),
  off: distance(found.logprobs, wanted.logprobs),
  rows: wanted.tokens.length,
  reserved: found.laneBytes - wanted.laneBytes,
  scoresOff: distance(found.logits, wanted.logits),
  records: [found.records, plain.records],
  plain: {
    alike: JSON.stringify(plain.tokens) === JSON.stringify(found.tokens),
    off: distance(found.logprobs, plain.logprobs),
  },
  whole: [wanted.whole, found.whole],
  ahead: [wanted.ahead, found.ahead, plain.ahead],
}));

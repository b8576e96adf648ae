// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Everything at once on a device: requests of several cores over more factor sets than lanes fit, some
 * of which are given up, cores that come, a job that trains, and sessions beside that are made, run and
 * released. Prints what was said whole, the job's losses, and what is left. Arguments: the device, rounds.
 */
import { Lembas } from "../../../adapters/lembas.ts";
import { randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { folderOf, randomCore, randomPrompt } from "../../engine/tiny.ts";
import { doublingModel } from "../../runtime/models.ts";

const device = Deno.args[0] === "webgpu" ? "webgpu" : "cpu";
const rounds = Number(Deno.args[1]);
await using lembas = await Lembas.load({
  ...{ device, model: folderOf("llama"), dtype: "fp32", maxBatch: 4, maxContext: 96 },
  ...{ kvMemory: 2 ** 23, laneMemory: 2 ** 22 },
});
const { stack } = lembas.registry;
const sets = [4, 4, 6].map((rank, seed) => randomFactors({ stack, rank, seed }));
for (const factors of sets) lembas.addFactors(factors);

/** Ways to draw; the last ones are decided on the host in part. */
const SAMPLING = [
  { temperature: 0 },
  { temperature: 1, seed: 1 },
  { temperature: 0.8, topP: 0.7, seed: 2 },
  { temperature: 0, frequencyPenalty: 1 },
];

/** What one core says, asked again and again, of prompts that share an opening. */
async function speaker(index: number): Promise<(readonly number[])[]> {
  const said: (readonly number[])[] = [];
  for (let round = 0; round < rounds; round++) {
    const number = index * rounds + round;
    const set = sets[number % sets.length];
    const adapter = `acme/core${number}`;
    lembas.addCore(adapter, randomCore(set, number, 0.3));
    const prompt = [...randomPrompt(33, 1), ...randomPrompt(1 + 7 * round, number)];
    const options = {
      ...{ adapter, maxTokens: 6, ignoreEos: true },
      ...SAMPLING[number % SAMPLING.length],
    };
    const control = new AbortController();
    const left = lembas.generate(prompt, { ...options, maxTokens: 40, signal: control.signal });
    const whole = lembas.generate(prompt, options);
    setTimeout(() => control.abort(), 20 * index);
    await left.catch(() => {});
    said.push((await whole).tokens);
  }
  return said;
}

async function trained(): Promise<number[]> {
  const losses: number[] = [];
  const row = JSON.stringify({ prompt: "The road goes", completion: " ever on" });
  await lembas.train(row, {
    ...{ factors: sets[0], rank: 2, epochs: 2 * rounds },
    onProgress: (progress) => {
      if (progress.type === "step") losses.push(progress.loss);
    },
  });
  return losses;
}

/** Results of another user of the device that are wrong. */
async function beside(until: Promise<unknown>): Promise<number> {
  using other = openDevice(device);
  const ended = until.then(() => "ended", () => "ended");
  let wrong = 0;
  for (let i = 1; await Promise.race([ended, Promise.resolve("goes on")]) !== "ended"; i++) {
    using session = await other.session(doublingModel("float32"));
    using x = await other.allocate("float32", [1 + i % 300]);
    await other.upload(x, new Float32Array(1 + i % 300).fill(i));
    using binding = session.bind({ x }, { y: x });
    await binding.run();
    if ((await other.download(x)).some((value) => value !== 2 * i)) wrong++;
  }
  return wrong;
}

const work = Promise.all([
  Promise.all([0, 1, 2].map(speaker)),
  trained(),
]);
const [[said, losses], wrong] = await Promise.all([work, beside(work)]);
lembas.engine.checkIntegrity();
const { running, waiting, lanes } = lembas.engine.stats();
console.log(JSON.stringify({
  ...{ said, losses, wrong, left: [running, waiting] },
  evictions: lanes.evictions,
}));

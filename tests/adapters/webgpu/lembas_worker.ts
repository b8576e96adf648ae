// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * `Lembas` on a device with more factor sets than lanes fit: what cores of each say, twice around, and
 * the losses of training over one of them by each method. Argument: the device.
 */
import { Lembas } from "../../../adapters/lembas.ts";
import { randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { folderOf, randomCore, randomPrompt } from "../../engine/tiny.ts";

const device = Deno.args[0] === "webgpu" ? "webgpu" : "cpu";
await using lembas = await Lembas.load({
  ...{ device, model: folderOf("llama"), dtype: "fp32", maxBatch: 2, maxContext: 64 },
  ...{ kvMemory: 2 ** 22, laneMemory: 2 ** 22 },
});
const { stack } = lembas.registry;
const sets = [3, 4, 5, 4].map((rank, seed) => randomFactors({ stack, rank, seed }));
for (const [i, factors] of sets.entries()) {
  lembas.addFactors(factors);
  lembas.addCore(`acme/core${i}`, randomCore(factors, i, 0.3));
}
const said: (readonly number[])[] = [];
for (const i of [...sets.keys(), ...sets.keys()]) {
  const options = { adapter: `acme/core${i}`, temperature: 0, maxTokens: 5, ignoreEos: true };
  said.push((await lembas.generate(randomPrompt(40, i), options)).tokens);
}
lembas.engine.checkIntegrity();
const row = JSON.stringify({ prompt: "The road goes", completion: " ever on" });
const training: number[] = [];
for (const method of ["core", "lotr"] as const) {
  await lembas.train(row, {
    ...{ factors: sets[0], method, rank: 2, epochs: 3 },
    onProgress: (progress) => {
      if (progress.type === "step") training.push(progress.loss);
    },
  });
}
console.log(JSON.stringify({ said, training, evictions: lembas.engine.stats().lanes.evictions }));

/** Draws of the sampler by their thousands: chi-square tests against the distribution. */
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { randomArray } from "../graph/run.ts";
import { chiSquareTail, pValue } from "./chi_square.ts";
import { seeded } from "./harness.ts";
import { descending, distribution } from "./naive_sampler.ts";
import { Bench } from "./sampler_rig.ts";

Deno.test("the chi-square tail is the one of the tables", () => {
  for (
    const [x, degrees, tail] of [
      [3.841458820694124, 1, 0.05],
      [18.307038053275146, 10, 0.05],
      [299, 299, 0.48912362667674497],
      [400, 299, 8.288024104247718e-5],
    ]
  ) assertLess(Math.abs(chiSquareTail(x, degrees) / tail - 1), 1e-5);
  assertEquals(chiSquareTail(0, 5), 1);
});

/** Below it, draws are not from the distribution: one honest run in ten thousand would fail. */
const SIGNIFICANT = 1e-4;

/** Counts of `draws` seeded draws by bin, `batch` rows a call. */
async function histogram(
  bench: Bench,
  binOf: (token: number) => number,
  size: { readonly bins: number; readonly draws: number; readonly batch: number },
): Promise<Float64Array> {
  const random = seeded(2024);
  const counts = new Float64Array(size.bins);
  for (let drawn = 0; drawn < size.draws; drawn += size.batch) {
    const tokens = await bench.draws(Array.from({ length: size.batch }, random));
    for (const token of tokens) counts[binOf(token)]++;
  }
  return counts;
}

Deno.test("at temperature 1 and top-p 1, 40,000 draws pass the chi-square test over 300 tokens", async () => {
  const vocab = 300;
  using bench = new Bench(vocab, randomArray(vocab, 8, 0.8));
  const { probabilities } = distribution(bench.row(0), { row: 0, uniform: 0, temperature: 1 });
  const size = { bins: vocab, draws: 40_000, batch: 1000 };
  const counts = await histogram(bench, (token) => token, size);
  assertGreater(pValue(counts, probabilities), SIGNIFICANT);
  // The test has teeth: a temperature of 1.1 does not pass.
  const warmer = distribution(bench.row(0), { row: 0, uniform: 0, temperature: 1.1 });
  assertLess(pValue(counts, warmer.probabilities), SIGNIFICANT);
});

Deno.test("over 49,152 tokens, 20,000 draws pass the chi-square test in bins of equal chance", async () => {
  const [vocab, bins] = [49_152, 400];
  using bench = new Bench(vocab, randomArray(vocab, 9, 3));
  const { probabilities } = distribution(bench.row(0), { row: 0, uniform: 0, temperature: 1 });
  // Tokens by likelihood, dealt into bins: the tail fills as many bins as the head.
  const binOf = new Int32Array(vocab);
  const chances = new Float64Array(bins);
  let [bin, mass] = [0, 0];
  for (const token of descending(bench.row(0))) {
    if (mass >= (bin + 1) / bins && bin < bins - 1) bin++;
    binOf[token] = bin;
    chances[bin] += probabilities[token];
    mass += probabilities[token];
  }
  assert(chances.every((chance) => chance > 0.0005), "every bin expects ten draws or more");
  const counts = await histogram(bench, (token) => binOf[token], {
    bins,
    draws: 20_000,
    batch: 250,
  });
  assertGreater(pValue(counts, chances), SIGNIFICANT);
  // Candidates cut at the 4,096 most likely tokens would show.
  const cut = descending(bench.row(0)).slice(0, 4096);
  const share = cut.reduce((sum, token) => sum + probabilities[token], 0);
  assertLess(share, 0.99);
});

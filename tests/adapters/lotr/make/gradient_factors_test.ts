/** The gradient maker: known directions recovered, every layer's say, what it refuses and reports. */
import { assert, assertEquals, assertLess, assertRejects, assertThrows } from "@std/assert";
import { compareFactors } from "../../../../adapters/lotr/energy.ts";
import type { MakerOptions } from "../../../../adapters/lotr/make/assemble.ts";
import {
  type GradientFactors,
  GradientSums,
  type MakerProgress,
} from "../../../../adapters/lotr/make/gradient_factors.ts";
import { gradientFactors } from "../../../../adapters/lotr/make/gradient_maker.ts";
import { randomFactors } from "../../../../adapters/lotr/make/makers.ts";
import { MODULES } from "../../../../src/models/hook.ts";
import type { LinearMatrix } from "../../../../src/train/gradients/gradient_source.ts";
import { EXAMPLES, Gradients, gradientsWithin, STACK } from "../../small.ts";

function factorsOfGradients(
  options: MakerOptions,
  gradients: readonly LinearMatrix[],
): GradientFactors {
  const sums = new GradientSums(options);
  for (const gradient of gradients) sums.add(gradient);
  return sums.factors();
}

Deno.test("gradients that lie within a factor set's spans give the set's spans back", () => {
  const truth = randomFactors({ stack: STACK, rank: 3, modules: MODULES, seed: 4 });
  const { factors, shares } = factorsOfGradients(
    { stack: STACK, rank: 3, modules: MODULES },
    gradientsWithin(truth),
  );
  for (const { name, overlap } of compareFactors(truth, factors)) {
    assertLess(1 - overlap, 1e-9, name);
    assertLess(1 - (shares.get(name) ?? 0), 1e-9, name);
  }
});

Deno.test("a layer of large gradients has no more say than one of small gradients", () => {
  const within = randomFactors({ stack: STACK, rank: 2 });
  const gradients = gradientsWithin(within);
  const louder = gradients.map((gradient) =>
    gradient.layer === 0
      ? { ...gradient, values: gradient.values.map((value) => value * 1000) }
      : gradient
  );
  const [a, b] = [gradients, louder].map((all) =>
    factorsOfGradients({ stack: STACK, rank: 1 }, all).factors
  );
  for (const { name, overlap } of compareFactors(a, b)) assertLess(1 - overlap, 1e-9, name);
});

Deno.test("the shares are those of the sums' traces, and grow with the rank", () => {
  const gradients = gradientsWithin(randomFactors({ stack: STACK, rank: 6 }));
  const held = [1, 3, 6].map((rank) =>
    factorsOfGradients({ stack: STACK, rank }, gradients).shares.get("A.attn_in") ?? NaN
  );
  assert(held[0] < held[1] && held[1] < held[2], `${held}`);
  assertLess(Math.abs(held[2] - 1), 1e-9);
});

Deno.test("the maker hands over its examples and tells of gradients, linears and bases", async () => {
  const source = new Gradients(gradientsWithin(randomFactors({ stack: STACK, rank: 2 })));
  const seen: MakerProgress[] = [];
  await gradientFactors({
    stack: STACK,
    rank: 2,
    source,
    examples: EXAMPLES,
    progress: (progress) => seen.push(progress),
  });
  assertEquals(source.requests.map(({ examples }) => examples), [EXAMPLES]);
  assertEquals(source.requests.map(({ modules }) => modules), [["q_proj", "v_proj"]]);
  assertEquals(seen.map(({ phase, done, total, what }) => `${phase} ${done}/${total} ${what}`), [
    "gradients 7/7 tokens",
    "factors 1/7 layer 0 q_proj",
    "factors 2/7 layer 0 v_proj",
    "factors 3/7 layer 1 q_proj",
    "factors 4/7 layer 1 v_proj",
    "factors 5/7 A.attn_in",
    "factors 6/7 B.q_proj",
    "factors 7/7 B.v_proj",
  ]);
});

Deno.test("gradients that are missing, zero or not finite are refused by layer and linear", () => {
  const gradients = gradientsWithin(randomFactors({ stack: STACK, rank: 2 }));
  const make = (all: typeof gradients) => factorsOfGradients({ stack: STACK, rank: 2 }, all);
  assertThrows(() => make(gradients.slice(1)), TypeError, "no gradient of layer 0 q_proj");
  for (const [value, norm] of [[0, "norm 0"], [NaN, "norm NaN"], [Infinity, "norm Infinity"]]) {
    const [first, ...rest] = gradients;
    const broken = { ...first, values: first.values.map(() => Number(value)) };
    assertThrows(() => make([broken, ...rest]), TypeError, `layer 0 q_proj has ${norm}`);
  }
});

Deno.test("what is wrong with a gradient is told across threads in the same words", async () => {
  const [, ...rest] = gradientsWithin(randomFactors({ stack: STACK, rank: 2 }));
  const source = new Gradients(rest);
  await assertRejects(
    () => gradientFactors({ stack: STACK, rank: 2, source, examples: EXAMPLES }),
    TypeError,
    "no gradient of layer 0 q_proj",
  );
});

Deno.test("an empty calibration text and an aborted signal stop the maker", async () => {
  const source = new Gradients(gradientsWithin(randomFactors({ stack: STACK, rank: 2 })));
  await assertRejects(
    () => gradientFactors({ stack: STACK, rank: 2, source, examples: [] }),
    TypeError,
    "the calibration text is empty",
  );
  const signal = AbortSignal.abort();
  await assertRejects(
    () => gradientFactors({ stack: STACK, rank: 2, source, examples: EXAMPLES, signal }),
    DOMException,
    "aborted",
  );
});

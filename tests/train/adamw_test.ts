/** AdamW against torch.optim.AdamW (tests/fixtures/train/adamw.py made the numbers). */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { adamw, clippedMean, l2Norm } from "../../src/train/adamw.ts";
import fixture from "../fixtures/train/adamw.json" with { type: "json" };

Deno.test("AdamW moves parameters as PyTorch's does, each span at its own rate", () => {
  const { update, init } = adamw({ weightDecay: fixture.weightDecay });
  let parameters: Float32Array = Float32Array.from(fixture.start);
  let state = init(parameters.length);
  for (const step of fixture.steps) {
    const rates = step.rates.map((rate, i) => ({ rate, length: fixture.sizes[i] }));
    const gradient = Float32Array.from(step.gradient);
    ({ parameters, state } = update(gradient, state, parameters, rates));
    step.parameters.forEach((value, i) => assertAlmostEquals(parameters[i], value, 1e-6));
  }
  assertEquals(state.updates, fixture.steps.length);
});

Deno.test("an update changes none of its arguments", () => {
  const { update, init } = adamw();
  const [gradient, parameters, state] = [Float32Array.of(1, 2), Float32Array.of(3, 4), init(2)];
  const moved = update(gradient, state, parameters, 0.1);
  assertEquals([...gradient, ...parameters, ...state.first, ...state.second], [
    ...[1, 2, 3, 4],
    ...[0, 0, 0, 0],
  ]);
  assertEquals(update(gradient, state, parameters, 0.1), moved);
});

Deno.test("weight decay is decoupled: it acts without a gradient, in proportion to the rate", () => {
  const { update, init } = adamw({ weightDecay: 0.1 });
  const moved = update(Float32Array.of(0), init(1), Float32Array.of(2), 0.5);
  assertAlmostEquals(moved.parameters[0], 2 * (1 - 0.5 * 0.1), 1e-7);
});

Deno.test("an update of lengths that disagree is refused with all of them named", () => {
  const { update, init } = adamw();
  const two = Float32Array.of(1, 2);
  assertThrows(() => update(two, init(3), two, 0.1), RangeError, "moments have 3 and 3");
  const spans = [{ length: 1, rate: 0.1 }];
  assertThrows(() => update(two, init(2), two, spans), RangeError, "rates cover 1");
});

Deno.test("a step's gradient is its rows' mean, shortened to the clip and never lengthened", () => {
  const sum = Float64Array.of(30, 40);
  const long = clippedMean(sum, 10, 1);
  assertAlmostEquals(long.norm, 5, 1e-12);
  assertAlmostEquals(l2Norm(long.gradient), 1, 1e-6);
  assertAlmostEquals(long.gradient[1] / long.gradient[0], 4 / 3, 1e-6);
  const short = clippedMean(sum, 100, 1);
  assertEquals([...short.gradient], [...Float32Array.of(0.3, 0.4)]);
  assert(Number.isNaN(clippedMean(Float64Array.of(1, NaN), 1, 1).norm));
});

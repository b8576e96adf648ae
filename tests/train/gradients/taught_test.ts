/**
 * A tiny model that follows a teacher, against the same model that learns tokens: a teacher that is sure
 * of each of them asks for just that.
 *
 * Tolerance: both are float32 sums in another order, so 1e-5 of a loss and of a gradient's length.
 */
import { assertAlmostEquals, assertEquals, assertLess, assertRejects } from "@std/assert";
import { DecoderParameters } from "../../../src/models/parameters.ts";
import { DeviceLock } from "../../../src/runtime/device_lock.ts";
import { DecoderGradients } from "../../../src/train/gradients/gradient_model.ts";
import { LotrGradients } from "../../../src/train/gradients/lotr_model.ts";
import type { Example, MicroBatch } from "../../../src/train/gradients/model.ts";
import { randomPrompt, Tiny } from "../../engine/tiny.ts";
import { relativeError, sitesOf, tinyTrainable } from "../oracle.ts";

const COUNT = 3;

/** Rows of several lengths, the last five tokens with loss. */
const ROWS = [40, 9, 25].map((length, i): Example => {
  const tokens = Int32Array.from(randomPrompt(length, i));
  const weights = Float32Array.from(tokens, (_, at) => at < length - 5 ? 0 : 1 + at % 2);
  return { tokens, weights, line: i + 1 };
});

/** A teacher that expects each token and nothing else. */
function sure(row: Example): Example {
  const learnt = Array.from(row.tokens).filter((_, i) => row.weights[i] !== 0);
  const others = (token: number) =>
    Array.from({ length: COUNT - 1 }, (_, i) => (token + i + 1) % 9);
  const tokens = Int32Array.from(learnt.flatMap((token) => [token, ...others(token)]));
  const shares = Float32Array.from(learnt.flatMap(() => [1, ...Array(COUNT).fill(0)]));
  return { ...row, teaching: { count: COUNT, tokens, shares } };
}

Deno.test("a teacher that is sure of each token gives its loss, hits and gradients", async () => {
  using tiny = await Tiny.open("llama");
  const { checkpoint, device, weights, plan, positions } = tiny.base.shared;
  const { hook, cores } = tinyTrainable(checkpoint, 0);
  const lock = new DeviceLock();
  const options = {
    ...{ config: checkpoint.config, hook, scale: 1, positions, device, weights, plan },
    parameters: new DecoderParameters(checkpoint, positions, { hook }),
    turn: () => lock.take(1),
  };
  const factors = [...sitesOf(hook).map(hook.a), ...hook.modules.map(hook.b)];
  const whole = Float32Array.from([...factors, cores].flatMap((part) => [...part]));
  const batch = (rows: readonly Example[], parameters: Float32Array): MicroBatch => ({
    rows: rows.map((example) => ({ example, trainable: 0 })),
    trainables: [{ rank: 4, parameters }],
  });
  for (const [Model, parameters] of [[DecoderGradients, cores], [LotrGradients, whole]] as const) {
    const learning = await Model.compile(options);
    const following = await Model.compile({ ...options, taught: COUNT });
    const wanted = await learning.gradients(batch(ROWS, parameters));
    const found = await following.gradients(batch(ROWS.map(sure), parameters));
    wanted.rows.forEach(({ loss, ...counts }, i) => {
      const { loss: own, ...others } = found.rows[i];
      assertAlmostEquals(own, loss, 1e-5 * loss);
      assertEquals(others, counts);
    });
    assertLess(relativeError(found.gradients[0], wanted.gradients[0]), 1e-5);
    const forward = await following.losses(batch(ROWS.map(sure), parameters));
    assertEquals(forward, found.rows);
    await assertRejects(
      () => following.losses(batch([ROWS[0], sure(ROWS[1])], parameters)),
      RangeError,
      "not taught alike",
    );
    learning.release();
    following.release();
  }
});

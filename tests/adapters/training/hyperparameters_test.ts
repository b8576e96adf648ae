/** The table of hyperparameters: what may be, and what is refused in which words. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  ASKED_BY_DEFAULT,
  type AskedHyperparameters,
  checkHyperparameters,
  DEFAULT_HYPERPARAMETERS,
  HYPERPARAMETERS,
  rangeText,
} from "../../../adapters/training/hyperparameters.ts";

Deno.test("a hyperparameter that cannot be is refused by name, value and range", () => {
  const cases: [Partial<AskedHyperparameters>, string][] = [
    [
      { epochs: 0 },
      "the number of epochs is an integer from 1 to 10000, or auto, current value is 0",
    ],
    [{ epochs: 1.5 }, "epochs"],
    [{ batchSize: -1 }, "batch size"],
    [{ learningRateMultiplier: 0 }, "learning rate multiplier is a number above 0 to 10000"],
    [{ learningRateMultiplier: Infinity }, "Infinity"],
    [{ rank: 65 }, "the rank is an integer from 1 to 64"],
    [{ warmup: 1.1 }, "warm-up is a number from 0 to below 1, current value is 1.1"],
    [{ weightDecay: -1 }, "weight decay"],
    [{ clip: 0 }, "clip"],
    [{ clip: NaN }, "NaN"],
    [{ patience: -1 }, "patience"],
    [{ seed: 0.5 }, "seed"],
    [{ method: "lora" as "lotr" }, "the method is core, lotr, current value is lora"],
  ];
  for (const [wrong, text] of cases) {
    assertThrows(() => checkHyperparameters({ ...ASKED_BY_DEFAULT, ...wrong }), RangeError, text);
  }
});

Deno.test("the defaults may be, and both ends of a range are what its words say", () => {
  checkHyperparameters(ASKED_BY_DEFAULT);
  checkHyperparameters(DEFAULT_HYPERPARAMETERS);
  checkHyperparameters({ ...ASKED_BY_DEFAULT, learningRateMultiplier: 10_000, warmup: 0 });
  assertThrows(() => checkHyperparameters({ ...ASKED_BY_DEFAULT, warmup: 1 }), RangeError);
  assertEquals(rangeText(HYPERPARAMETERS.clip), "a number above 0 to 1000000000");
  assertEquals(rangeText(HYPERPARAMETERS.schedule), "cosine, linear, constant");
});

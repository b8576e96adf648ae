/** Records as the API shows them: what a request leaves out. */
import { assertEquals, assertNotEquals } from "@std/assert";
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training/hyperparameters.ts";
import { toHyperparameters } from "../../server/http/schema/fine_tuning.ts";

Deno.test("what a request leaves out has the default, and rank follows the factor set", () => {
  const { seed: _, rank: __, ...defaults } = DEFAULT_HYPERPARAMETERS;
  assertEquals(toHyperparameters(undefined), { ...defaults, rank: "auto", factors: null });
  const { warmup, epochs } = toHyperparameters({ warmup: 0, n_epochs: 2 });
  assertEquals([warmup, epochs], [0, 2]);
  assertNotEquals(toHyperparameters({ clip: 2 }).clip, defaults.clip);
  assertEquals(toHyperparameters({ rank: 4 }).rank, 4);
});

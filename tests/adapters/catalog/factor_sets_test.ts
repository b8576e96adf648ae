/** Factor sets are loaded once, and nobody has one before it can be served. */
import { assertEquals } from "@std/assert";
import { FactorSets } from "../../../adapters/catalog/factor_sets.ts";
import { writeFactors } from "../../../adapters/lotr/format.ts";
import { AdapterRegistry } from "../../../adapters/catalog/registry.ts";
import { smallFactors, STACK } from "../small.ts";

Deno.test("who asks while a set is being loaded waits until it can be served", async () => {
  const set = smallFactors();
  const registry = new AdapterRegistry({ stack: STACK });
  const { promise: lane, resolve: ready } = Promise.withResolvers<void>();
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const events: string[] = [];
  const sets = new FactorSets({
    registry,
    store: {
      add: () => Promise.resolve(),
      get: () => Promise.resolve(new Uint8Array(writeFactors(set))),
      list: () => Promise.resolve([]),
    },
    load: async (factors) => {
      registry.addFactors(factors);
      begin();
      await lane;
      events.push("servable");
    },
  });
  const first = sets.of(set.digest).then(() => events.push("first"));
  await begun;
  const second = sets.of(set.digest).then(() => events.push("second"));
  await Promise.resolve();
  ready();
  await Promise.all([first, second]);
  assertEquals(events, ["servable", "first", "second"]);
  await sets.of(set.digest);
  assertEquals(events.length, 3);
});

/**
 * `deno task serve` that fine-tunes over a model of closed formulas, for tests that kill it. After
 * as many micro-batches of steps as the environment says (LEMBAS_TEST_FREE), training stands still.
 */
import { runServer } from "../../server/run_server.ts";
import { fakeLoad } from "./engine_context.ts";
import { fakeTraining } from "./tuning_server.ts";

if (import.meta.main) {
  let free = Number(Deno.env.get("LEMBAS_TEST_FREE") ?? Infinity);
  const pace = () => free-- > 0 ? undefined : new Promise<void>(() => {});
  const code = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: "0.0.0",
    load: async (_flags, listener) => {
      const loaded = await fakeLoad({ listener });
      return { ...loaded, training: fakeTraining(() => loaded.factors, { pace }) };
    },
  });
  Deno.exit(code);
}

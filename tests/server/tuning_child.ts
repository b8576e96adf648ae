/**
 * `deno task serve` that fine-tunes over a model of closed formulas, for tests that kill it. After
 * as many micro-batches of steps as the environment says (LEMBAS_TEST_FREE), training stands still;
 * before each it waits LEMBAS_TEST_STEP_MS, and before each run of the engine LEMBAS_TEST_RUN_MS. It
 * says when the store is open.
 */
import { runServer } from "../../server/run_server.ts";
import { fakeLoad } from "./engine_context.ts";
import { fakeTraining } from "./tuning_server.ts";

const number = (name: string, fallback: number) => Number(Deno.env.get(name) ?? fallback);
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

if (import.meta.main) {
  let free = number("LEMBAS_TEST_FREE", Infinity);
  const stepMs = number("LEMBAS_TEST_STEP_MS", 0);
  const runMs = number("LEMBAS_TEST_RUN_MS", 0);
  const pace = async () => {
    if (free-- <= 0) await new Promise<void>(() => {});
    if (stepMs > 0) await sleep(stepMs);
  };
  const code = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: "0.0.0",
    load: async (_flags, listener, log) => {
      log.info("the store is open");
      const loaded = await fakeLoad({
        listener,
        ...(runMs > 0 && { pace: () => sleep(runMs) }),
      });
      return { ...loaded, training: fakeTraining(() => loaded.factors, { pace }) };
    },
  });
  Deno.exit(code);
}

/**
 * `deno task serve` with a model without weights, for tests that need a process and its signals.
 * After a few runs the model stands still until SIGUSR2.
 */
import { runServer } from "../../server/run_server.ts";
import { fakeLoad } from "./engine_context.ts";

/** Runs before the model stands still. */
const FREE_RUNS = 5;

if (import.meta.main) {
  const { promise: resumed, resolve } = Promise.withResolvers<void>();
  const code = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: "0.0.0",
    load: async ({ adapters }, listener) => {
      Deno.addSignalListener("SIGUSR2", () => resolve());
      const loaded = await fakeLoad({
        listener,
        pace: (run) => run < FREE_RUNS ? Promise.resolve() : resumed,
        ...(adapters !== undefined && { directory: adapters }),
      });
      await loaded.directory?.scan();
      return loaded;
    },
  });
  Deno.exit(code);
}

/**
 * `deno task serve` over a model of closed formulas that is slow, so that something is in flight, and
 * at a signal does what no code should: SIGUSR2 leaves a rejection without a handler,
 * SIGHUP one of a broken invariant, SIGWINCH throws where nothing catches. All else is the server's.
 */
import { runServer } from "../../server/run_server.ts";
import { fakeLoad } from "./engine_context.ts";

if (import.meta.main) {
  Deno.addSignalListener("SIGUSR2", () => void Promise.reject(new Error("nobody waits for this")));
  Deno.addSignalListener("SIGHUP", () => void Promise.reject(new Error("internal: slots are off")));
  const explode = () => {
    throw new TypeError("thrown in a timer");
  };
  Deno.addSignalListener("SIGWINCH", () => void setTimeout(explode, 0));
  const code = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: "0.0.0",
    load: (_flags, listener) =>
      fakeLoad({
        listener,
        pace: () => new Promise((go) => setTimeout(go, 250)),
      }),
  });
  Deno.exit(code);
}

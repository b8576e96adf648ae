/**
 * `deno task serve` over a model of closed formulas, whose database thread breaks off at SIGUSR2: it
 * is sent what no order can be. All else is the server's.
 */
import { runServer } from "../../server/run_server.ts";
import { fakeLoad } from "./engine_context.ts";

class NamedWorker extends Worker {
  constructor(url: URL | string, options?: WorkerOptions) {
    super(url, options);
    if (String(url).endsWith("sqlite_worker.ts")) {
      Deno.addSignalListener("SIGUSR2", () => this.postMessage(null));
    }
  }
}

if (import.meta.main) {
  globalThis.Worker = NamedWorker;
  const code = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: "0.0.0",
    load: (_flags, listener) => fakeLoad({ listener }),
  });
  Deno.exit(code);
}

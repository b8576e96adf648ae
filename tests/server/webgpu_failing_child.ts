/**
 * `deno task serve` on WebGPU with a tiny model; at SIGUSR2 the process's device loses its memory, as a
 * GPU does whose memory others have taken. All else is the server's.
 */
import { Lembas } from "../../adapters/lembas.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { runServer } from "../../server/run_server.ts";
import { folderOf } from "../engine/tiny.ts";
import { exhaust } from "../runtime/webgpu/exhaust.ts";

if (import.meta.main) {
  Deno.exitCode = await runServer({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    version: "0.0.0",
    load: async (_flags, listener) => {
      const given = { model: folderOf("llama"), device: "webgpu", dtype: "fp32" } as const;
      const lembas = await Lembas.load({ ...given, maxBatch: 2, maxContext: 96, listener });
      Deno.addSignalListener("SIGUSR2", async () => {
        await exhaust(openDevice("webgpu")).catch(() => {});
      });
      return lembas;
    },
  });
}

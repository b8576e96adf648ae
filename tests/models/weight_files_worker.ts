/**
 * A server's start as far as weights go: prepares those of a model in a folder, or waits for whoever
 * does, and prints whether it made any and what the model says.
 */
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { WeightFiles } from "../../src/models/weight_files.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { preparedModel } from "./prepared.ts";

if (import.meta.main) {
  const [folder = "", width = ""] = Deno.args;
  using device = openDevice("cpu");
  let made = 0;
  const files = await WeightFiles.open({ device, folder, progress: () => made++ });
  const weights = new DeviceWeights(device, files);
  const said = await preparedModel(Number(width)).run(device, weights);
  const hash = await crypto.subtle.digest("SHA-256", said.slice().buffer);
  const line = JSON.stringify({ made: made > 0, said: new Uint8Array(hash).toHex() });
  Deno.stdout.writeSync(new TextEncoder().encode(line));
}

/** The command line of the graphics device's bench, and the bases that it makes. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { parseGpuFlags } from "../../../bench/gpu/flags.ts";
import {
  matrixNumbers,
  openRandom,
  randomBase,
  stepBytes,
} from "../../../bench/gpu/random_base.ts";
import { checkWeights } from "../../../src/checkpoint/expected_weights.ts";

Deno.test("the bench of a graphics device takes an adapter's number, and refuses what is none", () => {
  assertEquals(parseGpuFlags([])?.device, "webgpu");
  assertEquals(parseGpuFlags(["--device", "webgpu:1", "--tiny"])?.tiny, true);
  assertEquals(parseGpuFlags(["--device", "cuda:1"])?.device, "cuda:1");
  assertEquals(parseGpuFlags(["--help"]), undefined);
  const refused = (args: string[], text: string) =>
    assertThrows(() => parseGpuFlags(args), TypeError, text);
  refused(["--device", "cpu"], "--device is cpu, must be webgpu, webgpu:N, cuda or cuda:N");
  refused(["--device", "webgpu:x"], "--device is x, must be a whole number");
  refused(["--seconds", "0"], "--seconds is 0");
  refused(["--fast"], "--fast is no flag of bench/gpu.sh");
});

Deno.test("random bases have all weights of their shape, in blocks where asked, and as many bytes", () => {
  for (const bits of [undefined, 4, 8] as const) {
    const base = randomBase("tiny", bits);
    using checkpoint = openRandom(base);
    const { weights, config } = checkpoint;
    checkWeights(config, weights);
    const name = "model.layers.1.mlp.down_proj.weight";
    assertEquals(weights.info(name).shape, [128, 256]);
    const rows = weights.read(name, { rows: { first: 3, count: 2 } });
    assertEquals(rows.length, 2 * 256);
    assert(new Set(rows).size > 500, "the weights are not random");
    const blocks = weights.blocks(name)?.read();
    assertEquals(blocks?.q.length, bits && 128 * 256 * bits / 8);
    assertEquals(blocks?.scales.length, bits && 128 * 256 / 32);
  }
  const [floats, eight] = [stepBytes(randomBase("135M"), 4), stepBytes(randomBase("135M", 8), 4)];
  assert(floats / eight > 3.5 && floats / eight < 3.6);
  assertEquals(Math.round(matrixNumbers(randomBase("7B")) / 1e8), 71);
});

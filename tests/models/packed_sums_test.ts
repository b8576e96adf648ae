/** Offsets of blocks within what kernels have packed: on disk, mapped, and beside the formula. */
import { assert, assertEquals, assertLess, assertThrows } from "@std/assert";
import { integersOf } from "../../src/executor/integer_check.ts";
import { packedSumsHold } from "../../src/models/packed_sums.ts";
import { type Graph, GraphBuilder, type ParameterSource } from "../../src/graph/graph.ts";
import { lower, type Lowered, type LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import { type BlockSource, roundTo4Bits, roundTo8Bits } from "../../src/graph/quantise.ts";
import { ForeignPacking, replaceSums } from "../../src/models/block_sums.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { WeightFiles } from "../../src/models/weight_files.ts";
import type { BlockForm, Blocks, StoredBlocks } from "../../src/util/blocks.ts";
import { DEVICE } from "../graph/device.ts";
import { distance, FLOAT32, randomArray, runNaive } from "../graph/run.ts";
import { unpack } from "../unpack.ts";

const WITHIN: LoweringPlan = { ...FLOAT32, linear: () => "stored", offsets: "with blocks" };
const X64 = Deno.build.arch === "x86_64";
/** Without VNNI the kernel of one row reads no sums in 4 bits. */
const VNNI = X64 && await integersOf(DEVICE) === "int8";
const HOLDS = X64 && await probed();

async function probed(): Promise<boolean> {
  let holds = false;
  await withFiles(async (files) => {
    holds = await packedSumsHold(DEVICE, files, WITHIN);
  });
  return holds;
}

async function withFiles(run: (files: WeightFiles) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(await WeightFiles.open({ device: DEVICE, folder }));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Random weights in blocks, far from the middle. */
class Parameters implements ParameterSource, BlockSource {
  readonly #made = new Map<string, { readonly form: BlockForm; readonly made: Blocks }>();

  constructor(graph: Graph, forms: Readonly<Record<string, BlockForm>>) {
    graph.parameters.forEach(({ name, shape }, i) => {
      const count = Number(shape[0]) * Number(shape[1]);
      const data = randomArray(count, i + 5).map((x) => 0.3 * x + 2);
      const form = forms[name];
      const rounded = form.bits === 4
        ? roundTo4Bits(data, form.size)
        : roundTo8Bits(data, form.size);
      const offsets = form.offsets
        ? rounded.offsets ?? rounded.scales.map((scale, b) => scale * (b % 7 - 90))
        : undefined;
      this.#made.set(name, { form, made: { ...rounded, offsets } });
    });
  }

  read(name: string): Float32Array {
    const { form, made } = this.#of(name);
    return Float32Array.from(unpack(form, made));
  }

  blocks(name: string): StoredBlocks {
    const { form, made } = this.#of(name);
    return { ...form, read: () => made };
  }

  #of(name: string) {
    const found = this.#made.get(name);
    if (found === undefined) throw new TypeError(`no ${name}`);
    return found;
  }
}

Deno.test({
  name: "the probe finds that offsets hold, at the first start and at the next",
  ignore: !VNNI,
  fn: () =>
    withFiles(async (files) => {
      assert(await packedSumsHold(DEVICE, files, WITHIN));
      const again = await WeightFiles.open({ device: DEVICE, folder: files.folder });
      assert(await packedSumsHold(DEVICE, again, WITHIN));
    }),
});

/** Files that are written without offsets, whatever is asked for. */
function without(files: WeightFiles): WeightFiles {
  const stripped = (graph: Lowered): Lowered => ({
    ...graph,
    packing: () => graph.packing().map((node) => ({ ...node, sums: undefined })),
  });
  const place = (graphs: readonly Lowered[]) => files.place(graphs.map(stripped));
  return { folder: files.folder, place } as unknown as WeightFiles;
}

Deno.test({
  name: "a packed form that lost its offsets is found by the probe",
  ignore: !X64,
  fn: () =>
    withFiles(async (files) => {
      assertEquals(await packedSumsHold(DEVICE, without(files), WITHIN), false);
    }),
});

function rms(data: readonly number[]): number {
  return Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
}

const FORMS = {
  "4 bits in 32": { bits: 4, size: 32, offsets: true },
  "4 bits in 128": { bits: 4, size: 128, offsets: true },
  "8 bits in 32": { bits: 8, size: 32, offsets: true },
} as const;

for (const [what, form] of Object.entries(FORMS)) {
  Deno.test({
    name: `a linear with its offsets packed follows the formula, where the probe says so: ${what}`,
    ignore: !HOLDS,
    fn: () =>
      withFiles(async (files) => {
        const graph = new GraphBuilder();
        const x = graph.input("x", "float32", ["tokens", 384]);
        const weights = [40, 24].map((out, i) => graph.parameter(`model.w${i}`, [out, 384]));
        const made = graph.finish([graph.add("linear", { x, weights, biases: [] }, "y")]);
        const parameters = new Parameters(made, { "model.w0": form, "model.w1": form });
        const lowered = lower(made, parameters, WITHIN);
        using session = await new DeviceWeights(DEVICE, files).session(lowered);
        for (const tokens of [1, 3, 17]) {
          const data = randomArray(tokens * 384, tokens);
          using given = DEVICE.tensor("float32", [tokens, 384], data);
          using y = DEVICE.tensor("float32", [tokens, 64]);
          using binding = session.bind({ x: given }, { y });
          await binding.run();
          const [wanted] = runNaive(made, { x: { shape: [tokens, 384], data } }, parameters);
          const size = rms(Array.from(wanted.data));
          assertLess(distance(y.data as Float32Array, wanted.data) / size, 0.06);
        }
      }),
  });
}

Deno.test("a packed form without the kernel's own sums is refused, one that ends early, too", () => {
  const made = {
    ...{ bits: 4, size: 32, outputs: 16, perRow: 2 } as const,
    scales: new Float32Array(32).fill(1),
    offsets: new Float32Array(32).fill(5),
  };
  const packed = new Uint8Array(16 * 2 * 16 + 16 * 2 * 4);
  assertThrows(() => replaceSums(packed, made), ForeignPacking);
  const sums = new Float32Array(packed.buffer, 16 * 2 * 16).fill(-8);
  assertThrows(() => replaceSums(packed.subarray(0, -4), made), ForeignPacking);
  sums.fill(-8);
  replaceSums(packed, made);
  assertEquals([...sums], new Array(32).fill(5 - 8));
});

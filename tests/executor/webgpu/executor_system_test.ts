/** The executor on a graphics device in software. */
import { assert, assertEquals, assertGreaterOrEqual, assertLess, assertMatch } from "@std/assert";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { MOST_STEPS } from "../../../src/executor/device/fed_steps.ts";
import { PREFILL_TOKENS } from "../../../src/executor/device/prompts.ts";
import { folderOf } from "../../engine/tiny.ts";
import { LONG } from "../../long.ts";
import { inFloat16, openLavapipe } from "../../programs/lavapipe.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

// as between runs of the CPU: float32 sums in another order
const TOLERANCE = 1e-4;
/** Seen: 0.03, of logits whose cores move them by one. */
const FLOAT16_TOLERANCE = 0.1;

interface Found {
  readonly alike: boolean;
  readonly off: number;
  readonly rows: number;
  readonly records: readonly boolean[];
  readonly plain: { readonly alike: boolean; readonly off: number };
  readonly reserved: number;
  readonly scoresOff: number;
  readonly whole: readonly string[];
  /** On the CPU, here, and here without recordings. */
  readonly ahead: readonly Ahead[];
}

interface Ahead {
  /** Tokens of each step, done one by one, and following each other without the host. */
  readonly one: readonly (readonly number[])[];
  readonly many?: readonly (readonly number[])[];
  /** Steps that may follow each other, where tokens are drawn there, and where the host draws. */
  readonly most?: number;
  readonly host?: number;
  /** Steps for which a slot had room. */
  readonly full?: number;
}

/** Of keys and values in float32: six slots and the staging row, each of 96 tokens and one more. */
async function reservedBytes(name: string): Promise<number> {
  using checkpoint = await openCheckpoint(folderOf(name));
  const { numLayers, numKvHeads, headDim } = checkpoint.config;
  return 4 * 7 * 97 * 2 * numLayers * numKvHeads * headDim;
}

for (const name of LONG ? ["qwen3", "qwen2", "mistral"] : ["qwen3"]) {
  Deno.test({
    ...onWebGpu(
      `${name}: rows with a core each, moved, saved and loaded say on WebGPU what they say here`,
    ),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const program = new URL("./executor_worker.ts", import.meta.url);
      const found = await gpu.run(program, [name]) as Found;
      assert(found.alike, `${found.off} off`);
      assertEquals(found.rows, 7);
      assertEquals(found.records, [name !== "mistral", false], "recorded where no window is");
      assert(found.plain.alike, `${found.plain.off} off steps that are not recorded`);
      assertLess(found.plain.off, TOLERANCE);
      assertEquals(found.reserved, await reservedBytes(name));
      assertLess(found.off, TOLERANCE);
      assertLess(found.scoresOff, TOLERANCE);
      assertEquals(found.whole, ["scored", "scored"]);
      const [here, ahead, plain] = found.ahead;
      assertEquals(ahead.one, here.one);
      if (name === "mistral") assertEquals([ahead.most, plain.most], [undefined, undefined]);
      else {
        assertEquals(ahead.many, ahead.one, "steps that feed each other draw the same");
        assertEquals([ahead.most, ahead.host, ahead.full], [MOST_STEPS, 1, 3]);
        assertEquals(plain.most, undefined, "nothing is fed to steps that are not recorded");
      }
    },
  });
}

Deno.test({
  ...onWebGpu("steps over weights in blocks are recorded, and say what they say when they are not"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./executor_worker.ts", import.meta.url);
    for (const dtype of LONG ? ["int4", "int8"] : ["int4"]) {
      const { records, plain } = await gpu.run(program, ["qwen3", dtype]) as Found;
      assertEquals(records, [true, false], dtype);
      assert(plain.alike, `${dtype}: ${plain.off} off`);
      assertLess(plain.off, TOLERANCE, dtype);
    }
  },
});

Deno.test({
  ...onWebGpu("a lane that cannot record its decode steps says which it is, and why"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const lane = "decode steps of factor set DIGEST are not recorded, so cost more: ";
    assertEquals(await gpu.run(new URL("./recording_worker.ts", import.meta.url)), {
      "qwen3 alone": [],
      "qwen3 4": [],
      "qwen3 3": [`${lane}cores of rank 3 have no views on the device`],
      "mistral 4": [`${lane}the model has a sliding window`],
    });
  },
});

Deno.test({
  ...inFloat16("rows that are moved, saved and loaded in float16 go on as in float32"),
  fn: async () => {
    await using gpu = await openLavapipe();
    const program = new URL("./executor_worker.ts", import.meta.url);
    const found = await gpu.run(program, ["qwen3", "fp16"]) as Found;
    assert(found.alike, `${found.off} off`);
    assertEquals(found.records, [true, false], "recorded, and by the CPU not");
    assertEquals(found.rows, 7);
    assertEquals(found.reserved, await reservedBytes("qwen3") / 2);
    assertLess(found.off, FLOAT16_TOLERANCE);
    assertLess(found.scoresOff, FLOAT16_TOLERANCE);
  },
});

interface Attended {
  readonly tokens: number;
  readonly warning?: string;
  readonly found: readonly {
    readonly time: number;
    readonly off: number;
    readonly plain: number;
  }[];
}

Deno.test({
  ...onWebGpu(
    "attention over prompts of any length is right, also where the device's own is wrong",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./prompts_worker.ts", import.meta.url);
    for (
      const { tokens, warning, found } of await gpu.run(program, LONG ? ["long"] : []) as Attended[]
    ) {
      assertEquals(tokens, PREFILL_TOKENS);
      assertMatch(warning ?? "", /faster attention over prompts is wrong on this graphics device/);
      for (const { time, off } of found) assertLess(off, TOLERANCE, `${time} tokens`);
      assert(found.some(({ plain }) => plain > 0.01), "what the trial finds wrong is right");
    }
  },
});

interface Drawn {
  readonly differ: readonly string[];
  readonly off: number;
  /** Bytes that crossed in the fullest call, over rows × vocabulary. */
  readonly most: Readonly<Record<string, number>>;
}

Deno.test({
  ...onWebGpu(
    "tokens drawn on WebGPU are the CPU's, and logits stay there where the host changes none",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./sampler_worker.ts", import.meta.url);
    const { differ, off, most } = await gpu.run(program, [LONG ? "40" : "6"]) as Drawn;
    assertEquals(differ, []);
    assertLess(off, TOLERANCE);
    // whole rows take 4
    for (const kind of ["greedy", "any token"]) assertLess(most[kind], 0.2, kind);
    for (const kind of ["masked", "changed"]) assertGreaterOrEqual(most[kind], 4, kind);
  },
});

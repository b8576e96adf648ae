/**
 * Whether offsets of blocks can lie in the packed form of a linear (`block_sums.ts`): a small
 * linear of each kind is written to the base's files once, and multiplied at each start.
 */
import { GraphBuilder, type ParameterSource } from "../graph/graph.ts";
import { lower, type LoweringPlan } from "../graph/lowering/lowering.ts";
import type { BlockSource } from "../graph/quantise.ts";
import { ForeignPacking } from "./block_sums.ts";
import { DeviceWeights } from "./device_weights.ts";
import type { WeightFiles } from "./weight_files.ts";
import type { Device, Session } from "../runtime/device.ts";
import { type Blocks, middleOf, type StoredBlocks } from "../util/blocks.ts";

/** Not whole panels of outputs, not whole groups of blocks. */
const [INPUTS, OUTPUTS, SIZE] = [160, 20, 32];
/** One row has a kernel of its own (on AVX2 without VNNI one that reads no sums), four or more another. */
const ROWS = [1, 2, 17] as const;
const KINDS = [4, 8] as const;
const BLOCKS = OUTPUTS * INPUTS / SIZE;

/** Multiplies what is known, with offsets that are far larger than what they are added to. */
export async function packedSumsHold(
  device: Device,
  files: WeightFiles,
  plan: LoweringPlan,
): Promise<boolean> {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", INPUTS]);
  const outputs = KINDS.map((bits) => {
    const weights = [graph.parameter(nameOf(bits), [OUTPUTS, INPUTS])];
    return graph.add("linear", { x, weights, biases: [] }, `y${bits}`);
  });
  const linear = () => "stored" as const;
  const lowered = lower(graph.finish(outputs), PROBE, { ...plan, linear });
  try {
    using session = await new DeviceWeights(device, files).session(lowered);
    for (const rows of ROWS) if (!await holdsFor(rows, device, session)) return false;
    return true;
  } catch (error) {
    if (error instanceof ForeignPacking) return false;
    throw error;
  }
}

async function holdsFor(rows: number, device: Device, session: Session): Promise<boolean> {
  using given = device.tensor("float32", [rows, INPUTS], new Float32Array(rows * INPUTS).fill(1));
  using y4 = device.tensor("float32", [rows, OUTPUTS]);
  using y8 = device.tensor("float32", [rows, OUTPUTS]);
  using binding = session.bind({ x: given }, { y4, y8 });
  await binding.run();
  return [y4, y8].every(({ data }, kind) => isExpected(data as Float32Array, KINDS[kind]));
}

/** Under the base's names, so that it lies in the base's files. */
function nameOf(bits: 4 | 8): string {
  return `model.probe.${bits}`;
}

const PROBE: ParameterSource & BlockSource = {
  read() {
    throw new TypeError("internal: the probe's weights are blocks");
  },
  blocks(name: string): StoredBlocks {
    const bits = name === nameOf(4) ? 4 : 8;
    return { bits, size: SIZE, offsets: true, read: () => probe(bits) };
  },
};

function probe(bits: 4 | 8): Blocks {
  const q = new Uint8Array(BLOCKS * SIZE * bits / 8);
  q.fill(bits === 4 ? 0x99 : middleOf(8) + 1);
  const scales = Float32Array.from({ length: BLOCKS }, (_, b) => 2 ** -(b % 4));
  return { q, scales, offsets: Float32Array.from({ length: BLOCKS }, (_, b) => 3 * b - 50) };
}

/** Each weight is its block's scale and offset; the inputs are ones. */
function isExpected(products: Float32Array, bits: 4 | 8): boolean {
  const { scales, offsets } = probe(bits);
  const perRow = INPUTS / SIZE;
  return products.every((product, i) => {
    let sum = 0;
    for (let b = 0; b < perRow; b++) {
      const block = i % OUTPUTS * perRow + b;
      sum += SIZE * (scales[block] + (offsets?.[block] ?? 0));
    }
    // activations are rounded to 8 bits
    return Math.abs(product - sum) <= 0.02 * SIZE * (Math.abs(sum) / SIZE + 1);
  });
}

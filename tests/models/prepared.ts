/** A small model with weights of every kind that is kept on disk, and what it says. */
import { planOf } from "../../src/executor/base.ts";
import { GraphBuilder } from "../../src/graph/graph.ts";
import { lower, type Lowered, type LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import type { DeviceWeights } from "../../src/models/device_weights.ts";
import type { Device } from "../../src/runtime/device.ts";
import type { Rows } from "../../src/graph/graph.ts";

const TOKENS = 3;

export interface PreparedModel {
  readonly lowered: Lowered;
  /** Logits of three tokens. */
  run(device: Device, weights: DeviceWeights): Promise<Float32Array>;
}

/** An embedding and some linears of `width`; the last two are equal. */
export function preparedModel(
  width: number,
  plan: LoweringPlan = planOf({ dtype: "int8", maxBatch: 4 }),
): PreparedModel {
  const graph = new GraphBuilder();
  const ids = graph.input("ids", "int32", ["tokens"]);
  const table = graph.parameter("model.embed_tokens.weight", [2 * width, width]);
  let x = graph.add("embed", { ids, table }, "embedded");
  for (const name of ["a", "b", "same.0", "same.1"]) {
    const weights = [graph.parameter(`model.${name}.weight`, [width, width])];
    x = graph.add("linear", { x, weights, biases: [] }, `${name}.out`);
  }
  const built = graph.finish([x]);
  const lowered = lower(built, { read: (name, options) => numbers(name, width, options) }, plan);
  return {
    lowered,
    async run(device, weights) {
      using session = await weights.session(lowered);
      using given = device.tensor("int32", [TOKENS], Int32Array.of(1, 0, width));
      using out = device.tensor("float32", [TOKENS, width]);
      using binding = session.bind({ ids: given }, { [x.name]: out });
      await binding.run();
      return (out.data as Float32Array).slice();
    },
  };
}

/** Numbers from -0.1 to 0.1 that follow from a parameter's name, its last part aside. */
function numbers(
  name: string,
  width: number,
  { rows }: { readonly rows?: Rows } = {},
): Float32Array {
  const { first, count } = rows ?? { first: 0, count: name.includes("embed") ? 2 * width : width };
  const seed = [...name.replace(/same\.\d/, "same")].reduce(
    (a, c) => a * 31 + c.charCodeAt(0) | 0,
    7,
  );
  return Float32Array.from({ length: count * width }, (_, i) => {
    let x = Math.imul((first * width + i + seed) | 0, 2654435761);
    x = Math.imul(x ^ x >>> 15, 2246822519);
    return ((x ^ x >>> 13) >>> 8) / 2 ** 24 * 0.2 - 0.1;
  });
}

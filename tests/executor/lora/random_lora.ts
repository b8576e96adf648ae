/** LoRAs of seeded numbers over tiny checkpoints, and these checkpoints with one merged in. */
import { weightName } from "../../../adapters/lotr/stack.ts";
import type {
  DecoderConfig,
  ReadOptions,
  WeightSource,
} from "../../../src/checkpoint/checkpoint.ts";
import { type ModuleName, SITE_OF } from "../../../src/models/hook.ts";
import type { Lora, LoraLinear } from "../../../src/models/lora.ts";
import { inputsOf, outputsOf } from "../../../src/models/widths.ts";
import { randomArray } from "../../graph/run.ts";

export interface RandomLora {
  readonly modules: readonly ModuleName[];
  readonly seed: number;
  /** Of a linear; default: the same everywhere. */
  readonly rank: number | ((layer: number, module: ModuleName) => number);
  readonly layers?: readonly number[];
  /** About how large a linear's change is beside its outputs. Default 1. */
  readonly strength?: number;
}

export function randomLora(config: DecoderConfig, options: RandomLora): Lora {
  const { modules, seed, rank, strength = 1 } = options;
  const { layers = Array.from({ length: config.numLayers }, (_, layer) => layer) } = options;
  const linears = layers.flatMap((layer) =>
    modules.map((module, m): LoraLinear => {
      const r = typeof rank === "number" ? rank : rank(layer, module);
      const [inputs, outputs] = [inputsOf(config, SITE_OF[module]), outputsOf(config, module)];
      const at = 1000 * seed + 20 * layer + 2 * m;
      return {
        ...{ layer, module, rank: r, scale: 2 },
        a: randomArray(r * inputs, at, strength / Math.sqrt(inputs)),
        b: randomArray(outputs * r, at + 1, 0.5 / Math.sqrt(r)),
      };
    })
  );
  return { digest: `lora ${seed} ${modules} ${strength}`, linears };
}

/** `W' = W + scale · b · a`, computed whenever it is read. */
export function withLora(own: WeightSource, { linears }: Lora): WeightSource {
  const places = new Map(linears.map((one) => [weightName(one.layer, one.module), one]));
  const merged = (name: string, options?: ReadOptions) => {
    const weight = own.read(name, options);
    const linear = places.get(name);
    if (linear === undefined) return weight;
    const { rank, scale, a, b } = linear;
    const width = a.length / rank;
    const first = options?.rows?.first ?? 0;
    for (let i = 0; i < weight.length; i++) {
      const [row, column] = [first + Math.floor(i / width), i % width];
      for (let r = 0; r < rank; r++) weight[i] += scale * b[row * rank + r] * a[r * width + column];
    }
    return weight;
  };
  return {
    names: () => own.names(),
    has: (name) => own.has(name),
    info: (name) => places.has(name) ? { ...own.info(name), type: "F32" } : own.info(name),
    read: merged,
    readRaw: (name, rows) => {
      if (!places.has(name)) return own.readRaw(name, rows);
      return new Uint8Array(merged(name, rows && { rows }).buffer);
    },
    blocks: (name) => places.has(name) ? undefined : own.blocks(name),
  };
}

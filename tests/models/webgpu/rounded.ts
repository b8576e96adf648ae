/** What a device's integers stand for: a decoder's parameters rounded as its kernels read them. */
import { eightBits, fourBits, ownBlocks } from "../../../src/graph/lowering/block_kernels.ts";
import {
  type LinearKernel,
  LoweringContext,
  type LoweringPlan,
} from "../../../src/graph/lowering/lowering_context.ts";
import type { DecoderConfig } from "../../../src/checkpoint/checkpoint.ts";
import type { ParameterSource } from "../../../src/graph/graph.ts";
import { roundTo8Bits } from "../../../src/graph/quantise.ts";
import { buildDecoder } from "../../../src/models/decoder.ts";
import { type DecoderParameters, names } from "../../../src/models/parameters.ts";
import { unpack } from "../../unpack.ts";

const CHOICES = { nbits8: eightBits, nbits4: fourBits, stored: ownBlocks };
const LINEAR = /(?:_proj|lm_head)\.weight$/;
/** Numbers of the embedding that share a scale. */
const EMBEDDED = 32;

/** Parameters as float32 that a plan's integers stand for. */
export function roundedParameters(
  config: DecoderConfig,
  own: DecoderParameters,
  plan: LoweringPlan,
): ParameterSource {
  const graph = buildDecoder(config, 1);
  const parameters = new Map(graph.parameters.map((value) => [value.name, value]));
  const context = new LoweringContext(plan, own, new Map());
  return {
    read(name, options) {
      const data = own.read(name, options);
      if (name === names.embedding && plan.embedding === "int8") {
        return Float32Array.from(unpack({ bits: 8, size: EMBEDDED }, roundTo8Bits(data, EMBEDDED)));
      }
      const [value, kernel] = [parameters.get(name), plan.linear(name)];
      if (value === undefined || !LINEAR.test(name) || !isBlocks(kernel)) return data;
      const blocks = CHOICES[kernel](context, value);
      return Float32Array.from(unpack(blocks, blocks.read()));
    },
  };
}

function isBlocks(kernel: LinearKernel): kernel is keyof typeof CHOICES {
  return kernel in CHOICES;
}

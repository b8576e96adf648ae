/**
 * From the graph of meaning to an ONNX model for ONNX Runtime's CPU kernels: one rule per
 * operation, in a table that is total. It decides how each operation is computed; `kernels.ts` says
 * how a linear is, `quantise.ts` makes the weights.
 */
import { argumentsOf, type Graph, type Node, type ParameterSource } from "../graph.ts";
import type { OpName } from "../ops.ts";
import { emitEmbedding } from "./embedding.ts";
import { emitLinear } from "./kernels.ts";
import { ATTENTION_RULES } from "./lowering_attention.ts";
import { LoweringContext, type LoweringPlan, type Rule } from "./lowering_context.ts";
import { emitLora } from "./adapters/lora.ts";
import { ENCODER_RULES, fuseSkipLayerNorm } from "./encoder/lowering_encoder.ts";
import { emitLotr, fuseGate } from "./adapters/lotr.ts";
import { emitCapped, emitGate, emitHalves } from "./gates.ts";
import { TRAINING_RULES } from "./training/lowering_training.ts";
import { MICROSOFT, onnxType, type PackingNode, type Places, type Weight } from "./onnx.ts";
import type { BlockSource } from "../quantise.ts";

export type { LoweringPlan } from "./lowering_context.ts";

/** A model that ONNX Runtime compiles, and the weights that stand outside it. */
export interface Lowered {
  /** By name. The same name means the same numbers in every graph over the same parameters. */
  readonly weights: ReadonlyMap<string, Weight>;
  /** The nodes whose kernels pack weights, each as a model of its own. */
  packing(): readonly PackingNode[];
  /** The serialised model, with weights where `places` says and the others in memory. */
  model(places?: Places): Uint8Array;
}

/** Lowers a graph. Outputs are the graph's own, then each updated input as `NAME.out`. */
export function lower(
  graph: Graph,
  parameters: ParameterSource & Partial<BlockSource>,
  plan: LoweringPlan,
): Lowered {
  const context = new LoweringContext(plan, parameters, usesOf(graph));
  const { writer } = context;
  for (const { name, dtype, shape } of graph.inputs) {
    writer.input(name, context.typeOf(dtype), shape);
  }
  const narrow = graph.outputs.filter(({ dtype }) => context.typeOf(dtype) !== dtype);
  for (const value of narrow) context.rename(value, `${value.name}:${context.floats}`);
  const done = new Set<Node>();
  graph.nodes.forEach((node, i) => {
    if (done.has(node)) return;
    const next = graph.nodes[i + 1];
    const fused = next !== undefined &&
      FUSIONS.some((fuse) => fuse(context, node, next));
    if (fused) done.add(next);
    else lowerNode(context, node);
  });
  for (const { name, dtype, shape } of graph.outputs) {
    writer.output(name, dtype, shape);
  }
  for (const value of narrow) {
    const attributes = { to: onnxType(value.dtype) };
    writer.node("Cast", [context.name(value)], value.name, { attributes });
  }
  for (const { name, dtype, shape } of graph.updated) {
    writer.output(`${name}.out`, context.typeOf(dtype), shape);
  }
  return {
    weights: context.weights,
    packing: () => writer.packing(),
    model: (places) => writer.finish("lembas", places),
  };
}

function lowerNode(context: LoweringContext, node: Node): void {
  const rule = RULES[node.op] as Rule<typeof node.op>;
  rule(context, node.args as never, context.name(node.out));
}

/** How often each value is read, by its id. */
function usesOf({ nodes, outputs }: Graph): ReadonlyMap<number, number> {
  const uses = new Map<number, number>();
  for (const { id } of [...nodes.flatMap(argumentsOf), ...outputs]) {
    uses.set(id, (uses.get(id) ?? 0) + 1);
  }
  return uses;
}

/** Kernels of two nodes: each emits them and is true, or leaves them alone. */
const FUSIONS = [fuseSkipNorm, fuseSkipLayerNorm, fuseGate];

/** An addition whose sum is normalised next is one kernel. */
function fuseSkipNorm(context: LoweringContext, node: Node, next: Node): boolean {
  if (node.op !== "add" || next.op !== "rmsNorm") return false;
  if (next.args.x !== node.out || next.args.groups !== 1) return false;
  const { a, b } = node.args;
  const inputs = [context.name(a), context.name(b), context.parameter(next.args.gamma)];
  const outputs = [context.name(next.out), "", "", context.name(node.out)];
  context.writer.nodes("SkipSimplifiedLayerNormalization", inputs, outputs, {
    domain: MICROSOFT,
    attributes: { epsilon: { float: next.args.eps } },
  });
  return true;
}

const RULES: { readonly [K in OpName]: Rule<K> } = {
  ...ATTENTION_RULES,
  ...TRAINING_RULES,
  ...ENCODER_RULES,
  embed(context, { ids, table }, out) {
    emitEmbedding(context, table, context.name(ids), out);
  },
  rmsNorm(context, { x, gamma, eps, groups }, out) {
    const { writer } = context;
    const attributes = { axis: -1, epsilon: { float: eps } };
    const norm = (from: string, to: string) =>
      writer.node("SimplifiedLayerNormalization", [from, context.parameter(gamma)], to, {
        attributes,
      });
    if (groups === 1) return void norm(context.name(x), out);
    const width = Number(gamma.shape[0]);
    const split = context.int64(`shape.heads.${groups}.${width}`, [-1, groups, width]);
    const joined = context.int64(`shape.joined.${groups * width}`, [-1, groups * width]);
    writer.node("Reshape", [context.name(x), split], `${out}.split`);
    norm(`${out}.split`, `${out}.normed`);
    writer.node("Reshape", [`${out}.normed`, joined], out);
  },
  linear(context, args, out) {
    emitLinear(context, args, out);
  },
  lotr: emitLotr,
  lora: emitLora,
  add(context, { a, b }, out) {
    context.writer.node("Add", [context.name(a), context.name(b)], out);
  },
  glu(context, { x, activation }, out) {
    emitGate(context, emitHalves(context, context.name(x), out), activation, out);
  },
  softCap(context, { x, cap }, out) {
    emitCapped(context, context.name(x), cap, out);
  },
  columns(context, { x, start, size }, out) {
    const { writer } = context;
    const from = context.int64(`int64.${start}`, [start]);
    const to = context.int64(`int64.${start + size}`, [start + size]);
    writer.node("Slice", [context.name(x), from, to, context.int64("int64.1", [1])], out);
  },
  concat(context, { parts }, out) {
    const inputs = parts.map((part) => context.name(part));
    context.writer.node("Concat", inputs, out, { attributes: { axis: 1 } });
  },
  rows(context, { x, index }, out) {
    context.writer.node("Gather", [context.name(x), context.name(index)], out);
  },
  regroup(context, { x, index }, out) {
    context.writer.node("Gather", [context.name(x), context.name(index)], out);
  },
};

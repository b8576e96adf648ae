/**
 * A decoder of the Llama kind, small enough for finite differences: every number of it is an input.
 */
import type { GraphBuilder } from "../../src/graph/graph.ts";
import type { Value } from "../../src/graph/ops.ts";
import { Sketch } from "./differences.ts";

const [HEADS, KV_HEADS, HEAD_DIM, HIDDEN, RANK, VOCAB] = [4, 2, 4, 12, 3, 7];
export const WIDTH = 8;
const WIDTHS = [HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM];

interface Layer {
  readonly weights: readonly Value[];
  /** Undefined for a layer that is not adapted. */
  readonly cores: Value | undefined;
  readonly output: Value;
  readonly down: Value;
}

/** The decoder, and what may be differentiated by. */
export interface Decoder {
  readonly sketch: Sketch;
  readonly embedded: Value;
  readonly factors: { readonly a: Value; readonly b: readonly Value[] };
  readonly layers: readonly Layer[];
  readonly head: Value;
  readonly loss: Value;
}

/** Two rows of four tokens; losses at five positions. `adapted` says of each layer whether it is. */
export function decoder(adapted: readonly boolean[]): Decoder {
  const sketch = new Sketch(7);
  const { graph } = sketch;
  const [batch, time] = [2, 4];
  const embedded = sketch.tokens("embedded", batch * time, WIDTH);
  const form = { ...sketch.rotation(time, HEAD_DIM), grid: sketch.grid(batch, time) };
  const factors = {
    a: sketch.floats("A", [WIDTH, RANK]),
    b: [WIDTHS[0], WIDTHS[2]].map((size, m) => sketch.floats(`B${m}`, [RANK, size])),
  };
  let hidden = embedded;
  const layers = adapted.map((isAdapted, i) => {
    const layer = addLayer(sketch, hidden, { ...factors, ...form }, { name: `l${i}`, isAdapted });
    hidden = layer.output;
    return layer;
  });
  const index = sketch.ints("index", [0, 2, 3, 5, 6]);
  const targets = sketch.ints("targets", [6, 0, 3, 3, 1]);
  const gathered = graph.add("rows", { x: hidden, index }, "gathered");
  const last = norm(sketch, gathered, "last");
  const head = sketch.floats("head", [VOCAB, WIDTH]);
  const logits = linear(graph, last, [head], "logits");
  return {
    ...{ sketch, embedded, factors, layers, head },
    loss: graph.add("nll", { logits, targets }, "loss"),
  };
}

function addLayer(
  sketch: Sketch,
  x: Value,
  { a, b, grid, cos, sin }: Record<"a" | "grid" | "cos" | "sin", Value> & Decoder["factors"],
  { name, isAdapted }: { readonly name: string; readonly isAdapted: boolean },
): Layer {
  const { graph } = sketch;
  const weight = (to: string, rows: number, columns: number) =>
    sketch.floats(`${name}.${to}`, [rows, columns], [rows, columns], columns ** -0.5);
  const normed = norm(sketch, x, `${name}.in`);
  const weights = WIDTHS.map((size, i) => weight("qkv"[i], size, WIDTH));
  let qkv = linear(graph, normed, weights, `${name}.qkv`);
  let cores: Value | undefined;
  if (isAdapted) {
    cores = sketch.floats(`${name}.cores`, ["batch", RANK, 2 * RANK], [2, RANK, 2 * RANK], 0.2);
    const offsets = [0, WIDTHS[0] + WIDTHS[1]];
    qkv = graph.add("lotr", { x: normed, y: qkv, a, cores, b, offsets, grid }, `${name}.lotr`);
  }
  const form = { cos, sin, grid, heads: HEADS, kvHeads: KV_HEADS, headDim: HEAD_DIM };
  const args = { ...form, qkv, scale: HEAD_DIM ** -0.5, window: 3 };
  const attended = graph.add("causalAttention", args, `${name}.attended`);
  const mixed = linear(graph, attended, [weight("o", WIDTH, WIDTHS[0])], `${name}.mixed`);
  const middle = graph.add("add", { a: x, b: mixed }, `${name}.middle`);
  const halves = ["gate", "up"].map((half) => weight(half, HIDDEN, WIDTH));
  const both = linear(graph, norm(sketch, middle, `${name}.mid`), halves, `${name}.both`);
  const gated = graph.add("glu", { x: both }, `${name}.gated`);
  const down = weight("down", WIDTH, HIDDEN);
  const fed = linear(graph, gated, [down], `${name}.fed`);
  const output = graph.add("add", { a: middle, b: fed }, `${name}.output`);
  return { weights, cores, down, output };
}

function norm(sketch: Sketch, x: Value, name: string): Value {
  const gamma = sketch.floats(`${name}.gamma`, [WIDTH]);
  return sketch.graph.add("rmsNorm", { x, gamma, eps: 1e-3, groups: 1 }, `${name}.norm`);
}

function linear(graph: GraphBuilder, x: Value, weights: readonly Value[], name: string): Value {
  return graph.add("linear", { x, weights, biases: [] }, name);
}

export function coresOf({ layers }: Decoder): Value[] {
  return layers.flatMap(({ cores }) => cores ?? []);
}

/**
 * A decoder of two layers with everything that training differentiates: QK norm, a window, cores at
 * two sites and shared factors, with its loss.
 */
import type { Evaluated } from "../../src/graph/reference/evaluate.ts";
import { GraphBuilder } from "../../src/graph/graph.ts";
import type { Value } from "../../src/graph/ops.ts";
import { floats, type Inputs, ints } from "./pairs.ts";

const [HEAD_COUNT, KV_HEADS, HEAD_DIM, WIDTH, HIDDEN, RANK, VOCAB] = [4, 2, 16, 64, 96, 8, 50];

export interface Decoder {
  readonly graph: GraphBuilder;
  readonly nll: Value;
  readonly seeds: Value;
  readonly cores: readonly Value[];
  readonly factors: readonly Value[];
}

/** Two layers with QK norm, a window, and a branch at two sites; shared factors are inputs. */
export function decoder(): Decoder {
  const graph = new GraphBuilder();
  const grid = graph.input("grid", "int64", [2]);
  const [cos, sin] = ["cos", "sin"].map((name) => graph.parameter(name, [32, HEAD_DIM / 2]));
  const form = { cos, sin, grid, heads: HEAD_COUNT, kvHeads: KV_HEADS, headDim: HEAD_DIM };
  const [queries, keys] = [HEAD_COUNT * HEAD_DIM, KV_HEADS * HEAD_DIM];
  const factors = [
    graph.input("A.in", "float32", [WIDTH, RANK]),
    graph.input("B.q", "float32", [RANK, queries]),
    graph.input("B.v", "float32", [RANK, keys]),
    graph.input("A.mid", "float32", [HIDDEN, RANK]),
    graph.input("B.down", "float32", [RANK, WIDTH]),
  ];
  const [aIn, bq, bv, aMid, bDown] = factors;
  const cores: Value[] = [];
  const core = (name: string, modules: number) => {
    const value = graph.input(name, "float32", ["batch", RANK, modules * RANK]);
    cores.push(value);
    return value;
  };
  const linear = (x: Value, sizes: readonly number[], name: string) => {
    const weights = sizes.map((size, i) =>
      graph.parameter(`${name}.w${i}`, [size, Number(x.shape[1])])
    );
    return graph.add("linear", { x, weights, biases: [] }, name);
  };
  const norm = (x: Value, name: string, groups = 1) => {
    const gamma = graph.parameter(`${name}.gamma`, [Number(x.shape[1]) / groups]);
    return graph.add("rmsNorm", { x, gamma, eps: 1e-5, groups }, name);
  };
  let hidden = graph.input("x", "float32", ["tokens", WIDTH]);
  for (const l of ["l0", "l1"]) {
    const x = norm(hidden, `${l}.norm`);
    const y = linear(x, [queries, keys, keys], `${l}.qkv`);
    const offsets = [0, queries + keys];
    const args = { x, y, a: aIn, b: [bq, bv], offsets, grid, cores: core(`${l}.cores`, 2) };
    const adapted = graph.add("lotr", args, `${l}.adapted`);
    const part = (start: number, size: number) =>
      graph.add("columns", { x: adapted, start, size }, `${l}.${start}`);
    const parts = [
      norm(part(0, queries), `${l}.q`, HEAD_COUNT),
      norm(part(queries, keys), `${l}.k`, KV_HEADS),
      part(queries + keys, keys),
    ];
    const qkv = graph.add("concat", { parts }, `${l}.packed`);
    const attended = graph.add(
      "causalAttention",
      { qkv, ...form, scale: 0.5, window: 6 },
      `${l}.attended`,
    );
    const middle = graph.add(
      "add",
      { a: hidden, b: linear(attended, [WIDTH], `${l}.o`) },
      `${l}.middle`,
    );
    const both = linear(norm(middle, `${l}.mid`), [HIDDEN, HIDDEN], `${l}.gateUp`);
    const gated = graph.add("glu", { x: both }, `${l}.gated`);
    const fed = linear(gated, [WIDTH], `${l}.down`);
    const downArgs = { x: gated, y: fed, a: aMid, b: [bDown], offsets: [0], grid };
    const down = graph.add(
      "lotr",
      { ...downArgs, cores: core(`${l}.down.cores`, 1) },
      `${l}.down.adapted`,
    );
    hidden = graph.add("add", { a: middle, b: down }, `${l}.out`);
  }
  const index = graph.input("index", "int32", ["rows"]);
  const last = norm(graph.add("rows", { x: hidden, index }, "last"), "normed");
  const logits = linear(last, [VOCAB], "logits");
  const targets = graph.input("targets", "int32", ["rows"]);
  const nll = graph.add("nll", { logits, targets }, "nll");
  return { graph, nll, cores, factors, seeds: graph.input("seeds", "float32", ["rows"]) };
}

/** Three rows of nine tokens, seven of which carry loss. */
export function decoderInputs({ graph }: Decoder): Inputs {
  const [batch, time] = [3, 9];
  const given: Record<string, Evaluated> = {
    grid: ints(batch, time),
    index: ints(1, 4, 7, 8, 12, 17, 20),
    targets: ints(3, 49, 0, 7, 7, 21, 30),
  };
  const run: Readonly<Record<string, number>> = { tokens: batch * time, batch, rows: 7 };
  for (const [i, { name, shape, dtype }] of graph.finish([]).inputs.entries()) {
    if (dtype !== "float32") continue;
    const sizes = shape.map((dim) => typeof dim === "number" ? dim : run[dim]);
    given[name] = floats(sizes, i + 100, name.includes(".") ? 0.3 : 1);
  }
  return given;
}

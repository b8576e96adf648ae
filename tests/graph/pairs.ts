/**
 * A graph's outputs by the lowering beside those by the naive evaluator, and how far apart they
 * are.
 */
import { assertEquals } from "@std/assert";
import type { Evaluated } from "../../src/graph/reference/evaluate.ts";
import type { Graph } from "../../src/graph/graph.ts";
import type { LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DEVICE } from "./device.ts";
import { distance, FLOAT32, randomArray, RandomParameters, runLowered, runNaive } from "./run.ts";

export type Inputs = Readonly<Record<string, Evaluated>>;

/** Both results of each output. */
export interface Pair {
  readonly lowered: Float32Array;
  readonly naive: Evaluated;
}

/** Runs a graph with random parameters both ways. */
export async function both(
  graph: Graph,
  given: Inputs,
  plan: LoweringPlan = FLOAT32,
  device: Device = DEVICE,
): Promise<Pair[]> {
  const parameters = new RandomParameters(graph);
  const expected = runNaive(graph, given, parameters);
  const shapes = expected.map(({ shape }) => shape);
  const lowered = await runLowered(device, graph, given, parameters, plan, shapes);
  return expected.map((naive, i) => ({ naive, lowered: lowered[i] }));
}

/** Largest difference over the root mean square of what is expected. */
export function relative({ lowered, naive: { data } }: Pair): number {
  const squares = Array.from(data).reduce((sum, x) => sum + x * x, 0);
  return distance(lowered, data) / Math.sqrt(squares / data.length);
}

/** Cosine of the angle between both results. */
export function cosine({ lowered, naive: { data } }: Pair): number {
  let [dot, left, right] = [0, 0, 0];
  for (let i = 0; i < data.length; i++) {
    dot += lowered[i] * data[i];
    left += lowered[i] ** 2;
    right += data[i] ** 2;
  }
  return dot / Math.sqrt(left * right);
}

export function assertExact({ lowered, naive: { data } }: Pair): void {
  assertEquals(lowered, Float32Array.from(data));
}

export function floats(shape: readonly number[], seed: number, scale = 1): Evaluated {
  return { shape, data: randomArray(shape.reduce((n, dim) => n * dim, 1), seed, scale) };
}

export function ints(...values: number[]): Evaluated {
  return { shape: [values.length], data: Int32Array.from(values) };
}

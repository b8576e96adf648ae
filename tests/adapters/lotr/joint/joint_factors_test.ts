/**
 * LoRAs compressed together, held to numpy's decompositions of the same stack formed whole
 * (`tests/fixtures/adapters/joint.py`), and to what must hold of any stack.
 */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertLess,
  assertRejects,
} from "@std/assert";
import { FactorSpans } from "../../../../adapters/lotr/energy.ts";
import { jointFactors, type JointFit } from "../../../../adapters/lotr/joint/joint_factors.ts";
import { groupsOf } from "../../../../adapters/lotr/joint/clusters.ts";
import {
  capturedBy,
  type LoraSource,
  normalised,
  type Slice,
} from "../../../../adapters/lotr/joint/stacked.ts";
import { hosvd, refined } from "../../../../adapters/lotr/joint/tucker_fit.ts";
import {
  type Dense,
  dense,
  multiply,
  scaled,
  transpose,
} from "../../../../adapters/lotr/linalg.ts";
import { settle } from "../../../../adapters/lotr/make/assemble.ts";
import { type ModuleName, SITE_OF } from "../../../../src/models/hook.ts";
import expected from "../../../fixtures/adapters/joint.json" with { type: "json" };
import { STACK } from "../../small.ts";

const TRUTH: Readonly<
  Record<string, { readonly hosvd: readonly number[]; readonly hooi: number }>
> = { "2": expected["2"], "4": expected["4"], "6": expected["6"] };
const MODULES: readonly ModuleName[] = ["q_proj", "v_proj", "down_proj"];
const [K, FAMILY, LORAS] = [2, 3, 6];

/** As the fixture's script has it. */
function wave(start: number, rows: number, columns: number): Dense {
  return dense(
    rows,
    columns,
    Array.from({ length: rows * columns }, (_, i) => Math.sin(0.7 * (start + i) * (start + i))),
  );
}

function sum(a: Dense, b: Dense): Dense {
  return dense(a.rows, a.columns, a.data.map((value, i) => value + b.data[i]));
}

function slicesOf(lora: number): Slice[] {
  const half = (layer: number, place: number, side: number, width: number) => {
    const at = 1000 * (1 + lora) + 100 * (layer * MODULES.length + place) + 50 * side;
    const common = wave(50000 + 10000 * (lora % 2) + 1000 * side + 100 * place, FAMILY, width);
    return sum(multiply(wave(at, K, FAMILY), common), scaled(wave(at + 20000, K, width), 0.3));
  };
  return [0, 1].flatMap((layer) =>
    MODULES.map((module, place) => ({
      layer,
      module,
      p: half(layer, place, 0, STACK.inputs[SITE_OF[module]]),
      q: half(layer, place, 1, STACK.outputs[module]),
    }))
  );
}

/** A LoRA of the fixture, `times` as strong: its own strength must not count. */
function sourceOf(lora: number, times = 1 + 10 * lora): LoraSource {
  const slices = slicesOf(lora).map((slice) => ({ ...slice, q: scaled(slice.q, times) }));
  return { name: `lora-${lora}`, read: () => Promise.resolve(slices) };
}

const SOURCES = Array.from({ length: LORAS }, (_, lora) => sourceOf(lora));

async function* stacked() {
  for (const { name, read } of SOURCES) yield normalised(name, await read());
}

async function coresOf(fit: JointFit) {
  return await Array.fromAsync(fit.cores());
}

Deno.test("higher-order SVD captures of each LoRA what numpy's does", async () => {
  for (const rank of [2, 4, 6]) {
    const settled = settle({ stack: STACK, rank, modules: MODULES });
    const bases = await hosvd(settled, stacked, { seed: 0 });
    for await (const [lora, slices] of enumerate(stacked())) {
      // the block iteration's own tolerance; the decompositions agree to rounding
      assertAlmostEquals(capturedBy(bases, slices), TRUTH[rank].hosvd[lora], 1e-5);
    }
  }
});

async function* enumerate<T>(items: AsyncIterable<T>): AsyncGenerator<[number, T]> {
  let at = 0;
  for await (const item of items) yield [at++, item];
}

async function totalCaptured(bases: Parameters<typeof capturedBy>[0]): Promise<number> {
  let total = 0;
  for await (const slices of stacked()) total += capturedBy(bases, slices);
  return total;
}

Deno.test("refinement gains on higher-order SVD, and comes near where numpy's stands still", async () => {
  for (const rank of [2, 4, 6]) {
    const start = await hosvd(settle({ stack: STACK, rank, modules: MODULES }), stacked, {
      seed: 0,
    });
    const total = await totalCaptured(await refined(start, stacked));
    assertGreater(total, await totalCaptured(start) - 1e-12);
    // it ends where a sweep adds less than 2e-3, numpy's after 500 sweeps
    assertAlmostEquals(total, TRUTH[rank].hooi, 1e-2 * TRUTH[rank].hooi);
  }
});

Deno.test("a core holds of its LoRA what the report says, at each rank that it can be cut to", async () => {
  const fit = await jointFactors({ ...OPTIONS, rank: 4 });
  const [factors] = fit.sets;
  for (const { name, set, core, captured } of await coresOf(fit)) {
    assertEquals([set, core.factors, core.rank], [0, factors.digest, 4]);
    const slices = slicesOf(Number(name.slice(-1)));
    const energies = slices.map((slice) => ({
      slice,
      values: Float32Array.from(multiply(transpose(slice.p), slice.q).data),
    }));
    const total = energies.reduce((sum, { values }) => sum + energyOfAll(values), 0);
    for (const rank of [1, 2, 3, 4]) {
      const spans = new FactorSpans(factors, rank);
      const held = energies.reduce(
        (sum, { slice: { layer, module }, values }) =>
          sum + energyOfAll(values) * spans.captured({ layer, module, values }).core,
        0,
      );
      assertAlmostEquals(captured[rank - 1], held / total, 1e-5);
    }
  }
});

function energyOfAll(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}

const OPTIONS = {
  stack: STACK,
  sources: SOURCES,
  clusters: 1,
  enough: 0.9,
  seed: 0,
} as const;

Deno.test("LoRAs that the factors span come back whole", async () => {
  const fit = await jointFactors({ ...OPTIONS, rank: 8, sources: [sourceOf(0)] });
  const [{ core, captured }] = await coresOf(fit);
  const [factors] = fit.sets;
  assertAlmostEquals(captured.at(-1) ?? 0, 1, 1e-9);
  for (const { layer, module, p, q } of slicesOf(0)) {
    const at = core.modules.indexOf(module);
    const a = dense(p.columns, 8, factors.a(SITE_OF[module]));
    const b = dense(8, q.columns, factors.b(module));
    const made = multiply(multiply(a, dense(8, 8, core.matrix(layer, at))), b);
    const whole = multiply(transpose(p), q);
    made.data.forEach((value, i) => assertAlmostEquals(value, whole.data[i], 1e-5));
  }
});

Deno.test("two families fall into two clusters, which hold more than one set for all does", async () => {
  const one = await coresOf(await jointFactors({ ...OPTIONS, rank: 4 }));
  for (const seed of [0, 1, 2, 3]) {
    const two = await coresOf(await jointFactors({ ...OPTIONS, rank: 4, clusters: 2, seed }));
    const groups = [0, 1].map((set) => two.flatMap((core, lora) => core.set === set ? [lora] : []));
    assertEquals(groups.toSorted(([a = 0], [b = 0]) => a - b), expected.families.groups);
    two.forEach(({ captured }, lora) => {
      const place = Math.floor(lora / 2);
      // refined, so at least what higher-order SVD captures of the family alone, on the whole
      assertGreater(captured[3], expected.families.hosvd[lora % 2][place] - 0.03);
      assertGreater(captured[3], one[lora].captured[3]);
    });
  }
});

Deno.test("auto takes the least number of clusters that hold enough", async () => {
  const made = async (enough: number) =>
    (await jointFactors({ ...OPTIONS, rank: 4, clusters: "auto", enough })).sets.length;
  const captured = async (clusters: number) => {
    const cores = await coresOf(await jointFactors({ ...OPTIONS, rank: 4, clusters }));
    return cores.reduce((sum, { captured }) => sum + captured[3], 0) / cores.length;
  };
  const [one, two] = [await captured(1), await captured(2)];
  assertLess(one, two);
  assertEquals([await made(one - 1e-6), await made((one + two) / 2)], [1, 2]);
  assertEquals(await made(1.1), LORAS);
});

Deno.test("the same seed makes the same factors and cores", async () => {
  const digests = async (seed: number) => {
    const fit = await jointFactors({ ...OPTIONS, rank: 3, clusters: 2, seed });
    return [fit.sets.map(({ digest }) => digest), (await coresOf(fit)).map((c) => c.core.digest)];
  };
  assertEquals(await digests(1), await digests(1));
});

Deno.test("a cluster that is nobody's best gets the LoRA that is held worst", () => {
  const shares = [[0.9, 0.1, 0], [0.4, 0.3, 0], [0.2, 0.8, 0]];
  assertEquals(groupsOf(shares), [[0], [2], [1]]);
});

Deno.test("LoRAs over different linears share a set, and a linear that one leaves alone gets zeros", async () => {
  const only = slicesOf(0).filter(({ module }) => module === "q_proj");
  const sources = [{ name: "q", read: () => Promise.resolve(only) }, sourceOf(1)];
  const fit = await jointFactors({ ...OPTIONS, rank: 4, sources });
  const [{ core }] = await coresOf(fit);
  assertEquals(core.modules, MODULES);
  assert(core.matrix(1, 0).some((value) => value !== 0));
  assert(core.matrix(1, 1).every((value) => value === 0));
});

Deno.test("what cannot be compressed is refused by name", async () => {
  const refused = async (slices: readonly Slice[], text: string) => {
    const source = { name: "mine", read: () => Promise.resolve(slices) };
    const made = jointFactors({ ...OPTIONS, rank: 2, sources: [SOURCES[0], source] });
    await assertRejects(() => made, TypeError, text);
  };
  const [first] = slicesOf(0);
  await refused(
    [{ ...first, layer: 2 }],
    "Cannot compress mine: it adapts layer 2, the base has 2",
  );
  await refused([{ ...first, module: "k_proj" }], "mine: its k_proj of layer 0 goes 16→16");
  await refused([{ ...first, q: scaled(first.q, 0) }], "Cannot compress mine: it adds nothing");
  await assertRejects(
    () => jointFactors({ ...OPTIONS, rank: 2, clusters: 7 }),
    RangeError,
    "Cannot make 7 clusters of 6 LoRAs",
  );
  await assertRejects(
    () => jointFactors({ ...OPTIONS, rank: 9 }),
    RangeError,
    "v_proj has only width 8",
  );
});

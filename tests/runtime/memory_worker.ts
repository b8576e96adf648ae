/**
 * Measures resident memory in a process of its own (other tests run beside ours in one process) and
 * prints what each scenario grew by, in MB, as one JSON line. Knows scenarios; `memory_system_test.ts`
 * knows what they should cost.
 */

import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { countingModel, doublingModel, linearModel } from "./models.ts";

const collectGarbage = (globalThis as { gc?: () => void }).gc ?? (() => {});
const libc = Deno.dlopen("libc.so.6", { malloc_trim: { parameters: ["usize"], result: "i32" } });

/** Resident MB outside the JavaScript heap, once garbage and free lists are given back. */
function resident(): number {
  collectGarbage();
  libc.symbols.malloc_trim(0n);
  const { rss, heapTotal } = Deno.memoryUsage();
  return (rss - heapTotal) / 2 ** 20;
}

/** MB that are no file's, once garbage and free lists are given back. */
function privately(): number {
  resident();
  const kilobytes = /^RssAnon:\s+(\d+)/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1];
  return Number(kilobytes) / 1024;
}

type Keep = "release" | "leak";

/** Tensors, views, bindings and runs, made and released `cycles` times. */
async function churnBindings(device: Device, cycles: number, keep: Keep): Promise<void> {
  const session = await device.session(doublingModel("float32"), { threads: 1 });
  for (let i = 0; i < cycles; i++) {
    const x = device.tensor("float32", [16]);
    const y = device.tensor("float32", [32]);
    const part = device.view(y, 8, [16]);
    const binding = session.bind({ x }, { y: part });
    if (i % 8 === 0) await binding.run();
    else binding.runSync();
    if (keep === "leak") continue;
    for (const resource of [binding, x, y, part]) resource.release();
  }
  session.release();
}

/** Sessions with a weight, made, run and released. */
async function churnSessions(device: Device, cycles: number, keep: Keep): Promise<void> {
  const w = device.tensor("float32", [64, 64]);
  const x = device.tensor("float32", [1, 64]);
  const y = device.tensor("float32", [1, 64]);
  for (let i = 0; i < cycles; i++) {
    const session = await device.session(linearModel(64, 64), { threads: 2, initializers: { w } });
    const binding = session.bind({ x }, { y });
    await binding.run();
    if (keep === "leak") continue;
    binding.release();
    session.release();
  }
  for (const tensor of [w, x, y]) tensor.release();
}

/** Runs that fail and runs that are cancelled: their statuses and options must not pile up. */
async function churnFailures(device: Device, cycles: number): Promise<void> {
  const session = await device.session(countingModel(), { threads: 1 });
  const count = device.tensor("int64", [], new BigInt64Array([1_000_000_000n]));
  const x = device.tensor("float32", [4]);
  const wrong = device.tensor("float32", [5]);
  const y = device.tensor("float32", [4]);
  const endless = session.bind({ count, x }, { y });
  const doomed = session.bind({ count: device.tensor("int64", [], new BigInt64Array([1n])), x }, {
    y: wrong,
  });
  for (let i = 0; i < cycles; i++) {
    await doomed.run().catch(() => {});
    if (i % 10 > 0) continue;
    const run = endless.run().catch(() => {});
    session.cancel();
    await run;
  }
}

/** Whole devices, opened and released. */
async function churnDevices(cycles: number): Promise<void> {
  for (let i = 0; i < cycles; i++) {
    using device = openDevice("cpu");
    await churnBindings(device, 2, "release");
  }
}

/** Growth in MB from after `warmUp` to after `work`. */
async function growth(warmUp: () => Promise<void>, work: () => Promise<void>): Promise<number> {
  await warmUp();
  const before = resident();
  await work();
  return resident() - before;
}

/** A large tensor: untouched, written whole, and given back. */
function pages(device: Device): Record<string, number> {
  const count = 2 ** 26;
  const start = resident();
  const tensor = device.tensor("float32", [count]);
  const untouched = resident() - start;
  const data = tensor.data as Float32Array;
  data.fill(1);
  const touched = resident() - start;
  device.discard(tensor, 1024, count - 2048);
  const discarded = resident() - start;
  const zero = data[count / 2] ?? NaN;
  const kept = (data[0] ?? 0) + (data[count - 1] ?? 0);
  tensor.release();
  const huge = device.tensor("float32", [2 ** 30]);
  const hugeUntouched = resident() - start - discarded;
  huge.release();
  return { untouched, touched, discarded, zero, kept, hugeUntouched };
}

/** One 64 MB weight in two sessions whose kernels read it as it is. */
async function sharing(device: Device): Promise<Record<string, number>> {
  const size = 4096;
  const w = device.tensor("float32", [size, size]);
  (w.data as Float32Array).fill(0.5);
  const bytes = linearModel(size, size);
  const plain = { initializers: { w }, config: { "session.disable_prepacking": "1" } };
  const start = resident();
  const first = await device.session(bytes, plain);
  const second = await device.session(bytes, plain);
  const unpacked = resident() - start;
  first.release();
  second.release();
  return { unpacked };
}

/** A linear of 64 MB by prepared files: made, mapped by two sessions; and a lane's factors. */
async function lanes(device: Device): Promise<Record<string, number>> {
  // Late, so that the scenarios before have as little code as they need to be compiled meanwhile.
  const { planOf } = await import("../../src/executor/base.ts");
  const { GraphBuilder } = await import("../../src/graph/graph.ts");
  const { lower } = await import("../../src/graph/lowering/lowering.ts");
  const { DeviceWeights } = await import("../../src/models/device_weights.ts");
  const { WeightFiles } = await import("../../src/models/weight_files.ts");
  const size = 4096;
  const folder = await Deno.makeTempDir();
  const lowered = (name: string, value: number) => {
    const graph = new GraphBuilder();
    const x = graph.input("x", "float32", ["tokens", size]);
    const weights = [graph.parameter(name, [size, size])];
    const y = graph.add("linear", { x, weights, biases: [] }, "y");
    const parameters = { read: () => new Float32Array(size * size).fill(value) };
    return lower(graph.finish([y]), parameters, planOf({ dtype: "fp32", maxBatch: 1 }));
  };
  const base = lowered("model.w.weight", 0.5);
  const files = await WeightFiles.open({ device, folder, progress: () => {} });
  const weights = new DeviceWeights(device, files);
  await weights.prepare([base]);
  const start = privately();
  const first = await weights.session(base);
  const once = privately() - start;
  const second = await weights.session(base);
  const twice = privately() - start;
  for (let i = 0; i < 3; i++) {
    (await weights.session(lowered("lotr.0.a.attn_in", 0.25))).release();
  }
  // V8 frees what it collected of large buffers on a thread of its own, soon after
  collectGarbage();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const factors = privately() - start - twice;
  first.release();
  second.release();
  weights.release();
  await Deno.remove(folder, { recursive: true });
  return { once, twice, factors };
}

/**
 * Runs a binding whose input nobody else holds, after garbage was collected and memory written
 * anew: the share of the output that is right.
 */
async function unheld(device: Device): Promise<number> {
  const count = 2 ** 20;
  const session = await device.session(doublingModel("float32"));
  const y = device.tensor("float32", [count]);
  const input = () => device.tensor("float32", [count], new Float32Array(count).fill(3));
  const binding = session.bind({ x: input() }, { y });
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    collectGarbage();
    new Float32Array(count).fill(-1);
  }
  await binding.run();
  return (y.data as Float32Array).filter((value) => value === 6).length / count;
}

const BINDINGS = 20_000;
const SESSIONS = 300;
const device = openDevice("cpu");
const report = {
  bindings: await growth(
    () => churnBindings(device, BINDINGS / 4, "release"),
    () => churnBindings(device, BINDINGS, "release"),
  ),
  sessions: await growth(
    () => churnSessions(device, SESSIONS / 4, "release"),
    () => churnSessions(device, SESSIONS, "release"),
  ),
  failures: await growth(() => churnFailures(device, 400), () => churnFailures(device, 2_000)),
  devices: await growth(() => churnDevices(50), () => churnDevices(200)),
  leakedBindings: await growth(
    () => Promise.resolve(),
    // Three times as many, since the first of them fit in memory that was released before.
    () => churnBindings(device, 3 * BINDINGS, "leak"),
  ),
  leakedSessions: await growth(
    () => Promise.resolve(),
    () => churnSessions(device, SESSIONS / 3, "leak"),
  ),
  pages: pages(device),
  sharing: await sharing(device),
  lanes: await lanes(device),
  unheld: await unheld(device),
};
// deno-lint-ignore no-console -- The line that the test reads.
console.log(JSON.stringify(report));

/**
 * Measures resident memory in a process of its own (other tests run beside ours in one process) and
 * prints what each scenario grew by, in MB, as one JSON line. Knows scenarios; `memory_system_test.ts`
 * knows what they should cost.
 */

import { DeviceWeights } from "../../src/models/device_weights.ts";
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

/** One 64 MB weight in two sessions, with and without shared prepacked weights. */
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
  const packed = { initializers: { w }, prepacked: device.prepackedWeights() };
  const base = resident();
  await device.session(bytes, packed);
  const packedOnce = resident() - base;
  await device.session(bytes, packed);
  return { unpacked, packedOnce, packedTwice: resident() - base };
}

/** One 64 MB weight in a prompt's and a step's session, as every lane has them; and a lane's factor. */
async function lanes(device: Device): Promise<Record<string, number>> {
  const size = 4096;
  const weights = new DeviceWeights(device);
  const lowered = (name: string, data: Float32Array<ArrayBuffer>) => ({
    model: linearModel(size, size, name),
    weights: new Map([[name, { dtype: "float32", shape: [size, size], data } as const]]),
  });
  const base = lowered("w", new Float32Array(size * size).fill(0.5));
  const start = resident();
  const first = await weights.session(base, {});
  const once = resident() - start;
  const second = await weights.session(base, { attention: "direct" });
  const twice = resident() - start;
  for (let i = 0; i < 3; i++) {
    const factor = lowered("lotr.0.a.attn_in", new Float32Array(size * size).fill(0.25));
    (await weights.session(factor, {})).release();
  }
  // V8 frees what it collected of large buffers on a thread of its own, soon after
  collectGarbage();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const factors = resident() - start - twice;
  first.release();
  second.release();
  weights.release();
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
    () => churnBindings(device, BINDINGS, "leak"),
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

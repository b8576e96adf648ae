// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Everything at once on a WebGPU device: sessions made and released, runs, copies, memory taken and
 * freed, without waiting for each other. Native calls that overlap end the process. Prints how often
 * each was done and how many results were wrong. Argument: rounds.
 */
import type { Session, Tensor } from "../../../src/runtime/device.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { doublingModel } from "../models.ts";

const rounds = Number(Deno.args[0]);
const SIZES = [1, 7, 64, 1000, 4096];
const device = openDevice("webgpu");
const wrong: string[] = [];

async function check(what: string, tensor: Tensor, wanted: number): Promise<void> {
  const found = await device.download(tensor);
  if (found.some((value) => value !== wanted)) wrong.push(`${what}: ${found[0]} is not ${wanted}`);
}

/** A tensor on the device full of a number. */
async function filled(size: number, value: number): Promise<Tensor> {
  const tensor = await device.allocate("float32", [size]);
  await device.upload(tensor, new Float32Array(size).fill(value));
  return tensor;
}

async function runs(session: Session, value: number): Promise<void> {
  using x = await filled(SIZES[value % SIZES.length], value);
  using binding = session.bind({ x }, { y: x });
  await Promise.all([binding.run(), device.trim()]);
  await check("a run", x, 2 * value);
}

async function sessions(value: number): Promise<void> {
  using session = await device.session(doublingModel("float32"));
  await Promise.all([runs(session, value), runs(session, value + 1)]);
}

async function copies(value: number): Promise<void> {
  using from = await filled(4096, value);
  using to = await device.allocate("float32", [4096]);
  using first = device.view(from, 0, [64]);
  using part = await device.allocate("float32", [64]);
  await device.copy([{ from, to }, { from: first, to: part }]);
  await Promise.all([check("a copy", to, value), check("a view's copy", part, value)]);
}

async function memory(value: number): Promise<void> {
  const taken = await Promise.all(SIZES.map((size) => device.allocate("float32", [size])));
  for (const tensor of taken) tensor.release();
  using tensor = await filled(SIZES[value % SIZES.length], value);
  await check("new memory", tensor, value);
}

async function repeat(times: number, act: (value: number) => Promise<void>): Promise<void> {
  for (let i = 1; i <= times; i++) await act(i);
}

using shared = await device.session(doublingModel("float32"));
await device.trim();
const before = device.liveObjects;
await Promise.all([
  repeat(rounds, (value) => runs(shared, value)),
  repeat(rounds, (value) => runs(shared, value + 1)),
  repeat(rounds / 4, sessions),
  repeat(rounds, copies),
  repeat(rounds, memory),
  repeat(rounds / 4, async (value) => {
    using other = openDevice("webgpu");
    using tensor = await other.allocate("float32", [value]);
    await other.upload(tensor, new Float32Array(value).fill(value));
    const found = await other.download(tensor);
    if (found.some((each) => each !== value)) wrong.push("another device of the process");
  }),
]);
await device.trim();
console.log(JSON.stringify({ wrong, left: device.liveObjects - before }));

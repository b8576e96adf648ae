// deno-lint-ignore-file no-console -- what a program prints is its result
/** What a WebGPU device does with tensors and sessions, as one JSON line for `device_system_test.ts`. */
import { openDevice } from "../../../src/runtime/open.ts";
import { doublingModel, linearModel } from "../models.ts";
import { SAMPLES } from "../samples.ts";
import type { DType, TypedArray } from "../../../src/runtime/device.ts";

/** The error's name and message, or "none". */
async function refusal(act: () => unknown): Promise<string> {
  try {
    await act();
    return "none";
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

const numbers = (data: TypedArray | undefined) => Array.from(data ?? [], Number);
const device = openDevice("webgpu");
(await device.allocate("float32", [1])).release();
await device.trim();
const before = device.liveObjects;

/** Every element type up, across and down. */
const moved: Record<string, boolean> = {};
for (const [dtype, sample] of Object.entries(SAMPLES) as [DType, TypedArray][]) {
  using from = await device.allocate(dtype, [3]);
  using to = await device.allocate(dtype, [3]);
  await device.upload(from, sample);
  await device.copy([{ from, to }]);
  const found = await device.download(to);
  moved[dtype] = from.data === undefined && `${found}` === `${sample}`;
}

async function runs() {
  using session = await device.session(doublingModel("float32"));
  using x = await device.allocate("float32", [6]);
  using y = await device.allocate("float32", [6]);
  await device.upload(x, Float32Array.of(1, 2, 3, 4, 5, 6));
  using whole = session.bind({ x }, { y });
  await whole.run();
  const doubled = numbers(await device.download(y));
  using first = device.view(y, 0, [4]);
  using inPlace = session.bind({ x: first }, { y: first });
  await inPlace.run();
  const prefix = numbers(await device.download(y));
  using given = device.tensor("float32", [2], Float32Array.of(5, 6));
  using taken = device.tensor("float32", [2]);
  using crossing = session.bind({ x: given }, { y: taken });
  await crossing.run();
  return { doubled, prefix, crossed: numbers(taken.data) };
}

/** Two copies in one call, one up and one down. */
async function batched() {
  using a = await device.allocate("float32", [2]);
  using b = await device.allocate("float32", [1, 2]);
  await device.upload(b, Float32Array.of(3, 4));
  using up = device.tensor("float32", [2], Float32Array.of(1, 2));
  using down = device.tensor("float32", [2]);
  await device.copy([{ from: up, to: a }, { from: b, to: down }]);
  return [...numbers(await device.download(a)), ...numbers(down.data)];
}

/** Recorded once and repeated: what inputs hold then, in two sizes, each with its own recording. */
async function recorded() {
  using session = await device.session(doublingModel("float32"), { capture: true });
  using x = await device.allocate("float32", [8]);
  using y = await device.allocate("float32", [8]);
  using half = device.view(x, 0, [4]);
  using halved = device.view(y, 0, [4]);
  using whole = session.bind({ x }, { y });
  using part = session.bind({ x: half }, { y: halved });
  const found: number[][] = [];
  for (const value of [1, 2, 3]) {
    await device.upload(x, new Float32Array(8).fill(value));
    await whole.run();
    await device.upload(half, new Float32Array(4).fill(10 * value));
    await part.run();
    found.push([...await device.download(y)].map(Number).slice(3, 5));
  }
  return found;
}

/** Two sessions over one weight in device memory, which is written once more in between. */
async function shared() {
  const w = device.tensor("float32", [2, 2], Float32Array.of(1, 2, 3, 4));
  using own = await device.allocate("float32", [2, 2]);
  await device.copy([{ from: w, to: own }]);
  using resident = device.view(own, 0, [2, 2]);
  const options = { initializers: { w }, resident: { w: resident } };
  using first = await device.session(linearModel(2, 2), options);
  using second = await device.session(linearModel(2, 2), options);
  w.release();
  using x = device.tensor("float32", [1, 2], Float32Array.of(1, 10));
  const ask = async (session: typeof first) => {
    using y = device.tensor("float32", [1, 2]);
    using binding = session.bind({ x }, { y });
    await binding.run();
    return numbers(y.data);
  };
  const before = [await ask(first), await ask(second)];
  await device.upload(own, Float32Array.of(0, 0, 0, 1));
  return [...before, await ask(first), await ask(second)];
}

/** A session's weights are its own: the tensor may go, or change. */
async function weights() {
  const w = device.tensor("float32", [2, 2], Float32Array.of(1, 2, 3, 4));
  using session = await device.session(linearModel(2, 2), { initializers: { w } });
  (w.data as Float32Array).fill(0);
  w.release();
  using x = device.tensor("float32", [1, 2], Float32Array.of(1, 10));
  using y = device.tensor("float32", [1, 2]);
  using binding = session.bind({ x }, { y });
  await binding.run();
  return numbers(y.data);
}

async function refusals() {
  using session = await device.session(doublingModel("float32"));
  using x = await device.allocate("float32", [2]);
  using long = await device.allocate("float32", [3]);
  using whole = await device.allocate("int32", [2]);
  using cpu = openDevice("cpu");
  using binding = session.bind({ x }, { y: x });
  return {
    offset: await refusal(() => device.view(x, 1, [1])),
    longer: await refusal(() => device.view(x, 0, [3])),
    within: await refusal(() => device.view(x, 0, [1])),
    type: await refusal(() => device.copy([{ from: x, to: whole }])),
    length: await refusal(() => device.copy([{ from: x, to: long }])),
    sync: await refusal(() => binding.runSync()),
    shape: await refusal(() => device.allocate("float32", [-1])),
    weight: await refusal(() => device.session(linearModel(2, 1), { initializers: { w: x } })),
    model: await refusal(() => device.session(Uint8Array.of(1, 2))),
    foreign: await refusal(() => cpu.download(x)),
  };
}

const results = {
  ...{ name: device.name, moved, ...await runs() },
  ...{
    recorded: await recorded(),
    shared: await shared(),
    batched: await batched(),
    weights: await weights(),
    refusals: await refusals(),
  },
};
await device.trim();
const left = device.liveObjects - before;
device.release();
const released = await refusal(() => device.allocate("float32", [1]));
const again = openDevice("webgpu");
using one = await again.allocate("float32", [1]);
await again.upload(one, Float32Array.of(7));
const reopened = numbers(await again.download(one));
again.release();
console.log(JSON.stringify({ ...results, left, released, reopened }));

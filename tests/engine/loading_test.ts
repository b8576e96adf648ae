/** Where loading stops half way, everything that was made until then is given back. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { Base, planOf } from "../../src/executor/base.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { Sampler } from "../../src/executor/sampler.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import { tinyTrainable } from "../train/oracle.ts";
import { factorsOf, folderOf, Tiny } from "./tiny.ts";

/** Makes a device refuse the tensor or view that comes as the `nth`, until it is put right again. */
function scarce(device: Device, nth: number): { restore(): number } {
  const { tensor, view } = device;
  let made = 0;
  const count = () => {
    if (++made >= nth) throw new RangeError("no memory");
  };
  const limited: typeof tensor = (dtype, shape, data) => {
    count();
    return tensor.call(device, dtype, shape, data);
  };
  device.tensor = limited;
  device.view = (...args) => {
    count();
    return view.apply(device, args);
  };
  const restore = () => {
    device.tensor = tensor;
    device.view = view;
    return made;
  };
  return { restore };
}

const OPTIONS = { dtype: "int8", maxBatch: 3, maxContext: 64 } as const;
const calibration = Array.from({ length: 200 }, (_, i) => (i * 37) % 100);

Deno.test("a calibration leaves nothing behind, whether it ends or stops", async () => {
  using checkpoint = await openCheckpoint(folderOf("llama"));
  using device = openDevice("cpu");
  const before = device.liveObjects;
  const load = async () =>
    (await Base.load(device, checkpoint, { ...OPTIONS, calibration })).release();
  const counted = scarce(device, Infinity);
  await load();
  const tensors = counted.restore();
  assertEquals(device.liveObjects, before);
  assert(tensors > 40);
  for (let nth = 4; nth <= tensors; nth += 7) {
    const limit = scarce(device, nth);
    await assertRejects(load, RangeError, "no memory");
    limit.restore();
    assertEquals(device.liveObjects, before, `${nth}`);
  }
});

Deno.test("a lane for which memory ends leaves nothing behind", async () => {
  using checkpoint = await openCheckpoint(folderOf("llama"));
  using device = openDevice("cpu");
  const base = await Base.load(device, checkpoint, { ...OPTIONS, dtype: "fp32", calibration: [] });
  const factors = factorsOf(checkpoint, await checkpoint.digest(), {
    rank: 4,
    modules: ["q_proj"],
  });
  await base.drop(await base.lane(factors));
  const before = device.liveObjects;
  const counted = scarce(device, Infinity);
  await base.drop(await base.lane(factors));
  const tensors = counted.restore();
  for (let nth = 1; nth <= tensors; nth += 2) {
    const limit = scarce(device, nth);
    await assertRejects(() => base.lane(factors), RangeError, "no memory");
    limit.restore();
    assertEquals(device.liveObjects, before, `${nth} of ${tensors}`);
  }
  base.release();
});

Deno.test("a step for which memory ends leaves nothing behind, and comes out right later", async () => {
  using tiny = await Tiny.open("llama", { maxBatch: 3 });
  const { base, device } = tiny;
  const factors = tiny.factors(4, ["q_proj", "down_proj"]);
  const steps: Readonly<Record<string, (lane: Executor) => Promise<unknown>>> = {
    prefill: (lane) => lane.prefill([{ slot: 1, tokens: [1, 2, 3], past: 0, last: true }]),
    decode: (lane) => lane.decode([1, 2], [0, 0]),
    greedy: (lane) => lane.sample([{ row: 0, temperature: 0, uniform: 0 }]),
  };
  // sessions of the sampler stay
  const first = await base.lane();
  await steps.greedy(first);
  const before = device.liveObjects;
  for (const [name, step] of Object.entries(steps)) {
    let more = true;
    for (let nth = 1; more; nth++) {
      const lane = await base.lane(factors);
      const limit = scarce(device, nth);
      more = await step(lane).then(() => false, ({ message }) => message === "no memory");
      limit.restore();
      await step(lane);
      await base.drop(lane);
      assertEquals(device.liveObjects, before, `${name}, ${nth}`);
    }
  }
});

Deno.test("a draw for which memory ends leaves nothing behind", async () => {
  using device = openDevice("cpu");
  const sampler = new Sampler(device, 256);
  using logits = device.tensor("float32", [1, 256], new Float32Array(256).with(3, 9));
  const delta = Float32Array.of(1);
  const repetition = Float32Array.of(1);
  const adjust = { ids: Int32Array.of(1), delta, repetition };
  const row = { row: 0, temperature: 0.7, uniform: 0.5, topP: 0.5, adjust, logprobs: 2 };
  // a nucleus with a mask, and every token
  const rows = [{ ...row, mask: new Int32Array(8).fill(-1) }, {
    row: 0,
    temperature: 0.7,
    uniform: 0,
  }];
  const expected = await sampler.sample(logits, rows);
  const before = device.liveObjects;
  const counted = scarce(device, Infinity);
  await sampler.sample(logits, rows);
  const tensors = counted.restore();
  assert(tensors > 15);
  for (let nth = 1; nth <= tensors; nth++) {
    const limit = scarce(device, nth);
    await assertRejects(() => sampler.sample(logits, rows), RangeError, "no memory");
    limit.restore();
    assertEquals(device.liveObjects, before, `${nth} of ${tensors}`);
    assertEquals(await sampler.sample(logits, rows), expected);
  }
  sampler.release();
});

Deno.test("a training pass for which memory ends leaves nothing behind", async () => {
  using checkpoint = await openCheckpoint(folderOf("llama"));
  using device = openDevice("cpu");
  const weights = new DeviceWeights(device);
  const { hook, cores: parameters } = tinyTrainable(checkpoint, 0);
  const lock = new DeviceLock();
  const train = async (nth: number) => {
    const model = await DecoderGradients.compile({
      ...{ config: checkpoint.config, hook, scale: 1, positions: 64, device, weights },
      parameters: new DecoderParameters(checkpoint, 64, { hook }),
      plan: planOf({ dtype: "fp32", maxBatch: 1 }),
      turn: () => lock.take(1),
    });
    const limit = scarce(device, nth);
    const example = { tokens: Int32Array.of(1, 2, 3), weights: Float32Array.of(0, 1, 1), line: 1 };
    const pass = { rows: [{ example, trainable: 0 }], trainables: [{ rank: 4, parameters }] };
    const failed = await model.gradients(pass).then(() => undefined, ({ message }) => message);
    const made = limit.restore();
    model.release();
    return { made, failed };
  };
  const { made } = await train(Infinity);
  const before = device.liveObjects;
  assert(made > 20);
  for (let nth = 1; nth <= made; nth += 17) {
    assertEquals((await train(nth)).failed, "no memory");
    assertEquals(device.liveObjects, before, `${nth} of ${made}`);
  }
  weights.release();
});

Deno.test("a sampler whose session failed once makes it at the next token", async () => {
  using device = openDevice("cpu");
  const sampler = new Sampler(device, 256);
  using logits = device.tensor("float32", [1, 256], new Float32Array(256).with(3, 9));
  const { session } = device;
  device.session = () => Promise.reject(new Error("no threads"));
  const rows = [{ row: 0, temperature: 0, uniform: 0 }];
  await assertRejects(() => sampler.sample(logits, rows), Error, "no threads");
  device.session = session;
  assertEquals(await sampler.sample(logits, rows), [{ token: 3 }]);
  sampler.release();
});

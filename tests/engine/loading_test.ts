/** Where loading stops half way, everything that was made until then is given back. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { Base } from "../../src/engine/base.ts";
import { Sampler } from "../../src/engine/sampler.ts";
import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { factorsOf, folderOf } from "./tiny.ts";

/** Makes a device refuse the tensor that comes as the `nth`, until it is put right again. */
function scarce(device: Device, nth: number): { restore(): number } {
  const { tensor } = device;
  let made = 0;
  const limited: typeof tensor = (dtype, shape, data) => {
    if (++made >= nth) throw new RangeError("no memory");
    return tensor.call(device, dtype, shape, data);
  };
  device.tensor = limited;
  const restore = () => {
    device.tensor = tensor;
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

Deno.test("a sampler whose session failed once makes it at the next token", async () => {
  using device = openDevice("cpu");
  const sampler = new Sampler(device, 8);
  using logits = device.tensor("float32", [1, 8], Float32Array.of(0, 1, 2, 9, 4, 5, 6, 7));
  const { session } = device;
  device.session = () => Promise.reject(new Error("no threads"));
  const rows = [{ row: 0, temperature: 0, uniform: 0 }];
  await assertRejects(() => sampler.sample(logits, rows), Error, "no threads");
  device.session = session;
  assertEquals(await sampler.sample(logits, rows), [{ token: 3 }]);
  sampler.release();
});

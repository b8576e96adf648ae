// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Draws from the same logits on WebGPU and on the CPU: greedy, by temperature, filtered, with
 * log-probabilities, masked, changed. Prints the draws that differ, the largest difference of
 * log-probabilities, and the most bytes that a call had cross, by what its rows want. Argument: rounds.
 */
import { DeviceSampler } from "../../../src/executor/device/device_sampler.ts";
import type { SampleRow } from "../../../src/executor/model.ts";
import { Sampler } from "../../../src/executor/sampler.ts";
import type { Device, DType, TypedArrayOf } from "../../../src/runtime/device.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { seeded } from "../../engine/harness.ts";
import { randomArray } from "../../graph/run.ts";

const ROWS = 4;
const VOCABS = [128, 1000, 4100];

const KINDS: Readonly<Record<string, Partial<SampleRow>>> = {
  "greedy": { temperature: 0 },
  "greedy with logprobs": { temperature: 0, logprobs: 3 },
  "any token": { temperature: 1 },
  "any token, cooler, with logprobs": { temperature: 0.7, logprobs: 0 },
  "top-k": { temperature: 1, topK: 20 },
  "top-p": { temperature: 0.8, topP: 0.7 },
  "all of top-p": { temperature: 1.2, topP: 1 },
  "min-p": { temperature: 1, minP: 0.05 },
  "top-k and top-p with logprobs": { temperature: 1, topK: 50, topP: 0.9, logprobs: 5 },
  "a nucleus beyond the candidates": { temperature: 3, topP: 0.99 },
  "masked": { temperature: 1, mask: Int32Array.of(0x0f0f0f0f, 0, 1, -1) },
  "changed": {
    temperature: 0,
    adjust: {
      ids: Int32Array.of(3, 9),
      delta: Float32Array.of(100, 50),
      repetition: Float32Array.of(1, 1),
    },
  },
};

/** The device, and how many bytes its tensors in host memory had. */
function counting(device: Device): { readonly device: Device; bytes: number } {
  const counted = {
    bytes: 0,
    device: new Proxy(device, {
      get(target, name) {
        const value = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        if (name !== "tensor") return value.bind(target);
        return <T extends DType>(dtype: T, shape: readonly number[], data?: TypedArrayOf<T>) => {
          const tensor = target.tensor(dtype, shape, data);
          counted.bytes += tensor.byteLength;
          return tensor;
        };
      },
    }),
  };
  return counted;
}

const rounds = Number(Deno.args[0]);
const host = openDevice("cpu");
const gpu = openDevice("webgpu");
const counted = counting(gpu);
const differ: string[] = [];
const most: Record<string, number> = {};
const offs: number[] = [];
for (const vocab of VOCABS) {
  const random = seeded(vocab);
  const data = randomArray(ROWS * vocab, vocab, 2.5);
  using here = host.tensor("float32", [ROWS, vocab]);
  (here.data as Float32Array).set(data);
  using there = await gpu.allocate("float32", [ROWS, vocab]);
  await gpu.upload(there, data);
  const sampler = new Sampler(host, vocab);
  const drawer = new DeviceSampler(counted.device, { sampler, device: host }, vocab);
  const rowsOf = (kind: string): SampleRow[] =>
    Array.from({ length: ROWS }, (_, row) => {
      const { mask, ...rest } = KINDS[kind];
      const whole = mask &&
        Int32Array.from({ length: Math.ceil(vocab / 32) }, (_, i) => mask[i % 4]);
      return { row, temperature: 1, uniform: random(), ...rest, ...(whole && { mask: whole }) };
    });
  const check = async (what: string, rows: readonly SampleRow[]) => {
    counted.bytes = 0;
    const found = await drawer.sample(there, rows);
    most[what] = Math.max(most[what] ?? 0, counted.bytes / (rows.length * vocab));
    const wanted = await sampler.sample(here, rows);
    wanted.forEach(({ token, logprob = 0, top = [] }, i) => {
      const one = found[i];
      const tokens = (list: typeof top = []) => list.map(({ token }) => token).join();
      if (one.token !== token || tokens(one.top) !== tokens(top)) {
        differ.push(`${what} of ${vocab}: ${JSON.stringify([one, wanted[i]])}`);
      }
      offs.push(Math.abs((one.logprob ?? 0) - logprob));
      top.forEach(({ logprob }, t) => {
        offs.push(Math.abs((one.top?.[t].logprob ?? NaN) - logprob));
      });
    });
  };
  for (let round = 0; round < rounds; round++) {
    for (const kind of Object.keys(KINDS)) await check(kind, rowsOf(kind));
    const kinds = Object.keys(KINDS);
    const mixed = Array.from({ length: 9 }, (_, i) => {
      return rowsOf(kinds[Math.floor(random() * kinds.length)])[i % ROWS];
    }).filter(({ adjust, mask }) => adjust === undefined && mask === undefined);
    await check("mixed", mixed);
  }
  drawer.release();
  sampler.forget(here);
  sampler.release();
}
console.log(JSON.stringify({ differ, off: Math.max(...offs), most }));
gpu.release();
host.release();

// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * What a WebGPU device says of too much memory, as one JSON line: of a tensor that is refused before,
 * after which the device goes on; then of a run that finds none, after which it does not.
 */
import { openDevice } from "../../../src/runtime/open.ts";
import { doublingModel } from "../models.ts";
import { exhaust } from "./exhaust.ts";

async function told(act: () => Promise<unknown>): Promise<string> {
  try {
    await act();
    return "done";
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

using device = openDevice("webgpu");
const failures: string[] = [];
device.failed.then(({ message }) => failures.push(message));

async function double(): Promise<void> {
  using session = await device.session(doublingModel("float32"));
  using x = await device.allocate("float32", [2 ** 19]);
  await device.upload(x, new Float32Array(2 ** 19).fill(3));
  using binding = session.bind({ x }, { y: x });
  await binding.run();
  if ((await device.download(x))[2 ** 18] !== 6) throw new TypeError("3 + 3 is not 6");
}

const large = await told(() => device.allocate("float32", [2 ** 28 + 2 ** 26]));
const after = await told(double);
const before = [...failures];
const run = await told(() => exhaust(device));
const then = await told(double);
console.log(JSON.stringify({ large, after, before, run, then, failures }));

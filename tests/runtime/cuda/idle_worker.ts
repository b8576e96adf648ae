// deno-lint-ignore-file no-console -- its output is the test's answer
/** Moves memory on `--device cuda`, in a process of its own; prints what came back. */
import { openDevice } from "../../../src/runtime/open.ts";

const device = openDevice("cuda");
const { name, adapter } = device;
(await device.allocate("float32", [4])).release();
await device.trim();
const before = device.liveObjects;
const numbers = Float32Array.from({ length: 1024 }, (_, i) => i);
const first = await device.allocate("float32", [1024]);
const second = await device.allocate("float32", [1024]);
await device.upload(first, numbers);
await device.copy([{ from: first, to: second }]);
const copied = await device.download(second);
using view = device.view(second, 0, [8]);
const viewed = await device.download(view);
view.release();
first.release();
second.release();
await device.trim();
console.log(JSON.stringify({
  ...{ name, adapter },
  copied: copied.every((x, i) => x === numbers[i]),
  viewed: [...viewed].map(Number),
  left: device.liveObjects - before,
}));
device.release();

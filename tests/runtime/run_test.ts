/**
 * Tensors, sessions and bindings on the CPU: results, lifetimes, cancellation and error texts, on
 * tiny models. Knows the device's contract, not ONNX Runtime's C API.
 */
import {
  assert,
  assertEquals,
  assertExists,
  assertGreater,
  assertRejects,
  assertThrows,
} from "@std/assert";
import type { Device, DType, Session, TypedArray } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import {
  countingModel,
  doublingModel,
  identityModel,
  intAttribute,
  linearModel,
  model,
  node,
  value,
} from "./models.ts";
import { floats, SAMPLES } from "./samples.ts";

/** A binding of `countingModel` that counts to `target`. */
function counting(device: Device, session: Session, target: bigint) {
  const count = device.tensor("int64", [], new BigInt64Array([target]));
  const x = device.tensor("float32", [2], new Float32Array([0, 10]));
  const y = device.tensor("float32", [2]);
  const binding = session.bind({ count, x }, { y });
  const release = () => [binding, count, x, y].forEach((resource) => resource.release());
  return { binding, y, release };
}

Deno.test("a run passes every element type through unchanged", async () => {
  using device = openDevice("cpu");
  for (const [dtype, sample] of Object.entries(SAMPLES) as [DType, TypedArray][]) {
    const bytes = model({
      nodes: [node("Concat", ["x", "x"], ["y"], [intAttribute("axis", 0)])],
      inputs: [value("x", dtype, ["n"])],
      outputs: [value("y", dtype, ["m"])],
    });
    using session = await device.session(bytes);
    assertEquals(session.inputs, [{ name: "x", dtype, shape: [-1] }]);
    using x = device.tensor(dtype, [3], sample as never);
    using y = device.tensor(dtype, [6]);
    using binding = session.bind({ x }, { y });
    await binding.run();
    assertExists(y.data);
    assertEquals([...y.data], [...sample, ...sample], dtype);
  }
});

Deno.test("a binding runs again on what its tensors hold now", async () => {
  using device = openDevice("cpu");
  using session = await device.session(doublingModel("float32"));
  using x = device.tensor("float32", [2], new Float32Array([1, 2]));
  using y = device.tensor("float32", [2]);
  using binding = session.bind({ x }, { y });
  await binding.run();
  assertEquals([...floats(y)], [2, 4]);
  floats(x)[0] = 10;
  binding.runSync();
  assertEquals([...floats(y)], [20, 4]);
});

Deno.test("an output may be the memory of an input", async () => {
  using device = openDevice("cpu");
  using session = await device.session(doublingModel("float32"));
  using x = device.tensor("float32", [3], new Float32Array([1, 2, 3]));
  using binding = session.bind({ x }, { y: x });
  for (let i = 0; i < 3; i++) await binding.run();
  assertEquals([...floats(x)], [8, 16, 24]);
});

Deno.test("a view reads and writes a part of its source", async () => {
  using device = openDevice("cpu");
  using session = await device.session(doublingModel("int32"));
  using source = device.tensor("int32", [2, 3], new Int32Array([1, 2, 3, 4, 5, 6]));
  using row = device.view(source, 3, [3]);
  using binding = session.bind({ x: row }, { y: row });
  await binding.run();
  assertExists(source.data);
  assertEquals([...source.data], [1, 2, 3, 8, 10, 12]);
  assertThrows(() => device.view(source, 4, [3]), RangeError, "the tensor has 6");
  assertThrows(() => device.view(source, -1, [3]), RangeError, "the tensor has 6");
});

Deno.test("a view outlives its source", async () => {
  using device = openDevice("cpu");
  using session = await device.session(identityModel("float32"));
  const source = device.tensor("float32", [4], new Float32Array([1, 2, 3, 4]));
  using part = device.view(source, 2, [2]);
  source.release();
  using y = device.tensor("float32", [2]);
  using binding = session.bind({ x: part }, { y });
  binding.runSync();
  assertEquals([...floats(y)], [3, 4]);
});

Deno.test("empty tensors and scalars run", async () => {
  using device = openDevice("cpu");
  using session = await device.session(doublingModel("float32"));
  using empty = device.tensor("float32", [0]);
  using none = device.tensor("float32", [0]);
  using binding = session.bind({ x: empty }, { y: none });
  binding.runSync();
  using counter = await device.session(countingModel());
  const { binding: count, y, release } = counting(device, counter, 3n);
  await count.run();
  assertEquals([...floats(y)], [3, 13]);
  release();
});

Deno.test("outputs may be a subset", async () => {
  using device = openDevice("cpu");
  const bytes = model({
    nodes: [node("Add", ["x", "x"], ["twice"]), node("Mul", ["x", "x"], ["square"])],
    inputs: [value("x", "float32", ["n"])],
    outputs: [value("twice", "float32", ["n"]), value("square", "float32", ["n"])],
  });
  using session = await device.session(bytes);
  using x = device.tensor("float32", [1], new Float32Array([3]));
  using square = device.tensor("float32", [1]);
  using binding = session.bind({ x }, { square });
  await binding.run();
  assertEquals([...floats(square)], [9]);
});

Deno.test("new tensors are zeroed and aligned to 64 bytes", () => {
  using device = openDevice("cpu");
  for (const count of [1, 3, 1000, 100_000]) {
    using tensor = device.tensor("float32", [count]);
    const data = floats(tensor) as Float32Array<ArrayBuffer>;
    assertEquals(Deno.UnsafePointer.value(Deno.UnsafePointer.of(data)) % 64n, 0n);
    assert(data.every((x) => x === 0));
  }
});

Deno.test("the event loop turns while a run is in flight", async () => {
  using device = openDevice("cpu");
  using session = await device.session(countingModel());
  const { binding, y, release } = counting(device, session, 100_000n);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  await binding.run();
  clearInterval(timer);
  assertGreater(ticks, 2);
  assertEquals([...floats(y)], [100_000, 100_010]);
  release();
});

Deno.test("cancel ends the runs in flight, and later runs work", async () => {
  using device = openDevice("cpu");
  using session = await device.session(countingModel());
  session.cancel();
  const endless = counting(device, session, 1n << 40n);
  const other = counting(device, session, 1n << 40n);
  for (let round = 0; round < 2; round++) {
    const runs = [endless.binding.run(), other.binding.run()];
    setTimeout(() => session.cancel(), 5);
    for (const outcome of await Promise.allSettled(runs)) {
      assert(outcome.status === "rejected");
      assert(outcome.reason instanceof DOMException);
      assertEquals(outcome.reason.name, "AbortError");
    }
  }
  const short = counting(device, session, 5n);
  await short.binding.run();
  assertEquals([...floats(short.y)], [5, 15]);
  for (const { release } of [endless, other, short]) release();
});

Deno.test("a session finishes runs while another one is busy", async () => {
  using device = openDevice("cpu");
  using busy = await device.session(countingModel());
  using quick = await device.session(countingModel());
  const long = counting(device, busy, 1n << 40n);
  const short = counting(device, quick, 100n);
  const running = long.binding.run();
  for (let i = 0; i < 20; i++) await short.binding.run();
  assertEquals([...floats(short.y)], [100, 110]);
  busy.cancel();
  await assertRejects(() => running, DOMException);
  long.release();
  short.release();
});

Deno.test("releasing everything during a run waits for the run", async () => {
  const device = openDevice("cpu");
  const session = await device.session(countingModel());
  const { binding, y, release } = counting(device, session, 50_000n);
  const running = binding.run();
  release();
  release();
  session.release();
  device.release();
  await running;
  assertEquals([...floats(y)], [50_000, 50_010]);
});

Deno.test("what was released is refused by name", async () => {
  const device = openDevice("cpu");
  const session = await device.session(doublingModel("float32"));
  const x = device.tensor("float32", [1]);
  const binding = session.bind({ x }, { y: x });
  const other = session.bind({ x }, { y: x });
  binding.release();
  await assertRejects(() => binding.run(), TypeError, "it was released");
  x.release();
  assertThrows(
    () => session.bind({ x }, { y: x }),
    TypeError,
    'input "x": its tensor was released',
  );
  other.runSync();
  session.release();
  assertThrows(() => other.runSync(), TypeError, "its session was released");
  assertThrows(() => session.bind({}, {}), TypeError, "the session was released");
  other.release();
  device.release();
  device.release();
  assertThrows(() => device.tensor("float32", [1]), TypeError, "the device was released");
});

Deno.test("a second run of one binding is refused while the first is in flight", async () => {
  using device = openDevice("cpu");
  using session = await device.session(countingModel());
  const { binding, release } = counting(device, session, 20_000n);
  const first = binding.run();
  await assertRejects(() => binding.run(), TypeError, "still in flight");
  await first;
  await binding.run();
  release();
});

Deno.test("binding names what does not fit", async () => {
  using device = openDevice("cpu");
  using w = device.tensor("float32", [2, 3]);
  using session = await device.session(linearModel(2, 3), { initializers: { w } });
  using x = device.tensor("float32", [1, 2]);
  using y = device.tensor("float32", [1, 3]);
  const cases: [() => unknown, string][] = [
    [() => session.bind({}, { y }), 'input "x" is missing'],
    [() => session.bind({ x, z: x }, { y }), 'input "z": the session\'s inputs are x'],
    [() => session.bind({ x }, { z: y }), 'output "z": the session\'s outputs are y'],
    [() => session.bind({ x: y }, { y }), "shape is [1,3], the model wants [-1,2]"],
    [() => session.bind({ x }, { y: x }), "shape is [1,2], the model wants [-1,3]"],
    [
      () => session.bind({ x: device.tensor("int8", [1, 2]) }, { y }),
      "the tensor is int8, the model wants float32",
    ],
  ];
  for (const [act, text] of cases) assertThrows(act, TypeError, text);
});

Deno.test("discarding a part leaves the rest of a tensor as it was", () => {
  using device = openDevice("cpu");
  const pages = 64 * 1024;
  using tensor = device.tensor("float32", [3 * pages]);
  floats(tensor).fill(7);
  device.discard(tensor, pages, pages);
  assert(floats(tensor).subarray(0, pages).every((x) => x === 7));
  assert(floats(tensor).subarray(2 * pages).every((x) => x === 7));
  if (Deno.build.os === "linux") assertEquals(floats(tensor)[pages + pages / 2], 0);
  device.discard(tensor, 5, 1);
  assertEquals(floats(tensor)[5], 7);
  assertThrows(() => device.discard(tensor, 1, 3 * pages), RangeError, "Cannot discard elements");
});

Deno.test("tensors refuse data that does not fit", () => {
  using device = openDevice("cpu");
  const data = new Float32Array(3);
  assertThrows(() => device.tensor("float32", [2, 2], data), RangeError, "has 4 elements");
  assertThrows(() => device.tensor("float32", [1.5]), RangeError, "1.5");
  assertThrows(() => device.tensor("float32", [-3], data), RangeError, "-3");
  assertThrows(
    () => device.tensor("int8", [3], data as never),
    TypeError,
    "int8 tensor over Float32Array",
  );
  const resizable = new Uint8Array(new ArrayBuffer(3, { maxByteLength: 8 }));
  assertThrows(() => device.tensor("uint8", [3], resizable), TypeError, "resizable");
});

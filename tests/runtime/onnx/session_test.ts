/** Sessions on the CPU: runs that fail, models that cannot be, shared weights, profiles. */
import {
  assert,
  assertEquals,
  assertExists,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import type { DType, Session, TypedArray } from "../../../src/runtime/device.ts";
import { RuntimeError } from "../../../src/runtime/device.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import {
  doublingModel,
  externalWeight,
  intAttribute,
  linearModel,
  model,
  node,
  value,
} from "../models.ts";
import { floats, SAMPLES } from "../samples.ts";

Deno.test("a failing run rejects with its code and one clean line, and the session goes on", async () => {
  using device = openDevice("cpu");
  using session = await device.session(doublingModel("float32"));
  using x = device.tensor("float32", [2], new Float32Array([1, 2]));
  using wrong = device.tensor("float32", [3]);
  using y = device.tensor("float32", [2]);
  using failing = session.bind({ x }, { y: wrong });
  const error = await assertRejects(() => failing.run(), RuntimeError, "Cannot run session: ");
  assertEquals(error.code, "INVALID_ARGUMENT");
  assertStringIncludes(error.message, "has shape {3} but the computed output shape");
  for (const noise of ["\n", "onnxruntime::", ".cc:"]) assert(!error.message.includes(noise));
  assertThrows(() => failing.runSync(), RuntimeError);
  using good = session.bind({ x }, { y });
  await good.run();
  assertEquals([...floats(y)], [2, 4]);
});

Deno.test("a model that cannot be compiled is refused with a reason", async () => {
  using device = openDevice("cpu");
  const garbled = await assertRejects(() => device.session(new Uint8Array([1, 2])), RuntimeError);
  assertEquals(garbled.code, "INVALID_PROTOBUF");
  const unknown = model({
    nodes: [node("NoSuchOp", ["x"], ["y"])],
    inputs: [value("x", "float32", ["n"])],
    outputs: [value("y", "float32", ["n"])],
  });
  await assertRejects(() => device.session(unknown), RuntimeError, "NoSuchOp");
  const double = model({
    nodes: [node("Identity", ["x"], ["y"])],
    inputs: [value("x", "double", ["n"])],
    outputs: [value("y", "double", ["n"])],
  });
  await assertRejects(
    () => device.session(double),
    TypeError,
    'input "x" has ONNX element type 11',
  );
  await assertRejects(() => device.session(linearModel(2, 2)), RuntimeError, "initializer: w");
  using w = device.tensor("float32", [2, 3]);
  await assertRejects(
    () => device.session(linearModel(2, 2), { initializers: { w } }),
    RuntimeError,
  );
});

Deno.test("sessions share a weight's memory, or take a copy of it", async () => {
  using device = openDevice("cpu");
  using w = device.tensor("float32", [1, 1], new Float32Array([2]));
  using x = device.tensor("float32", [1, 1], new Float32Array([10]));
  using y = device.tensor("float32", [1, 1]);
  const config = { "session.disable_prepacking": "1" };
  const bytes = linearModel(1, 1);
  const run = async (session: Session) => {
    using binding = session.bind({ x }, { y });
    await binding.run();
    return floats(y)[0];
  };
  using first = await device.session(bytes, { initializers: { w }, config });
  using second = await device.session(bytes, { initializers: { w }, config });
  using own = await device.session(bytes, { copies: { w }, config });
  floats(w)[0] = 3;
  assertEquals([await run(first), await run(second), await run(own)], [30, 30, 20]);
});

Deno.test("a session keeps its weights alive after they were released", async () => {
  using device = openDevice("cpu");
  const w = device.tensor("float32", [2, 2], new Float32Array([1, 2, 3, 4]));
  using session = await device.session(linearModel(2, 2), { initializers: { w } });
  w.release();
  using x = device.tensor("float32", [1, 2], new Float32Array([1, 10]));
  using y = device.tensor("float32", [1, 2]);
  using binding = session.bind({ x }, { y });
  await binding.run();
  assertEquals([...floats(y)], [31, 42]);
});

Deno.test("every dtype serves as an external weight", async () => {
  using device = openDevice("cpu");
  for (const [dtype, sample] of Object.entries(SAMPLES) as [DType, TypedArray][]) {
    const bytes = model({
      nodes: [node("Concat", ["x", "w"], ["y"], [intAttribute("axis", 0)])],
      inputs: [value("x", dtype, ["n"])],
      outputs: [value("y", dtype, ["m"])],
      weights: [externalWeight("w", dtype, [3])],
    });
    using w = device.tensor(dtype, [3], sample as never);
    using session = await device.session(bytes, { initializers: { w } });
    using x = device.tensor(dtype, [1]);
    using y = device.tensor(dtype, [4]);
    using binding = session.bind({ x }, { y });
    await binding.run();
    assertExists(y.data);
    assertEquals([...y.data].slice(1), [...sample], dtype);
  }
});

Deno.test("profiling writes a trace that names the nodes", async () => {
  using device = openDevice("cpu");
  const folder = await Deno.makeTempDir();
  using session = await device.session(doublingModel("float32"), { profile: `${folder}/run` });
  using x = device.tensor("float32", [1]);
  using binding = session.bind({ x }, { y: x });
  await binding.run();
  const path = session.endProfiling();
  assertExists(path);
  const events: { name: string }[] = JSON.parse(await Deno.readTextFile(path));
  assert(events.some(({ name }) => name.startsWith("y_kernel")));
  assertEquals(session.endProfiling(), undefined);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a configuration entry that ONNX Runtime refuses is reported", async () => {
  using device = openDevice("cpu");
  const config = { "session.disable_prepacking": "" };
  using session = await device.session(doublingModel("float32"), { config, threads: 1 });
  assertEquals(session.endProfiling(), undefined);
  await assertRejects(
    () => device.session(doublingModel("float32"), { config: { "": "1" } }),
    RuntimeError,
    "configure session",
  );
});

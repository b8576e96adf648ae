/** Calls of a worker: results, errors as they were thrown, progress, abort, hand-over, falls. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { WorkerThread } from "../../src/util/worker_thread.ts";
import type { CallsWork } from "./calls_worker.ts";

function calls(onFall?: (error: Error) => void) {
  return new WorkerThread<CallsWork>({
    module: new URL("./calls_worker.ts", import.meta.url),
    failure: "Cannot count",
    ...(onFall && { onFall }),
  });
}

Deno.test("calls side by side each have their own answer, and progress comes before it", async () => {
  using thread = calls();
  const told: number[] = [];
  const counting = thread.call("count", 3, { progress: (at) => told.push(at) });
  const doubled = [1, 2, 3].map((value) => thread.call("double", value));
  assertEquals(await Promise.all(doubled), [2, 4, 6]);
  assertEquals([await counting, told], ["counted", [1, 2, 3]]);
});

Deno.test("an error keeps its built-in class, its name and its fields, and the worker goes on", async () => {
  using thread = calls();
  const error = await assertRejects(() => thread.call("refuse", "E7"), RangeError, "refused: E7");
  assertEquals([error.name, Reflect.get(error, "code")], ["CodedError", "E7"]);
  await assertRejects(() => thread.call("uncloneable", undefined as never));
  assertEquals(await thread.call("double", 21), 42);
});

Deno.test("what is handed over is not copied, there and back", async () => {
  using thread = calls();
  const bytes = new Uint8Array(8);
  const filled = await thread.call("fill", bytes, { transfer: [bytes.buffer] });
  assertEquals([bytes.length, [...filled]], [0, Array(8).fill(7)]);
});

Deno.test("an aborted call is given up at once, and its handler can see that", async () => {
  using thread = calls();
  const gone = new AbortController();
  const { signal } = gone;
  const progress = () => gone.abort(new TypeError("the client left"));
  await assertRejects(
    () => thread.call("hold", "on", { signal, progress }),
    TypeError,
    "the client left",
  );
  assertEquals(await thread.call("seen", undefined as never), 1);
  await assertRejects(() => thread.call("double", 1, { signal }), TypeError, "the client left");
});

Deno.test("where the worker falls every call is told, and the next one starts another", async () => {
  const falls: string[] = [];
  using thread = calls((error) => falls.push(error.message));
  const held = thread.call("hold", "on");
  const texts = await Promise.all(
    [held, thread.call("fall", undefined)].map((call) => call.then(() => "none", String)),
  );
  assertEquals(texts, Array(2).fill(`Error: ${falls[0]}`));
  assert(falls[0]?.startsWith("Cannot count: its thread ended: "), falls[0]);
  assert(falls[0]?.includes("fell"), falls[0]);
  assertEquals([await thread.call("double", 2), falls.length], [4, 1]);
});

Deno.test("a worker that is ended fails what waits, and none starts for what was aborted before", async () => {
  using thread = calls();
  const held = thread.call("hold", "on").catch(String);
  thread[Symbol.dispose]();
  assertEquals(await held, "Error: Cannot count: its thread was ended");
  assertEquals(await thread.call("double", 2), 4);
});

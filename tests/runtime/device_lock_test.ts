/** One holder of the device at a time. */
import { assert, assertEquals } from "@std/assert";
import { DeviceLock } from "../../src/runtime/device_lock.ts";

Deno.test("turns are one at a time, by priority, then by arrival", async () => {
  const lock = new DeviceLock();
  const first = lock.take(1);
  assert(!(first instanceof Promise) && lock.held);
  const order: string[] = [];
  const later = [["train", 5], ["a", 0], ["b", 0]].map(async ([name, priority]) => {
    using _turn = await lock.take(Number(priority));
    order.push(`${name}`);
  });
  assertEquals([lock.wanted(1), lock.wanted(0)], [true, false]);
  first.release();
  first.release();
  await Promise.all(later);
  assertEquals(order, ["a", "b", "train"]);
  assertEquals(lock.held, false);
});

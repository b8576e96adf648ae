/** What the provider's messages say of its device. */
import { assertEquals, assertInstanceOf } from "@std/assert";
import { RuntimeError } from "../../../src/runtime/device.ts";
import { DeviceFailures } from "../../../src/runtime/provider/failures.ts";
import { DeviceFailedError } from "../../../src/util/errors.ts";

Deno.test("a lost device and memory that ran out fail it, in the order of their coming; other errors do not", async () => {
  const failures = new DeviceFailures();
  const explain = (text: string) => failures.explain(new RuntimeError(text, "FAIL"));
  const usual = explain("Cannot run session: Invalid input shape: {2}");
  assertInstanceOf(usual, RuntimeError);

  const lost = [
    "Cannot run session: WebGPU device lost (1): Device was destroyed.",
    "Cannot copy 1 tensors: [Device] is lost.",
    "Cannot run session: vkQueueSubmit failed with VK_ERROR_DEVICE_LOST",
    "Cannot copy 1 tensors: A valid external Instance reference no longer exists.",
  ].map(explain);
  for (const error of lost) {
    assertInstanceOf(error, DeviceFailedError);
    assertEquals(error.message, "The graphics device failed: it was lost");
  }
  const memory = [
    "Cannot run session: Out of memory",
    "Cannot run session: vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY",
    "Cannot copy 1 tensors: map_async_result.status. wgpu::MapAsyncStatus value: 3",
    "Cannot run session: [Invalid Buffer (unlabeled)] is invalid due to a previous error.",
  ].map(explain);
  for (const error of memory) {
    assertInstanceOf(error, DeviceFailedError);
    assertEquals(error.message.includes("its memory ran out"), true, error.message);
  }
  assertEquals((await failures.failed).message, lost[0]?.message);
});

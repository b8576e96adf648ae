/** A WebGPU device's memory, sessions and queue of calls, on a graphics device in software. */
import { assertEquals } from "@std/assert";
import { LONG } from "../../long.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

const ROUNDS = LONG ? 8000 : 800;

Deno.test({
  ...onWebGpu(
    "device memory is written, copied, viewed, computed on and read, and all of it freed",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const found = await gpu.run(new URL("./device_worker.ts", import.meta.url));
    assertEquals(found, {
      name: "webgpu",
      moved: {
        float32: true,
        float16: true,
        bfloat16: true,
        int64: true,
        int32: true,
        int8: true,
        uint8: true,
        bool: true,
      },
      doubled: [2, 4, 6, 8, 10, 12],
      prefix: [4, 8, 12, 16, 10, 12],
      crossed: [10, 12],
      batched: [1, 2, 3, 4],
      weights: [31, 42],
      refusals: {
        offset:
          "RangeError: Cannot view device memory from element 1 on: a view begins where its " +
          "tensor does",
        longer: "RangeError: Cannot view elements 0 to 3: the tensor has 2",
        within: "RangeError: Cannot view 4 bytes of device memory, of which 8 are there: kernels " +
          "write 16 at a time, so that others would change too",
        type: "TypeError: Cannot copy: one tensor is float32, the other int32",
        length: "RangeError: Cannot copy a tensor of shape [2] to one of [3]",
        sync: "TypeError: Cannot run binding on the calling thread: this device has a queue",
        shape: "RangeError: Cannot use shape [-1]: -1 is not a non-negative integer",
        weight: 'TypeError: Cannot use initializer "w": its tensor is not in host memory',
        model: "RuntimeError: Cannot create session: Failed to load model because protobuf " +
          "parsing failed.",
        foreign: "TypeError: Cannot use tensor: it was made by another device",
      },
      left: 0,
      released: "TypeError: Cannot allocate: the device was released",
      reopened: [7],
    });
  },
});

Deno.test({
  ...onWebGpu("sessions, runs, copies, new and freed memory at once never overlap on the device"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./calls_worker.ts", import.meta.url);
    assertEquals(await gpu.run(program, [String(ROUNDS)]), { wrong: [], left: 0 });
  },
});

Deno.test({
  ...onWebGpu(
    "a precision that it lacks, or a missing driver, is one sentence before the model is looked for",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./serve_worker.ts", import.meta.url);
    assertEquals(
      await gpu.run(program, ["fp16"]),
      "RangeError: Cannot serve fp16 on webgpu: the device does not compute in float16 " +
        "(WebGPU's shader-f16), pass --dtype fp32, int8, int4 or file",
    );
    assertEquals(
      await gpu.run(program, ["fp32"], { VK_ICD_FILENAMES: "none" }),
      "NotSupported: Cannot use WebGPU: no graphics device with a driver was found " +
        "(No supported adapters)",
    );
  },
});

/** A WebGPU device's memory, sessions and queue of calls, on a graphics device in software. */
import { assertEquals, assertMatch } from "@std/assert";
import { LONG } from "../../long.ts";
import { openLibrary } from "../../../src/runtime/onnx/ort_api.ts";
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
      recorded: [[20, 2], [40, 4], [60, 6]],
      shared: [[31, 42], [31, 42], [0, 10], [0, 10]],
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
  ...onWebGpu("of several adapters a number says which is taken, where they can be told apart"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const program = new URL("./serve_worker.ts", import.meta.url);
    const driver = gpu.env["VK_ICD_FILENAMES"] ?? "";
    const twice = { VK_ICD_FILENAMES: `${driver}:${driver.replace("icd", "icd2")}` };
    await Deno.copyFile(driver, driver.replace("icd", "icd2"));
    const told = (number: number) =>
      gpu.run(program, ["fp32", String(number)], twice) as Promise<string>;
    assertMatch(await told(0), /^NotFound: Cannot find model 'none'/);
    assertMatch(
      await told(1),
      /Cannot use webgpu:1: webgpu:0 is of the same model \(SwiftShader.*\), and a process takes the/,
    );
    assertMatch(
      await told(2),
      /Cannot use webgpu:2: Vulkan lists webgpu:0 SwiftShader.*, webgpu:1 SwiftShader/,
    );
  },
});

const OUT_OF_MEMORY =
  "The graphics device failed: its memory ran out, or a buffer was too large for it " +
  "(lower --kv-memory, --max-batch or --lane-memory)";

Deno.test({
  ...onWebGpu(
    "too large a tensor is refused and harms nothing; a run out of memory fails the device",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    assertEquals(await gpu.run(new URL("./failures_worker.ts", import.meta.url)), {
      large: "RangeError: Cannot allocate 1.3 GiB on the device: one tensor may have at most 1 GiB",
      after: "done",
      before: [],
      run: `DeviceFailedError: ${OUT_OF_MEMORY}`,
      then: `DeviceFailedError: ${OUT_OF_MEMORY}`,
      failures: [OUT_OF_MEMORY],
    });
  },
});

Deno.test({
  ...onWebGpu("a driver or a loader that is none is one sentence that names it"),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const folder = await Deno.makeTempDir();
    const program = new URL("./serve_worker.ts", import.meta.url);
    const told = (env: Readonly<Record<string, string>>) => gpu.run(program, ["fp32"], env);
    const none = "NotSupported: Cannot use WebGPU: no graphics device with a driver was found " +
      "(No supported adapters)";
    for (const library of [`${folder}/missing.so`, "libz.so.1"]) {
      const driver = {
        "file_format_version": "1.0.0",
        ICD: { library_path: library, api_version: "1.1.0" },
      };
      await Deno.writeTextFile(`${folder}/icd.json`, JSON.stringify(driver));
      assertEquals(await told({ VK_ICD_FILENAMES: `${folder}/icd.json` }), none);
    }
    const library = openLibrary();
    await Deno.symlink(`${library.folder}/libonnxruntime.so.1`, `${folder}/libvulkan.so.1`);
    library.close();
    assertEquals(
      await told({ LD_LIBRARY_PATH: folder }),
      "NotSupported: Cannot use WebGPU: the libvulkan.so.1 that the system finds is no Vulkan loader " +
        "(is LD_LIBRARY_PATH right?)",
    );
    await Deno.remove(folder, { recursive: true });
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

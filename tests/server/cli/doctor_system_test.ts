/** `deno task doctor`: the page and its JSON, here and where there is a graphics device. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { parseDoctor } from "../../../server/cli/doctor.ts";
import { withoutHome } from "../../../server/cli/doctor/machine.ts";
import { type Report, reportText } from "../../../server/cli/doctor/report.ts";
import { FlagError } from "../../../server/cli/flags.ts";
import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

const DOCTOR = new URL("../../../server/cli/doctor.ts", import.meta.url);

/** A cache directory within a home, with a model of 3 MiB and prepared weights of 2 MiB. */
async function home(): Promise<string> {
  const home = await Deno.makeTempDir();
  await Deno.mkdir(`${home}/cache/models/hf/secret-model`, { recursive: true });
  await Deno.writeFile(`${home}/cache/models/hf/secret-model/x.gguf`, new Uint8Array(3 * 2 ** 20));
  await Deno.mkdir(`${home}/cache/weights/ab/cd`, { recursive: true });
  await Deno.writeFile(`${home}/cache/weights/ab/cd/0.bin`, new Uint8Array(2 * 2 ** 20));
  return home;
}

async function doctor(home: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", DOCTOR.pathname, ...args],
    env: {
      DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`,
      HOME: home,
      LEMBAS_HOME: `${home}/cache`,
      HF_TOKEN: "hf_secret",
      LEMBAS_API_KEY: "lmb_secret",
    },
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

Deno.test("the page names versions, cache and devices, and nothing that is the user's", async () => {
  const place = await home();
  const text = await doctor(place, ["--no-measure"]);
  assertMatch(text, /^lembas +\d+\.\d+\.\d+, Deno \d/);
  assertMatch(text, new RegExp(`^ONNX Runtime +${onnxruntime.version} \\([0-9a-f]+\\)$`, "m"));
  assertMatch(text, /^processor +.+, \d+ cores, \d+ threads: /m);
  assertMatch(text, /^int8 +u8 × s8 products (are exact|saturate)/m);
  assertMatch(text, /^cache +~\/cache, .* free on its disk$/m);
  assertMatch(text, /^ +models 3 MiB, CUDA 0 B$/m);
  assertMatch(text, /^ +prepared weights 2 MiB of 1 bases, 1 stale/m);
  assertMatch(text, /^webgpu +(Cannot use WebGPU: |opens)/m);
  assertMatch(text, /^cuda +.*(Cannot use CUDA: |opens)/m);
  assertMatch(text, /^--device auto +cpu: \w/m);
  for (const secret of [place, "secret", Deno.hostname()]) assert(!text.includes(secret), secret);
  await Deno.remove(place, { recursive: true });
});

Deno.test("its JSON holds the same, with the rates that were measured", async () => {
  const place = await home();
  const report = JSON.parse(await doctor(place, ["--json"])) as Report;
  assertEquals(report.onnxruntime.version, onnxruntime.version);
  assertEquals([report.cache.path, report.cache.models], ["~/cache", 3 * 2 ** 20]);
  const { bandwidth, float32, int8 } = report.rates ?? { bandwidth: 0, float32: 0, int8: 0 };
  for (const rate of [bandwidth, float32, int8]) assert(Number.isFinite(rate) && rate > 1e6);
  assertEquals(report.auto.device, "cpu");
  const text = reportText(report);
  assertMatch(text, /^cpu +reads [\d.]+ GB\/s; multiplies [\d.]+ GFLOP\/s in float32, [\d.]+ GOP/m);
  await Deno.remove(place, { recursive: true });
});

Deno.test(onWebGpu("a graphics device in software is shown as one"), async () => {
  await using gpu = await SoftwareGpu.unpack();
  const report = await gpu.run(DOCTOR, ["--json", "--no-measure"]) as Report;
  const text = reportText(report);
  assertMatch(text, /^webgpu +opens, on a device in software alone/m);
  assertMatch(
    text,
    /^ +webgpu:0 SwiftShader.*, software, [\d.]+ GiB, tensors of up to 1 GiB, no float16, subgroups of 4$/m,
  );
});

Deno.test("GPUs are listed with their driver, and what is missing for them is told", () => {
  const report: Report = {
    ...{ lembas: "0.1.0", deno: "2.0.0", onnxruntime: { version: "1.0.0", commit: "abc" } },
    system: { name: "Linux", kernel: "linux 6", arch: "x86_64" },
    processor: { model: "A", cores: 4, threads: 8, features: ["avx2", "avx512_vnni"] },
    int8: "int8",
    memory: { total: 2 ** 34, available: 2 ** 33 },
    cache: {
      ...{ path: "~/x", free: 2 ** 30, models: 0, cuda: 0 },
      weights: { count: 0, bytes: 0, stale: 0 },
    },
    rates: undefined,
    webgpu: {
      adapters: [{
        ...{ name: "Big GPU", type: "discrete", memory: 2 ** 35, largest: 2 ** 32, float16: true },
        ...{ lanes: 32, vendor: 0x10de, model: 1 },
      }],
      lack: undefined,
    },
    cuda: {
      driver: { type: "found", cuda: "13.0", gpus: [{ name: "Big GPU", memory: 2 ** 35 }] },
      setUp: false,
      lack: "Cannot use CUDA: it is not set up: run deno task setup:cuda",
    },
    auto: { device: "cpu", why: "as told" },
  };
  const text = reportText(report);
  assertMatch(
    text,
    /^webgpu +opens\n +webgpu:0 Big GPU, discrete, 32 GiB, tensors of up to 4 GiB, float16, subgroups of 32$/m,
  );
  assertMatch(
    text,
    /^cuda +driver for CUDA 13\.0; .*run deno task setup:cuda\n +cuda:0 Big GPU, 32 GiB$/m,
  );
  assertStringIncludes(text, "not measured");
  assertMatch(text, /^int8 +u8 × s8 products are exact: weights in int8$/m);
});

Deno.test("a home is hidden wherever it stands, and an odd flag refused", () => {
  assertEquals(withoutHome("in /users/me/x and /users/me", "/users/me"), "in ~/x and ~");
  assertEquals(withoutHome("in /x", "/"), "in /x");
  assertEquals(withoutHome("in /x", undefined), "in /x");
  assertThrows(() => parseDoctor(["--jsn"]), FlagError, "did you mean '--json'");
});

/** Everything `deno task doctor` finds out, and the page that shows it. */
import type { IntegerType } from "../../../src/graph/lowering/lowering_context.ts";
import { type Choice, chooseDevices, foretold } from "../../../src/runtime/auto.ts";
import type { Gpu } from "../../../src/runtime/cuda/driver.ts";
import type { RuntimeBuild } from "../../../src/runtime/cuda/layout.ts";
import { openLibrary } from "../../../src/runtime/onnx/ort_api.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { adapterText } from "../../../src/runtime/vulkan.ts";
import { integersOf } from "../../../src/executor/integer_check.ts";
import { formatBytes } from "../../../src/util/bytes.ts";
import { type CudaFacts, cudaFacts, type WebGpuFacts, webGpuFacts } from "./devices.ts";
import {
  type CacheFacts,
  cacheFacts,
  type MemoryFacts,
  memoryFacts,
  type ProcessorFacts,
  processorFacts,
  type SystemFacts,
  systemFacts,
} from "./machine.ts";
import { measure, type Rates } from "./measure.ts";

export interface Report {
  readonly lembas: string;
  readonly deno: string;
  readonly onnxruntime: RuntimeBuild;
  readonly system: SystemFacts;
  readonly processor: ProcessorFacts;
  /** How W8A8 keeps its weights here. */
  readonly int8: IntegerType;
  readonly memory: MemoryFacts;
  readonly cache: CacheFacts;
  /** Undefined where nothing was measured. */
  readonly rates: Rates | undefined;
  readonly webgpu: WebGpuFacts;
  readonly cuda: CudaFacts;
  readonly auto: Choice;
}

/** Looks at everything; with `measured` for up to ten seconds more. */
export async function examine(lembas: string, measured: boolean): Promise<Report> {
  const { version, commit, close } = openLibrary();
  close();
  const onnxruntime = { version, commit };
  using device = openDevice("cpu");
  const int8 = await integersOf(device);
  const [webgpu, cuda] = [webGpuFacts(), cudaFacts(onnxruntime)];
  const lackOf = (name: string) => (name === "cuda" ? cuda : webgpu).lack;
  return {
    ...{ lembas, deno: Deno.version.deno, onnxruntime },
    ...{ system: systemFacts(), processor: await processorFacts(), int8 },
    ...{ memory: memoryFacts(), cache: await cacheFacts(device) },
    rates: measured ? await measure(device, int8) : undefined,
    ...{ webgpu, cuda, auto: foretold(chooseDevices(), lackOf) },
  };
}

/** The page, made to be pasted into a report. */
export function reportText(report: Report): string {
  const { onnxruntime, system, memory, cache, auto } = report;
  const { weights } = cache;
  const lines: readonly (readonly [string, string])[] = [
    ["lembas", `${report.lembas}, Deno ${report.deno}`],
    ["ONNX Runtime", `${onnxruntime.version} (${onnxruntime.commit})`],
    ["system", `${system.name}, ${system.kernel}, ${system.arch}`],
    ["processor", processorText(report.processor)],
    ["int8", INT8[report.int8]],
    ["memory", `${formatBytes(memory.total)}, ${formatBytes(memory.available)} available`],
    ["cache", `${cache.path}, ${formatBytes(cache.free)} free on its disk`],
    ["", `models ${formatBytes(cache.models)}, CUDA ${formatBytes(cache.cuda)}`],
    [
      "",
      `prepared weights ${
        formatBytes(weights.bytes)
      } of ${weights.count} bases, ${weights.stale} ` +
      "stale (deno task models list)",
    ],
    ["cpu", report.rates === undefined ? "not measured" : ratesText(report.rates)],
    ["webgpu", webGpuText(report.webgpu)],
    ...(report.webgpu.adapters ?? []).map((one, i) =>
      ["", `webgpu:${i} ${adapterText(one)}`] as const
    ),
    ["cuda", cudaText(report.cuda)],
    ...gpusOf(report.cuda).map((one, i) =>
      ["", `cuda:${i} ${one.name}, ${formatBytes(one.memory)}`] as const
    ),
    ["--device auto", auto.why === "" ? auto.device : `${auto.device}: ${auto.why}`],
  ];
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join("\n");
}

const INT8: { readonly [K in IntegerType]: string } = {
  int8: "u8 × s8 products are exact: weights in int8",
  uint8: "u8 × s8 products saturate: weights in uint8, exact and a sixth slower",
};

function processorText({ model, cores, threads, features }: ProcessorFacts): string {
  const listed = features.length === 0 ? "features unknown" : features.join(" ");
  return `${model}, ${cores} cores, ${threads} threads: ${listed}`;
}

function ratesText({ bandwidth, float32, int8 }: Rates): string {
  const giga = (value: number, unit: string) => `${(value / 1e9).toFixed(1)} ${unit}`;
  return `reads ${giga(bandwidth, "GB/s")}; multiplies ${giga(float32, "GFLOP/s")} in float32, ` +
    `${giga(int8, "GOP/s")} in int8`;
}

function webGpuText({ adapters, lack }: WebGpuFacts): string {
  if (lack !== undefined) return lack;
  const real = adapters?.some(({ type }) => type !== "software") ?? true;
  return real
    ? "opens"
    : "opens, on a device in software alone: install the graphics card's driver";
}

function cudaText({ driver, setUp, lack }: CudaFacts): string {
  const runs = driver.type === "found" ? `driver for CUDA ${driver.cuda}; ` : "";
  const text = lack ?? "opens";
  const first = setUp || lack?.includes("setup:cuda") ? "" : "; deno task setup:cuda was not run";
  return `${runs}${text}${first}`;
}

function gpusOf({ driver }: CudaFacts): readonly Gpu[] {
  return driver.type === "found" ? driver.gpus : [];
}

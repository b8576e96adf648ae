/** The command line of the bench of a graphics device. */
import { parseArgs } from "@std/cli";
import { positive, whole } from "../values.ts";

type GpuKind = "webgpu" | "cuda";

export interface GpuFlags {
  /** As `deno task serve --device` takes it. */
  readonly device: GpuKind | `${GpuKind}:${number}`;
  /** Whether sizes are those of a device in software: to see that all runs, not how fast. */
  readonly tiny: boolean;
  /** Seconds after which no further part begins. */
  readonly seconds: number;
  /** A GGUF file, or a folder, to measure as well. */
  readonly model: string | undefined;
  /** A Python that has PyTorch. */
  readonly python: string | undefined;
}

export const GPU_HELP = `bench/gpu.sh [flags]

Measures lembas on a graphics device: what the device does at best, correctness against the CPU in
fp32 (CUDA's in fp16), decode and prefill with random weights of 135M, 1.5B and 7B shapes, with a different core in
every row and without, what crosses to the host, training, memory. Ends in one line of JSON.

  --device NAME         webgpu[:N] or cuda[:N] (default: webgpu)
  --tiny                tiny sizes, for a device in software
  --seconds N           no further part begins after so many (default: 400)
  --model PATH          a GGUF file or a folder to measure as well
  --python PATH         a Python with PyTorch, measured beside`;

/** @throws {TypeError} for what is no flag, or not its value; undefined where help is asked for */
export function parseGpuFlags(args: readonly string[]): GpuFlags | undefined {
  const flags = parseArgs([...args], {
    boolean: ["tiny", "help"],
    string: ["device", "seconds", "model", "python"],
    default: { device: "webgpu", seconds: "400" },
    unknown: (word) => {
      const what = word.startsWith("-")
        ? "no flag of bench/gpu.sh"
        : "more than bench/gpu.sh takes";
      throw new TypeError(`Cannot bench: ${word} is ${what} (--help lists its flags)`);
    },
  });
  if (flags.help) return undefined;
  const [name, number, ...rest] = flags.device.split(":");
  if (name !== "webgpu" && name !== "cuda" || rest.length > 0) {
    throw new TypeError(
      `Cannot bench: --device is ${flags.device}, must be webgpu, webgpu:N, cuda or cuda:N`,
    );
  }
  return {
    device: number === undefined ? name : `${name}:${whole("device", number, 0)}`,
    tiny: flags.tiny,
    seconds: positive("seconds", flags.seconds),
    model: flags.model,
    python: flags.python,
  };
}

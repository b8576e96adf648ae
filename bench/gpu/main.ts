// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * What `bench/gpu.sh` runs: one part after the other until the time is up, each told as it ends, and one
 * line of JSON at the end. A part that fails is told with its reason, and the next one begins.
 */
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import type { ServingDtype } from "../../src/executor/base.ts";
import { floatsOf } from "../../src/executor/plan/device_floats.ts";
import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { DeviceFailedError } from "../../src/util/errors.ts";
import { bytesPerFloat, type FloatType } from "../../src/util/floats.ts";
import { describeMachine } from "../machine.ts";
import { round } from "../stats.ts";
import { GPU_HELP, type GpuFlags, parseGpuFlags } from "./flags.ts";
import {
  correctnessPhase,
  decodePhase,
  prefillPhase,
  type Sizes,
  trainingPhase,
} from "./phases.ts";
import {
  matrixNumbers,
  openRandom,
  type RandomBase,
  randomBase,
  stepBytes,
} from "./random_base.ts";
import { type DeviceRates, measureDevice } from "./rates.ts";

const LARGE: Sizes = {
  ...{ batches: [1, 8, 32, 128, 256], prompts: [512, 2048], steps: 18, behind: 16, rank: 32 },
  training: [8, 128],
};
const TINY: Sizes = {
  ...{ batches: [1, 3], prompts: [24, 40], steps: 4, behind: 6, rank: 8 },
  training: [2, 16],
};

/** Numbers of a base that is trained: of more, making them takes the time of all others. */
const MOST_TRAINED = 4e9;

/** What is measured: a base, and the precision that it is served in. */
interface Subject {
  readonly name: string;
  readonly dtype: ServingDtype;
  readonly open: () => Promise<Checkpoint>;
  /** Whether training is measured, too: its pullbacks read the weights in float32. */
  readonly trains: boolean;
  /** Undefined where nothing is known of its bytes. */
  readonly random: RandomBase | undefined;
}

interface Figures {
  readonly [part: string]: unknown;
}

class Bench {
  readonly #flags: GpuFlags;
  readonly #device: Device;
  readonly #sizes: Sizes;
  readonly #figures: Record<string, unknown> = {};
  readonly #began = performance.now();
  #failed = false;

  constructor(flags: GpuFlags, device: Device) {
    this.#flags = flags;
    this.#device = device;
    this.#sizes = flags.tiny ? TINY : LARGE;
    device.failed.then(() => this.#failed = true);
  }

  /** By part. */
  get figures(): Figures {
    return this.#figures;
  }

  async run(): Promise<void> {
    const { tiny } = this.#flags;
    const type = await floatsOf(this.#device, "int8");
    this.#put("activations", type);
    const size = tiny ? 1 / 1024 : 1;
    await this.#part("device", () => measureDevice(this.#device, type, size));
    await this.#part("correctness", () => this.#correctness());
    for (const subject of this.#subjects(type)) await this.#measure(subject, type);
  }

  #subjects(type: FloatType): readonly Subject[] {
    const { tiny, model } = this.#flags;
    const float: ServingDtype = type === "float16" ? "fp16" : "fp32";
    const tinyType = this.#device.name === "cuda" ? "fp16" : "fp32";
    const random = (base: RandomBase, dtype: ServingDtype): Subject => ({
      ...{ name: base.name, dtype, random: base, trains: matrixNumbers(base) < MOST_TRAINED },
      open: () => Promise.resolve(openRandom(base)),
    });
    const given: Subject[] = model === undefined ? [] : [{
      name: model,
      dtype: "file",
      open: () => openCheckpoint(model),
      random: undefined,
      trains: true,
    }];
    if (tiny) {
      return [
        random(randomBase("tiny"), tinyType),
        random(randomBase("tiny", 8), "file"),
        ...given,
      ];
    }
    return [
      random(randomBase("135M"), float),
      ...given,
      random(randomBase("1.5B", 8), "file"),
      random(randomBase("7B", 4), "file"),
    ];
  }

  async #correctness() {
    using cpu = openDevice("cpu");
    using checkpoint = openRandom(randomBase(this.#flags.tiny ? "tiny" : "135M"));
    return await correctnessPhase(cpu, this.#device, checkpoint, this.#sizes);
  }

  async #measure({ name, dtype, open, random, trains }: Subject, type: FloatType): Promise<void> {
    const args = [this.#device, await open(), dtype, this.#sizes] as const;
    const rates = this.#figures["device"] as DeviceRates | undefined;
    await this.#part(`${name}: memory`, () =>
      decodePhase(...args, (figure) => {
        const bytes = random && stepBytes(random, bytesPerFloat(type));
        const share = bytes && rates && bytes / (figure.ms / 1000) / rates.bandwidth;
        this.#tell(`${name}: decode`, { ...figure, bandwidthShare: share && round(share, 3) });
      }, gpuMemory));
    await this.#part(`${name}: prefill`, async () => {
      await prefillPhase(...args, (figure) => {
        const operations = random && 2 * matrixNumbers(random) * figure.tokens;
        const share = operations && rates && operations / (figure.ms / 1000) / rates.products;
        this.#tell(`${name}: prefill`, { ...figure, productShare: share && round(share, 3) });
      });
    });
    if (trains) await this.#part(`${name}: training`, () => trainingPhase(...args));
    args[1].close();
  }

  /** Runs a part where there is time and the device is sound; what it gives is told. */
  async #part(name: string, run: () => Promise<unknown>): Promise<void> {
    const seconds = (performance.now() - this.#began) / 1000;
    if (this.#failed) return this.#put(name, { skipped: "the device failed" });
    if (seconds > this.#flags.seconds) return this.#put(name, { skipped: "the time was up" });
    try {
      const figures = await run();
      if (figures !== undefined) this.#put(name, figures);
    } catch (error) {
      if (error instanceof DeviceFailedError) this.#failed = true;
      this.#put(`${name}: failed`, error instanceof Error ? error.message : String(error));
    }
  }

  /** One of several figures of a part. */
  #tell(name: string, figure: unknown): void {
    const known = this.#figures[name];
    this.#figures[name] = Array.isArray(known) ? [...known, figure] : [figure];
    console.log(`${name} ${JSON.stringify(figure)}`);
  }

  #put(name: string, figures: unknown): void {
    this.#figures[name] = figures;
    console.log(`${name} ${JSON.stringify(figures)}`);
  }
}

/** Bytes that the process has, and what NVIDIA's tool says of its GPUs where it is there. */
async function gpuMemory(): Promise<unknown> {
  const { rss } = Deno.memoryUsage();
  try {
    const { stdout } = await new Deno.Command("nvidia-smi", {
      args: ["--query-gpu=name,memory.used,memory.total", "--format=csv,noheader"],
    }).output();
    return { rss, gpus: new TextDecoder().decode(stdout).trim().split("\n") };
  } catch {
    return { rss };
  }
}

/** What PyTorch does at the same shapes, where a Python has it. */
async function torchFigures({ python, tiny }: GpuFlags): Promise<unknown> {
  if (python === undefined) return { skipped: "no Python with PyTorch" };
  const script = new URL("./torch_decode.py", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(python, {
    args: [script, ...(tiny ? ["--tiny"] : [])],
  }).output();
  const text = new TextDecoder();
  if (!success) return { failed: text.decode(stderr).trim().split("\n").at(-1) };
  return JSON.parse(text.decode(stdout).trim().split("\n").at(-1) ?? "null");
}

async function bench(flags: GpuFlags): Promise<void> {
  const machine = await describeMachine();
  using device = openDevice(flags.device);
  const { adapter } = device;
  console.log(adapter ?? "a graphics device that the system does not tell of");
  const parts = new Bench(flags, device);
  const settings = { ...flags };
  const end = (torch: unknown) => {
    const { figures } = parts;
    console.log(JSON.stringify({ bench: "gpu", machine, adapter, settings, figures, torch }));
  };
  // whoever limits the time still gets what there is
  Deno.addSignalListener("SIGTERM", () => {
    end({ skipped: "the time was up" });
    Deno.exit(0);
  });
  await parts.run();
  end(await torchFigures(flags));
}

if (import.meta.main) {
  try {
    const flags = parseGpuFlags(Deno.args);
    if (flags === undefined) console.log(GPU_HELP);
    else await bench(flags);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exitCode = 1;
  }
}

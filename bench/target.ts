/**
 * lembas as a contestant: a base model opened as the server opens it, and lanes of it with random
 * factor sets whose cores are different in every row. It owns what it opens until disposed.
 */
import type { FactorSet } from "../adapters/lotr/factors.ts";
import { loadWeights } from "../adapters/loaded_base.ts";
import { type Stack, stackOf } from "../adapters/lotr/stack.ts";
import type { Checkpoint } from "../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../src/checkpoint/open.ts";
import { resolveModel } from "../src/checkpoint/fetch/resolve.ts";
import type { Base } from "../src/executor/base.ts";
import type { DtypeChoice } from "../src/executor/precision.ts";
import { type ModuleName, MODULES } from "../src/models/hook.ts";
import type { Device } from "../src/runtime/device.ts";
import { openDevice } from "../src/runtime/open.ts";
import { benchFactors, benchLora, residentCores } from "./cores.ts";
import { LaneContestant } from "./decode.ts";

export interface TargetOptions {
  /** A spec as `--model` takes it; undefined = the default model. */
  readonly model: string | undefined;
  readonly dtype: DtypeChoice;
  readonly threads: number | undefined;
}

export interface LaneRoom {
  readonly maxBatch: number;
  readonly maxContext: number;
}

/** An open model, of which bases of any room are made. */
export class Target implements Disposable {
  readonly #device: Device;
  readonly #options: TargetOptions;
  readonly #bases: Base[] = [];
  readonly #factors = new Map<number, FactorSet>();

  private constructor(
    /** The model's file or folder. */
    readonly path: string,
    readonly checkpoint: Checkpoint,
    readonly stack: Stack,
    device: Device,
    options: TargetOptions,
  ) {
    this.#device = device;
    this.#options = options;
  }

  /** Resolves and opens the model. */
  static async open(options: TargetOptions): Promise<Target> {
    const path = await resolveModel(options.model);
    const checkpoint = await openCheckpoint(path);
    const stack = stackOf(await checkpoint.digest(), checkpoint.config);
    return new Target(path, checkpoint, stack, openDevice("cpu"), options);
  }

  /** A base with so many rows of so many tokens, as the server has it. */
  async base({ maxBatch, maxContext }: LaneRoom): Promise<Base> {
    const { dtype, threads } = this.#options;
    const room = { dtype, threads, maxBatch, maxContext };
    const base = await loadWeights(this.#device, this.checkpoint, room);
    this.#bases.push(base);
    return base;
  }

  /** The base alone. */
  async bare(base: Base, label = `lembas ${this.#options.dtype} base`): Promise<LaneContestant> {
    return new LaneContestant(label, await base.lane());
  }

  /** The base with a factor set of this rank, every row its own core. */
  async adapted(base: Base, rank: number): Promise<LaneContestant> {
    const factors = this.factors(rank);
    const lane = await base.lane(factors);
    const cores = residentCores(factors, lane.maxBatch);
    const label = `lembas ${this.#options.dtype}, cores of rank ${rank}`;
    return new LaneContestant(label, lane, (row) => cores[row]);
  }

  /** Rows of one lane of the base with LoRAs of this rank, different in every row that has one. */
  async withLoras(base: Base, rank: number): Promise<readonly LaneContestant[]> {
    const lane = await base.lane();
    const make = async (modules: readonly ModuleName[], what: string, every: number) => {
      const count = Math.ceil(lane.maxBatch / every);
      const loras = Array.from(
        { length: count },
        (_, k) => base.residentLora(benchLora(base.config, { rank, modules }, k)),
      );
      for (const lora of loras) await lane.prepare(lora);
      const label = `lembas ${this.#options.dtype}, LoRAs of rank ${rank} ${what}`;
      return new LaneContestant(
        label,
        lane,
        (row) => row % every === 0 ? loras[row / every] : undefined,
      );
    };
    return [
      await make(["q_proj", "v_proj"], "on q and v", 1),
      await make(["q_proj", "v_proj"], "on q and v in every second row", 2),
      await make(MODULES, "on all linears", 1),
    ];
  }

  /** Random factors of this rank for this model. */
  factors(rank: number): FactorSet {
    const known = this.#factors.get(rank) ?? benchFactors(this.stack, rank);
    this.#factors.set(rank, known);
    return known;
  }

  [Symbol.dispose](): void {
    for (const base of this.#bases) base.release();
    this.#device.release();
    this.checkpoint.close();
  }
}

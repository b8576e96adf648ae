/**
 * Weights in device layout for sessions: mapped from files that were made before, or, for small bases,
 * tensors that are made once and shared by every session that reads them. Factors are copied into
 * a session and go with it.
 */
import type { Lowered } from "../graph/lowering/lowering.ts";
import type { Places, Weight } from "../graph/lowering/onnx.ts";
import { SessionChain } from "../runtime/chain.ts";
import type { Device, Session, SessionOptions, Tensor } from "../runtime/device.ts";
import type { WeightFiles } from "./weight_files.ts";

type CompileOptions = Pick<SessionOptions, "threads" | "profile" | "attention" | "config">;

export class DeviceWeights {
  readonly #device: Device;
  readonly #files: WeightFiles | undefined;
  readonly #tensors = new Map<string, Promise<Tensor>>();
  readonly #made: Tensor[] = [];

  /** `files`: where the base's own weights are mapped from; without, they are made in memory. */
  constructor(device: Device, files?: WeightFiles) {
    this.#device = device;
    this.#files = files;
  }

  /** Writes to disk what these graphs read and no file has: at once, so that it is one part. */
  async prepare(graphs: readonly Lowered[]): Promise<void> {
    await this.#files?.place(graphs);
  }

  /** Compiles a session. What is shared stays until `release`. */
  async session(
    lowered: Lowered,
    options: CompileOptions = {},
  ): Promise<Session> {
    const places: Places = await this.#files?.place([lowered]) ?? new Map();
    const initializers: Record<string, Tensor> = {};
    const copies: Record<string, Tensor> = {};
    try {
      for (const [name, weight] of lowered.weights) {
        if (places.has(name)) continue;
        if (isFactor(name)) copies[name] = await this.#make(weight);
        else initializers[name] = await this.#shared(name, weight);
      }
      const { threads, profile, attention, config } = options;
      return await this.#device.session(lowered.model(places), {
        initializers,
        copies,
        ...(this.#files === undefined ? {} : { folder: this.#files.folder }),
        ...(threads === undefined ? {} : { threads }),
        ...(profile === undefined ? {} : { profile }),
        ...(config === undefined ? {} : { config }),
        ...(attention === undefined ? {} : { attention }),
      });
    } finally {
      for (const tensor of Object.values(copies)) tensor.release();
    }
  }

  /**
   * A session of each piece of a graph, compiled side by side, as one (`SessionChain`).
   * @throws {RuntimeError} where one cannot be compiled; none is left then
   */
  async chain(
    pieces: readonly Lowered[],
    rowsOf: string,
    options: CompileOptions = {},
  ): Promise<Session> {
    await this.prepare(pieces);
    const named = (i: number) =>
      options.profile === undefined ? options : { ...options, profile: `${options.profile}.${i}` };
    const made = await Promise.allSettled(
      pieces.map((lowered, i) => this.session(lowered, i === 0 ? options : named(i))),
    );
    const sessions = made.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
    const failed = made.find((one) => one.status === "rejected");
    if (failed !== undefined) {
      for (const session of sessions) session.release();
      throw failed.reason;
    }
    const [first] = sessions;
    if (first !== undefined && sessions.length === 1) return first;
    return new SessionChain(this.#device, sessions, rowsOf);
  }

  release(): void {
    for (const tensor of this.#made) tensor.release();
  }

  #shared(name: string, weight: Weight): Promise<Tensor> {
    const known = this.#tensors.get(name);
    if (known !== undefined) return known;
    const making = this.#make(weight).then((tensor) => {
      this.#made.push(tensor);
      return tensor;
    });
    this.#tensors.set(name, making);
    making.catch(() => this.#tensors.delete(name));
    return making;
  }

  async #make({ dtype, shape, make }: Weight): Promise<Tensor> {
    return this.#device.tensor(dtype, shape, await make());
  }
}

function isFactor(name: string): boolean {
  return name.startsWith("lotr.");
}

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

type CompileOptions =
  & Pick<SessionOptions, "threads" | "profile" | "attention" | "config" | "capture">
  & {
    /** Has sessions share weights in a device's own memory, which are copied there once. */
    readonly resident?: boolean;
  };

export class DeviceWeights {
  readonly #device: Device;
  readonly #files: WeightFiles | undefined;
  readonly #tensors = new Map<string, Promise<Tensor>>();
  readonly #residents = new Map<string, Promise<Tensor>>();
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
      const { threads, profile, attention, config, capture } = options;
      const resident = options.resident === true ? await this.#resident(initializers) : undefined;
      return await this.#device.session(lowered.model(places), {
        initializers,
        copies,
        ...(this.#files === undefined ? {} : { folder: this.#files.folder }),
        ...(resident === undefined ? {} : { resident }),
        ...(capture === undefined ? {} : { capture }),
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

  /** The same tensors in the device's own memory. */
  async #resident(
    initializers: Readonly<Record<string, Tensor>>,
  ): Promise<Readonly<Record<string, Tensor>>> {
    const resident: Record<string, Tensor> = {};
    for (const [name, from] of Object.entries(initializers)) {
      let known = this.#residents.get(name);
      if (known === undefined) {
        known = this.#place(from);
        this.#residents.set(name, known);
        known.catch(() => this.#residents.delete(name));
      }
      resident[name] = await known;
    }
    return resident;
  }

  async #place(from: Tensor): Promise<Tensor> {
    const to = await this.#device.allocate(from.dtype, from.shape);
    // a session takes memory that is not the tensor's own
    const view = this.#device.view(to, 0, to.shape);
    this.#made.push(view, to);
    await this.#device.copy([{ from, to }]);
    return view;
  }

  async #make({ dtype, shape, make }: Weight): Promise<Tensor> {
    return this.#device.tensor(dtype, shape, await make());
  }
}

function isFactor(name: string): boolean {
  return name.startsWith("lotr.");
}

/**
 * The cores of a lane's slots, laid out as the graph reads them: for each layer and site one tensor
 * `[slots, r, m·r]`, rewritten only when a slot gets another core; and copies of these in a device's
 * own memory.
 */
import type { Copy, Device, Tensor } from "../runtime/device.ts";
import { modulesOf } from "../models/widths.ts";
import { type LinearHook, type SiteName, SITES } from "../models/hook.ts";
import type { ResidentCore } from "./model.ts";
import { SlotViews } from "./views.ts";
import { bytesPerFloat, encodeFloats, type FloatType } from "../util/floats.ts";

interface Site {
  readonly name: SiteName;
  /** Indices of its modules among the core's modules. */
  readonly modules: readonly number[];
  /** One for each layer. */
  readonly tensors: readonly Tensor[];
}

/** One layer's and site's cores of some slots. */
export interface CoreView {
  readonly layer: number;
  readonly site: SiteName;
  readonly tensor: Tensor;
}

export class CoreSlots {
  readonly #device: Device;
  readonly #rank: number;
  readonly #moduleCount: number;
  readonly #sites: readonly Site[];
  readonly #held: (ResidentCore | undefined)[];
  readonly #views: SlotViews<CoreView>;
  readonly #dtype: FloatType;
  #changes = 0;

  constructor(
    device: Device,
    hook: Pick<LinearHook, "rank" | "modules"> | undefined,
    layers: number,
    slots: number,
    dtype: FloatType = "float32",
  ) {
    this.#device = device;
    this.#dtype = dtype;
    this.#rank = hook?.rank ?? 0;
    this.#moduleCount = hook?.modules.length ?? 0;
    this.#views = new SlotViews((...range) => this.#viewsOver(...range));
    this.#held = new Array<undefined>(slots).fill(undefined);
    using made = new DisposableStack();
    this.#sites = hook === undefined ? [] : SITES.flatMap((name) => {
      const modules = modulesOf(hook, name).map((module) => hook.modules.indexOf(module));
      if (modules.length === 0) return [];
      const shape = [slots, hook.rank, modules.length * hook.rank];
      const tensors = Array.from(
        { length: layers },
        () => made.use(device.tensor(dtype, shape)),
      );
      return [{ name, modules, tensors }];
    });
    made.move();
  }

  /**
   * Gives a slot its core; undefined = the base (zeros).
   * @throws {RangeError} where the core has another size than the factor set's.
   */
  set(slot: number, core: ResidentCore | undefined): void {
    if (this.#held[slot]?.digest === core?.digest) return;
    if (core !== undefined) this.#check(core);
    this.#held[slot] = core;
    this.#changes++;
    const numbers = core && encodeFloats(this.#dtype, core.data);
    for (const site of this.#sites) {
      site.tensors.forEach((tensor, layer) => this.#write(site, tensor, layer, slot, numbers));
    }
  }

  move(from: number, to: number): void {
    this.set(to, this.#held[from]);
  }

  /** Of all slots; they stay until release. */
  get whole(): readonly CoreView[] {
    return this.#sites.flatMap(({ name, tensors }) =>
      tensors.map((tensor, layer) => ({ layer, site: name, tensor }))
    );
  }

  /** How often a slot got another core. */
  get changes(): number {
    return this.#changes;
  }

  /** Views over slots first … first + count - 1. */
  views(first: number, count: number): readonly CoreView[] {
    return this.#views.of(first, count);
  }

  /** @throws {Error} `internal: …` where too many views are kept. */
  checkIntegrity(): void {
    this.#views.checkIntegrity();
  }

  release(): void {
    this.#views.release();
    for (const tensor of this.#sites.flatMap(({ tensors }) => tensors)) {
      // its garbage may be collected much later: the pages go now
      this.#device.discard(tensor, 0, tensor.shape.reduce((count, size) => count * size, 1));
      tensor.release();
    }
  }

  #viewsOver(first: number, count: number, made: DisposableStack): readonly CoreView[] {
    return this.#sites.flatMap((site) =>
      site.tensors.map((tensor, layer) => {
        const [, rank, width] = tensor.shape;
        const view = this.#device.view(tensor, first * rank * width, [count, rank, width]);
        return { layer, site: site.name, tensor: made.use(view) };
      })
    );
  }

  #check(core: ResidentCore): void {
    const layers = this.#sites[0]?.tensors.length ?? 0;
    const expected = layers * this.#rank * this.#rank * this.#moduleCount;
    if (core.data.length === expected) return;
    throw new RangeError(
      `Cannot use core ${core.digest}: it has ${core.data.length} numbers, ` +
        `this factor set's cores have ${expected}`,
    );
  }

  #write(
    site: Site,
    { data }: Tensor,
    layer: number,
    slot: number,
    core: Float32Array | Uint16Array | undefined,
  ): void {
    if (!(data instanceof Float32Array || data instanceof Uint16Array)) {
      throw new TypeError("internal: cores not in host memory");
    }
    const rank = this.#rank;
    const width = site.modules.length * rank;
    const start = slot * rank * width;
    if (core === undefined) return void data.fill(0, start, start + rank * width);
    const row = this.#moduleCount * rank;
    for (let i = 0; i < rank; i++) {
      const from = (layer * rank + i) * row;
      site.modules.forEach((module, m) => {
        const part = core.subarray(from + module * rank, from + (module + 1) * rank);
        data.set(part, start + i * width + m * rank);
      });
    }
  }
}

/** The same in a device's own memory, written where slots changed; views begin at the first slot. */
export class CoreCopies {
  readonly #device: Device;
  readonly #cores: CoreSlots;
  readonly #copies: readonly Copy[];
  readonly #views: SlotViews<CoreView>;
  #copied = -1;

  private constructor(device: Device, cores: CoreSlots, to: readonly Tensor[]) {
    const { whole } = cores;
    this.#device = device;
    this.#cores = cores;
    this.#copies = whole.map(({ tensor }, i) => ({ from: tensor, to: to[i] }));
    this.#views = new SlotViews((first, count, made) =>
      whole.map(({ layer, site, tensor }, i) => {
        const [, rank, width] = tensor.shape;
        const view = device.view(to[i], first * rank * width, [count, rank, width]);
        return { layer, site, tensor: made.use(view) };
      })
    );
  }

  /** Whether views of some slots' cores end where kernels, which write 16 bytes at a time, end too. */
  static fit(rank: number, dtype: FloatType = "float32"): boolean {
    return rank % (bytesPerFloat(dtype) === 4 ? 2 : 4) === 0;
  }

  static async open(device: Device, cores: CoreSlots): Promise<CoreCopies> {
    using made = new DisposableStack();
    const to: Tensor[] = [];
    for (const { tensor: { dtype, shape } } of cores.whole) {
      to.push(made.use(await device.allocate(dtype, shape)));
    }
    made.move();
    return new CoreCopies(device, cores, to);
  }

  /** Brings the copies up to date. */
  async refresh(): Promise<void> {
    const { changes } = this.#cores;
    if (this.#copied === changes) return;
    await this.#device.copy(this.#copies);
    this.#copied = changes;
  }

  /** Views over slots 0 … count - 1. */
  views(count: number): readonly CoreView[] {
    return this.#views.of(0, count);
  }

  release(): void {
    this.#views.release();
    for (const { to } of this.#copies) to.release();
  }
}

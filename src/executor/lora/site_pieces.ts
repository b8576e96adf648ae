/**
 * The pieces of LoRAs at one site, one after the other for each of its linears and layers, so that a
 * step reads those in use as one view. The first ones are zeros, one for each slot, for rows that have
 * no LoRA here or fewer pieces than others: each has one of its own, since zero times another row's
 * infinity is no zero.
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import { type ModuleName, MODULES, SITE_OF, type SiteName } from "../../models/hook.ts";
import { PIECE_RANK, type PieceRange, pieceRange, type ResidentLora } from "../../models/lora.ts";
import { inputsOf, outputsOf } from "../../models/widths.ts";
import type { Device, Tensor } from "../../runtime/device.ts";
import { inputs } from "../../models/inputs.ts";

/** A piece of a LoRA. */
export interface Piece {
  readonly lora: ResidentLora;
  readonly index: number;
}

/** A linear's A or B of every layer, [capacity, 1, rows, columns] each. */
interface Stack {
  readonly part: "a" | "b";
  readonly rows: number;
  readonly columns: number;
  readonly layers: readonly Tensor[];
}

export class SitePieces {
  readonly site: SiteName;
  readonly #device: Device;
  readonly #config: DecoderConfig;
  readonly #capacity: number;
  /** Pieces of zeros, before all others. */
  readonly zeros: number;
  readonly #stacks = new Map<ModuleName, readonly Stack[]>();
  /** What lies where, behind the zeros; undefined = a hole. */
  readonly #pieces: (Piece | undefined)[];
  /** Places up to the last whose memory was written and not given back. */
  #touched: number;

  /** With room for `capacity` pieces. */
  constructor(
    device: Device,
    config: DecoderConfig,
    site: SiteName,
    { zeros, capacity }: { readonly zeros: number; readonly capacity: number },
  ) {
    this.site = site;
    this.zeros = zeros;
    this.#device = device;
    this.#config = config;
    this.#capacity = zeros + capacity;
    this.#pieces = new Array<undefined>(zeros).fill(undefined);
    this.#touched = zeros;
  }

  /** Makes room for a linear of the site. What lies here already has nothing of it. */
  open(module: ModuleName): void {
    if (this.#stacks.has(module)) return;
    const inputs = inputsOf(this.#config, this.site);
    const outputs = outputsOf(this.#config, module);
    using made = new DisposableStack();
    const stack = (part: "a" | "b", rows: number, columns: number): Stack => ({
      ...{ part, rows, columns },
      layers: Array.from(
        { length: this.#config.numLayers },
        () => made.use(this.#device.tensor("float32", [this.#capacity, 1, rows, columns])),
      ),
    });
    this.#stacks.set(module, [
      stack("a", inputs, PIECE_RANK),
      stack("b", PIECE_RANK, outputs),
    ]);
    made.move();
  }

  /** Places behind the zeros that a view of all pieces spans. */
  get count(): number {
    return this.#pieces.length - this.zeros;
  }

  /** Puts a LoRA's pieces one after the other behind all others; returns where. */
  add(lora: ResidentLora, count: number): number[] {
    const first = this.#pieces.length;
    if (first + count > this.#capacity) {
      throw new RangeError(`internal: ${first + count} pieces, at most ${this.#capacity}`);
    }
    return Array.from({ length: count }, (_, index) => {
      this.#write(first + index, { lora, index });
      return first + index;
    });
  }

  remove(places: readonly number[]): void {
    for (const place of places) this.#pieces[place] = undefined;
    while (this.count > 0 && this.#pieces.at(-1) === undefined) this.#pieces.pop();
  }

  /** Fills the holes with the last pieces; tells of each that moves. */
  compact(moved: (piece: Piece, to: number) => void): void {
    for (let to = this.zeros; to < this.#pieces.length; to++) {
      if (this.#pieces[to] !== undefined) continue;
      const piece = this.#pieces.at(-1);
      if (piece === undefined) throw new Error("internal: pieces end in a hole");
      this.remove([this.#pieces.length - 1]);
      this.#write(to, piece);
      moved(piece, to);
    }
    if (2 * this.#pieces.length < this.#touched) this.#giveBack();
  }

  /** Inputs of a step that reads some linears' pieces first … first + count - 1, by name. */
  views(
    modules: readonly ModuleName[],
    first: number,
    count: number,
    made: DisposableStack,
  ): Record<string, Tensor> {
    const views: Record<string, Tensor> = {};
    for (const module of modules) {
      for (const { part, rows, columns, layers } of this.#stacks.get(module) ?? []) {
        const name = part === "a" ? inputs.loraA : inputs.loraB;
        layers.forEach((tensor, layer) => {
          const view = this.#device.view(tensor, first * rows * columns, [count, 1, rows, columns]);
          views[name(layer, module)] = made.use(view);
        });
      }
    }
    return views;
  }

  release(): void {
    this.#pieces.length = this.zeros;
    this.#giveBack();
    for (const { layers } of [...this.#stacks.values()].flat()) {
      for (const tensor of layers) tensor.release();
    }
  }

  #write(place: number, piece: Piece): void {
    this.#pieces[place] = piece;
    this.#touched = Math.max(this.#touched, place + 1);
    for (const [module, stacks] of this.#stacks) {
      const range = pieceRange(this.#config, piece.lora, module, piece.index);
      for (const { part, rows, columns, layers } of stacks) {
        const size = rows * columns;
        layers.forEach((tensor, layer) => {
          const to = numbersOf(tensor).subarray(place * size, (place + 1) * size);
          copyPart(piece.lora.data, range, { part, layer }, to);
        });
      }
    }
  }

  /** The memory behind the last piece. */
  #giveBack(): void {
    const from = this.#pieces.length;
    for (const { rows, columns, layers } of [...this.#stacks.values()].flat()) {
      const size = rows * columns;
      for (const tensor of layers) {
        this.#device.discard(tensor, from * size, (this.#touched - from) * size);
      }
    }
    this.#touched = from;
  }
}

/** The linears of a site among some. */
export function modulesAt(site: SiteName, modules: readonly ModuleName[]): ModuleName[] {
  return MODULES.filter((module) => SITE_OF[module] === site && modules.includes(module));
}

function copyPart(
  data: Float32Array,
  range: PieceRange | undefined,
  { part, layer }: { readonly part: "a" | "b"; readonly layer: number },
  to: Float32Array,
): void {
  if (range === undefined) return void to.fill(0);
  const start = range.start + layer * range.stride + (part === "a" ? 0 : range.aSize);
  to.set(data.subarray(start, start + to.length));
}

function numbersOf({ data }: Tensor): Float32Array {
  if (data instanceof Float32Array) return data;
  throw new TypeError("internal: LoRAs not in host memory");
}

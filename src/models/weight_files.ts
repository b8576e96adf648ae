/**
 * A base's weights on disk as kernels read them, so that a start maps them instead of making them,
 * and every process that serves the same base shares one copy in memory.
 *
 * A folder holds parts (`weight_part.ts`). A part is made at once for the weights that a graph wants
 * and no part has: those of serving with the first start, those that only training reads with the
 * first job.
 */
import { createOnce, removeIfThere } from "../checkpoint/fetch/cache.ts";
import { type Progress, standardErrorNotice } from "../checkpoint/fetch/progress.ts";
import type { Lowered } from "../graph/lowering/lowering.ts";
import type { Place, Places } from "../graph/lowering/onnx.ts";
import type { Device } from "../runtime/device.ts";
import { textDigest } from "../util/ids.ts";
import { openPart, type Part, writePart } from "./weight_part.ts";

export interface WeightFilesOptions {
  readonly device: Device;
  /** For one base, one set of channel scales, one version of ONNX Runtime, one kind of processor. */
  readonly folder: string;
  readonly progress?: Progress | undefined;
  /** Hears of files that were refused; by default a line on standard error. */
  readonly notice?: ((text: string) => void) | undefined;
}

export class WeightFiles {
  readonly folder: string;
  readonly #options: WeightFilesOptions;
  readonly #places = new Map<string, Place>();

  private constructor(options: WeightFilesOptions) {
    this.folder = options.folder;
    this.#options = options;
  }

  /** Opens what is there. A part that is damaged, or another's, goes. */
  static async open(options: WeightFilesOptions): Promise<WeightFiles> {
    await Deno.mkdir(options.folder, { recursive: true });
    const files = new WeightFiles(options);
    const entries = [...Deno.readDirSync(options.folder)].filter(({ name }) => isPart(name));
    for (const { name } of entries) await files.#open(name);
    return files;
  }

  /**
   * Where the base's weights of these graphs lie; makes what no part has. Weights of one graph and
   * no other are not among them.
   *
   * @throws {Error} where the disk has no room, saying how much is wanted
   */
  async place(graphs: readonly Lowered[]): Promise<Places> {
    const names = graphs.flatMap(({ weights }) => [...weights.keys()].filter(isOfBase));
    const missing = new Set(names.filter((name) => !this.#places.has(name)));
    if (missing.size > 0) await this.#make(graphs, missing);
    return this.#places;
  }

  async #make(graphs: readonly Lowered[], missing: ReadonlySet<string>): Promise<void> {
    const part = nameOf(missing);
    await createOnce(`${this.folder}/${part}`, async (partial) => {
      await removeIfThere(partial);
      await writePart(graphs, missing, { ...this.#options, folder: partial });
    });
    await this.#open(part);
    const [lost] = [...missing].filter((name) => !this.#places.has(name));
    if (lost !== undefined) throw new Error(`internal: ${part} was made without ${lost}`);
  }

  async #open(name: string): Promise<void> {
    const path = `${this.folder}/${name}`;
    const part = await openPart(path);
    if (part instanceof Error) {
      (this.#options.notice ?? standardErrorNotice)(
        `${path}: ${part.message}; its weights are made again`,
      );
      return await removeIfThere(path);
    }
    this.#add(name, part);
  }

  #add(name: string, { weights }: Part): void {
    for (const [weight, { location, ...place }] of Object.entries(weights)) {
      this.#places.set(weight, { location: `${name}/${location}`, ...place });
    }
  }
}

/** Whether a weight is the base's alone: not a factor, nor a table that depends on the context. */
export function isOfBase(name: string): boolean {
  return name.startsWith("model.") || name.startsWith("lm_head.");
}

const PART_NAME = /^part-[0-9a-f]{16}$/;

function isPart(name: string): boolean {
  return PART_NAME.test(name);
}

function nameOf(weights: ReadonlySet<string>): string {
  return `part-${textDigest([...weights].sort().join("\n")).slice(0, 16)}`;
}

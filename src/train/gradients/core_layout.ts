/**
 * Cores between their two layouts: [layers, modules, k, k] as they are stored and trained, and
 * [batch, R, m·R] for each layer and site as a graph multiplies by them (G of the site's modules
 * side by side, padded to the factor set's rank, scale folded in).
 */
import { type ModuleName, SITE_OF, type SiteName, SITES } from "../../models/hook.ts";

/** Which cores a factor set takes. */
export interface CoreShape {
  readonly layers: number;
  /** R, of the factor set. */
  readonly rank: number;
  readonly modules: readonly ModuleName[];
  /** s of y = x·W + s·x·A·G·B. */
  readonly scale: number;
}

/** The columns of one module's G in a site's matrix. */
interface ModuleColumns {
  /** Of `modules`. */
  readonly module: number;
  /** Modules of the site. */
  readonly width: number;
  /** Among them. */
  readonly index: number;
}

export class CoreLayout {
  readonly shape: CoreShape;
  readonly #columns: ReadonlyMap<SiteName, readonly ModuleColumns[]>;

  constructor(shape: CoreShape) {
    this.shape = shape;
    this.#columns = new Map(this.sites.map((site) => [site, columnsOf(shape.modules, site)]));
  }

  /** Sites that an adapted module reads. */
  get sites(): SiteName[] {
    const { modules } = this.shape;
    return SITES.filter((site) => modules.some((module) => SITE_OF[module] === site));
  }

  /** Numbers of a core of rank k. */
  count(k: number): number {
    return this.shape.layers * this.shape.modules.length * k ** 2;
  }

  /** Writes one core's matrices of a layer and site to `to`, [R, m·R]. */
  write(core: Float32Array, k: number, layer: number, site: SiteName, to: Float32Array): void {
    const { scale } = this.shape;
    to.fill(0);
    this.#visit(k, layer, site, (from, at) => {
      for (let c = 0; c < k; c++) to[at + c] = scale * core[from + c];
    });
  }

  /** Adds the gradient by a site's matrix, [R, m·R], to the gradient by the core. */
  accumulate(
    gradient: Float32Array,
    k: number,
    layer: number,
    site: SiteName,
    from: Float32Array,
  ): void {
    const { scale } = this.shape;
    this.#visit(k, layer, site, (to, at) => {
      for (let c = 0; c < k; c++) gradient[to + c] += scale * from[at + c];
    });
  }

  /** Calls `row` with the offsets of each row of each G: in the core, and in the site's matrix. */
  #visit(
    k: number,
    layer: number,
    site: SiteName,
    row: (core: number, matrix: number) => void,
  ): void {
    const { rank, modules } = this.shape;
    for (const { module, width, index } of this.#columns.get(site) ?? []) {
      for (let r = 0; r < k; r++) {
        const core = ((layer * modules.length + module) * k + r) * k;
        row(core, r * width * rank + index * rank);
      }
    }
  }
}

function columnsOf(modules: readonly ModuleName[], site: SiteName): ModuleColumns[] {
  const own = modules.filter((module) => SITE_OF[module] === site);
  return own.map((name, index) => ({ module: modules.indexOf(name), width: own.length, index }));
}

/**
 * What adapters add to a model's linears: a factor set's branch with each row's core (LoTR, arXiv
 * 2402.01376), and the pieces of LoRAs (arXiv 2106.09685).
 */
import type { GraphBuilder } from "../graph/graph.ts";
import type { Layout, Shape, Value } from "../graph/ops.ts";
import { type ModuleName, SITE_OF, type SiteName } from "./hook.ts";
import { inputs } from "./inputs.ts";
import { PIECE_RANK } from "./lora.ts";
import { names } from "./parameters.ts";
import { type HookShape, type LayerWidths, modulesOf, outputsOf } from "./widths.ts";

export interface Branches {
  readonly hook?: HookShape | undefined;
  /** Linears that LoRAs of rows may adapt, in the order of `MODULES`. */
  readonly lora?: readonly ModuleName[] | undefined;
}

/** Weights and factors are parameters, or inputs of the graph where they change from run to run. */
export type Origin = "parameters" | "inputs";

/** Where a site's tokens and pieces meet (`lora` in `graph/ops.ts`). */
interface Meeting {
  readonly cells: Value;
  readonly places: Value;
}

export class BranchBuilder {
  readonly #graph: GraphBuilder;
  readonly #config: LayerWidths;
  readonly #branches: Branches;
  readonly #grid: Value;
  readonly #meetings = new Map<SiteName, Meeting>();
  /** What A and B are. */
  factors: Origin = "parameters";
  /** Where tokens lie on the grid. */
  layout: Partial<Layout> = {};

  constructor(graph: GraphBuilder, config: LayerWidths, branches: Branches, grid: Value) {
    this.#graph = graph;
    this.#config = config;
    this.#branches = branches;
    this.#grid = grid;
  }

  /** Whether cores adapt some linear of a site. */
  hasCores(site: SiteName): boolean {
    const { hook } = this.#branches;
    return hook !== undefined && modulesOf(hook, site).length > 0;
  }

  /**
   * y with the branches of linears side by side that read x. LoRAs first: a core's branch on gate and
   * up is computed with their product.
   */
  add(layer: number, modules: readonly ModuleName[], x: Value, y: Value): Value {
    return this.#cores(layer, modules, x, this.#loras(layer, modules, x, y));
  }

  #loras(layer: number, modules: readonly ModuleName[], x: Value, y: Value): Value {
    const { lora = [] } = this.#branches;
    const adapted = modules.filter((module) => lora.includes(module));
    const [first] = adapted;
    if (first === undefined) return y;
    const site = SITE_OF[first];
    const width = Number(x.shape[1]);
    const piece = (name: string, ...shape: readonly number[]) =>
      this.#graph.input(name, "float32", [`${site}.pieces`, 1, ...shape]);
    const args = {
      x,
      y,
      a: adapted.map((one) => piece(inputs.loraA(layer, one), width, PIECE_RANK)),
      b: adapted.map((one) =>
        piece(inputs.loraB(layer, one), PIECE_RANK, outputsOf(this.#config, one))
      ),
      offsets: adapted.map((module) => this.#offset(modules, module)),
      ...this.#meeting(site),
    };
    return this.#graph.add("lora", args, `${layer}.${site}.lora`);
  }

  /** The same in every layer. */
  #meeting(site: SiteName): Meeting {
    const known = this.#meetings.get(site);
    if (known !== undefined) return known;
    const index = (name: string, shape: Shape) => this.#graph.input(name, "int32", shape);
    const meeting = {
      cells: index(inputs.loraCells(site), [`${site}.pieces`, `${site}.rows`, `${site}.time`]),
      places: index(inputs.loraPlaces(site), ["tokens", `${site}.places`]),
    };
    this.#meetings.set(site, meeting);
    return meeting;
  }

  #cores(layer: number, modules: readonly ModuleName[], x: Value, y: Value): Value {
    const { hook } = this.#branches;
    const [first] = modules;
    if (hook === undefined || first === undefined) return y;
    const site = SITE_OF[first];
    const adapted = modulesOf(hook, site);
    if (adapted.length === 0) return y;
    const { rank } = hook;
    const factor = (name: string, ...shape: readonly number[]) =>
      fromOrigin(this.#graph, this.factors, name, shape);
    const cores = inputs.cores(layer, site);
    const args = {
      x,
      y,
      a: factor(names.a(layer, site), Number(x.shape[1]), rank),
      cores: this.#graph.input(cores, "float32", ["batch", rank, adapted.length * rank]),
      b: adapted.map((module) =>
        factor(names.b(layer, module), rank, outputsOf(this.#config, module))
      ),
      offsets: adapted.map((module) => this.#offset(modules, module)),
      grid: this.#grid,
      ...this.layout,
    };
    return this.#graph.add("lotr", args, `${layer}.${site}.adapted`);
  }

  /** Where a module's outputs begin in the packed ones. */
  #offset(modules: readonly ModuleName[], module: ModuleName): number {
    return modules.slice(0, modules.indexOf(module))
      .reduce((sum, before) => sum + outputsOf(this.#config, before), 0);
  }
}

export function fromOrigin(
  graph: GraphBuilder,
  origin: Origin,
  name: string,
  shape: readonly number[],
): Value {
  return origin === "parameters"
    ? graph.parameter(name, shape)
    : graph.input(name, "float32", shape);
}

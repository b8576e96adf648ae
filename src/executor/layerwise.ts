/**
 * The float32 model one layer at a time, over hidden states that are kept between layers: for bases
 * that do not fit into memory in float32. Two layers' weights are there at once, the one that
 * computes and the one that is read meanwhile.
 */
import type { Checkpoint, LayerForm } from "../checkpoint/checkpoint.ts";
import { layerForm } from "../checkpoint/layers.ts";
import { lower, type LoweringPlan } from "../graph/lowering/lowering.ts";
import { buildLayer } from "../models/decoder.ts";
import { inputs } from "../models/inputs.ts";
import { inputsOf } from "../models/widths.ts";
import { isScalable } from "../models/smooth.ts";
import { DeviceWeights } from "../models/device_weights.ts";
import { type ModuleName, type SiteName, SITES } from "../models/hook.ts";
import { DecoderParameters, foldPlain, names } from "../models/parameters.ts";
import type { Device, Session, Tensor } from "../runtime/device.ts";

/** A layer that has just been computed; its weights are there until the visit ends. */
export interface VisitedLayer {
  readonly layer: number;
  /** A linear's weight, float32 [out, in]. */
  weight(module: ModuleName): Tensor;
  /** What a site that channel scales can divide reads, [tokens, d]: some tokens of each window, those of `sampled`. */
  activations(site: SiteName): Float32Array;
}

/** Tokens whose hidden states are kept, [tokens, d]. */
interface Window {
  readonly count: number;
  readonly hidden: Tensor;
}

const STRIDE = 8;

/** The start of the weights' names in the layer's graph. */
const LAYER_0 = "model.layers.0.";

/** Weights as the checkpoint has them, [out, in]. */
export const FLOAT32: LoweringPlan = {
  linear: () => "float32-shared",
  gradient: () => "float32",
  embedding: "float32",
};

/** Weights by the names that the layer's graph has for them, those of layer 0. */
type LayerWeights = ReadonlyMap<string, Tensor>;

/**
 * Runs every layer over windows of tokens, each from position 0. `visit` sees each layer after it
 * was computed.
 * @returns what the head reads, [tokens, d] for each window: the last hidden states, normed
 */
export async function runLayers(
  device: Device,
  checkpoint: Checkpoint,
  windows: readonly (readonly number[])[],
  visit: (layer: VisitedLayer) => Promise<void> | void = () => {},
): Promise<readonly Float32Array[]> {
  using made = new DisposableStack();
  const positions = Math.max(...windows.map(({ length }) => length));
  const pass = made.use(await LayerPass.open(device, checkpoint, positions));
  const kept = windows.map((tokens) => {
    const window = embedded(device, checkpoint, tokens);
    made.use(window.hidden);
    return window;
  });
  const { numLayers } = checkpoint.config;
  pass.read(0);
  for (let layer = 0; layer < numLayers; layer++) {
    await pass.run(layer, kept, () => layer + 1 < numLayers && pass.read(layer + 1));
    await visit(pass.visited(layer));
  }
  return kept.map(({ hidden }) => normed(checkpoint, floats(hidden)));
}

/** Compiled layers and two sets of weights. */
class LayerPass implements Disposable {
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  /** One for each form that layers have. */
  readonly #sessions: ReadonlyMap<string, Session>;
  readonly #sets: readonly LayerWeights[];
  readonly #made: DisposableStack;
  readonly #caches: Readonly<Record<string, Tensor>>;
  /** What each site reads in the window that runs. */
  readonly #sites: ReadonlyMap<SiteName, Tensor>;
  readonly #seen = new Map<SiteName, Float32Array[]>();

  private constructor(
    device: Device,
    checkpoint: Checkpoint,
    sessions: ReadonlyMap<string, Session>,
    positions: number,
    made: DisposableStack,
  ) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#sessions = sessions;
    this.#made = made;
    const { numKvHeads, headDim } = checkpoint.config;
    const shape = [1, numKvHeads, positions, headDim];
    const [session] = sessions.values();
    const weights = known(session, "layer").inputs.filter(({ name }) => name.startsWith(LAYER_0));
    const set = () =>
      new Map(
        weights.map(({ name, shape }) => [name, made.use(device.tensor("float32", shape))]),
      );
    this.#sets = [set(), set()];
    this.#caches = {
      [inputs.keys(0)]: made.use(device.tensor("float32", shape)),
      [inputs.values(0)]: made.use(device.tensor("float32", shape)),
    };
    const scaled = SITES.filter((site) => isScalable(checkpoint.config, site));
    this.#sites = new Map(scaled.map((site) => {
      const width = inputsOf(checkpoint.config, site);
      return [site, made.use(device.tensor("float32", [positions, width]))];
    }));
  }

  static async open(
    device: Device,
    checkpoint: Checkpoint,
    positions: number,
  ): Promise<LayerPass> {
    using made = new DisposableStack();
    const { config } = checkpoint;
    const parameters = new DecoderParameters(checkpoint, positions);
    const weights = made.adopt(new DeviceWeights(device), (all) => all.release());
    const sessions = new Map<string, Session>();
    for (const form of config.layers) {
      if (sessions.has(nameOf(form))) continue;
      const lowered = lower(buildLayer(config, positions, form), parameters, FLOAT32);
      sessions.set(nameOf(form), made.use(await weights.session(lowered)));
    }
    const owned = made.move();
    try {
      return new LayerPass(device, checkpoint, sessions, positions, owned);
    } catch (error) {
      owned.dispose();
      throw error;
    }
  }

  /** Reads a layer's weights into the set that the layer before it does not use. */
  read(layer: number): void {
    for (const [name, tensor] of this.#set(layer)) {
      const own = name.replace(LAYER_0, `model.layers.${layer}.`);
      this.#checkpoint.weights.read(own, { into: floats(tensor) });
      foldPlain(this.#checkpoint.config, own, floats(tensor));
    }
  }

  /** Computes a layer over all windows in place; `meanwhile` runs beside the first. */
  async run(layer: number, windows: readonly Window[], meanwhile: () => void): Promise<void> {
    this.#seen.clear();
    for (const [i, window] of windows.entries()) {
      const run = this.#runWindow(layer, window);
      if (i === 0) meanwhile();
      await run;
    }
  }

  visited(layer: number): VisitedLayer {
    const set = this.#set(layer);
    return {
      layer,
      weight: (module) => known(set.get(names.linear(0, module)), module),
      activations: (site) => joinFloats(known(this.#seen.get(site), site)),
    };
  }

  [Symbol.dispose](): void {
    // Their garbage may be collected much later: the pages go now.
    for (const set of this.#sets) {
      for (const tensor of set.values()) this.#device.discard(tensor, 0, floats(tensor).length);
    }
    this.#made.dispose();
  }

  #set(layer: number): LayerWeights {
    return known(this.#sets[layer % 2], `layer ${layer}`);
  }

  async #runWindow(layer: number, { count, hidden }: Window): Promise<void> {
    using tensors = new DisposableStack();
    const tensor: Device["tensor"] = (...args) => tensors.use(this.#device.tensor(...args));
    const given: Record<string, Tensor> = {
      ...Object.fromEntries(this.#set(layer)),
      ...this.#caches,
      [inputs.hidden]: hidden,
      [inputs.grid]: tensor("int64", [2], BigInt64Array.of(1n, BigInt(count))),
      [inputs.lengths]: tensor("int32", [1], Int32Array.of(count - 1)),
      [inputs.total]: tensor("int32", [1], Int32Array.of(count)),
    };
    const out = tensor("float32", hidden.shape);
    const results: Record<string, Tensor> = { [inputs.hiddenOut]: out };
    for (const [name, cache] of Object.entries(this.#caches)) results[`${name}.out`] = cache;
    for (const [site, read] of this.#sites) {
      const view = this.#device.view(read, 0, [count, read.shape[1] ?? 1]);
      results[inputs.site(site)] = tensors.use(view);
    }
    const form = nameOf(layerForm(this.#checkpoint.config, layer));
    using binding = known(this.#sessions.get(form), form).bind(given, results);
    await binding.run();
    floats(hidden).set(floats(out));
    for (const [site, read] of this.#sites) {
      const all = floats(read).subarray(0, count * (read.shape[1] ?? 1));
      this.#seen.set(site, [...this.#seen.get(site) ?? [], sampled(all, count)]);
    }
  }
}

function nameOf({ rope, window }: LayerForm): string {
  return `rope ${rope}, window ${window}`;
}

/** The first token of a window, which is like no other, and every eighth: [count, d] → [some, d]. */
export function sampled(rows: Float32Array, count: number): Float32Array {
  const width = rows.length / count;
  const tokens = Array.from({ length: count }, (_, i) => i)
    .filter((i) => i === 0 || i % STRIDE === STRIDE - 1);
  return joinFloats(tokens.map((i) => rows.subarray(i * width, (i + 1) * width)));
}

/** Arrays end to end. */
export function joinFloats(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** Tokens as the first layer reads them. */
function embedded(device: Device, checkpoint: Checkpoint, tokens: readonly number[]): Window {
  const { config: { hiddenSize, embeddingScale }, weights } = checkpoint;
  const hidden = device.tensor("float32", [tokens.length, hiddenSize]);
  tokens.forEach((id, i) => {
    const into = floats(hidden).subarray(i * hiddenSize, (i + 1) * hiddenSize);
    weights.read(names.embedding, { rows: { first: id, count: 1 }, into });
    for (let j = 0; j < hiddenSize; j++) into[j] *= embeddingScale;
  });
  return { count: tokens.length, hidden };
}

/** The final RMSNorm. */
function normed({ config, weights }: Checkpoint, hidden: Float32Array): Float32Array {
  const { hiddenSize, rmsNormEps } = config;
  const gamma = weights.read(names.norm);
  foldPlain(config, names.norm, gamma);
  const out = new Float32Array(hidden.length);
  for (let start = 0; start < hidden.length; start += hiddenSize) {
    let squares = 0;
    for (let i = start; i < start + hiddenSize; i++) squares += hidden[i] ** 2;
    const scale = 1 / Math.sqrt(squares / hiddenSize + rmsNormEps);
    for (let i = 0; i < hiddenSize; i++) out[start + i] = hidden[start + i] * scale * gamma[i];
  }
  return out;
}

/** A tensor's memory. */
export function floats(tensor: Tensor | undefined): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw new TypeError("internal: a layer's tensor is not in host memory");
}

function known<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new TypeError(`internal: no ${what}`);
  return value;
}

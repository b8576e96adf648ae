/**
 * Channel scales for int8, from the largest activations that the float32 model has on some text and
 * the largest weights that meet them. Each tensor is read once; two layers are in memory at most.
 */
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { GraphBuilder } from "../graph/graph.ts";
import { lower } from "../graph/lowering/lowering.ts";
import { MODULES, SITE_OF } from "../models/hook.ts";
import { names, type Smoothing } from "../models/parameters.ts";
import { smoothing } from "../models/smooth.ts";
import type { Device, Session, Tensor } from "../runtime/device.ts";
import { FLOAT32, floats, runLayers } from "./layerwise.ts";

/** Tokens that are calibrated on together, from position 0. */
const WINDOW = 512;
/** Bytes of the head's rows that are looked at together. */
const HEAD_BYTES = 32 * 2 ** 20;

/** Makes channel scales from the text that int8 is to be best on. */
export async function calibrate(
  device: Device,
  checkpoint: Checkpoint,
  tokens: readonly number[],
): Promise<Smoothing> {
  const { config } = checkpoint;
  using columns = new ColumnMaxima(device);
  const inputs = new Map<string, Float32Array>();
  const weights = new Map<string, Float32Array>();
  const window = Math.min(WINDOW, config.maxPositions);
  const hidden = await runLayers(device, checkpoint, split(tokens, window), async (visited) => {
    const { layer } = visited;
    for (const module of MODULES) {
      const name = `${layer}.${SITE_OF[module]}`;
      inputs.set(name, visited.maxima(SITE_OF[module]));
      join(weights, name, await columns.of(visited.weight(module)));
    }
  });
  for (const rows of hidden) {
    // What the head reads in a prompt: the last token's state.
    join(inputs, "head", rows.subarray(-config.hiddenSize).map(Math.abs));
  }
  for await (const seen of headMaxima(device, checkpoint, columns)) join(weights, "head", seen);
  return smoothing(config, (name) => found(inputs, name), (name) => found(weights, name));
}

function split(tokens: readonly number[], size: number): readonly (readonly number[])[] {
  const count = Math.ceil(tokens.length / size);
  return Array.from({ length: count }, (_, i) => tokens.slice(i * size, (i + 1) * size));
}

/** Maxima of the head's columns, some rows at a time. */
async function* headMaxima(
  device: Device,
  { config, weights }: Checkpoint,
  columns: ColumnMaxima,
): AsyncGenerator<Float32Array> {
  const { hiddenSize, tieEmbeddings, vocabSize } = config;
  const name = tieEmbeddings ? names.embedding : names.head;
  const step = Math.ceil(HEAD_BYTES / hiddenSize / 4);
  for (let first = 0; first < vocabSize; first += step) {
    const count = Math.min(step, vocabSize - first);
    using rows = device.tensor("float32", [count, hiddenSize]);
    weights.read(name, { rows: { first, count }, into: floats(rows) });
    yield await columns.of(rows);
    device.discard(rows, 0, count * hiddenSize);
  }
}

/** The largest |weight| of each input channel, as graphs of one operation. */
class ColumnMaxima implements Disposable {
  readonly #device: Device;
  /** By the number of channels. */
  readonly #sessions = new Map<number, Session>();

  constructor(device: Device) {
    this.#device = device;
  }

  async of(x: Tensor): Promise<Float32Array> {
    const width = x.shape[1] ?? 1;
    const session = this.#sessions.get(width) ?? await this.#compile(width);
    this.#sessions.set(width, session);
    using max = this.#device.tensor("float32", [width]);
    using binding = session.bind({ x }, { max });
    await binding.run();
    return floats(max);
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.values()) session.release();
  }

  #compile(width: number): Promise<Session> {
    const graph = new GraphBuilder();
    const x = graph.input("x", "float32", ["rows", width]);
    const finished = graph.finish([graph.add("channelMax", { x }, "max")]);
    const read = () => {
      throw new TypeError("internal: maxima have no parameters");
    };
    return this.#device.session(lower(finished, { read }, FLOAT32).model());
  }
}

function join(all: Map<string, Float32Array>, name: string, seen: Float32Array): void {
  const before = all.get(name);
  all.set(name, before === undefined ? seen : seen.map((x, i) => Math.max(x, before[i])));
}

function found(maxima: ReadonlyMap<string, Float32Array>, name: string): Float32Array {
  const values = maxima.get(name);
  if (values === undefined) throw new TypeError(`internal: no maxima of ${name}`);
  return values;
}

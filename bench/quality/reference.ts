/**
 * What a checkpoint says in float32, dequantised from its own file and computed layer by layer: the
 * logits of windows of a text, some rows at a time. Trap: all rows of a vocabulary of 151,936 are
 * 2 GB for 3,000 tokens, so nothing here holds more than the rows that are asked for.
 */
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { FLOAT32, floats, runLayers } from "../../src/executor/layerwise.ts";
import { GraphBuilder } from "../../src/graph/graph.ts";
import { lower } from "../../src/graph/lowering/lowering.ts";
import { names } from "../../src/models/parameters.ts";
import type { Device, Session } from "../../src/runtime/device.ts";

/** Bytes of the head's rows that are in memory together. */
const HEAD_BYTES = 64 * 2 ** 20;

export class Reference implements Disposable {
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #hidden: readonly Float32Array[];
  readonly #product: Session;

  private constructor(
    device: Device,
    checkpoint: Checkpoint,
    hidden: readonly Float32Array[],
    product: Session,
  ) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#hidden = hidden;
    this.#product = product;
  }

  /** Runs all layers; windows share no context. */
  static async run(
    device: Device,
    checkpoint: Checkpoint,
    windows: readonly (readonly number[])[],
  ): Promise<Reference> {
    const hidden = await runLayers(device, checkpoint, windows);
    return new Reference(device, checkpoint, hidden, await headProduct(device, checkpoint));
  }

  /** Logits of tokens first … first + count - 1 of a window, [count, V], into `logits`. */
  async logits(window: number, first: number, count: number, logits: Float32Array): Promise<void> {
    const { hiddenSize, vocabSize, tieEmbeddings } = this.#checkpoint.config;
    const name = tieEmbeddings ? names.embedding : names.head;
    const device = this.#device;
    const hidden = this.#hidden[window].subarray(first * hiddenSize, (first + count) * hiddenSize);
    using x = device.tensor("float32", [count, hiddenSize], hidden);
    const most = Math.min(vocabSize, Math.ceil(HEAD_BYTES / hiddenSize / 4));
    using weight = device.tensor("float32", [most, hiddenSize]);
    using part = device.tensor("float32", [count, most]);
    for (let start = 0; start < vocabSize; start += most) {
      const rows = Math.min(most, vocabSize - start);
      using w = device.view(weight, 0, [rows, hiddenSize]);
      using y = device.view(part, 0, [count, rows]);
      this.#checkpoint.weights.read(name, { rows: { first: start, count: rows }, into: floats(w) });
      using binding = this.#product.bind({ x, w }, { y });
      await binding.run();
      for (let i = 0; i < count; i++) {
        logits.set(floats(y).subarray(i * rows, (i + 1) * rows), i * vocabSize + start);
      }
    }
    device.discard(weight, 0, most * hiddenSize);
    device.discard(part, 0, count * most);
  }

  [Symbol.dispose](): void {
    this.#product.release();
  }
}

/** y = x · wᵀ, for as many rows of the head as there are. */
function headProduct(device: Device, { config }: Checkpoint): Promise<Session> {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", config.hiddenSize]);
  const w = graph.input("w", "float32", ["rows", config.hiddenSize]);
  const y = graph.add("projectGrad", { dy: x, w }, "y");
  const read = () => {
    throw new TypeError("internal: a product of two inputs has no parameters");
  };
  return device.session(lower(graph.finish([y]), { read }, FLOAT32).model());
}

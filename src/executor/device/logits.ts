/**
 * A lane's logits in a device's own memory, [slots, V]. Such memory has views from its beginning alone:
 * a prompt's go to a row apart, from where they are put in their place.
 */
import { OnnxWriter } from "../../graph/lowering/onnx.ts";
import type { Binding, Device, Tensor } from "../../runtime/device.ts";

export class DeviceLogits implements Disposable {
  /** [slots, V] */
  readonly all: Tensor;
  /** [1, V] */
  readonly apart: Tensor;
  readonly #at: BigInt64Array;
  readonly #place: Binding;
  readonly #made: DisposableStack;

  private constructor(
    all: Tensor,
    apart: Tensor,
    at: BigInt64Array,
    place: Binding,
    made: DisposableStack,
  ) {
    this.all = all;
    this.apart = apart;
    this.#at = at;
    this.#place = place;
    this.#made = made;
  }

  /** Whether every number of rows ends where kernels, which write 16 bytes at a time, end too. */
  static fit(vocabSize: number): boolean {
    return vocabSize % 4 === 0;
  }

  static async open(device: Device, slots: number, vocabSize: number): Promise<DeviceLogits> {
    using made = new DisposableStack();
    const all = made.use(await device.allocate("float32", [slots, vocabSize]));
    const apart = made.use(await device.allocate("float32", [1, vocabSize]));
    const at = new BigInt64Array(1);
    const row = made.use(device.tensor("int64", [1, 1], at));
    const session = made.use(await device.session(placeGraph()));
    const place = made.use(session.bind({ all, apart, row }, { placed: all }));
    return new DeviceLogits(all, apart, at, place, made.move());
  }

  /** Makes a row a copy of the one apart. */
  async place(row: number): Promise<void> {
    this.#at[0] = BigInt(row);
    await this.#place.run();
  }

  [Symbol.dispose](): void {
    this.#made.dispose();
  }
}

/** all[row] ← apart, in place. */
function placeGraph(): Uint8Array {
  const writer = new OnnxWriter();
  const all = writer.input("all", "float32", ["slots", "vocab"]);
  const apart = writer.input("apart", "float32", [1, "vocab"]);
  writer.node("ScatterND", [all, writer.input("row", "int64", [1, 1]), apart], "placed");
  writer.output("placed", "float32", ["slots", "vocab"]);
  return writer.finish("place");
}

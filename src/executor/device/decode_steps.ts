/**
 * Decode steps whose commands a device records once and then repeats, one recording for each size of
 * batch: powers of two, so that there are few. Rows beyond those that are asked for run along, and
 * write behind what their slots hold.
 */
import { inputs } from "../../models/decoder.ts";
import type { Binding, Device, Session, Tensor } from "../../runtime/device.ts";
import type { CoreCopies } from "../core_slots.ts";
import { STEP, STEP_ROWS } from "./decode_model.ts";
import type { DeviceLogits } from "./logits.ts";
import type { StagedKv } from "./staged_kv.ts";

/** A size's recording. Trap: its first run computes twice, and must write the same each time. */
interface Recording {
  readonly binding: Binding;
  /** `STEP`, in host memory and on the device. */
  readonly numbers: Int32Array;
  readonly given: Tensor;
  readonly step: Tensor;
}

export interface DecodePlaces {
  readonly device: Device;
  /** Made with `capture`, of `decodeModel`. */
  readonly session: Session;
  readonly slots: number;
  readonly vocabSize: number;
  readonly kv: StagedKv;
  readonly logits: DeviceLogits;
  /** Where there are factors. */
  readonly cores: CoreCopies | undefined;
}

export class DecodeSteps implements Disposable {
  readonly #places: DecodePlaces;
  readonly #recordings = new Map<number, Recording>();
  readonly #made = new DisposableStack();

  constructor(places: DecodePlaces) {
    this.#places = places;
  }

  /** As `BatchModel.decode`. */
  async run(tokens: ArrayLike<number>, lengths: ArrayLike<number>): Promise<void> {
    const { device, slots, kv, cores } = this.#places;
    const size = Math.min(slots, 2 ** Math.ceil(Math.log2(tokens.length)));
    const { binding, numbers, given, step } = this.#recordings.get(size) ??
      await this.#record(size);
    let longest = 0;
    for (let slot = 0; slot < size; slot++) {
      const asked = slot < tokens.length;
      const length = asked ? lengths[slot] : kv.touched(slot);
      if (asked) kv.touch(slot, length + 1);
      numbers[STEP_ROWS.ids * size + slot] = asked ? tokens[slot] : 0;
      numbers[STEP_ROWS.lengths * size + slot] = length;
      longest = Math.max(longest, length);
    }
    numbers.fill(longest + 1, STEP_ROWS.total * size, (STEP_ROWS.total + 1) * size);
    await Promise.all([kv.settled(), cores?.refresh()]);
    await device.copy([{ from: given, to: step }]);
    await binding.run();
  }

  [Symbol.dispose](): void {
    this.#made.dispose();
  }

  async #record(size: number): Promise<Recording> {
    const { device, session, vocabSize, kv, logits, cores } = this.#places;
    const shape = [Object.keys(STEP_ROWS).length, size];
    const numbers = new Int32Array(shape[0] * size);
    for (let slot = 0; slot < size; slot++) numbers[STEP_ROWS.rows * size + slot] = slot;
    const given = this.#made.use(device.tensor("int32", shape, numbers));
    const step = this.#made.use(await device.allocate("int32", shape));
    const bound: Record<string, Tensor> = { [STEP]: step };
    using view = device.view(logits.all, 0, [size, vocabSize]);
    const out: Record<string, Tensor> = { [inputs.logits]: view };
    kv.views(0, size).forEach(({ keys, values }, layer) => {
      bound[inputs.keys(layer)] = out[`${inputs.keys(layer)}.out`] = keys;
      bound[inputs.values(layer)] = out[`${inputs.values(layer)}.out`] = values;
    });
    for (const { layer, site, tensor } of cores?.views(size) ?? []) {
      bound[inputs.cores(layer, site)] = tensor;
    }
    const binding = this.#made.use(session.bind(bound, out));
    const recording = { binding, numbers, given, step };
    this.#recordings.set(size, recording);
    return recording;
  }
}

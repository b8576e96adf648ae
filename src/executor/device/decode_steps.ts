/**
 * Decode steps whose commands a device records once and then repeats, one recording for each size of
 * batch: powers of two, so that there are few. Rows beyond those that are asked for run along, and
 * write behind what their slots hold. A recording is tried once against a step that is not recorded:
 * a driver may repeat another thing than it computed.
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
  /** The first rows of the lane's logits. */
  readonly logits: Tensor;
}

/** Two float16 sums in another order; what is repeated wrong is off by whole logits. */
const TOLERANCE = 1e-2;
/** Tokens of a trial: to be recorded, then to be repeated. */
const TRIAL = [1, 2] as const;

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
  /** Hears of a size that does not repeat what it should. */
  readonly onUnrecorded?: ((why: string) => void) | undefined;
  /** The same step without a recording. */
  readonly plain: (tokens: ArrayLike<number>, lengths: ArrayLike<number>) => Promise<void>;
}

export class DecodeSteps implements Disposable {
  readonly #places: DecodePlaces;
  /** By size; undefined where it does not repeat what it should. */
  readonly #recordings = new Map<number, Recording | undefined>();
  readonly #made = new DisposableStack();

  constructor(places: DecodePlaces) {
    this.#places = places;
  }

  /** Whether all sizes so far are repeated. */
  get repeats(): boolean {
    return [...this.#recordings.values()].every((recording) => recording !== undefined);
  }

  /** As `BatchModel.decode`, of rows that are touched already. */
  async run(tokens: ArrayLike<number>, lengths: ArrayLike<number>): Promise<void> {
    const { slots, plain } = this.#places;
    const size = Math.min(slots, 2 ** Math.ceil(Math.log2(tokens.length)));
    if (!this.#recordings.has(size)) this.#recordings.set(size, await this.#tried(size));
    const recording = this.#recordings.get(size);
    if (recording === undefined) await plain(tokens, lengths);
    else await this.#run(recording, tokens, lengths);
  }

  async #run(
    { binding, numbers, given, step }: Recording,
    tokens: ArrayLike<number>,
    lengths: ArrayLike<number>,
  ): Promise<void> {
    const { device, kv, cores } = this.#places;
    const [, size] = step.shape;
    let longest = 0;
    for (let slot = 0; slot < size; slot++) {
      const asked = slot < tokens.length;
      const length = asked ? lengths[slot] : kv.touched(slot);
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

  /** A recording whose repetition is what a plain step computes. */
  async #tried(size: number): Promise<Recording | undefined> {
    const { device, kv, plain, onUnrecorded } = this.#places;
    const recording = await this.#record(size);
    // behind all that the slots hold
    const lengths = Array.from({ length: size }, (_, slot) => kv.touched(slot));
    const tokens = (token: number) => new Array<number>(size).fill(token);
    for (const token of TRIAL) await this.#run(recording, tokens(token), lengths);
    const found = await device.download(recording.logits) as Float32Array;
    await plain(tokens(TRIAL[1]), lengths);
    const wanted = await device.download(recording.logits) as Float32Array;
    const isRight = found.every((x, i) => Math.abs(x - wanted[i]) <= TOLERANCE * (1 + Math.abs(x)));
    if (isRight) return recording;
    onUnrecorded?.(`repeating a step of ${size} rows computes something else on this device`);
    return undefined;
  }

  async #record(size: number): Promise<Recording> {
    const { device, session, vocabSize, kv, logits, cores } = this.#places;
    const shape = [Object.keys(STEP_ROWS).length, size];
    const numbers = new Int32Array(shape[0] * size);
    for (let slot = 0; slot < size; slot++) numbers[STEP_ROWS.rows * size + slot] = slot;
    const given = this.#made.use(device.tensor("int32", shape, numbers));
    const step = this.#made.use(await device.allocate("int32", shape));
    const bound: Record<string, Tensor> = { [STEP]: step };
    const view = this.#made.use(device.view(logits.all, 0, [size, vocabSize]));
    const out: Record<string, Tensor> = { [inputs.logits]: view };
    kv.views(0, size).forEach(({ keys, values }, layer) => {
      bound[inputs.keys(layer)] = out[`${inputs.keys(layer)}.out`] = keys;
      bound[inputs.values(layer)] = out[`${inputs.values(layer)}.out`] = values;
    });
    for (const { layer, site, tensor } of cores?.views(size) ?? []) {
      bound[inputs.cores(layer, site)] = tensor;
    }
    const binding = this.#made.use(session.bind(bound, out));
    return { binding, numbers, given, step, logits: view };
  }
}

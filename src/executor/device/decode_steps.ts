/**
 * Decode steps whose commands a device records once and then repeats, one recording for each size of
 * batch: powers of two, so that there are few. Rows beyond those that are asked for run along, and
 * write behind what their slots hold. A recording is tried once against a step that is not recorded:
 * a driver may repeat another thing than it computed.
 */
import { inputs } from "../../models/inputs.ts";
import type { Binding, Device, Session, Tensor } from "../../runtime/device.ts";
import type { StepsAhead } from "../model.ts";
import type { CoreCopies } from "../core_slots.ts";
import { STEP, STEP_ROWS, STEP_SIZE } from "./decode_model.ts";
import { type DeviceSampler, drawOf } from "./device_sampler.ts";
import { FedSteps, MOST_STEPS } from "./fed_steps.ts";
import type { DeviceLogits } from "./logits.ts";
import type { StagedKv } from "./staged_kv.ts";

/** A size's step. Trap: its first run computes twice, and must write the same each time. */
interface Recorded {
  readonly binding: Binding;
  /** `STEP`, in host memory and on the device. */
  readonly numbers: Int32Array;
  readonly given: Tensor;
  readonly step: Tensor;
  /** The first rows of the lane's logits. */
  readonly logits: Tensor;
  /** Steps of this size that follow each other without the host, once there were some. */
  fed: FedSteps | undefined;
}

/** Two float16 sums in another order; what is repeated wrong is off by whole logits. */
const TOLERANCE = 1e-2;
/** Tokens of a trial: to be recorded, then to be repeated. */
const TRIAL = [1, 2] as const;

/** What records steps, and what they need beside it. */
export interface Recording {
  /** Made with `capture`, of `decodeModel`. */
  readonly session: Session;
  /** Draws between steps that follow each other without the host. */
  readonly feeds: Pick<DeviceSampler, "drawsAlone" | "feed">;
  /** Hears of a size that does not repeat what it should. */
  readonly onUnrecorded?: ((why: string) => void) | undefined;
}

export interface DecodePlaces extends Recording {
  readonly device: Device;
  readonly slots: number;
  /** Rows of a slot's keys and values. */
  readonly positions: number;
  readonly vocabSize: number;
  readonly kv: StagedKv;
  readonly logits: DeviceLogits;
  /** Where there are factors. */
  readonly cores: CoreCopies | undefined;
  /** The same step without a recording. */
  readonly plain: (tokens: ArrayLike<number>, lengths: ArrayLike<number>) => Promise<void>;
}

export class DecodeSteps implements Disposable {
  readonly #places: DecodePlaces;
  /** By size; undefined where it does not repeat what it should. */
  readonly #recordings = new Map<number, Recorded | undefined>();
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
    const size = this.#sizeOf(tokens.length);
    if (!this.#recordings.has(size)) this.#recordings.set(size, await this.#tried(size));
    const recording = this.#recordings.get(size);
    if (recording === undefined) await this.#places.plain(tokens, lengths);
    else await this.#run(recording, tokens, lengths);
  }

  /** Steps that follow each other, of sizes that are recorded; as many as the slots hold. */
  readonly ahead: StepsAhead = {
    most: (rows) => {
      const { feeds } = this.#places;
      const isRecorded = this.#recordings.get(this.#sizeOf(rows.length)) !== undefined;
      return isRecorded && rows.every((row) => feeds.drawsAlone(row)) ? MOST_STEPS : 1;
    },
    run: async (tokens, lengths, rows, uniforms) => {
      const recording = this.#recordings.get(this.#sizeOf(tokens.length));
      if (recording === undefined) throw new Error("internal: these steps are not recorded");
      const { kv, cores, positions } = this.#places;
      const fed = recording.fed ??= await this.#feed(recording);
      const longest = this.#fill(recording, tokens, lengths);
      const steps = uniforms.slice(0, Math.min(MOST_STEPS, positions - longest));
      for (let i = 0; i < tokens.length; i++) kv.touch(i, lengths[i] + steps.length);
      const draws = steps.map((step) => rows.map((row, i) => drawOf({ ...row, uniform: step[i] })));
      await Promise.all([kv.settled(), cores?.refresh()]);
      return await fed.run({ from: recording.given, to: recording.step }, draws);
    },
  };

  async #feed({ binding: decode, step, logits }: Recorded): Promise<FedSteps> {
    const { device, feeds } = this.#places;
    const session = await feeds.feed();
    return this.#made.use(await FedSteps.open({ device, session, decode, step, logits }));
  }

  #sizeOf(rows: number): number {
    return Math.min(this.#places.slots, 2 ** Math.ceil(Math.log2(rows)));
  }

  async #run(
    recording: Recorded,
    tokens: ArrayLike<number>,
    lengths: ArrayLike<number>,
  ): Promise<void> {
    const { device, kv, cores } = this.#places;
    const { binding, given, step } = recording;
    this.#fill(recording, tokens, lengths);
    await Promise.all([kv.settled(), cores?.refresh()]);
    await device.copy([{ from: given, to: step }]);
    await binding.run();
  }

  /** Writes a step's numbers in host memory; returns its rows' largest length. */
  #fill(
    { numbers, step }: Recorded,
    tokens: ArrayLike<number>,
    lengths: ArrayLike<number>,
  ): number {
    const { kv } = this.#places;
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
    return longest;
  }

  [Symbol.dispose](): void {
    this.#made.dispose();
  }

  /** A recording whose repetition is what a plain step computes. */
  async #tried(size: number): Promise<Recorded | undefined> {
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

  async #record(size: number): Promise<Recorded> {
    const { device, session, vocabSize, kv, logits, cores } = this.#places;
    const shape = [STEP_SIZE, size];
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
    return { binding, numbers, given, step, logits: view, fed: undefined };
  }
}

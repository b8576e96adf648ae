/**
 * The engine's `BatchModel` on ONNX Runtime: one compiled decoder (the base and one factor set),
 * its KV cache and cores, and a binding for each shape of step, made once. A step writes a few
 * small arrays and runs.
 */
import type { LinearHook } from "../models/hook.ts";
import { FieldError } from "../util/errors.ts";
import { type LoraOptions, LoraSteps } from "./lora/lora_steps.ts";
import type { Device, Session, Tensor } from "../runtime/device.ts";
import { Lru } from "../util/memo.ts";
import type { BlockPool } from "./block_pool.ts";
import { CoreCopies, CoreSlots } from "./core_slots.ts";
import { kvBytes, KvCache, type KvShape, type KvStore } from "./kv_cache.ts";
import {
  type BatchModel,
  isLora,
  type KvBlock,
  type PrefillRow,
  type ResidentAdapter,
  type Sampled,
  type SampleRow,
  type StepsAhead,
} from "./model.ts";
import type { Sampler } from "./sampler.ts";
import { Scores } from "./sampler/scores.ts";
import {
  fillDecode,
  makeStep,
  mostTokens,
  runsOf,
  type Step,
  type StepPlaces,
  type StepShape,
} from "./step.ts";
import { type DecodePlaces, DecodeSteps, type Recording } from "./device/decode_steps.ts";
import type { DeviceLogits } from "./device/logits.ts";
import { PREFILL_TOKENS, type Prompts } from "./device/prompts.ts";
import type { StagedKv } from "./device/staged_kv.ts";

/** Prefill bindings that are kept, in case their shape comes again. */
export const KEPT_PREFILLS = 32;
/** Tokens of a prompt whose logits are held at once to score them. */
const SCORED_TOKENS = 32;
/** Tokens of a freed slot whose pages stay for its next row. */
const KEPT_TOKENS = 256;

export interface ExecutorOptions {
  readonly device: Device;
  /** The compiled step, for prompts and for one token of each row. */
  readonly session: Session;
  readonly sampler: Pick<Sampler, "sample" | "forget">;
  /** Tells of logits in host memory. */
  readonly scorer: Pick<Sampler, "sample" | "forget">;
  readonly kv: KvShape;
  /** Tokens of a row. */
  readonly maxContext: number;
  /** Keys and values of that shape in device memory; by default they are in host memory. */
  readonly staged?: StagedKv | undefined;
  /** Logits beside these, which `sampler` then draws from. */
  readonly logits?: DeviceLogits | undefined;
  /** The step for one token of each row, whose commands the device records. */
  readonly recording?: Recording | undefined;
  /** How prompts are computed beside these. */
  readonly prompts?: Prompts | undefined;
  /** Query heads. */
  readonly heads: number;
  /** Memory for saved blocks; lanes share it. */
  readonly blocks: BlockPool;
  readonly vocabSize: number;
  readonly hook: LinearHook | undefined;
  /** How rows have LoRAs of their own; by default they cannot. */
  readonly loras?: LoraOptions | undefined;
}

/** What a step reads and writes, and in which graph, where that is not the lane's own. */
type Places = Partial<StepPlaces> & { readonly session?: Session };

export class Executor implements BatchModel {
  readonly vocabSize: number;
  readonly maxBatch: number;
  readonly maxContext: number;
  readonly kvBytesPerToken: number;
  readonly prefillTokens: number;
  readonly #options: ExecutorOptions;
  readonly #kv: KvStore;
  readonly #cores: CoreSlots;
  readonly #loras: LoraSteps | undefined;
  /** Beside keys and values in device memory. */
  #copies: Promise<CoreCopies> | undefined;
  readonly #logits: Tensor;
  /** Logits of a prompt's tokens. */
  readonly #scores: Scores;
  readonly scoredTokens: number;
  readonly draftTokens: number;
  #steps: DecodeSteps | undefined;
  readonly #decodes: Step[] = [];
  readonly #prefills = new Lru<string, Step>(KEPT_PREFILLS, ({ made }) => made.dispose());

  constructor(options: ExecutorOptions) {
    const { device, kv, hook, vocabSize } = options;
    this.#options = options;
    this.vocabSize = vocabSize;
    this.maxBatch = kv.slots;
    this.maxContext = options.maxContext;
    this.kvBytesPerToken = KvCache.bytesPerToken(kv);
    using made = new DisposableStack();
    this.prefillTokens = options.prompts?.tokens ?? PREFILL_TOKENS;
    this.scoredTokens = Math.min(SCORED_TOKENS, this.prefillTokens);
    this.#scores = new Scores(device, options.scorer, this.scoredTokens, vocabSize);
    // in device memory a row would go to the staging row and back
    this.draftTokens = options.staged === undefined ? this.scoredTokens : 0;
    const cache = options.staged ?? new KvCache(device, kv, options.blocks);
    this.#kv = made.adopt(cache, () => cache.release());
    const cores = new CoreSlots(device, hook, kv.layers, kv.slots, kv.dtype);
    this.#cores = made.adopt(cores, () => cores.release());
    this.#loras = options.loras && new LoraSteps(device, kv.slots, options.loras);
    this.#logits = options.logits?.all ??
      made.use(device.tensor("float32", [kv.slots, vocabSize]));
    made.move();
  }

  chunkTokens(past: number): number {
    const { heads } = this.#options;
    const keys = this.#total(past + PREFILL_TOKENS, PREFILL_TOKENS);
    return Math.min(this.prefillTokens, mostTokens(heads, keys));
  }

  prepare(adapter: ResidentAdapter): Promise<void> | undefined {
    if (!isLora(adapter)) return undefined;
    if (this.#loras !== undefined) return this.#loras.prepare(adapter);
    throw new FieldError("model", `Cannot run LoRA ${adapter.digest}: LoRAs run on the CPU alone`);
  }

  setAdapter(slot: number, adapter: ResidentAdapter | undefined): void {
    this.#cores.set(slot, isLora(adapter) ? undefined : adapter);
    this.#loras?.set(slot, isLora(adapter) ? adapter : undefined);
  }

  async prefill(rows: readonly PrefillRow[]): Promise<void> {
    const { staged } = this.#options;
    if (staged !== undefined) {
      for (const [i, row] of rows.entries()) await this.#prefillStaged(staged, row, i);
      return;
    }
    const agree = (slot: number, other: number) => this.#loras?.agree(slot, other) ?? true;
    for (const { first, slots } of runsOf(rows, agree)) {
      await this.#prefillGroup(rows.slice(first, first + slots), first);
    }
  }

  async decode(tokens: ArrayLike<number>, lengths: ArrayLike<number>): Promise<void> {
    for (let i = 0; i < tokens.length; i++) this.#kv.touch(i, lengths[i] + 1);
    const { staged } = this.#options;
    const cores = staged === undefined ? undefined : await this.#coresOnDevice();
    this.#steps ??= this.#repeatedSteps(cores);
    if (this.#steps !== undefined) await this.#steps.run(tokens, lengths);
    else await this.#decodePlain(tokens, lengths, cores);
  }

  get ahead(): StepsAhead | undefined {
    return this.#steps?.ahead;
  }

  async #decodePlain(
    tokens: ArrayLike<number>,
    lengths: ArrayLike<number>,
    cores: CoreCopies | undefined,
  ): Promise<void> {
    const batch = tokens.length;
    const { staged } = this.#options;
    const adapted = this.#loras?.decode(batch, `${batch}`, (own) => this.#makeDecode(batch, own));
    const plain = () => this.#makeDecode(batch, cores && { cores: cores.views(batch) });
    const step = adapted ?? (this.#decodes[batch] ??= plain());
    fillDecode(step, tokens, lengths);
    if (staged !== undefined) await Promise.all([staged.settled(), cores?.refresh()]);
    await step.binding.run();
  }

  /** Decode steps that the device repeats, where everything is in its own memory. */
  #repeatedSteps(cores: CoreCopies | undefined): DecodeSteps | undefined {
    const { device, recording, staged, logits, hook, vocabSize } = this.#options;
    if (recording === undefined || staged === undefined || logits === undefined) return undefined;
    if (hook !== undefined && cores === undefined) return undefined;
    const slots = this.maxBatch;
    const plain: DecodePlaces["plain"] = (...step) => this.#decodePlain(...step, cores);
    const { capacity: positions } = this.#options.kv;
    return new DecodeSteps({
      ...{ device, slots, positions, vocabSize, kv: staged, logits, cores, plain, ...recording },
    });
  }

  /** Copies of the cores, unless their views would end within what kernels write at a time. */
  async #coresOnDevice(): Promise<CoreCopies | undefined> {
    const { device, hook } = this.#options;
    if (hook === undefined || !CoreCopies.fit(hook.rank, this.#options.kv.dtype)) return undefined;
    return await (this.#copies ??= CoreCopies.open(device, this.#cores));
  }

  /**
   * Logits of every token of a part of slot 0's row, into `logits` [tokens, V]: a base is measured by
   * them.
   * @throws {RangeError} for more tokens than a run in device memory may have
   */
  async logitsOf(tokens: ArrayLike<number>, past: number, logits: Tensor): Promise<void> {
    const most = this.prefillTokens;
    if (this.#options.staged !== undefined && tokens.length > most) {
      throw new RangeError(`Cannot score ${tokens.length} tokens at once here: at most ${most}`);
    }
    await this.#everyToken({ slot: 0, tokens, past, last: false }, { logits });
  }

  async score(row: PrefillRow, next: ArrayLike<number>, top: number): Promise<readonly Sampled[]> {
    const { staged } = this.#options;
    if (staged !== undefined && row.past > 0) staged.take(row.slot);
    using logits = this.#scores.view(row.tokens.length);
    const caches = staged?.staging;
    await this.#everyToken(row, caches === undefined ? { logits } : { logits, caches });
    staged?.place(row.slot);
    return await this.#scores.ofNext(next, top);
  }

  async draft(row: PrefillRow): Promise<void> {
    using logits = this.#scores.view(row.tokens.length);
    await this.#everyToken(row, { logits });
  }

  sampleDraft(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return this.#scores.sample(rows);
  }

  async #everyToken(
    { slot, tokens, past }: PrefillRow,
    places: Pick<StepPlaces, "logits"> & Partial<StepPlaces>,
  ): Promise<void> {
    const time = tokens.length;
    const shape = { first: slot, batch: 1, time, logits: 0 };
    const make = (more: Places) => this.#makeStep(shape, { ...places, ...more, rows: time });
    const step = this.#loras?.prompt(slot, time, undefined, make) ?? make({});
    using _made = step.made;
    step.ids.set(tokens);
    step.lengths[0] = past + time - 1;
    step.total[0] = this.#total(past + time, time);
    for (let i = 0; i < time; i++) step.rows[i] = i;
    this.#kv.touch(slot, past + time);
    await this.#options.staged?.settled();
    await step.binding.run();
  }

  sample(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return this.#options.sampler.sample(this.#logits, rows);
  }

  move(from: number, to: number, length: number): void {
    this.#kv.move(from, to, length);
    this.#cores.move(from, to);
    this.#loras?.move(from, to);
  }

  free(slot: number): void {
    this.#kv.trim(slot, KEPT_TOKENS);
    this.#loras?.set(slot, undefined);
  }

  /** Whether decode steps so far were recorded and repeated. */
  get records(): boolean {
    return this.#steps?.repeats ?? false;
  }

  residentBytes(slot: number): number {
    return kvBytes(this.#kv.touched(slot), this.kvBytesPerToken);
  }

  trim(slot: number, tokens: number): void {
    this.#kv.trim(slot, tokens);
  }

  save(slot: number, start: number, end: number): KvBlock {
    return this.#kv.save(slot, start, end);
  }

  load(slot: number, start: number, block: KvBlock): void {
    this.#kv.load(slot, start, block);
  }

  checkIntegrity(): void {
    this.#kv.checkIntegrity();
    this.#cores.checkIntegrity();
    this.#loras?.checkIntegrity();
    if (this.#prefills.size <= KEPT_PREFILLS) return;
    throw new Error(`internal: ${this.#prefills.size} prefill bindings, at most ${KEPT_PREFILLS}`);
  }

  /** Releases everything but the sampler and saved blocks, which lanes share. */
  release(): void {
    const { device } = this.#options;
    for (const { made } of [...Object.values(this.#decodes), ...this.#prefills.values()]) {
      made.dispose();
    }
    this.#options.sampler.forget(this.#logits);
    this.#scores.release();
    this.#options.session.release();
    this.#steps?.[Symbol.dispose]();
    this.#options.recording?.session.release();
    this.#kv.release();
    this.#copies?.then((copies) => copies.release(), () => {});
    this.#cores.release();
    this.#loras?.release();
    if (this.#options.logits !== undefined) return this.#options.logits[Symbol.dispose]();
    // its garbage may be collected much later: the pages go now
    device.discard(this.#logits, 0, this.maxBatch * this.vocabSize);
    this.#logits.release();
  }

  /** What a step tells as its keys' number. */
  #total(end: number, time: number): number {
    return this.#options.prompts?.total(end, time) ?? end;
  }

  /** A row in the staging row, then in its slot; parts of it where it is longer than a run may be. */
  async #prefillStaged(
    staged: StagedKv,
    { slot, tokens, past }: PrefillRow,
    logits: number,
  ): Promise<void> {
    const { logits: apart } = this.#options;
    if (past > 0) staged.take(slot);
    for (let from = 0; from < tokens.length; from += this.prefillTokens) {
      const part = Array.from(tokens).slice(from, from + this.prefillTokens);
      const before = past + from;
      const place = apart === undefined ? logits : 0;
      const shape = { first: slot, batch: 1, time: part.length, logits: place };
      const step = this.#prefillStep(shape, {
        caches: staged.staging,
        ...(apart === undefined ? {} : { logits: apart.apart }),
      });
      step.ids.set(part);
      step.lengths[0] = before + part.length - 1;
      step.rows[0] = part.length - 1;
      step.total[0] = this.#total(before + part.length, part.length);
      await staged.settled();
      await step.binding.run();
    }
    this.#kv.touch(slot, past + tokens.length);
    staged.place(slot);
    await apart?.place(logits);
  }

  /** One run over rows in neighbouring slots; their logits go to rows `logits` and following. */
  async #prefillGroup(rows: readonly PrefillRow[], logits: number): Promise<void> {
    const [{ slot: first, past }] = rows;
    const time = Math.max(...rows.map(({ tokens }) => tokens.length));
    const step = this.#prefillStep({ first, batch: rows.length, time, logits });
    rows.forEach(({ slot, tokens }, i) => {
      for (let t = 0; t < tokens.length; t++) step.ids[i * time + t] = tokens[t];
      step.ids.fill(0, i * time + tokens.length, (i + 1) * time);
      step.lengths[i] = past + tokens.length - 1;
      step.rows[i] = i * time + tokens.length - 1;
      // Padding is written behind the row's end, too.
      this.#kv.touch(slot, past + time);
    });
    step.total[0] = past + time;
    await step.binding.run();
  }

  #makeDecode(batch: number, places: Places = {}): Step {
    const step = this.#makeStep({ first: 0, batch, time: 1, logits: 0 }, places);
    step.rows.forEach((_, i) => step.rows[i] = i);
    return step;
  }

  #prefillStep(shape: StepShape, places: Places = {}): Step {
    const { first, batch, time, logits } = shape;
    const key = `${first}+${batch}x${time}@${logits}`;
    const bind = (own: Places) => this.#makeStep(shape, { ...places, ...own });
    const adapted = this.#loras?.prompt(first, batch * time, key, bind);
    if (adapted !== undefined) return adapted;
    const known = this.#prefills.get(key);
    if (known !== undefined) return known;
    const step = bind({});
    this.#prefills.set(key, step);
    return step;
  }

  /** By default over what lies with its slots. */
  #makeStep(shape: StepShape, places: Places): Step {
    const { first, batch } = shape;
    const { device, vocabSize } = this.#options;
    const { session = this.#options.session, more = {} } = places;
    return makeStep({ device, session, vocabSize }, shape, {
      more,
      logits: places.logits ?? this.#logits,
      rows: places.rows ?? batch,
      caches: places.caches ?? this.#kv.views(first, batch),
      cores: places.cores ?? this.#cores.views(first, batch),
    });
  }
}

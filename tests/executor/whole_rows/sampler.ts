/**
 * The sampler that drew from whole rows, as it was up to November 2026: slow, and plainly what a row
 * asks for. Draws of the same seed must stay its draws, bit by bit.
 */
import type { Binding, Device, Session, Tensor } from "../../../src/runtime/device.ts";
import { Once } from "../../../src/util/memo.ts";
import type { Sampled, SampleRow } from "../../../src/executor/model.ts";
import { buildSampler, type SamplerFeatures } from "./graph.ts";

/** Most likely tokens that top-k and top-p look at first; more where their mass is below top-p. */
const FIRST_CANDIDATES = 256;
/** A uniform number is kept below 1 after rounding to float32. */
const BELOW_ONE = 1 - 2 ** -24;
/** Up to so many rows a greedy pick is cheaper on the calling thread. */
const SYNCHRONOUS_ROWS = 8;

interface GreedyPick {
  readonly binding: Binding;
  readonly tokens: Tensor;
}

/** Tensors of one sampler run, by name. */
type Bound = Record<string, Tensor>;

/** Makes a tensor that is released after the run. */
type Make = Device["tensor"];

export class WholeRowSampler {
  readonly #device: Device;
  readonly #vocabSize: number;
  readonly #sessions = new Map<string, Once<Session>>();
  /** By logits buffer, then by number of rows. */
  readonly #greedy = new Map<Tensor, GreedyPick[]>();

  constructor(device: Device, vocabSize: number) {
    this.#device = device;
    this.#vocabSize = vocabSize;
  }

  /**
   * Draws one token for each row from `logits` [N, V].
   * @returns in the order of `rows`
   */
  async sample(logits: Tensor, rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    if (rows.length === 0) return [];
    if (rows.every(isPlainGreedy)) return await this.#pickGreedy(logits, rows);
    const features = featuresOf(rows);
    let candidates = Math.min(this.#vocabSize, candidatesOf(rows, features));
    let pending = rows.map((row, index) => ({ row, index }));
    const sampled = new Array<Sampled>(rows.length);
    // A row whose candidates do not hold enough mass for its top-p is drawn again from more.
    while (pending.length > 0) {
      const drawn = await this.#draw(logits, pending.map(({ row }) => row), features, candidates);
      drawn.forEach(({ value }, i) => sampled[pending[i].index] = value);
      pending = candidates === this.#vocabSize ? [] : pending.filter((_, i) => !drawn[i].covered);
      candidates = Math.min(this.#vocabSize, candidates * 16);
    }
    return sampled;
  }

  /** Drops what is bound to a logits buffer, before the buffer is released. */
  forget(logits: Tensor): void {
    for (const { binding, tokens } of Object.values(this.#greedy.get(logits) ?? [])) {
      binding.release();
      tokens.release();
    }
    this.#greedy.delete(logits);
  }

  release(): void {
    for (const buffer of this.#greedy.keys()) this.forget(buffer);
    for (const session of this.#sessions.values()) {
      session.known?.then((made) => made.release(), () => {});
    }
  }

  /** The most likely token of each row: the fast path where all rows are plain greedy. */
  async #pickGreedy(logits: Tensor, rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    const count = Math.max(...rows.map(({ row }) => row)) + 1;
    const { binding, tokens } = await this.#greedyBinding(logits, count);
    if (count <= SYNCHRONOUS_ROWS) binding.runSync();
    else await binding.run();
    const picked = int64(tokens);
    return rows.map(({ row }) => ({ token: Number(picked[row]) }));
  }

  async #greedyBinding(logits: Tensor, count: number): Promise<GreedyPick> {
    const session = await this.#session({ kind: "greedy" });
    const picks = this.#greedy.get(logits) ?? [];
    this.#greedy.set(logits, picks);
    const known = picks[count];
    if (known !== undefined) return known;
    // the binding holds it
    using view = this.#device.view(logits, 0, [count, this.#vocabSize]);
    using made = new DisposableStack();
    const tokens = made.use(this.#device.tensor("int64", [count]));
    const binding = session.bind({ logits: view }, { token: tokens });
    made.move();
    return picks[count] = { binding, tokens };
  }

  async #draw(
    logits: Tensor,
    rows: readonly SampleRow[],
    features: SamplerFeatures & { readonly kind: "general" },
    candidates: number,
  ): Promise<readonly { readonly value: Sampled; readonly covered: boolean }[]> {
    const session = await this.#session(features);
    using room = new DisposableStack();
    const tensor: Make = (...args) => room.use(this.#device.tensor(...args));
    const given = this.#inputs(tensor, rows, features, candidates);
    const made = outputs(tensor, rows, features);
    const binding = room.use(session.bind({ logits, ...given }, made));
    await binding.run();
    return rows.map((row, i) => readRow(made, row, i));
  }

  #session(features: SamplerFeatures): Promise<Session> {
    const key = JSON.stringify(features);
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = new Once(() => this.#device.session(buildSampler(this.#vocabSize, features)));
      this.#sessions.set(key, session);
    }
    return session.get();
  }

  #inputs(
    tensor: Make,
    rows: readonly SampleRow[],
    features: SamplerFeatures & { readonly kind: "general" },
    candidates: number,
  ): Bound {
    const given: Bound = {
      rows: tensor("int32", [rows.length], Int32Array.from(rows, ({ row }) => row)),
      inverse: column(tensor, rows, ({ temperature }) => temperature > 0 ? 1 / temperature : 1),
      uniform: column(tensor, rows, ({ uniform }) => Math.min(uniform, BELOW_ONE)),
    };
    if (features.filter) Object.assign(given, this.#filters(tensor, rows, candidates));
    if (features.adjust) Object.assign(given, adjustments(tensor, rows));
    if (features.mask) given.mask = this.#masks(tensor, rows);
    if (features.logprobs) {
      const most = Math.max(1, ...rows.map(({ logprobs }) => logprobs ?? 0));
      given.top = tensor("int64", [1], BigInt64Array.of(BigInt(most)));
    }
    return given;
  }

  #filters(tensor: Make, rows: readonly SampleRow[], candidates: number): Bound {
    const last = ({ topK }: SampleRow) =>
      BigInt(topK === undefined ? -1 : Math.min(topK, this.#vocabSize) - 1);
    return {
      candidates: tensor("int64", [1], BigInt64Array.of(BigInt(candidates))),
      last: tensor("int64", [rows.length, 1], BigInt64Array.from(rows, last)),
      topP: column(tensor, rows, ({ topP }) => topP ?? 2),
      logMinP: column(tensor, rows, ({ minP }) => minP === undefined ? -Infinity : Math.log(minP)),
    };
  }

  #masks(tensor: Make, rows: readonly SampleRow[]): Tensor {
    const words = Math.ceil(this.#vocabSize / 32);
    const all = new Int32Array(rows.length * words).fill(-1);
    rows.forEach(({ mask }, i) => {
      if (mask !== undefined) all.set(mask.subarray(0, words), i * words);
    });
    return tensor("int32", [rows.length, words], all);
  }
}

/** A column of one number for each row. */
function column(tensor: Make, rows: readonly SampleRow[], value: (row: SampleRow) => number) {
  return tensor("float32", [rows.length, 1], Float32Array.from(rows, value));
}

/** Sparse changes; shorter rows are padded with changes that change nothing. */
function adjustments(tensor: Make, rows: readonly SampleRow[]): Bound {
  const width = Math.max(1, ...rows.map(({ adjust }) => adjust?.ids.length ?? 0));
  const ids = new BigInt64Array(rows.length * width);
  const delta = new Float32Array(rows.length * width);
  const repetition = new Float32Array(rows.length * width).fill(1);
  rows.forEach(({ adjust }, i) => {
    if (adjust === undefined) return;
    adjust.ids.forEach((id, j) => ids[i * width + j] = BigInt(id));
    delta.set(adjust.delta, i * width);
    repetition.set(adjust.repetition, i * width);
  });
  const shape = [rows.length, width];
  return {
    ids: tensor("int64", shape, ids),
    delta: tensor("float32", shape, delta),
    repetition: tensor("float32", shape, repetition),
  };
}

function outputs(
  tensor: Make,
  rows: readonly SampleRow[],
  features: SamplerFeatures & { readonly kind: "general" },
): Bound {
  const count = rows.length;
  const made: Bound = {
    greedy: tensor("int64", [count]),
    drawn: tensor("int64", [count]),
  };
  if (features.filter) made.covered = tensor("bool", [count, 1]);
  if (features.logprobs) {
    const most = Math.max(1, ...rows.map(({ logprobs }) => logprobs ?? 0));
    made.greedyLogprob = tensor("float32", [count]);
    made.drawnLogprob = tensor("float32", [count]);
    made.topTokens = tensor("int64", [count, most]);
    made.topLogprobs = tensor("float32", [count, most]);
  }
  return made;
}

function isPlainGreedy(row: SampleRow): boolean {
  return row.temperature === 0 && row.adjust === undefined && row.mask === undefined &&
    row.logprobs === undefined;
}

function featuresOf(rows: readonly SampleRow[]): SamplerFeatures & { readonly kind: "general" } {
  const filters = ({ temperature, topK, topP, minP }: SampleRow) =>
    temperature > 0 && (topK !== undefined || topP !== undefined || minP !== undefined);
  return {
    kind: "general",
    filter: rows.some(filters),
    adjust: rows.some(({ adjust }) => adjust !== undefined),
    mask: rows.some(({ mask }) => mask !== undefined),
    logprobs: rows.some(({ logprobs }) => logprobs !== undefined),
  };
}

function candidatesOf(
  rows: readonly SampleRow[],
  { filter }: { readonly filter: boolean },
): number {
  if (!filter) return 1;
  const wanted = rows.map(({ topK, topP }) =>
    Math.max(topK ?? 1, topP === undefined ? 1 : FIRST_CANDIDATES)
  );
  return Math.max(...wanted);
}

function readRow(
  made: Bound,
  { temperature, logprobs, topP }: SampleRow,
  i: number,
): { readonly value: Sampled; readonly covered: boolean } {
  const greedy = temperature === 0;
  const token = Number(int64(greedy ? made.greedy : made.drawn)[i]);
  const covered = greedy || topP === undefined || made.covered?.data?.[i] !== 0;
  if (logprobs === undefined) return { value: { token }, covered };
  const logprob = float32(greedy ? made.greedyLogprob : made.drawnLogprob)[i];
  const width = made.topTokens.shape[1];
  const top = Array.from({ length: logprobs }, (_, j) => ({
    token: Number(int64(made.topTokens)[i * width + j]),
    logprob: float32(made.topLogprobs)[i * width + j],
  }));
  return { value: { token, logprob, top }, covered };
}

function int64({ data }: Tensor): BigInt64Array {
  if (data instanceof BigInt64Array) return data;
  throw new TypeError("internal: a sampler output is not int64");
}

function float32({ data }: Tensor): Float32Array {
  if (data instanceof Float32Array) return data;
  throw new TypeError("internal: a sampler output is not float32");
}

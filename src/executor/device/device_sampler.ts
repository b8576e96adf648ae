/**
 * Draws tokens from logits in a device's own memory. What crosses is a token for each row, some hundred
 * candidates of a row that filters or reports them, and whole rows alone where the host changes them.
 */
import type { Device, Session, Tensor } from "../../runtime/device.ts";
import { Once } from "../../util/memo.ts";
import type { Sampled, SampleRow } from "../model.ts";
import type { Sampler } from "../sampler.ts";
import { chooseAmong, fallingOrder, filtersOf, inverseOf } from "../sampler/choice.ts";
import type { Candidates } from "../sampler/row_logits.ts";
import type { Draw } from "./fed_steps.ts";
import { buildDeviceGraph, type DeviceGraph } from "./sampler_graphs.ts";

/** Candidates of a row: more than a request may have reported, and than most nuclei have. */
const CANDIDATES = 256;

interface Asked {
  readonly index: number;
  readonly wanted: SampleRow;
}

/** A token and its logit. */
interface Picked {
  readonly token: number;
  readonly logit: number;
}

interface Found {
  /** By rising id; undefined where far too many are as likely. */
  readonly candidates: Candidates | undefined;
  /** Sum over the row of exp(logit · inverse - the largest of these). */
  readonly mass: number;
  /** Log of the sum of exponentials, of logits as the model gave them. */
  readonly norm: number;
}

export class DeviceSampler {
  readonly #device: Device;
  readonly #host: { readonly sampler: Sampler; readonly device: Device };
  readonly #vocabSize: number;
  readonly #sessions = new Map<string, Once<Session>>();

  /** `host`: decides what is decided there. */
  constructor(
    device: Device,
    host: { readonly sampler: Sampler; readonly device: Device },
    vocabSize: number,
  ) {
    this.#device = device;
    this.#host = host;
    this.#vocabSize = vocabSize;
  }

  /**
   * Draws one token for each row from `logits` [N, V].
   * @returns in the order of `rows`
   */
  async sample(logits: Tensor, rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    const asked = rows.map((wanted, index) => ({ wanted, index }));
    const sampled = new Array<Sampled | undefined>(rows.length);
    const here = asked.filter(({ wanted }) => !this.#changes(wanted));
    const found = await this.#found(logits, here.filter(({ wanted }) => this.#looks(wanted)));
    const picked = await this.#picked(logits, here.filter(({ wanted }) => !this.#filters(wanted)));
    await this.#drawAmong(here, found, picked);
    for (const { index, wanted } of here) {
      const [pick, one] = [picked.get(index), found.get(index)];
      if (pick !== undefined) sampled[index] = sampledOf(pick, wanted, one);
    }
    const rest = asked.filter(({ index }) => sampled[index] === undefined);
    const drawn = await this.#drawOnHost(logits, rest);
    rest.forEach(({ index }, i) => sampled[index] = drawn[i]);
    return sampled as Sampled[];
  }

  /** Whether a row's draw needs its logits and a uniform number, nothing else. */
  drawsAlone(wanted: SampleRow): boolean {
    return !this.#changes(wanted) && !this.#looks(wanted);
  }

  /** Draws a step's tokens and makes them the next one's. */
  feed(): Promise<Session> {
    return this.#session({ kind: "fed", vocabSize: this.#vocabSize });
  }

  /** Nothing is kept for a buffer. */
  forget(_logits: Tensor): void {}

  release(): void {
    for (const session of this.#sessions.values()) {
      session.known?.then((made) => made.release(), () => {});
    }
  }

  /**
   * Whether the host looks at a whole row: grammars, penalties and biases are made there, as long as
   * the vocabulary, and would have to cross in the logits' place; a rank counts all logits.
   */
  #changes({ mask, adjust, given, logprobs = 0 }: SampleRow): boolean {
    return mask !== undefined || adjust !== undefined || given !== undefined ||
      logprobs >= CANDIDATES;
  }

  #filters(wanted: SampleRow): boolean {
    return wanted.temperature > 0 && filtersOf(wanted, this.#vocabSize) !== undefined;
  }

  /** Whether a row's candidates are looked at. */
  #looks(wanted: SampleRow): boolean {
    return this.#filters(wanted) || wanted.logprobs !== undefined;
  }

  /** Tokens of rows that may draw any, or draw the most likely; by index. */
  async #picked(logits: Tensor, asked: readonly Asked[]): Promise<Map<number, Picked>> {
    const picked = new Map<number, Picked>();
    for (let rest = asked; rest.length > 0;) {
      const turn = new Map(rest.map((one) => [one.wanted.row, one]));
      await this.#pick(logits, [...turn.values()], picked);
      rest = rest.filter((one) => turn.get(one.wanted.row) !== one);
    }
    return picked;
  }

  /** The same of rows that are each asked for once. */
  async #pick(
    logits: Tensor,
    asked: readonly Asked[],
    picked: Map<number, Picked>,
  ): Promise<void> {
    const rows = 1 + Math.max(...asked.map(({ wanted }) => wanted.row));
    using made = new DisposableStack();
    const greedy = asked.every(({ wanted }) => wanted.temperature === 0);
    const given = new Float32Array(rows * 3);
    for (const { wanted } of asked) {
      given.set(drawOf(wanted), 3 * wanted.row);
    }
    const out = await this.#run(
      greedy ? { kind: "best" } : { kind: "drawn", vocabSize: this.#vocabSize },
      {
        logits: made.use(this.#device.view(logits, 0, [rows, this.#vocabSize])),
        ...(!greedy && { given: made.use(this.#device.tensor("float32", [rows, 3], given)) }),
      },
      ["picked", rows, 2],
    );
    for (const { index, wanted: { row } } of asked) {
      picked.set(index, { token: out[2 * row], logit: out[2 * row + 1] });
    }
  }

  /** Candidates of rows, by index. */
  async #found(logits: Tensor, asked: readonly Asked[]): Promise<Map<number, Found>> {
    if (asked.length === 0) return new Map();
    const [vocabSize, count] = [this.#vocabSize, Math.min(CANDIDATES, this.#vocabSize)];
    using made = new DisposableStack();
    const inverse = Float32Array.from(asked, ({ wanted }) => inverseOf(wanted));
    const width = 2 * count + 2;
    const out = await this.#run({ kind: "most", vocabSize, count }, {
      logits,
      rows: made.use(this.#rows(asked)),
      inverse: made.use(this.#device.tensor("float32", [asked.length, 1], inverse)),
    }, ["found", asked.length, width]);
    return new Map(asked.map(({ index }, i) => {
      const own = out.subarray(i * width, (i + 1) * width);
      const [largest, tokens] = [own.subarray(0, count), own.subarray(count, 2 * count)];
      const [mass, sum] = own.subarray(2 * count);
      const norm = Math.fround(largest[0] + Math.fround(Math.log(sum)));
      return [index, { candidates: candidatesOf(largest, tokens, vocabSize), mass, norm }];
    }));
  }

  /** Draws for rows that filter, where candidates will do. */
  async #drawAmong(
    asked: readonly Asked[],
    found: ReadonlyMap<number, Found>,
    picked: Map<number, Picked>,
  ): Promise<void> {
    const lists = asked.flatMap(({ index, wanted }) => {
      const one = found.get(index);
      if (one?.candidates === undefined || !this.#filters(wanted)) return [];
      const of = { vocabSize: this.#vocabSize, total: one.mass };
      const few = chooseAmong(one.candidates, wanted, of);
      const { candidates } = one;
      return few === undefined ? [] : [{ ...few, index, candidates, uniform: wanted.uniform }];
    });
    if (lists.length === 0) return;
    const drawn = await this.#host.sampler.drawAmong(lists);
    lists.forEach(({ index, candidates: { ids, logits } }, i) => {
      picked.set(index, { token: drawn[i], logit: logits[ids.indexOf(drawn[i])] });
    });
  }

  async #drawOnHost(logits: Tensor, asked: readonly Asked[]): Promise<readonly Sampled[]> {
    if (asked.length === 0) return [];
    using rows = this.#rows(asked);
    const shape = [asked.length, this.#vocabSize];
    using copies = this.#host.device.tensor("float32", shape);
    const data = await this.#run({ kind: "rows" }, { logits, rows }, ["logits.of", ...shape]);
    (copies.data as Float32Array).set(data);
    const { sampler } = this.#host;
    try {
      return await sampler.sample(copies, asked.map(({ wanted }, row) => ({ ...wanted, row })));
    } finally {
      sampler.forget(copies);
    }
  }

  #rows(asked: readonly Asked[]): Tensor {
    const rows = Int32Array.from(asked, ({ wanted }) => wanted.row);
    return this.#device.tensor("int32", [rows.length], rows);
  }

  /** Runs a graph, and what it puts out. */
  async #run(
    graph: DeviceGraph,
    inputs: Readonly<Record<string, Tensor>>,
    [name, ...shape]: readonly [string, ...number[]],
  ): Promise<Float32Array> {
    const session = await this.#session(graph);
    using out = this.#device.tensor("float32", shape);
    using binding = session.bind(inputs, { [name]: out });
    await binding.run();
    return out.data as Float32Array;
  }

  #session(graph: DeviceGraph): Promise<Session> {
    const key = JSON.stringify(graph);
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = new Once(() => this.#device.session(buildDeviceGraph(graph)));
      this.#sessions.set(key, session);
    }
    return session.get();
  }
}

/** What a row's draw is given. */
export function drawOf({ temperature, uniform, row }: SampleRow): Draw {
  return [temperature === 0 ? 0 : inverseOf({ temperature }), uniform, row];
}

/** Of logits by falling size: those above the least, of which some may be missing. */
function candidatesOf(
  largest: Float32Array,
  tokens: Float32Array,
  vocabSize: number,
): Candidates | undefined {
  const all = largest.length === vocabSize;
  const count = all ? vocabSize : largest.indexOf(largest[largest.length - 1]);
  if (count <= 0 || largest[0] === -Infinity) return undefined;
  const order = Array.from({ length: count }, (_, i) => i).sort((a, b) => tokens[a] - tokens[b]);
  return {
    ids: Int32Array.from(order, (i) => tokens[i]),
    logits: Float32Array.from(order, (i) => largest[i]),
    complete: all ? -Infinity : largest[count - 1],
  };
}

/** With the log probabilities that are asked for; undefined where the candidates are too few. */
function sampledOf(
  { token, logit }: Picked,
  { logprobs }: SampleRow,
  found: Found | undefined,
): Sampled | undefined {
  if (logprobs === undefined) return { token };
  if (found === undefined) return undefined;
  const { norm, candidates } = found;
  const { ids, logits } = candidates ?? { ids: new Int32Array(), logits: new Float32Array() };
  if (ids.length < logprobs) return undefined;
  const top = Array.from(fallingOrder(logits).subarray(0, logprobs), (at) => ({
    token: ids[at],
    logprob: Math.fround(logits[at] - norm),
  }));
  return { token, logprob: Math.fround(logit - norm), top };
}

/**
 * Draws tokens from logits in host memory. Of most rows only the blocks with the largest logits are
 * looked at; with whole rows the device computes where top-p needs their mass, or any token may come.
 *
 * One call at a time: while it lasts, penalties and biases stand in the logits themselves.
 */
import type { Device, Tensor } from "../runtime/device.ts";
import { WorkerThread } from "../util/worker_thread.ts";
import type { Sampled, SampleRow } from "./model.ts";
import { applied, inTurns } from "./sampler/adjust.ts";
import {
  type Choice,
  choose,
  farBelow,
  inverseOf,
  isWhole,
  type Shares,
} from "./sampler/choice.ts";
import { DeviceRuns, type Draw } from "./sampler/device_runs.ts";
import type { FewTokens } from "./sampler/few.ts";
import { SUM_BLOCK } from "./sampler/graphs.ts";
import { givenLogprobs, type Logprobs, logprobsOf } from "./sampler/logprobs.ts";
import type { ManyWork } from "./sampler/many_worker.ts";
import { mostLikely, type RowLogits } from "./sampler/row_logits.ts";

/** Numbers of a run over whole rows: what it makes of them then stays in the cores' caches. */
const RUN_NUMBERS = 2 ** 20;
/** Rows of so many tokens are drawn in one run: the longest sets the width of all. */
const ALIKE = 64;

const MOST_THREADS = 4;

/** A row of a call. */
interface Asked {
  readonly index: number;
  readonly wanted: SampleRow;
  readonly row: RowLogits;
}

type Chosen<K extends Choice["kind"]> = Asked & { readonly choice: Extract<Choice, { kind: K }> };

/** Rows that are neighbours in memory: the buffer's own, or copies. */
interface Source {
  readonly tensor: Tensor;
  /** 1 where a token is allowed and 0 elsewhere, where masks forbid some. */
  readonly allowed: Float32Array | undefined;
}

export class Sampler {
  readonly #device: Device;
  /** Settles when the calls so far are done. */
  #before: Promise<void> = Promise.resolve();
  readonly #vocabSize: number;
  readonly #runs: DeviceRuns;
  readonly #threads: WorkerThread<ManyWork>[] = [];

  constructor(device: Device, vocabSize: number) {
    this.#device = device;
    this.#vocabSize = vocabSize;
    this.#runs = new DeviceRuns(device, vocabSize);
  }

  /**
   * Draws one token for each row from `logits` [N, V]; after the calls before it, whose scratch
   * memory it uses again.
   * @returns in the order of `rows`
   */
  sample(logits: Tensor, rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    const sampled = this.#before.then(() => this.#sample(logits, rows));
    this.#before = sampled.then(() => {}, () => {});
    return sampled;
  }

  async #sample(logits: Tensor, rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    if (rows.length === 0) return [];
    const { data } = logits;
    if (!(data instanceof Float32Array)) throw new TypeError("internal: logits are not float32");
    const bounds = await this.#bounds(logits, rows);
    const vocabSize = this.#vocabSize;
    const asked = rows.map((wanted, index) => {
      const { row, mask } = wanted;
      return { index, wanted, row: { data, start: row * vocabSize, vocabSize, bounds, mask } };
    });
    const logprobs = await this.#logprobs(logits, asked);
    const tokens = new Array<number>(rows.length);
    for (const turn of inTurns(asked)) {
      using _changes = applied(turn);
      await this.#draw(logits, turn, tokens);
    }
    return asked.map(({ row, index }) => {
      const token = tokens[index];
      const known = logprobs.get(index);
      if (known === undefined) return { token };
      const logprob = Math.fround(data[row.start + token] - known.norm);
      const { given } = rows[index];
      if (given === undefined) return { token, logprob, top: known.top };
      return { token, logprob, top: known.top, given: givenLogprobs(row, given, known.norm) };
    });
  }

  /** A token of each list. */
  drawAmong(lists: readonly (FewTokens & Pick<Draw, "uniform">)[]): Promise<number[]> {
    return this.#runs.drawFew(lists);
  }

  /** Drops what is bound to a logits buffer, before the buffer is released. */
  forget(logits: Tensor): void {
    this.#runs.forget(logits);
  }

  release(): void {
    this.#runs.release();
    for (const thread of this.#threads) thread[Symbol.dispose]();
  }

  #bounds(logits: Tensor, rows: readonly SampleRow[]): Promise<Float32Array> | Float32Array {
    const unneeded = rows.every((row) => isWhole(row) && row.logprobs === undefined);
    if (unneeded) return new Float32Array();
    return this.#runs.bounds(logits, 1 + Math.max(...rows.map(({ row }) => row)));
  }

  async #draw(logits: Tensor, asked: readonly Asked[], tokens: number[]): Promise<void> {
    const few: Chosen<"few">[] = [];
    const many: Chosen<"many">[] = [];
    const mass: Chosen<"mass">[] = [];
    const whole: Chosen<"whole">[] = [];
    const file = (one: Asked, choice: Choice) => {
      if (choice.kind === "token") tokens[one.index] = choice.token;
      else if (choice.kind === "few") few.push({ ...one, choice });
      else if (choice.kind === "many") many.push({ ...one, choice });
      else if (choice.kind === "mass") mass.push({ ...one, choice });
      else whole.push({ ...one, choice });
    };
    for (const one of asked) file(one, choose(one.row, one.wanted));
    for (const group of this.#groups(mass)) await this.#drawByMass(logits, group, file, tokens);
    for (const group of this.#groups(many)) await this.#drawMany(group, [], tokens);
    for (const group of this.#groups(whole)) await this.#drawWhole(logits, group, tokens);
    const short = few.filter(({ choice }) => choice.ids.length <= ALIKE);
    const long = few.filter(({ choice }) => choice.ids.length > ALIKE);
    for (const group of [...split(short, inRuns(1024)), ...split(long, inRuns(32))]) {
      await this.#drawFew(group, tokens);
    }
  }

  async #drawFew(rows: readonly Chosen<"few">[], tokens: number[]): Promise<void> {
    const drawn = await this.#runs.drawFew(
      rows.map(({ choice, wanted }) => ({ ...choice, uniform: wanted.uniform })),
    );
    rows.forEach(({ index }, i) => tokens[index] = drawn[i]);
  }

  async #drawWhole(
    logits: Tensor,
    group: readonly Chosen<"whole">[],
    tokens: number[],
  ): Promise<void> {
    using room = new DisposableStack();
    const { tensor, allowed } = await this.#source(room, logits, group);
    const drawn = await this.#runs.drawWhole(tensor, group.map(drawOf), allowed);
    group.forEach(({ index }, i) => tokens[index] = drawn[i]);
  }

  /** Computes rows' masses; `file` takes those that turn out to have few tokens. */
  async #drawByMass(
    logits: Tensor,
    group: readonly Chosen<"mass">[],
    file: (one: Asked, choice: Choice) => void,
    tokens: number[],
  ): Promise<void> {
    using room = new DisposableStack();
    const { tensor } = await this.#source(room, logits, group);
    const shares = await this.#shares(
      tensor,
      group.map(({ wanted, choice }) => ({ inverse: inverseOf(wanted), most: choice.most })),
    );
    const many: { one: Chosen<"many">; shares: Shares }[] = [];
    group.forEach((one, i) => {
      const choice = choose(one.row, one.wanted, shares[i]);
      if (choice.kind !== "many") file(one, choice);
      else many.push({ one: { ...one, choice }, shares: shares[i] });
    });
    await this.#drawMany(many.map(({ one }) => one), many.map(({ shares }) => shares), tokens);
  }

  async #drawMany(
    group: readonly Chosen<"many">[],
    shares: readonly Shares[],
    tokens: number[],
  ): Promise<void> {
    if (group.length === 0) return;
    const width = Math.ceil(this.#vocabSize / SUM_BLOCK) * SUM_BLOCK;
    const kept = this.#runs.room("kept", group.length * width);
    await Promise.all(group.map(({ wanted, row, choice }, i) => {
      const { temperature, topK, topP, minP } = wanted;
      return this.#thread(i).call("keep", {
        logits: logitsOf(row),
        mask: row.mask,
        wanted: {
          temperature,
          ...(topK !== undefined && { topK }),
          ...(topP !== undefined && { topP }),
          ...(minP !== undefined && { minP }),
        },
        most: choice.most,
        shares: shares[i],
        out: kept.subarray(i * width, (i + 1) * width),
      });
    }));
    using tensor = this.#device.tensor("float32", [group.length, width], kept);
    const drawn = await this.#runs.drawWhole(tensor, group.map(drawOf));
    group.forEach(({ index }, i) => tokens[index] = drawn[i]);
  }

  /** The log probabilities that are asked for, by index, of logits as the model gave them. */
  async #logprobs(logits: Tensor, asked: readonly Asked[]): Promise<Map<number, Logprobs>> {
    const found = new Map<number, Logprobs>();
    const wanting = asked.filter(({ wanted }) => wanted.logprobs !== undefined).map((one) => {
      const row = { ...one.row, mask: undefined };
      return { ...one, row, most: mostLikely(row)?.logit ?? 0 };
    });
    for (const group of this.#groups(wanting)) {
      using room = new DisposableStack();
      const { tensor } = await this.#source(room, logits, group);
      const shares = await this.#shares(tensor, group.map(({ most }) => ({ inverse: 1, most })));
      group.forEach(({ row, index, wanted, most }, i) =>
        found.set(index, logprobsOf(row, wanted.logprobs ?? 0, most, shares[i].total))
      );
    }
    return found;
  }

  async #shares(
    tensor: Tensor,
    rows: readonly { readonly inverse: number; readonly most: number }[],
  ): Promise<Shares[]> {
    const exps = this.#runs.room("numbers", rows.length * this.#vocabSize);
    const sums = await this.#runs.mass(tensor, rows, exps);
    return rows.map((_, i) => ({
      exps: exps.subarray(i * this.#vocabSize, (i + 1) * this.#vocabSize),
      total: sums[i],
    }));
  }

  /** Rows as runs take them: neighbours, or any rows where that makes far fewer runs. */
  #groups<T extends Asked>(rows: readonly T[]): readonly (readonly T[])[] {
    const most = Math.max(1, Math.floor(RUN_NUMBERS / this.#vocabSize));
    const neighbours = split(rows, (last, next, size) => size < most && areNeighbours(last, next));
    const any = split(rows, inRuns(most));
    return neighbours.length <= 2 * any.length ? neighbours : any;
  }

  /** The rows of a group, one after the other; copied where they are not, or a mask forbids some. */
  async #source(
    room: DisposableStack,
    logits: Tensor,
    group: readonly (Asked & { readonly choice?: { readonly most: number | undefined } })[],
  ): Promise<Source> {
    const size = this.#vocabSize;
    const shape = [group.length, size];
    if (group.every((next, i) => i === 0 ? !next.row.mask : areNeighbours(group[i - 1], next))) {
      const tensor = room.use(this.#device.view(logits, group[0].row.start, shape));
      return { tensor, allowed: undefined };
    }
    const copy = this.#runs.room("copy", group.length * size);
    const allowed = group.some(({ row }) => row.mask !== undefined)
      ? this.#runs.room("allowed", group.length * size)
      : undefined;
    await Promise.all(group.map(async ({ row, wanted, choice }, i) => {
      const { mask } = row;
      const own = (all: Float32Array) => all.subarray(i * size, (i + 1) * size);
      if (mask === undefined) {
        own(copy).set(logitsOf(row));
        allowed?.fill(1, i * size, (i + 1) * size);
        return;
      }
      await this.#thread(i).call("allow", {
        ...{ logits: logitsOf(row), mask, out: own(copy), allowed: allowed && own(allowed) },
        filler: farBelow(choice?.most ?? Infinity) / inverseOf(wanted),
      });
    }));
    return { tensor: room.use(this.#device.tensor("float32", shape, copy)), allowed };
  }

  /** One of as many threads as there are cores, but not more than a few. */
  #thread(i: number): WorkerThread<ManyWork> {
    const module = new URL("./sampler/many_worker.ts", import.meta.url);
    const at = i % Math.min(MOST_THREADS, navigator.hardwareConcurrency);
    return this.#threads[at] ??= new WorkerThread({ module, failure: "Cannot draw a token" });
  }
}

function drawOf({ wanted }: Asked): { readonly uniform: number; readonly inverse: number } {
  return { uniform: wanted.uniform, inverse: inverseOf(wanted) };
}

function logitsOf({ data, start, vocabSize }: RowLogits): Float32Array {
  return data.subarray(start, start + vocabSize);
}

function areNeighbours(last: Asked, next: Asked): boolean {
  const masked = last.row.mask !== undefined || next.row.mask !== undefined;
  return !masked && next.row.start === last.row.start + last.row.vocabSize;
}

function inRuns(most: number): (last: unknown, next: unknown, size: number) => boolean {
  return (_last, _next, size) => size < most;
}

/** Splits a list wherever one may not follow the last of `size`. */
function split<T>(
  list: readonly T[],
  follows: (last: T, next: T, size: number) => boolean,
): readonly (readonly T[])[] {
  const parts: T[][] = [];
  for (const next of list) {
    const part = parts.at(-1);
    const last = part?.at(-1);
    if (part !== undefined && last !== undefined && follows(last, next, part.length)) {
      part.push(next);
    } else parts.push([next]);
  }
  return parts;
}

/**
 * The policy: what the next run of a lane is, and who gives way to whom. Pure: it reads sequences and
 * numbers and returns plans; it runs, moves and frees nothing.
 *
 * A step is at most one prefill and one decode run over all rows. A prefill is a batch of first
 * prompts, the next chunk of one long prompt, or one row whose prefix is cached (a few of these in a
 * row, as they are short). While a long prompt goes through in chunks, batches of first prompts take
 * turns with it. Nobody is overtaken for want of memory.
 *
 * Between tenants the order is the queue's. It alone would let a flood of long answers hold every
 * slot, and its prompts fill every run, while another tenant's first token waits. So where demand is
 * unequal (`heavy`): a tenant below its share of slots takes one from the tenant that holds most;
 * heavy tenants keep to part of the slots and to short prefill runs, which no one else joins; and a
 * prompt of anybody else goes before a heavy one's chunks and before the next decode run.
 */
import type { Account } from "./accounts.ts";
import type { Lane } from "./lane.ts";
import { GRANULE_TOKENS, kvBytes } from "../executor/kv_cache.ts";
import type { Sequence } from "./sequence.ts";
import { Shares } from "./shares.ts";
import type { WaitingQueue } from "./waiting.ts";

/** A batch of first prompts computes at most 1/0.75 tokens for each wanted one. */
const LEAST_FILL = 0.75;
/** Waiting sequences looked at for one batch, in batches' sizes. */
const WINDOW = 4;
/** Tokens of a heavy tenant's prefill run: about as long as a decode run of many rows. */
const HEAVY_TOKENS = 64;
/** Part of a lane's slots that one heavy tenant may have. */
const HEAVY_SLOTS = 3 / 8;

export interface PrefillView {
  readonly lane: Lane;
  /** All lanes' waiting sequences. */
  readonly waiting: WaitingQueue;
  /** Rows of all lanes: each may need room to grow. */
  readonly admitted: readonly Sequence[];
  /** Bytes that may be reserved, cached prefixes counted as free. */
  readonly freeBytes: number;
  /** Tenants with heavy demand, where others are around. */
  readonly heavy: ReadonlySet<Account>;
  /** Tokens of a sequence that its cached prefix would save; 0 = none worth taking. */
  hit(sequence: Sequence): number;
}

interface Run {
  /** Most tokens of a row that the run computes. */
  readonly tokens: number;
}

interface Admission extends Run {
  /** Rows that give way first. */
  readonly victims: readonly Sequence[];
  /** Goes before the next decode run even where another prefill just ran. */
  readonly urgent: boolean;
}

export type PrefillPlan =
  | { readonly kind: "none" }
  /** A row in prefill computes its next chunk. */
  | { readonly kind: "chunk"; readonly sequence: Sequence } & Run
  /** Admitted alone: its cached prefix is loaded, or its prompt is longer than a chunk. */
  | { readonly kind: "single"; readonly sequence: Sequence } & Admission
  /** Admitted together, each computing all its tokens, padded to so many. */
  | { readonly kind: "batch"; readonly sequences: readonly Sequence[]; readonly padded: number }
    & Admission;

/** The next prefill run of a lane. */
export function planPrefill(view: PrefillView): PrefillPlan {
  const { lane, heavy } = view;
  const partials = lane.rows.filter((row) => row.state === "prefill");
  const partial = partials.find(({ account }) => !heavy.has(account)) ?? partials[0];
  if (partial === undefined) return new Draft(view, partials).plan();
  const chunk: PrefillPlan = { kind: "chunk", sequence: partial, tokens: tokensOf(view, partial) };
  if (!lane.continued && !heavy.has(partial.account)) return chunk;
  const plan = new Draft(view, partials).plan();
  if (plan.kind === "none") return chunk;
  return lane.continued || goesBefore(plan, partial) ? plan : chunk;
}

/** Whether an admission passes a heavy tenant's chunk, even at every step. */
function goesBefore(plan: PrefillPlan, partial: Sequence): boolean {
  if (plan.kind !== "batch" && plan.kind !== "single") return false;
  const first = plan.kind === "batch" ? plan.sequences[0] : plan.sequence;
  if (first === undefined || !plan.urgent) return false;
  const [own, other] = [first.account, partial.account];
  return own.standing.priority < other.standing.priority || own.served <= other.served;
}

function tokensOf({ lane, heavy }: PrefillView, { account }: Sequence): number {
  const { prefillTokens } = lane.model;
  return heavy.has(account) ? Math.min(HEAVY_TOKENS, prefillTokens) : prefillTokens;
}

/**
 * An admission in the making: the first in line, and those behind it that fit into its batch. Where
 * rows are in `partials` already, no second long prompt joins them, but one that goes before them.
 */
class Draft {
  readonly #view: PrefillView;
  readonly #partials: readonly Sequence[];
  /** Slots of this lane, rows of all lanes, and bytes of all lanes. */
  readonly #slots: Shares;
  readonly #rows: Shares;
  readonly #bytes: Shares;
  readonly #victims: Sequence[] = [];
  readonly #closed = new Set<Account>();
  readonly #batch: Sequence[] = [];
  #free: number;
  #freeSlots: number;
  #filled = 0;
  #longest = 0;

  constructor(view: PrefillView, partials: readonly Sequence[]) {
    this.#view = view;
    this.#partials = partials;
    this.#slots = new Shares(view.lane.rows, () => 1);
    this.#rows = new Shares(view.admitted, () => 1);
    this.#bytes = new Shares(view.admitted, (row) => row.reserved);
    this.#free = view.freeBytes - headroom(view.admitted);
    this.#freeSlots = view.lane.freeSlots;
  }

  plan(): PrefillPlan {
    const { lane, waiting } = this.#view;
    let left = WINDOW * lane.model.maxBatch;
    const turns = waiting.inTurn({
      share: (account) => this.#slots.share(account),
      closed: (account) => this.#closed.has(account),
    });
    for (const sequence of turns) {
      if (left-- === 0) break;
      if (sequence.lane !== lane) {
        if (sequence.lane.freeSlots === 0) continue;
        this.#free -= bytesOf(sequence);
        if (this.#free < 0) break;
        continue;
      }
      const verdict = this.#consider(sequence);
      if (verdict === "stop") break;
      if (verdict === "alone") return { kind: "single", sequence, ...this.#admission(sequence) };
    }
    const [first] = this.#batch;
    if (first === undefined) return { kind: "none" };
    const padded = this.#longest;
    return { kind: "batch", sequences: this.#batch, padded, ...this.#admission(first) };
  }

  #consider(sequence: Sequence): "joined" | "passed" | "alone" | "stop" {
    const { account } = sequence;
    if (!this.#mayHaveRow(account)) {
      this.#closed.add(account);
      return "passed";
    }
    const hit = this.#view.hit(sequence);
    const tokens = tokensOf(this.#view, sequence);
    const long = sequence.length - hit > tokens;
    const alone = hit > 0 || long;
    const fits = alone
      ? this.#batch.length === 0 && (!long || this.#mayBeLong(account))
      : this.#fills(sequence, tokens);
    if (!this.#takeMemory(sequence, fits)) return "stop";
    if (!fits) return "passed";
    this.#takeSlot(sequence);
    return alone ? "alone" : "joined";
  }

  /** Whether there is a slot for one more row of a tenant, free or from another one. */
  #mayHaveRow(account: Account): boolean {
    const { lane, heavy } = this.#view;
    const [first] = this.#batch;
    if (first !== undefined && heavy.has(first.account) !== heavy.has(account)) return false;
    const { concurrency = Infinity } = account.standing;
    if (this.#rows.held(account) >= concurrency) return false;
    const most = Math.max(1, Math.floor(HEAVY_SLOTS * lane.model.maxBatch));
    if (heavy.has(account) && this.#slots.held(account) >= most) return false;
    return this.#freeSlots > 0 || this.#slots.victimFor(account, 1) !== undefined;
  }

  /** Whether a prompt in chunks may begin. */
  #mayBeLong(account: Account): boolean {
    const { heavy } = this.#view;
    if (this.#partials.length === 0) return true;
    return !heavy.has(account) && this.#partials.every((row) => heavy.has(row.account));
  }

  #fills(sequence: Sequence, tokens: number): boolean {
    const padded = (this.#batch.length + 1) * Math.max(this.#longest, sequence.length);
    const fill = (this.#filled + sequence.length) / padded;
    return padded <= tokens && fill >= LEAST_FILL;
  }

  /**
   * Sets bytes for its row aside, other tenants' rows' where it is to run first; false where there
   * are too few, so that nobody may pass it.
   */
  #takeMemory(sequence: Sequence, runs: boolean): boolean {
    const wanted = runs ? this.#bytesInBatch(sequence) : bytesOf(sequence);
    while (this.#free < wanted && runs && this.#batch.length === 0) {
      const victim = this.#bytes.victimFor(sequence.account, wanted);
      if (victim === undefined) return false;
      this.#evict(victim);
    }
    this.#free -= wanted;
    return this.#free >= 0;
  }

  /** What the batch takes with it more than without it: padding is written behind each row's end. */
  #bytesInBatch(sequence: Sequence): number {
    const longest = Math.max(this.#longest, sequence.length);
    const grown = this.#batch.reduce(
      (sum, row) => sum + bytesOf(row, longest) - bytesOf(row, this.#longest),
      0,
    );
    return grown + bytesOf(sequence, longest);
  }

  #takeSlot(sequence: Sequence): void {
    const { account } = sequence;
    const victim = this.#freeSlots > 0 ? undefined : this.#slots.victimFor(account, 1);
    if (victim !== undefined) this.#evict(victim);
    this.#freeSlots--;
    this.#slots.add(account, 1);
    this.#rows.add(account, 1);
    this.#bytes.add(account, bytesOf(sequence));
    this.#batch.push(sequence);
    this.#filled += sequence.length;
    this.#longest = Math.max(this.#longest, sequence.length);
  }

  #evict(victim: Sequence): void {
    this.#victims.push(victim);
    this.#free += victim.reserved + growth(victim);
    if (victim.lane === this.#view.lane) this.#freeSlots++;
    for (const shares of [this.#slots, this.#rows, this.#bytes]) shares.remove(victim);
  }

  #admission(first: Sequence): Admission {
    const { heavy } = this.#view;
    const urgent = heavy.size > 0 && !heavy.has(first.account);
    return { victims: this.#victims, urgent, tokens: tokensOf(this.#view, first) };
  }
}

/** One granule for each admitted row, so that an admission does not at once cause a preemption. */
function headroom(admitted: readonly Sequence[]): number {
  return admitted.reduce((bytes, row) => bytes + growth(row), 0);
}

function growth(row: Sequence): number {
  return GRANULE_TOKENS * row.lane.model.kvBytesPerToken;
}

/** Bytes a sequence's row takes with all tokens it has, or padded to more. */
export function bytesOf(sequence: Sequence, padded = 0): number {
  return kvBytes(Math.max(sequence.length, padded), sequence.lane.model.kvBytesPerToken);
}

/**
 * Who gives way so that a lane's rows can each take one more token, whatever lane they are in: rows
 * of the lowest priority, of the tenant that holds most, the newest. Empty where memory suffices.
 * Some row always stays: alone it fits.
 */
export function planPreemption(
  lane: Lane,
  admitted: readonly Sequence[],
  freeBytes: number,
): readonly Sequence[] {
  let missing = -freeBytes;
  for (const row of lane.rows) missing += bytesOf(row) - row.reserved;
  if (missing <= 0) return [];
  const shares = new Shares(admitted, (row) => row.reserved);
  const victims: Sequence[] = [];
  for (let row = shares.victim(); row !== undefined && missing > 0; row = shares.victim()) {
    victims.push(row);
    shares.remove(row);
    missing -= row.lane === lane ? bytesOf(row) : row.reserved;
  }
  return victims;
}

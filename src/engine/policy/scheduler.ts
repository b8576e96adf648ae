/**
 * The scheduling policy, pure: from sequences and numbers it plans the next run of a lane and who
 * is preempted. `admit.ts` carries the plans out.
 *
 * A step is at most one prefill and one decode run over all rows. A prefill is a batch of first
 * prompts, the next chunk of one long prompt, or one row whose prefix is cached (up to four of
 * these one after the other, as they are short). While a long prompt is computed in chunks, batches
 * of first prompts alternate with its chunks. A sequence that memory holds up is never overtaken.
 *
 * Between tenants the order is the queue's. The order alone would let one tenant's flood of long
 * answers hold every slot and fill every prefill, while another tenant's first token waits. So
 * where some tenants are heavy (`Ledger.heavy`):
 * - a tenant below its share of slots takes one from the tenant that holds most;
 * - a heavy tenant has at most 3/8 of the slots, and prefill runs of at most 64 tokens of its own;
 * - prompts of the other tenants go before a heavy tenant's chunks and before the next decode run.
 *
 * Background requests (`GenerationRequest.background`) have whatever is free while no other row is
 * there. Beside one they are heavy, have an eighth of the slots (what is more gives way at once),
 * and compute a chunk of their prompts only after every eighth decode run.
 */
import { GRANULE_TOKENS, kvBytes } from "../../executor/kv_cache.ts";
import type { Lane, Sequence } from "../sequence.ts";
import type { Account } from "./accounts.ts";
import { Shares, type WaitingQueue } from "./queue.ts";

/** In a batch of first prompts, padded to the longest, at least this part is not padding. */
const LEAST_FILL = 0.75;
/** For one batch, up to so many times its maximum of rows are looked at in the queue. */
const WINDOW = 4;
/**
 * Most tokens of a heavy tenant's prefill run: it takes about as long as a decode run of many rows.
 */
const HEAVY_TOKENS = 64;
/** Most of a lane's slots that one heavy tenant may have. */
const HEAVY_SLOTS = 3 / 8;

/** Most of a lane's slots that all background rows have beside others. */
const BACKGROUND_SLOTS = 1 / 8;
/** Decode runs between two prefills of background rows beside others. */
export const BACKGROUND_EVERY = 8;

export interface PrefillView {
  readonly lane: Lane;
  /** The waiting sequences of all lanes. */
  readonly waiting: WaitingQueue;
  /** Rows of all lanes: each may need room to grow. */
  readonly admitted: readonly Sequence[];
  /** Bytes of keys and values that may be reserved; cached prefixes count as free. */
  readonly freeBytes: number;
  /** Tenants that are heavy. */
  readonly heavy: ReadonlySet<Account>;
  /** Whether background rows may have all that is free, a few rows, or must wait. */
  readonly background: "free" | "few" | "wait";
  /** Tokens that a sequence's cached prefix would save; 0 = none worth taking. */
  hit(sequence: Sequence): number;
}

interface Run {
  /** Most tokens that the run computes of each row. */
  readonly tokens: number;
}

interface Admission extends Run {
  /** Rows that are preempted first. */
  readonly victims: readonly Sequence[];
  /** It runs before the next decode run even where another prefill just ran. */
  readonly urgent: boolean;
}

export type PrefillPlan =
  | { readonly kind: "none" }
  /** A row in prefill computes its next chunk. */
  | { readonly kind: "chunk"; readonly sequence: Sequence } & Run
  /** Admitted alone, because its cached prefix is loaded or its prompt is longer than a chunk. */
  | { readonly kind: "single"; readonly sequence: Sequence } & Admission
  /** Admitted together and computed whole, each padded to `padded` tokens. */
  | { readonly kind: "batch"; readonly sequences: readonly Sequence[]; readonly padded: number }
    & Admission;

/** The next prefill run of a lane. */
export function planPrefill(view: PrefillView): PrefillPlan {
  const { lane, heavy, background } = view;
  const partials = lane.rows.filter((row) =>
    row.state === "prefill" && (background !== "wait" || !row.account.background)
  );
  const partial = partials.find(({ account }) => !heavy.has(account)) ?? partials[0];
  if (partial === undefined) return new Draft(view, partials).plan();
  const chunk: PrefillPlan = { kind: "chunk", sequence: partial, tokens: chunkOf(view, partial) };
  if (!lane.continued && !heavy.has(partial.account)) return chunk;
  const plan = new Draft(view, partials).plan();
  if (plan.kind === "none") return chunk;
  return lane.continued || goesBefore(plan, partial) ? plan : chunk;
}

/** Whether an admission goes before a heavy tenant's next chunk, if need be at every step. */
function goesBefore(plan: PrefillPlan, partial: Sequence): boolean {
  if (plan.kind !== "batch" && plan.kind !== "single") return false;
  const first = plan.kind === "batch" ? plan.sequences[0] : plan.sequence;
  if (first === undefined || !plan.urgent) return false;
  const [own, other] = [first.account, partial.account];
  return own.standing.priority < other.standing.priority || own.served <= other.served;
}

function tokensOf({ lane, heavy, background }: PrefillView, { account }: Sequence): number {
  const { prefillTokens } = lane.model;
  if (account.background && background !== "free") {
    return Math.min(lane.pace.tokens, prefillTokens);
  }
  return heavy.has(account) ? Math.min(HEAVY_TOKENS, prefillTokens) : prefillTokens;
}

/** Most tokens of a long prompt's chunk. */
function chunkOf(view: PrefillView, sequence: Sequence): number {
  const most = tokensOf(view, sequence);
  const wait = view.lane.rows.some(({ state }) => state === "running");
  return wait ? Math.min(view.lane.pace.tokens, most) : most;
}

/**
 * An admission in the making: the first in line, and those behind it that fit into its batch.
 * `partials` are the lane's rows in prefill: while there are some, another long prompt is admitted
 * only where it goes before them.
 */
class Draft {
  readonly #view: PrefillView;
  readonly #partials: readonly Sequence[];
  /** Each tenant's share of this lane's slots, of all lanes' rows, and of all lanes' bytes. */
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
    const order = waiting.inOrder({
      share: (account) => this.#slots.share(account),
      closed: (account) => this.#closed.has(account),
    });
    for (const sequence of order) {
      if (left-- === 0) break;
      if (sequence.lane !== lane) {
        if (sequence.lane.freeSlots === 0) continue;
        this.#free -= bytesOf(sequence);
        if (this.#free < 0) break;
        continue;
      }
      const verdict = this.#consider(sequence);
      if (verdict === "stop") break;
      if (verdict === "cached") return { kind: "single", sequence, ...this.#admission(sequence) };
      if (verdict === "long") {
        const tokens = chunkOf(this.#view, sequence);
        return { kind: "single", sequence, ...this.#admission(sequence), tokens };
      }
    }
    const [first] = this.#batch;
    if (first === undefined) return { kind: "none" };
    const padded = this.#longest;
    return { kind: "batch", sequences: this.#batch, padded, ...this.#admission(first) };
  }

  #consider(sequence: Sequence): "joined" | "passed" | "cached" | "long" | "stop" {
    const { account } = sequence;
    if (!this.#mayHaveRow(account)) {
      this.#closed.add(account);
      return "passed";
    }
    const hit = this.#view.hit(sequence);
    const tokens = tokensOf(this.#view, sequence);
    const long = sequence.length - hit > tokens || sequence.scores;
    const alone = hit > 0 || long;
    const fits = alone
      ? this.#batch.length === 0 && (!long || this.#mayBeLong(account))
      : this.#fills(sequence, tokens);
    if (!this.#takeMemory(sequence, fits)) return "stop";
    if (!fits) return "passed";
    this.#takeSlot(sequence);
    return long ? "long" : alone ? "cached" : "joined";
  }

  /** Whether a tenant may have one more row, in a free slot or in that of another tenant's row. */
  #mayHaveRow(account: Account): boolean {
    const { lane, heavy } = this.#view;
    const [first] = this.#batch;
    if (first !== undefined && heavy.has(first.account) !== heavy.has(account)) return false;
    if (account.background && !this.#mayBeBehind()) return false;
    const { foreground, standing: { concurrency = Infinity } } = account;
    const others = foreground === undefined ? 0 : this.#rows.held(foreground);
    if (this.#rows.held(account) + others >= concurrency) return false;
    const most = Math.max(1, Math.floor(HEAVY_SLOTS * lane.model.maxBatch));
    if (heavy.has(account) && this.#slots.held(account) >= most) return false;
    return this.#freeSlots > 0 || this.#slots.victimFor(account, 1) !== undefined;
  }

  /** Whether there may be one more background row. */
  #mayBeBehind(): boolean {
    const { background } = this.#view;
    return background === "free" || background === "few" && this.#behind().length < this.#fewest();
  }

  /** Background rows that stay, those that came last at the end. */
  #behind(): readonly Sequence[] {
    return [...this.#view.admitted, ...this.#batch]
      .filter((row) => row.account.background && !this.#victims.includes(row))
      .sort((a, b) => a.arrival - b.arrival);
  }

  /** How many background rows there are beside others. */
  #fewest(): number {
    return Math.max(1, Math.floor(BACKGROUND_SLOTS * this.#view.lane.model.maxBatch));
  }

  /** Whether a prompt that takes several chunks may begin. */
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
   * Sets bytes for a sequence's row aside. The first of a batch may take those of other tenants'
   * rows. False where too few are free; then nobody behind it may have them either.
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

  /**
   * Bytes that the batch takes more with a sequence than without: padding is written behind each
   * row.
   */
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
    if (!account.background) {
      this.#behind().slice(this.#fewest()).forEach((row) => this.#evict(row));
    }
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

/** Bytes for one granule of each admitted row, so that no admission causes a preemption at once. */
function headroom(admitted: readonly Sequence[]): number {
  return admitted.reduce((bytes, row) => bytes + growth(row), 0);
}

function growth(row: Sequence): number {
  return GRANULE_TOKENS * row.lane.model.kvBytesPerToken;
}

/** Bytes of a sequence's row with all its tokens, or padded to `padded` tokens. */
export function bytesOf(sequence: Sequence, padded = 0): number {
  return kvBytes(Math.max(sequence.length, padded), sequence.lane.model.kvBytesPerToken);
}

/**
 * The rows, in any lane, that are preempted so that each row of `lane` can take one more token:
 * those of the lowest priority, of the tenant that holds most, the newest. Empty where memory
 * suffices. One row always stays, because alone it fits.
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

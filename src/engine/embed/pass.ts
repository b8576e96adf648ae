/**
 * Which texts a pass takes: those of the tenants served least, within its tokens, rows and padding. It
 * takes them out of their lines and charges their tenants.
 */
import type { Account } from "../policy/accounts.ts";
import type { Embedding } from "./embedding.ts";

/** A text that waits: one of a request's. */
export interface Waiting {
  readonly embedding: Embedding;
  readonly index: number;
}

export interface PassLimits {
  readonly rows: number;
  /** A single text may have more. */
  readonly tokens: number;
  /** Rows times the longest text. */
  readonly cells: number;
}

export interface Pass {
  readonly texts: readonly Waiting[];
  /** The factor set of its lane. */
  readonly factors: string | undefined;
}

/** Empty where nothing waits. */
export function choosePass(
  waiting: Map<Account, Waiting[]>,
  limits: PassLimits,
): Pass {
  const texts: Waiting[] = [];
  const taken = new Map<Account, number>();
  let [factors, tokens, time]: [string | undefined, number, number] = [undefined, 0, 0];
  const fits = (text: Waiting, account: Account): boolean => {
    const own = factorsOf(text);
    const { concurrency = Infinity } = account.standing;
    if ((taken.get(account) ?? 0) >= concurrency) return false;
    if (texts.length === 0) return true;
    if (own !== undefined && factors !== undefined && own !== factors) return false;
    const length = lengthOf(text);
    return texts.length < limits.rows && tokens + length <= limits.tokens &&
      (texts.length + 1) * Math.max(time, length) <= limits.cells;
  };
  for (;;) {
    const account = next(waiting, fits);
    const text = account && waiting.get(account)?.shift();
    if (account === undefined || text === undefined) break;
    factors ??= factorsOf(text);
    const length = lengthOf(text);
    [tokens, time] = [tokens + length, Math.max(time, length)];
    account.chargePrompt(length);
    taken.set(account, (taken.get(account) ?? 0) + 1);
    texts.push(text);
  }
  for (const [account, queue] of waiting) if (queue.length === 0) waiting.delete(account);
  return { texts, factors };
}

/** Whose first text is next: by priority, then by what it has been served. */
function next(
  waiting: ReadonlyMap<Account, readonly Waiting[]>,
  fits: (text: Waiting, account: Account) => boolean,
): Account | undefined {
  let best: Account | undefined;
  for (const [account, [first]] of waiting) {
    if (first === undefined || !fits(first, account)) continue;
    if (best === undefined || isBefore(account, best)) best = account;
  }
  return best;
}

function isBefore(a: Account, b: Account): boolean {
  const [first, second] = [a.standing.priority, b.standing.priority];
  return first === second ? a.served < b.served : first < second;
}

function factorsOf({ embedding }: Waiting): string | undefined {
  return embedding.request.adapter?.factors;
}

function lengthOf({ embedding, index }: Waiting): number {
  return embedding.request.texts[index].ids.length;
}

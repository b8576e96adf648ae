/**
 * Who leaves a full queue for a newcomer. The queue is shared like everything else: the newest
 * request of the tenant that holds most of it gives way to a tenant that holds less. All that give
 * way are chosen before any leaves, so none leaves in vain.
 */
import type { Sequence } from "../sequence.ts";
import type { Account } from "./accounts.ts";

export interface Newcomer {
  readonly account: Account;
  /** Sequences that it adds. */
  readonly samples: number;
  /** Sequences that must leave for them. */
  readonly missing: number;
}

/**
 * The requests that leave, at least `missing` sequences together; undefined where those that may
 * leave are too few.
 * @param waiting each tenant's line
 */
export function chooseVictims(
  waiting: ReadonlyMap<Account, readonly Sequence[]>,
  { account, samples, missing }: Newcomer,
): readonly Victim[] | undefined {
  if (missing <= 0) return [];
  const own = ((waiting.get(account)?.length ?? 0) + samples) / account.standing.weight;
  const lines = [...waiting].flatMap(([other, line]) =>
    other === account ? [] : new Line(other, line)
  );
  const victims: Victim[] = [];
  let freed = 0;
  while (freed < missing) {
    const victim = longest(lines, own)?.takeNewest();
    if (victim === undefined) return undefined;
    victims.push(victim);
    freed += victim.samples;
  }
  return victims.filter(({ samples }) => {
    const spared = freed - samples >= missing;
    if (spared) freed -= samples;
    return !spared;
  });
}

/** A request that may give way. */
export interface Victim {
  /** One of its samples. */
  readonly sequence: Sequence;
  /** All of them: a request leaves whole. */
  readonly samples: number;
}

/** Another tenant's line, as it will be once the requests that give way have left. */
class Line {
  readonly #weight: number;
  /** Sequences of requests that have not begun, in order. */
  #movable: readonly Sequence[];
  #length: number;

  constructor(account: Account, line: readonly Sequence[]) {
    this.#weight = account.standing.weight;
    this.#movable = line.filter((sequence) => !hasBegun(sequence));
    this.#length = line.length;
  }

  /**
   * Its length divided by weight once its newest request has left; undefined where none can leave.
   */
  get left(): number | undefined {
    const newest = this.#movable.at(-1);
    return newest && (this.#length - newest.request.n) / this.#weight;
  }

  takeNewest(): Victim | undefined {
    const sequence = this.#movable.at(-1);
    if (sequence === undefined) return undefined;
    const kept = this.#movable.filter(({ request }) => request !== sequence.request);
    this.#length -= this.#movable.length - kept.length;
    this.#movable = kept;
    return { sequence, samples: sequence.request.n };
  }
}

/** The line that is left longest without its newest request, and no shorter than `own`. */
function longest(lines: readonly Line[], own: number): Line | undefined {
  let best: { readonly line: Line; readonly left: number } | undefined;
  for (const line of lines) {
    const { left = -1 } = line;
    if (left >= own && left > (best?.left ?? -1)) best = { line, left };
  }
  return best?.line;
}

/** Whether some sample of its request has been in a batch: the caller may have read from it. */
function hasBegun({ group }: Sequence): boolean {
  return group.sequences.some(({ admittedAt }) => admittedAt !== undefined);
}

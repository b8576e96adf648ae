/**
 * Whose rows share the next micro-batch: the job that was served least leads, and rows of all jobs
 * of like length fill up around its longest. A pure policy; it knows neither parameters nor results.
 */
import type { Work } from "./job.ts";
import type { WaitingRow } from "./job_run.ts";
import { microBatches } from "./micro_batches.ts";

/** A job as the policy sees it. */
export interface Candidate {
  readonly kind: Work["type"];
  /** Longest first. */
  readonly waiting: readonly WaitingRow[];
  /** Tokens of its rows that went out so far. */
  readonly served: number;
}

export interface Pick<C extends Candidate> {
  readonly candidate: C;
  /** At least one. */
  readonly rows: readonly WaitingRow[];
}

/** Rows for one micro-batch, all of them for steps or all of them for evaluations. */
export interface Turn<C extends Candidate> {
  readonly kind: "step" | "evaluation";
  readonly picks: readonly Pick<C>[];
}

/** Rows of one job that are looked at: enough to fill a micro-batch with rows of like length. */
const MOST_OFFERED = 512;

/**
 * Chooses from jobs in the order given, ties in `served` going to the first; undefined where no row
 * waits. A job alone gets the same micro-batches every time.
 *
 * @param maxTokens of rows × longest row; a longer row is alone
 */
export function chooseTurn<C extends Candidate>(
  candidates: readonly C[],
  maxTokens: number,
): Turn<C> | undefined {
  const ready = candidates.filter(({ waiting }) => waiting.length > 0);
  if (ready.length === 0) return undefined;
  const leader = ready.reduce((least, one) => one.served < least.served ? one : least);
  const { kind } = leader;
  if (kind === "none") throw new Error("internal: rows wait for no work");
  const offered = [leader, ...ready.filter((one) => one.kind === kind && one !== leader)]
    .flatMap((candidate) =>
      candidate.waiting.slice(0, MOST_OFFERED).map((row) => ({ candidate, row }))
    );
  const lengths = offered.map(({ row }) => row.example.tokens.length);
  // The leader's longest row is the first that is offered.
  const batch = microBatches(lengths, { budget: maxTokens }).find((rows) => rows.includes(0)) ?? [];
  const byCandidate = Map.groupBy(batch.map((i) => offered[i]), ({ candidate }) => candidate);
  return {
    kind,
    picks: [...byCandidate].map(([candidate, rows]) => ({
      candidate,
      rows: rows.map(({ row }) => row),
    })),
  };
}

/** What follows a run of the model: its tokens go out, and its time is taken. */
import type { Sampled } from "../executor/model.ts";
import { SAVED_BLOCKS, savePrefixes } from "./admit.ts";
import type { StepObservation } from "./metrics.ts";
import type { TokenLogprob } from "./request/request.ts";
import type { Lane, Sequence } from "./sequence.ts";
import type { EngineState } from "./state.ts";

/**
 * After each run (of several steps where they followed each other): measures the pace, saves a few
 * blocks, and tells the listener what was done.
 */
export function endRun(
  state: EngineState,
  lane: Lane,
  { steps = 1, first = 0, ...run }:
    & Omit<StepObservation, "seconds" | "steps" | "first">
    & Partial<Pick<StepObservation, "steps" | "first">>,
  started: number,
): void {
  const seconds = (performance.now() - started) / 1000;
  if (run.kind === "decode") lane.pace.decoded(seconds / steps);
  else if (run.kind === "prefill" && lane.continued) lane.pace.chunked(run.tokens, seconds);
  savePrefixes(state.memory, lane.rows, SAVED_BLOCKS);
  state.listener.step?.({ ...run, steps, first, seconds });
}

/** Hands the tokens out; returns the sequences that end with theirs. */
export function deliverAll(
  state: EngineState,
  sequences: readonly Sequence[],
  sampled: readonly Sampled[],
): Sequence[] {
  const ended: Sequence[] = [];
  for (const [i, sequence] of sequences.entries()) {
    const drawn = sampled[i];
    if (drawn === undefined) throw new Error(`internal: no token was drawn for ${sequence.label}`);
    if (!sequence.cancelled && deliver(state, sequence, drawn)) ended.push(sequence);
  }
  return ended;
}

/** Hands a drawn token to the sequence's caller. True where the sequence ends with it. */
export function deliver(state: EngineState, sequence: Sequence, sampled: Sampled): boolean {
  observeToken(state, sequence);
  const { logprobs } = sequence.request.sampling;
  const { text, ending } = sequence.push(sampled.token);
  sequence.group.stream.push({
    index: sequence.index,
    text,
    tokens: [sampled.token],
    logprobs: logprobs === undefined ? undefined : [logprobOf(sampled)],
    finishReason: ending?.reason,
    stopReason: ending?.stopReason,
  });
  return ending !== undefined;
}

function observeToken({ listener, counters }: EngineState, sequence: Sequence): void {
  const now = performance.now();
  const { lastTokenAt, cachedTokens = 0, group } = sequence;
  if (lastTokenAt === undefined) {
    sequence.firstTokenAt = now;
    listener.firstToken?.((now - group.arrivedAt) / 1000);
    group.stream.cached(cachedTokens);
    if (sequence.index === 0) counters.cachedTokens += cachedTokens;
  } else listener.interToken?.((now - lastTokenAt) / 1000);
  sequence.lastTokenAt = now;
  sequence.account.chargeOutput();
  counters.generationTokens++;
}

function logprobOf({ token, logprob = NaN, top = [], given }: Sampled): TokenLogprob {
  return { token, logprob, top: given ?? top };
}

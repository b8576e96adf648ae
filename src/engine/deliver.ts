/**
 * The way of a sequence's tokens to its caller, and its end: finished, cancelled or failed. An end
 * gives back what the sequence held. Trap: a sequence that has a row must leave it first
 * (`EngineState.vacate`).
 */
import type { Sampled } from "../executor/model.ts";
import type { FinishReason, TokenLogprob } from "./request/request.ts";
import type { Sequence } from "./sequence.ts";
import type { EngineState } from "./state.ts";

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

/** Ends a sequence whose last token was delivered. */
export function finish(state: EngineState, sequence: Sequence): void {
  retire(state, sequence, sequence.ending?.reason ?? "stop");
}

/** Ends a sequence that its caller no longer wants. */
export function abort(state: EngineState, sequence: Sequence): void {
  const { logprobs } = sequence.request.sampling;
  sequence.group.stream.push({
    index: sequence.index,
    text: sequence.flush(),
    tokens: [],
    logprobs: logprobs === undefined ? undefined : [],
    finishReason: "abort",
    stopReason: undefined,
  });
  retire(state, sequence, "abort");
}

/** Fails a sequence and with it its request: the other samples are cancelled. */
export function fail(state: EngineState, sequence: Sequence, error: unknown): void {
  if (sequence.state === "finished") return;
  if (sequence.state === "waiting" && state.queue.has(sequence)) state.queue.remove(sequence);
  const { stream, sequences } = sequence.group;
  stream.fail(error);
  retire(state, sequence, "error");
  for (const other of sequences) cancel(state, other);
}

/** Ends a sequence at once where it has no row, else at the next boundary between runs. */
export function cancel(state: EngineState, sequence: Sequence): void {
  if (sequence.state === "finished") return;
  sequence.cancelled = true;
  if (sequence.state === "prefill" || sequence.state === "running") return;
  if (sequence.state === "waiting") state.queue.remove(sequence);
  abort(state, sequence);
}

/** Starts the samples that wait for this one's prefix: it is computed, or will never be. */
export function startFollowers(sequence: Sequence): void {
  const start = sequence.startFollowers;
  sequence.startFollowers = undefined;
  start?.();
}

/** Gives back a sequence's core and grammar; harmless where it holds none. */
export function release(sequence: Sequence): void {
  sequence.lease?.release();
  sequence.lease = undefined;
  sequence.matcher?.dispose();
  sequence.matcher = undefined;
}

function retire(state: EngineState, sequence: Sequence, reason: FinishReason): void {
  const { stream, sequences } = sequence.group;
  sequence.enter("finished");
  release(sequence);
  observeEnd(state, sequence, reason);
  state.live.delete(sequence);
  startFollowers(sequence);
  if (sequences.every((each) => each.state === "finished")) stream.end();
  state.ended();
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

function observeEnd(state: EngineState, sequence: Sequence, reason: FinishReason): void {
  const now = performance.now();
  const { request, account, group: { arrivedAt } } = sequence;
  const sinceArrival = (at: number | undefined) =>
    at === undefined ? undefined : (at - arrivedAt) / 1000;
  account.live--;
  account.seenAt = now;
  state.counters.finished[reason]++;
  state.finishRate.record(now);
  state.listener.finished?.({
    requestId: request.id,
    index: sequence.index,
    tenant: request.tenant,
    adapter: request.adapter?.name,
    reason,
    promptTokens: request.prompt.length,
    cachedTokens: sequence.cachedTokens ?? 0,
    generationTokens: sequence.outputs,
    endToEnd: (now - arrivedAt) / 1000,
    queued: sinceArrival(sequence.admittedAt),
    firstToken: sinceArrival(sequence.firstTokenAt),
    lastToken: sinceArrival(sequence.lastTokenAt),
  });
}

function logprobOf({ token, logprob = NaN, top = [] }: Sampled): TokenLogprob {
  return { token, logprob, top };
}

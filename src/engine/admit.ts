/**
 * Who has a row, and how sequences end. `policy/scheduler.ts` plans, this carries it out: sequences
 * get a slot, their core, memory and a cached prefix; they leave because they ended, were cancelled,
 * failed, or are preempted, and an end gives back all that they held. Trap: rows come and go only
 * between runs of the model, because leaving moves other rows, and a sequence leaves its row
 * (`EngineState.vacate`) before it ends.
 */
import { BLOCK_TOKENS, type KvMemory, type PrefixCache, worthTaking } from "./kv_memory.ts";
import {
  BACKGROUND_EVERY,
  bytesOf,
  planPreemption,
  planPrefill,
  type PrefillPlan,
  type PrefillView,
} from "./policy/scheduler.ts";
import type { FinishReason } from "./request/request.ts";
import type { Lane, Sequence } from "./sequence.ts";
import type { EngineState } from "./state.ts";

type AdmissionPlan = Extract<PrefillPlan, { readonly kind: "single" | "batch" }>;

/** Blocks that go into the prefix cache at once: copying must not hold the next run up. */
export const SAVED_BLOCKS = 8;

/** What a lane's next prefill run is. */
export function nextPrefill(state: EngineState, lane: Lane): PrefillPlan {
  // true in most steps, which then plan nothing
  const idle = state.queue.size === 0 && lane.rows.every((row) => row.state === "running");
  if (idle) return { kind: "none" };
  return planPrefill({
    lane,
    waiting: state.queue,
    admitted: state.rows,
    freeBytes: state.memory.free,
    heavy: state.ledger.heavy(performance.now()),
    background: backgroundIn(state),
    hit: (sequence) => sequence.scores ? 0 : prefixHit(state.memory, sequence),
  });
}

function backgroundIn(state: EngineState): PrefillView["background"] {
  if (state.rows.every(({ account }) => account.background)) return "free";
  return state.decodedSince >= BACKGROUND_EVERY ? "few" : "wait";
}

/** The sequences of a plan, each with a row; one that could not be admitted has failed. */
export function admit(state: EngineState, lane: Lane, plan: PrefillPlan): readonly Sequence[] {
  if (plan.kind === "none") return [];
  if (plan.kind === "chunk") return [plan.sequence];
  for (const victim of plan.victims) preempt(state, victim);
  const sequences = plan.kind === "batch" ? plan.sequences : [plan.sequence];
  return sequences.filter((sequence) => giveRow(state, lane, sequence, plan));
}

/** False where the sequence failed. */
function giveRow(
  state: EngineState,
  lane: Lane,
  sequence: Sequence,
  plan: AdmissionPlan,
): boolean {
  const { memory } = state;
  state.queue.remove(sequence);
  sequence.enter("prefill");
  sequence.admittedAt ??= performance.now();
  if (plan.kind === "single") touchPrefix(memory, sequence);
  state.reserve(sequence, bytesOf(sequence, plan.kind === "batch" ? plan.padded : 0));
  try {
    const slot = lane.admit(sequence);
    if (plan.kind === "single" && !sequence.scores) loadPrefix(memory, sequence, slot);
    countPrefix(state, sequence);
    return true;
  } catch (error) {
    failRows(state, lane, [sequence], error);
    return false;
  }
}

function countPrefix({ counters }: EngineState, sequence: Sequence): void {
  counters.prefixQueriedTokens += sequence.length;
  counters.prefixHitTokens += sequence.computed;
  if (sequence.cachedTokens !== undefined) return;
  const { prompt } = sequence.request;
  sequence.cachedTokens = Math.min(sequence.computed, prompt.length);
  sequence.account.chargePrompt(prompt.length - sequence.cachedTokens);
}

/** Gives every running row of a lane room for one more token, by preemption where there is none. */
export function makeRoomToDecode(state: EngineState, lane: Lane): void {
  for (const victim of planPreemption(lane, state.rows, state.memory.free)) preempt(state, victim);
  for (const row of lane.rows) {
    if (row.state === "running") state.reserve(row, bytesOf(row));
  }
}

function preempt(state: EngineState, sequence: Sequence): void {
  savePrefixes(state.memory, [sequence], SAVED_BLOCKS);
  state.vacate(sequence.lane, [sequence]);
  if (sequence.cancelled) return abort(state, sequence);
  sequence.enter("waiting");
  sequence.preemptions++;
  sequence.computed = 0;
  sequence.chain.savedBlocks = 0;
  state.queue.add(sequence);
  state.counters.preemptions++;
}

/** Takes out the rows whose last token was delivered. */
export function removeEnded(state: EngineState, lane: Lane, rows: readonly Sequence[]): void {
  leave(state, lane, rows);
  for (const sequence of rows) retire(state, sequence, sequence.ending?.reason ?? "stop");
}

/** Takes out the rows that were cancelled or whose grammar broke. True where there were any. */
export function removeLost(state: EngineState, lane: Lane): boolean {
  const cancelled = lane.rows.filter((row) => row.cancelled);
  leave(state, lane, cancelled);
  for (const sequence of cancelled) abort(state, sequence);
  const broken = lane.rows.filter((row) => row.matcher?.error !== undefined);
  for (const sequence of broken) failRows(state, lane, [sequence], sequence.matcher?.error);
  return cancelled.length + broken.length > 0;
}

/** Takes out rows that an error ends; those among them that never got a slot, too. */
export function failRows(
  state: EngineState,
  lane: Lane,
  sequences: readonly Sequence[],
  error: unknown,
): void {
  state.vacate(lane, sequences.filter((sequence) => lane.rows.includes(sequence)));
  for (const sequence of sequences) {
    state.reserve(sequence, 0);
    fail(state, sequence, error);
  }
}

function leave(state: EngineState, lane: Lane, rows: readonly Sequence[]): void {
  if (rows.length === 0) return;
  savePrefixes(state.memory, rows, SAVED_BLOCKS);
  state.vacate(lane, rows);
}

// ---- ends ----

/** Ends a sequence that its caller no longer wants. */
function abort(state: EngineState, sequence: Sequence): void {
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
    preemptions: sequence.preemptions,
    maxTokens: request.sampling.maxTokens,
    samples: request.n,
    endToEnd: (now - arrivedAt) / 1000,
    queued: sinceArrival(sequence.admittedAt),
    firstToken: sinceArrival(sequence.firstTokenAt),
    lastToken: sinceArrival(sequence.lastTokenAt),
  });
}

// ---- between rows and the prefix cache ----

/** Tokens of a sequence's cached prefix; 0 where none is worth taking. */
function prefixHit({ cache }: KvMemory, sequence: Sequence): number {
  if (cache.size === 0) return 0;
  return sequence.chain.hit(cache.generation, sequence.length, () => {
    const hit = BLOCK_TOKENS * presentBlocks(cache, sequence);
    return worthTaking(hit, sequence.length) ? hit : 0;
  });
}

/** Marks a sequence's cached blocks as used, so that others go when room for its row is made. */
function touchPrefix({ cache }: KvMemory, sequence: Sequence): void {
  const tokens = sequence.tokens(0, sequence.length);
  cache.touch(sequence.chain, tokens, presentBlocks(cache, sequence));
}

/** Copies the cached prefix, as much of it as is left, into the sequence's row. */
function loadPrefix({ cache }: KvMemory, sequence: Sequence, slot: number): void {
  const blocks = presentBlocks(cache, sequence);
  const tokens = sequence.tokens(0, sequence.length);
  for (let index = 0; index < blocks; index++) {
    const block = cache.block(sequence.chain, tokens, index);
    sequence.lane.model.load(slot, index * BLOCK_TOKENS, block);
  }
  sequence.computed = blocks * BLOCK_TOKENS;
  sequence.chain.savedBlocks = blocks;
}

/** Saves at most `most` computed blocks of these rows that are not in the cache. */
export function savePrefixes(
  memory: KvMemory,
  sequences: readonly Sequence[],
  most: number,
): void {
  if (memory.cacheLimit === 0) return;
  let left = most;
  for (const sequence of sequences) {
    if (left <= 0) return;
    left -= saveRow(memory, sequence, left);
  }
}

/** Blocks saved, as far as memory and `most` allow. */
function saveRow(memory: KvMemory, sequence: Sequence, most: number): number {
  const { cache } = memory;
  const { slot, lane, chain } = sequence;
  const end = Math.floor(sequence.computed / BLOCK_TOKENS);
  if (slot === undefined || chain.savedBlocks >= end) return 0;
  const tokens = sequence.tokens(0, sequence.length);
  let saved = 0;
  for (let index = chain.savedBlocks; index < end && saved < most; index++) {
    if (!cache.has(chain.key(index, tokens))) {
      if (index > 0 && !cache.has(chain.parent(index, tokens))) return saved;
      if (!memory.admitBlock(BLOCK_TOKENS * lane.model.kvBytesPerToken)) return saved;
      const start = index * BLOCK_TOKENS;
      const block = lane.model.save(slot, start, start + BLOCK_TOKENS);
      cache.insert(chain, tokens, index, block);
      saved++;
    }
    chain.savedBlocks = index + 1;
  }
  return saved;
}

function presentBlocks(cache: PrefixCache, sequence: Sequence): number {
  const tokens = sequence.tokens(0, sequence.length);
  return cache.present(sequence.chain, tokens, sequence.usableBlocks);
}

/**
 * Who has a row: carries out what `policy/scheduler.ts` plans. Sequences get a slot, their core,
 * memory and a cached prefix; rows leave because they ended, were cancelled, failed or are
 * preempted. Trap: only between runs of the model, because leaving moves other rows.
 */
import { abort, fail, finish } from "./deliver.ts";
import { BLOCK_TOKENS, type KvMemory, type PrefixCache, worthTaking } from "./kv_memory.ts";
import { bytesOf, planPreemption, planPrefill, type PrefillPlan } from "./policy/scheduler.ts";
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
    hit: (sequence) => prefixHit(state.memory, sequence),
  });
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
    if (plan.kind === "single") loadPrefix(memory, sequence, slot);
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
  sequence.computed = 0;
  sequence.chain.savedBlocks = 0;
  state.queue.add(sequence);
  state.counters.preemptions++;
}

/** Takes out the rows whose last token was delivered. */
export function removeEnded(state: EngineState, lane: Lane, rows: readonly Sequence[]): void {
  leave(state, lane, rows);
  for (const sequence of rows) finish(state, sequence);
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

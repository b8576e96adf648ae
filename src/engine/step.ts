/**
 * One step of a lane: schedule, run the model, hand the tokens out. At most one prefill run (or a
 * few short ones), jumps (`jump.ts`) and one decode run over all rows. The device is held for a run
 * and its sampling, no longer, so that training may run in between.
 */
import type { PrefillRow, SampleRow } from "../executor/model.ts";
import type { TokenMatcher } from "../grammar/matcher.ts";
import { fulfilledWithin, nextTurn } from "../util/time.ts";
import {
  admit,
  failRows,
  makeRoomToDecode,
  nextPrefill,
  removeEnded,
  removeLost,
  savePrefixes,
  startFollowers,
} from "./admit.ts";
import { drawAhead, stepsAhead } from "./ahead.ts";
import { deliverAll, endRun } from "./deliver.ts";
import { jumpForward } from "./jump.ts";
import type { PrefillPlan } from "./policy/scheduler.ts";
import type { Lane, Sequence } from "./sequence.ts";
import { ENGINE_PRIORITY, type EngineState } from "./state.ts";

/** Prefill runs of one step: more than one only for rows with a cached prefix, which are short. */
const PREFILL_RUNS = 4;
/** How long a step waits for late masks while it has other rows to draw for. */
const GRACE_MILLISECONDS = 3;
/** How long it waits while it has none. */
const ALONE_MILLISECONDS = 50;

/** Runs one step. False where nothing could be done. */
export async function step(state: EngineState, lane: Lane): Promise<boolean> {
  const removed = removeLost(state, lane);
  const prefilled = await prefills(state, lane);
  removeLost(state, lane);
  const jumped = await jumpForward(state, lane);
  removeLost(state, lane);
  const decoded = await decode(state, lane);
  return removed || prefilled || jumped || decoded;
}

// ---- prefill ----

/** Runs one prefill; after one with a cached prefix (short), or before an urgent one, another. */
async function prefills(state: EngineState, lane: Lane): Promise<boolean> {
  let tokens = 0;
  let again = true;
  for (let run = 0; run < PREFILL_RUNS && tokens < lane.model.prefillTokens; run++) {
    const plan = nextPrefill(state, lane);
    if (plan.kind === "none") return run > 0;
    if (!again && !isUrgent(plan)) return true;
    lane.continued = plan.kind === "chunk";
    const sequences = admit(state, lane, plan);
    if (sequences.length > 0) tokens += await prefill(state, lane, sequences, plan.tokens);
    again = plan.kind === "single" && plan.sequence.state !== "prefill";
    // first tokens go out, and arrivals come in, before the next run
    await nextTurn();
  }
  return true;
}

/**
 * Runs each sequence's next chunk of at most `most` tokens; returns the number of tokens computed.
 */
async function prefill(
  state: EngineState,
  lane: Lane,
  sequences: readonly Sequence[],
  most: number,
): Promise<number> {
  const rows = sequences.map((sequence) => chunkOf(sequence, most));
  const tokens = rows.reduce((sum, row) => sum + row.tokens.length, 0);
  let started = performance.now();
  let first = 0;
  try {
    using _turn = await state.deviceLock.take(ENGINE_PRIORITY);
    started = performance.now();
    if (sequences[0]?.scores) await score(lane, sequences[0], rows[0]);
    else await lane.model.prefill(rows);
    const complete: number[] = [];
    for (const [i, sequence] of sequences.entries()) {
      sequence.computed += rows[i]?.tokens.length ?? 0;
      if (rows[i]?.last) complete.push(i);
    }
    for (const i of complete) completePrompt(state, sequences[i]);
    const ended = endWithoutOutput(complete.flatMap((i) => sequences[i] ?? []));
    const going = complete.filter((i) => !ended.includes(sequences[i]));
    first = await sample(state, lane, sequences, going);
    removeEnded(state, lane, ended);
  } catch (error) {
    failRows(state, lane, sequences, error);
  }
  state.counters.prefillRuns++;
  if (sequences[0]?.account.background) state.decodedSince = 0;
  endRun(state, lane, { kind: "prefill", rows: sequences.length, tokens, first }, started);
  return tokens;
}

/** The next chunk of at most so many tokens; chunks of one prompt are about equally long. */
function chunkOf(sequence: Sequence, planned: number): PrefillRow {
  const past = sequence.computed;
  const { model } = sequence.lane;
  const scored = sequence.scores ? model.scoredTokens : Infinity;
  const most = Math.min(planned, model.chunkTokens(past), scored);
  const chunks = Math.ceil(sequence.uncomputed / most);
  const end = past + Math.ceil(sequence.uncomputed / chunks);
  if (sequence.slot === undefined) throw new Error(`internal: ${sequence.label} has no slot`);
  const tokens = sequence.tokens(past, end);
  return { slot: sequence.slot, tokens, past, last: end === sequence.length };
}

/** Computes a chunk of a prompt whose tokens are scored, and what its next token is drawn from. */
async function score(lane: Lane, sequence: Sequence, row: PrefillRow | undefined): Promise<void> {
  const { request: { prompt, promptLogprobs: top = 0 }, promptLogprobs } = sequence;
  if (row === undefined) throw new Error(`internal: ${sequence.label} has no chunk`);
  const { slot, tokens, past, last } = row;
  const next = prompt.slice(past + 1, past + tokens.length + 1);
  const scored = await lane.model.score(row, next, top);
  scored.forEach(({ top = [], given: [{ token, logprob, rank }] = [] }, i) => {
    promptLogprobs[past + i] = { token, logprob, rank, top };
  });
  if (!last) return;
  const end = past + tokens.length - 1;
  const again = tokens instanceof Int32Array ? tokens.subarray(-1) : [tokens[tokens.length - 1]];
  await lane.model.prefill([{ slot, tokens: again, past: end, last }]);
}

/** Ends the sequences that are to have no output, with their prompts alone; returns them. */
function endWithoutOutput(sequences: readonly Sequence[]): Sequence[] {
  const ended = sequences.filter(({ group, length }) => length >= group.maxLength);
  for (const sequence of ended) {
    sequence.ending = { reason: "length" };
    sequence.group.stream.push({
      index: sequence.index,
      text: "",
      tokens: [],
      logprobs: undefined,
      finishReason: "length",
      stopReason: undefined,
    });
  }
  return ended;
}

function completePrompt(state: EngineState, sequence: Sequence | undefined): void {
  if (sequence === undefined) return;
  sequence.enter("running");
  const { request, promptLogprobs, group } = sequence;
  if (request.promptLogprobs !== undefined && sequence.index === 0) {
    group.stream.scored(promptLogprobs);
  }
  // whole, for the other samples of the request
  if (sequence.startFollowers !== undefined) savePrefixes(state.memory, [sequence], Infinity);
  startFollowers(sequence);
}

function isUrgent(plan: PrefillPlan): boolean {
  return (plan.kind === "batch" || plan.kind === "single") && plan.urgent;
}

// ---- decode ----

async function decode(state: EngineState, lane: Lane): Promise<boolean> {
  makeRoomToDecode(state, lane);
  const { tokens, lengths } = lane.decodeInput();
  if (tokens.length === 0) return false;
  const rows = lane.rows.slice(0, tokens.length);
  const running: number[] = [];
  for (const [slot, row] of rows.entries()) if (row.state === "running") running.push(slot);
  const ahead = stepsAhead(state, lane);
  let [started, steps] = [performance.now(), 1];
  try {
    using _turn = await state.deviceLock.take(ENGINE_PRIORITY);
    started = performance.now();
    if (ahead > 1) steps = await drawAhead(state, lane, ahead);
    else {
      await lane.model.decode(tokens, lengths);
      for (const row of rows) if (row.state === "running") row.computed++;
      await sample(state, lane, rows, running);
    }
  } catch (error) {
    failRows(state, lane, running.flatMap((slot) => rows[slot] ?? []), error);
  }
  state.counters.decodeRuns += steps;
  state.decodedSince += steps;
  const count = running.length;
  endRun(state, lane, { kind: "decode", rows: count, tokens: count * steps, steps }, started);
  return true;
}

// ---- sampling ----

/**
 * Draws for the rows of the last run whose numbers are in `indices`; row i is that of
 * `sequences[i]`. Masks are made while the model runs. A row whose mask is late all the same is
 * left one token behind, so that the next decode computes that token again and nobody waits for it.
 */
async function sample(
  state: EngineState,
  lane: Lane,
  sequences: readonly Sequence[],
  indices: readonly number[],
): Promise<number> {
  const drawn: Sequence[] = [];
  const rows: SampleRow[] = [];
  await masksMade(indices.flatMap((index) => sequences[index]?.matcher ?? []), indices.length);
  for (const index of indices) {
    const sequence = sequences[index];
    if (sequence === undefined) continue;
    if (sequence.matcher?.ready === false) sequence.computed--;
    else {
      drawn.push(sequence);
      rows.push(sequence.sampling.row(index, sequence.matcher?.mask));
    }
  }
  if (rows.length === 0) return 0;
  const sampled = await lane.model.sample(rows);
  removeEnded(state, lane, deliverAll(state, drawn, sampled));
  return rows.length;
}

/** Waits for masks that are not made yet, longer where no other row can be drawn for. */
async function masksMade(matchers: readonly TokenMatcher[], rows: number): Promise<void> {
  const late = matchers.filter((matcher) => !matcher.ready);
  if (late.length === 0) return;
  const all = Promise.all(late.map((matcher) => matcher.settled()));
  await fulfilledWithin(late.length === rows ? ALONE_MILLISECONDS : GRACE_MILLISECONDS, all);
}

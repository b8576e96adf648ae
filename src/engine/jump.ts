/**
 * Jump-forward decoding: where a row's grammar forces text, the tokens that most likely spell it
 * are computed in one run, and each is then drawn as a step would draw it, from the logits of the
 * one before and under the mask of its place, until one is drawn that was not foreseen
 * (speculative decoding with the grammar as its draft model; arXiv 2211.17192). So tokens, their
 * log probabilities and their number are those of steps, up to how the device rounds: a run of
 * several tokens may add numbers up in another order than a step does.
 */
import { tokensWithin } from "../executor/kv_cache.ts";
import { failRows, removeEnded } from "./admit.ts";
import { deliver, endRun } from "./deliver.ts";
import { bytesOf } from "./policy/scheduler.ts";
import type { Lane, Sequence } from "./sequence.ts";
import { ENGINE_PRIORITY, type EngineState } from "./state.ts";
import { fulfilledWithin } from "../util/time.ts";

/** How long a jump's row waits for its mask, which also tells what is foreseen. */
const WAIT_MILLISECONDS = 2;

/**
 * Runs the jumps that are worth a run of their own: a row that jumps over fewer tokens than rows
 * are running would have had them sooner in the steps that these need anyway. True where there were
 * any.
 */
export async function jumpForward(state: EngineState, lane: Lane): Promise<boolean> {
  const running = lane.rows.filter((row) => row.state === "running");
  const most = Math.max(0, ...running.map(({ matcher }) => matcher?.foresight ?? 0));
  if (most < running.length) return false;
  const late = running.flatMap(({ matcher }) => matcher?.ready === false ? matcher.settled() : []);
  if (late.length > 0) await fulfilledWithin(WAIT_MILLISECONDS, Promise.all(late));
  let jumped = false;
  for (const sequence of running) {
    const tokens = foreseenBy(state, sequence);
    if (tokens.length === 0 || tokens.length < running.length) continue;
    await jump(state, sequence, tokens);
    jumped = true;
  }
  return jumped;
}

/** What a row's grammar foresees, as far as there is room for it. */
function foreseenBy({ memory }: EngineState, sequence: Sequence): readonly number[] {
  const { matcher, lane: { model }, group, length, computed, cancelled, state } = sequence;
  if (matcher?.ready !== true || cancelled || state !== "running") return [];
  if (matcher.foreseen.length === 0) sequence.strays = false;
  if (sequence.strays || computed !== length - 1) return [];
  const free = tokensWithin(memory.free + sequence.reserved, model.kvBytesPerToken) - length;
  const chunk = Math.min(model.draftTokens, model.chunkTokens(computed)) - 1;
  const most = Math.max(0, Math.min(chunk, free, group.maxLength - length - 1));
  return matcher.foreseen.slice(0, most).map(({ token }) => token);
}

async function jump(
  state: EngineState,
  sequence: Sequence,
  tokens: readonly number[],
): Promise<void> {
  const { lane, slot, computed: past, lastToken } = sequence;
  if (slot === undefined) throw new Error(`internal: ${sequence.label} has no slot`);
  let started = performance.now();
  try {
    using _turn = await state.deviceLock.take(ENGINE_PRIORITY);
    started = performance.now();
    state.reserve(sequence, bytesOf(sequence, sequence.length + tokens.length));
    await lane.model.draft({ slot, tokens: [lastToken, ...tokens], past, last: true });
    const ended = await drawAll(state, sequence, tokens);
    sequence.strays = sequence.computed === past + 1;
    state.counters.jumpedTokens += sequence.computed - past - 1;
    if (ended) removeEnded(state, lane, [sequence]);
  } catch (error) {
    failRows(state, lane, [sequence], error);
  }
  state.counters.jumpRuns++;
  state.counters.foreseenTokens += tokens.length;
  endRun(state, lane, { kind: "jump", rows: 1, tokens: sequence.computed - past }, started);
}

/**
 * Draws up to the first token that was not foreseen, and that one. True where the sequence ends with
 * it.
 */
async function drawAll(
  state: EngineState,
  sequence: Sequence,
  tokens: readonly number[],
): Promise<boolean> {
  const { model } = sequence.lane;
  for (let row = 0; row <= tokens.length && !sequence.cancelled; row++) {
    const wanted = sequence.sampling.row(row, sequence.matcher?.mask);
    const [sampled] = await model.sampleDraft([wanted]);
    if (sampled === undefined) throw new Error(`internal: nothing drawn for ${sequence.label}`);
    sequence.computed++;
    if (deliver(state, sequence, sampled)) return true;
    if (sampled.token !== tokens[row]) return false;
  }
  return false;
}

/**
 * Decode steps that a device does one after the other while the host waits: where each row's draw
 * needs its logits and a uniform number, nothing else. What a row draws behind its end is dropped.
 */
import { removeEnded } from "./admit.ts";
import { deliverAll } from "./deliver.ts";
import { bytesOf } from "./policy/scheduler.ts";
import type { Lane, Sequence } from "./sequence.ts";
import type { EngineState } from "./state.ts";

/** Default of `aheadSeconds`. */
const AHEAD_SECONDS = 0.05;

/** How many steps the lane's rows may go ahead, with memory for them; 1 where one by one. */
export function stepsAhead(state: EngineState, lane: Lane): number {
  const { rows, model: { ahead } } = lane;
  if (ahead === undefined || (state.queue.size > 0 && lane.freeSlots > 0)) return 1;
  const isFree = ({ state, matcher, sampling }: Sequence) =>
    state === "running" && matcher === undefined && !sampling.looksBack;
  if (!rows.every(isFree)) return 1;
  const most = ahead.most(rows.map(({ sampling }, slot) => sampling.row(slot, undefined)));
  const left = Math.min(...rows.map(({ group, length }) => group.maxLength - length));
  const { aheadSeconds = AHEAD_SECONDS } = state.options;
  const steps = Math.min(most, left, lane.pace.stepsWithin(aheadSeconds));
  return steps > 1 && reserved(state, rows, steps) ? steps : 1;
}

/** Takes memory for so many steps, where there is enough without anybody's losing some. */
function reserved(state: EngineState, rows: readonly Sequence[], steps: number): boolean {
  const bytes = rows.map((row) => bytesOf(row, row.length + steps - 1));
  const more = rows.reduce((sum, row, i) => sum + bytes[i] - row.reserved, 0);
  if (more > state.memory.free) return false;
  rows.forEach((row, i) => state.reserve(row, bytes[i]));
  return true;
}

/** Runs the steps, and hands their tokens out. @returns how many were run */
export async function drawAhead(state: EngineState, lane: Lane, steps: number): Promise<number> {
  const rows = [...lane.rows];
  const { ahead } = lane.model;
  if (ahead === undefined) throw new Error("internal: a lane whose model does not go ahead");
  const { tokens, lengths } = lane.decodeInput();
  const draws = rows.map(({ sampling }, slot) => sampling.row(slot, undefined));
  const uniforms = Array.from(
    { length: steps },
    (_, later) => rows.map(({ sampling }) => sampling.uniform(later)),
  );
  const drawn = await ahead.run(tokens, lengths, draws, uniforms);
  const ended: Sequence[] = [];
  for (const step of drawn) {
    const going = rows.map((row, slot) => ({ row, token: step[slot] }))
      .filter(({ row }) => row.ending === undefined);
    for (const { row } of going) row.computed++;
    const sampled = going.map(({ token }) => ({ token }));
    ended.push(...deliverAll(state, going.map(({ row }) => row), sampled));
  }
  removeEnded(state, lane, ended);
  return drawn.length;
}

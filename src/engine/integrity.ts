/** The engine's invariants: slots, lengths, pages, views, lanes, queue, leases and prefix cache. */
import { compareInLine } from "./policy/queue.ts";
import type { Lane, Sequence } from "./sequence.ts";
import type { EngineState } from "./state.ts";

/** @throws {Error} `internal: …` naming the first broken invariant. */
export function checkIntegrity(state: EngineState): void {
  state.lanes.checkIntegrity();
  state.options.adapters?.checkIntegrity?.();
  for (const lane of state.lanes.open) checkLane(lane);
  for (const { model } of state.lanes.open) model.checkIntegrity();
  checkMemory(state);
  checkQueue(state);
  checkLive(state);
  state.memory.cache.checkIntegrity();
}

function checkLane(lane: Lane): void {
  const { maxBatch } = lane.model;
  ensure(lane.rows.length <= maxBatch, `${lane.rows.length} rows in ${maxBatch} slots`);
  for (const [slot, row] of lane.rows.entries()) {
    const who = `${row.label} in slot ${slot}`;
    ensure(row.slot === slot, `${who} believes to be in slot ${row.slot}`);
    ensure(row.lane === lane, `${who} belongs to another lane`);
    ensure(row.state === "prefill" || row.state === "running", `${who} is ${row.state}`);
    ensure(row.reserved > 0, `${who} has no memory reserved`);
    ensure(
      row.reserved >= row.computed * lane.model.kvBytesPerToken,
      `${who} holds ${row.computed} tokens in ${row.reserved} bytes`,
    );
    const resident = lane.model.residentBytes(slot);
    ensure(
      resident >= row.computed * lane.model.kvBytesPerToken,
      `${who} holds ${row.computed} tokens, of which ${resident} bytes are in memory`,
    );
    checkProgress(row, who);
  }
}

function checkProgress(row: Sequence, who: string): void {
  const { computed, length, state } = row;
  const fits = state === "running"
    ? computed === length - 1 || computed === length
    : computed < length;
  ensure(fits, `${who} is ${state} with ${computed} of ${length} tokens computed`);
  ensure(row.sampling.outputs === row.outputs, `${who} lost a token on the way to its sampler`);
  const { maxLength } = row.group;
  ensure(length <= maxLength, `${who} has ${length} tokens, at most ${maxLength} allowed`);
}

function checkMemory({ rows, live, memory }: EngineState): void {
  const reserved = rows.reduce((sum, row) => sum + row.reserved, 0);
  ensure(reserved === memory.reserved, `rows reserve ${reserved}, counted ${memory.reserved}`);
  const { total, cache, cacheLimit, spare } = memory;
  ensure(
    reserved + spare + cache.bytes <= total,
    `${reserved} bytes of rows, ${spare} of spare pages and ${cache.bytes} of prefixes exceed ${total}`,
  );
  ensure(cache.bytes <= cacheLimit, `cached prefixes take ${cache.bytes} of ${cacheLimit} bytes`);
  for (const sequence of live) {
    const free = sequence.slot !== undefined || sequence.reserved === 0;
    ensure(free, `${sequence.label} reserves memory without a row`);
  }
}

function checkQueue({ queue }: EngineState): void {
  let size = 0;
  for (const [account, line] of queue.lines) {
    ensure(line.length > 0, `'${account.tenant}' has an empty line`);
    size += line.length;
    for (const [i, sequence] of line.entries()) {
      const { label, state, slot, computed } = sequence;
      ensure(sequence.account === account, `${label} waits in the line of '${account.tenant}'`);
      ensure(state === "waiting", `${label} waits in state ${state}`);
      ensure(slot === undefined && computed === 0, `${label} waits with a slot or computed tokens`);
      const next = line[i + 1];
      if (next === undefined) continue;
      const ordered = compareInLine(sequence, next) < 0;
      ensure(ordered, `${label} waits before ${next.label}`);
    }
  }
  ensure(size === queue.size, `${size} sequences wait, counted ${queue.size}`);
}

function checkLive({ lanes, queue, running, live }: EngineState): void {
  const loading = [...live].filter((sequence) => sequence.state === "loading").length;
  const found = running + queue.size + loading;
  ensure(found === live.size, `${live.size} sequences live, ${found} found`);
  const leases = new Set<unknown>();
  for (const sequence of live) {
    const { label, state, lease, request } = sequence;
    ensure(state !== "finished", `${label} is finished and live`);
    ensure(sequence.account.live > 0, `${label} is live, its tenant has nothing`);
    if (state !== "loading") {
      ensure(lanes.open.includes(sequence.lane), `${label} is ${state} in a lane that is not open`);
      const matches = (lease === undefined) === (request.adapter === undefined);
      ensure(matches, `${label} is ${state} with a wrong core lease`);
    }
    ensure(lease === undefined || !leases.has(lease), `${label} shares its core lease`);
    if (lease !== undefined) leases.add(lease);
  }
}

function ensure(holds: boolean, broken: string): void {
  if (!holds) throw new Error(`internal: ${broken}`);
}

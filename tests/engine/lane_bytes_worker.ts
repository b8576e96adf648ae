// deno-lint-ignore-file no-console -- its one line is what it is for
/**
 * What a lane of the default base is said to take, and what the process has more of once the lane has
 * run in every shape, as a line of JSON. Trap: memory of what the collector has not seen yet counts,
 * so it runs first.
 */
import { loadBase } from "../../adapters/loaded_base.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { stackOf } from "../../adapters/lotr/stack.ts";
import type { Executor } from "../../src/executor/executor.ts";

const LANES = 4;
const ROWS = 32;
const RANK = 32;
/** Tokens whose keys of one head are a page, so that trimming leaves nothing of them. */
const PAGE = Array.from({ length: 16 }, (_, token) => token);

/** Bytes that are the process's own, without what nobody refers to any more. */
async function residentBytes(trim: () => Promise<void>): Promise<number> {
  const collect = (globalThis as { gc?: () => void }).gc ?? (() => {});
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await trim();
  const text = await Deno.readTextFile("/proc/self/smaps_rollup");
  return 1024 * Number(/Anonymous:\s+(\d+)/.exec(text)?.[1]);
}

/** Runs every row with a core, and as many shapes of steps as bindings are kept. */
async function runFull(lane: Executor, numbers: number): Promise<void> {
  const data = new Float32Array(numbers).fill(1e-6);
  for (let slot = 0; slot < ROWS; slot++) lane.setAdapter(slot, { digest: `core ${slot}`, data });
  for (let rows = 1; rows <= ROWS; rows++) {
    await lane.decode(new Array(rows).fill(5), new Array(rows).fill(1));
    await lane.sample(
      Array.from({ length: rows }, (_, row) => ({ row, temperature: 0, uniform: 0 })),
    );
    await lane.prefill([{ slot: rows - 1, tokens: PAGE, past: 0, last: true }]);
  }
}

/** Bytes of one more lane: what is counted of it, and what the process has more of. */
async function measure(): Promise<{ readonly counted: number; readonly taken: number }> {
  const options = { dtype: "int8", maxBatch: ROWS, maxContext: 2048 } as const;
  const { checkpoint, base, device } = await loadBase(options);
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  const factors = randomFactors({ stack, rank: RANK });
  const open = async () => {
    const lane = await base.lane(factors);
    await runFull(lane, factors.layers * factors.modules.length * RANK ** 2);
    for (let slot = 0; slot < ROWS; slot++) lane.trim(slot, 0);
  };
  // what all lanes share comes with the first, and what making one leaves free is used by the next
  await open();
  const before = await residentBytes(() => device.trim());
  for (let lane = 0; lane < LANES; lane++) await open();
  const taken = (await residentBytes(() => device.trim()) - before) / LANES;
  const counted = base.laneBytes(factors);
  base.release();
  device.release();
  checkpoint.close();
  return { counted, taken };
}

console.log(JSON.stringify(await measure()));

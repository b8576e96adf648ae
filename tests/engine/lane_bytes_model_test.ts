/**
 * What a lane of the default base is said to take, against what the process has more of once the lane
 * has run in every shape. Trap: memory of what the collector has not seen yet counts, so it runs first.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { assertGreater, assertLess } from "@std/assert";
import { loadBase } from "../../adapters/loaded_base.ts";
import { randomFactors } from "../../adapters/makers.ts";
import { stackOf } from "../../adapters/stack.ts";
import type { Executor } from "../../src/engine/executor.ts";

const LANES = 4;
const ROWS = 32;
const RANK = 32;
/** Tokens whose keys of one head are a page, so that trimming leaves nothing of them. */
const PAGE = Array.from({ length: 16 }, (_, token) => token);

/** Bytes that are the process's own, without what nobody refers to any more. */
async function residentBytes(trim: () => Promise<void>): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
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
  for (let slot = 0; slot < ROWS; slot++) lane.setCore(slot, { digest: `core ${slot}`, data });
  for (let rows = 1; rows <= ROWS; rows++) {
    await lane.decode(new Array(rows).fill(5), new Array(rows).fill(1));
    await lane.sample(
      Array.from({ length: rows }, (_, row) => ({ row, temperature: 0, uniform: 0 })),
    );
    await lane.prefill([{ slot: rows - 1, tokens: PAGE, past: 0, last: true }]);
  }
}

Deno.test({
  name: "a busy lane takes what it is counted as, within a sixth",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const { checkpoint, device, base } = await loadBase({
      dtype: "int8",
      maxBatch: ROWS,
      maxContext: 2048,
    });
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
    assertGreater(counted, taken * 5 / 6, `${taken} bytes taken`);
    assertLess(counted, taken * 7 / 6, `${taken} bytes taken`);
    base.release();
    device.release();
    checkpoint.close();
  },
});

/**
 * Micro-benches of cores: reading a file, digesting, padding into the engine's layout, and writing a
 * core into the layer-first memory of a batch. The stack is SmolLM2-135M's.
 */
import { coreFrom, toResident } from "../adapters/lotr/core.ts";
import { readCore, readFactors, writeCore, writeFactors } from "../adapters/lotr/format.ts";
import { randomFactors } from "../adapters/lotr/make/makers.ts";
import { CoreSlots } from "../src/executor/core_slots.ts";
import { openDevice } from "../src/runtime/open.ts";
import { benchCore, benchFactors, STACK } from "./cores.ts";

/** Odd, so that a row gets the other core each time round. */
const BATCH = 31;
const device = openDevice("cpu");

for (const rank of [16, 32]) {
  const factors = benchFactors(STACK, rank);
  const core = benchCore(factors, 1);
  const half = writeCore(core, "float16");
  const single = writeCore(core);
  const factorFile = writeFactors(factors);
  const group = `rank ${rank}`;
  Deno.bench(`read a core, float16, ${group}`, { group }, () => void readCore(half));
  Deno.bench(`read a core, float32, ${group}`, { group }, () => void readCore(single));
  Deno.bench(`write a core, float16, ${group}`, { group }, () => void writeCore(core, "float16"));
  Deno.bench(`digest a core, ${group}`, { group }, () => {
    coreFrom(factors, rank, core.cores);
  });
  Deno.bench(`read a factor set, ${group}`, { group }, () => void readFactors(factorFile));
  Deno.bench(`make a random factor set, ${group}`, { group }, () => {
    randomFactors({ stack: STACK, rank, seed: 2 });
  });
  Deno.bench(`pad a core into the engine's layout, ${group}`, { group }, () => {
    toResident(core, factors);
  });

  const slots = new CoreSlots(device, factors, STACK.layers, BATCH);
  const two = [1, 2].map((k) => toResident(benchCore(factors, k), factors));
  let turn = 0;
  Deno.bench(`give a row of the batch another core, ${group}`, { group }, () => {
    slots.set(turn % BATCH, two[turn % 2]);
    turn++;
  });
  Deno.bench(`move a core to another row, ${group}`, { group }, () => slots.move(1, 0));
}

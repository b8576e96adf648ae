/**
 * Micro-benches of whole steps without their model: 64 tokens for each of several streams, through
 * scheduler, step, detokeniser, events and the HTTP application. A step is 1/64 of the time.
 */
import { openCheckpoint } from "../src/checkpoint/open.ts";
import { openOverhead } from "./overhead.ts";

const fixture = new URL("../tests/fixtures/models/llama", import.meta.url);
const { tokenizer } = await openCheckpoint(decodeURIComponent(fixture.pathname));

for (const rows of [1, 16, 32]) {
  const bench = openOverhead(tokenizer, rows);
  Deno.bench(`64 steps of ${rows} streams, no model`, { group: "steps" }, async () => {
    await bench.run(rows, 64);
  });
}

/** The bench's command line: defaults, spellings, and what it refuses. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { HELP, MODES, parseFlags } from "../../bench/flags.ts";

Deno.test("a mode alone has the figures that the log keeps", () => {
  const flags = parseFlags(["decode"]);
  assertEquals(flags?.mode, "decode");
  assertEquals(flags?.batches, [1, 4, 16, 32]);
  assertEquals(flags?.ranks, [16, 32]);
  assertEquals(flags?.arrivals, { type: "closed", clients: 16 });
  assertEquals(flags?.popularities.map(({ name }) => name), ["base", "distinct:16"]);
});

Deno.test("lists, loads and rates are read", () => {
  const flags = parseFlags(["serve", "--rate", "2.5", "--batches=2,8", "--popularity", "zipf:9:1"]);
  assertEquals(flags?.mode, "serve");
  assertEquals(flags?.arrivals, { type: "open", rate: 2.5 });
  assertEquals(flags?.batches, [2, 8]);
  assertEquals(flags?.popularities, [
    { name: "zipf:9:1", popularity: { type: "zipf", adapters: 9, s: 1 } },
  ]);
});

Deno.test("peers are measured beside rank-32 cores, or beside the base alone", () => {
  assertEquals(parseFlags(["peers"])?.ranks, [32]);
  assertEquals(parseFlags(["peers", "--ranks="])?.ranks, []);
});

Deno.test("what cannot be is refused by name, with what would be right", () => {
  const refused = (args: string[], text: string) =>
    assertThrows(() => parseFlags(["decode", ...args]), TypeError, text);
  assertThrows(() => parseFlags(["dekode"]), TypeError, "mode is dekode, must be one of decode");
  refused(["--batch", "4"], "there is no flag --batch");
  refused(["--rounds", "0"], "--rounds is 0, must be a whole number of at least 1");
  refused(["--dtype", "int3"], "--dtype is int3, must be one of int8");
  refused(["--rate=-1"], "--rate is -1");
  refused(["--popularity", "all"], `Cannot read popularity "all"`);
});

Deno.test("help names every mode", () => {
  assertEquals(parseFlags(["serve", "--help"]), undefined);
  assertEquals(parseFlags([]), undefined);
  for (const mode of MODES) assertStringIncludes(HELP, `\n  ${mode} `);
});

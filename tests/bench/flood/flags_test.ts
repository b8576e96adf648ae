/** The flood bench's command line: defaults, spellings, and what it refuses. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { HELP, parseFloodFlags, PHASES } from "../../../bench/flood/flags.ts";

Deno.test("without flags four tenants meet a flood of sixty-four clients, in all phases", () => {
  const flags = parseFloodFlags([]);
  assertEquals([flags?.tenants, flags?.clients, flags?.rate, flags?.rounds], [4, 64, 0.5, 3]);
  assertEquals([flags?.url, flags?.model, flags?.maxBatch], [undefined, undefined, undefined]);
  assertEquals(flags?.only, PHASES);
});

Deno.test("lists, rates and names with hyphens are read", () => {
  const flags = parseFloodFlags(
    ["--only", "flood, quiet", "--rate=2.5", "--flood-prompt", "9", "--max-batch", "8"],
  );
  assertEquals(flags?.only, ["flood", "quiet"]);
  assertEquals([flags?.rate, flags?.floodPrompt, flags?.maxBatch], [2.5, 9, 8]);
});

Deno.test("what cannot be is refused by name, with what would be right", () => {
  const refused = (args: string[], text: string) =>
    assertThrows(() => parseFloodFlags(args), TypeError, text);
  refused(["--only", "storm"], "--only is storm, must be one of quiet, flood, shared");
  refused(["--rounds", "0"], "--rounds is 0, must be a whole number of at least 1");
  refused(["--seconds", "0"], "--seconds is 0, must be a number above 0");
  refused(["--client", "3"], "flood has no flag or argument --client");
  refused(["quiet"], "flood has no flag or argument quiet");
});

Deno.test("help names every phase and is asked for by either name", () => {
  assertEquals([parseFloodFlags(["--help"]), parseFloodFlags(["-h"])], [undefined, undefined]);
  for (const phase of PHASES) assertStringIncludes(HELP, phase);
});

/** The soak's command line: defaults, spellings, and what it refuses. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { HELP, parseSoakFlags } from "../../../bench/soak/flags.ts";

Deno.test("without flags twenty thousand requests are held against the first two thousand", () => {
  const flags = parseSoakFlags([]);
  assertEquals([flags?.requests, flags?.from, flags?.every], [20_000, 2000, 1000]);
  assertEquals([flags?.kvMemory, flags?.laneMemory], [512_000_000, 64_000_000]);
  assertEquals([flags?.schemas, parseSoakFlags(["--requests=50"])?.schemas], [200, 0]);
  assertEquals([flags?.model, flags?.maxBatch], [undefined, undefined]);
});

Deno.test("counts and bytes are read", () => {
  const flags = parseSoakFlags(["--requests=400", "--kv-memory", "1GiB", "--max-batch", "8"]);
  assertEquals([flags?.requests, flags?.kvMemory, flags?.maxBatch], [400, 2 ** 30, 8]);
});

Deno.test("what cannot be is refused by name, with what would be right", () => {
  const refused = (args: string[], text: string) =>
    assertThrows(() => parseSoakFlags(args), TypeError, text);
  refused(["--clients", "0"], "--clients is 0, must be a whole number of at least 1");
  refused(["--kv-memory", "lots"], "--kv-memory is lots, must be as 512MB");
  refused(["--request", "3"], "soak has no flag or argument --request");
});

Deno.test("help is asked for by either name and says where it runs", () => {
  assertEquals([parseSoakFlags(["--help"]), parseSoakFlags(["-h"])], [undefined, undefined]);
  assertStringIncludes(HELP, "Linux");
});

/** The command line of the training bench. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { BENCHES, HELP, parseTrainFlags } from "../../../bench/train/flags.ts";

Deno.test("quality asks for what the report shows, unless told otherwise", () => {
  const flags = parseTrainFlags(["quality", "--data", "d"]);
  if (flags?.bench !== "quality") throw new TypeError("another bench");
  assertEquals(flags.tasks, ["question", "polarity"]);
  assertEquals(flags.methods.map(({ name }) => name), ["core32", "core16", "random32"]);
  assertEquals([flags.seeds, flags.rates], [[0, 1, 2], [0.5, 1, 2]]);
  assertEquals([flags.rows, flags.epochs, flags.batch], [1000, 3, 16]);
});

Deno.test("lists and methods are read", () => {
  const flags = parseTrainFlags([
    "quality",
    "--data=d",
    "--methods=random8,core4",
    "--seeds=7",
    "--rates=1e-1",
    "--tasks=polarity",
  ]);
  if (flags?.bench !== "quality") throw new TypeError("another bench");
  assertEquals(flags.methods, [
    { name: "random8", factors: "random", rank: 8 },
    { name: "core4", factors: "default", rank: 4 },
  ]);
  assertEquals([flags.seeds, flags.rates, flags.tasks], [[7], [0.1], ["polarity"]]);
});

Deno.test("training's benches refuse by name what cannot be, with what would be right", () => {
  const refused = (args: string[], text: string) =>
    assertThrows(() => parseTrainFlags(args), TypeError, text);
  refused(["fast"], "bench is fast, must be one of speed, jobs, quality, traffic");
  refused(["quality"], "--data is missing");
  refused(["quality", "--data=d", "--methods=lora8"], "method is lora8");
  refused(["quality", "--data=d", "--seeds="], "--seeds is , must be a whole number");
  refused(["quality", "--data=d", "--rates=0"], "--rates is 0, must be a number above 0");
  refused(["speed", "--round=3"], "there is no flag --round");
  refused(["jobs", "--data=d", "--jobs=0"], "--jobs is 0");
});

Deno.test("help names every bench of training, and is what no bench asks for", () => {
  for (const bench of BENCHES) assertStringIncludes(HELP, `  ${bench} `);
  assertEquals(parseTrainFlags([]), undefined);
  assertEquals(parseTrainFlags(["speed", "--help"]), undefined);
});

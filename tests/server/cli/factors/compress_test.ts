/** `factors make --from-loras` on a tiny model: PEFT directories in, sets, cores and a report out. */
import { assertAlmostEquals, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { writePeftDirectory } from "../../../../adapters/catalog/directory.ts";
import { readPeftDirectory } from "../../../../adapters/lora/peft_files.ts";
import { readCore, readFactors } from "../../../../adapters/lotr/format.ts";
import { randomFactors } from "../../../../adapters/lotr/make/makers.ts";
import { importPeft } from "../../../../adapters/lotr/peft/peft_import.ts";
import { stackOf } from "../../../../adapters/lotr/stack.ts";
import { runFactors } from "../../../../server/cli/factors/command.ts";
import { parseFactorsCommand } from "../../../../server/cli/factors/flags.ts";
import { openCheckpoint } from "../../../../src/checkpoint/open.ts";
import { smallCore } from "../../../adapters/small.ts";

const TINY = new URL("../../../fixtures/models/llama", import.meta.url).pathname;

/** Four LoRAs of rank 4: a0 and a1 lie within one random set, b0 and b1 within another. */
async function writeLoras(directory: string): Promise<void> {
  using checkpoint = await openCheckpoint(TINY);
  const stack = stackOf(await checkpoint.digest(), checkpoint.config);
  for (const [seed, family] of ["a", "b"].entries()) {
    const factors = randomFactors({ stack, rank: 4, seed: seed + 1 });
    for (const i of [0, 1]) {
      const path = `${directory}/loras/${family}${i}`;
      await writePeftDirectory(path, smallCore(factors, i + 1), factors, { baseModel: "tiny" });
    }
  }
}

/** Runs a command line with @ for the directory; returns what it printed and showed. */
async function run(directory: string, line: string) {
  const printed: string[] = [];
  const shown: string[] = [];
  await runFactors(parseFactorsCommand(line.replaceAll("@", `${directory}/`).split(" ")), {
    load: async () => {
      const checkpoint = await openCheckpoint(TINY);
      return {
        checkpoint,
        openSource: () => Promise.reject(new TypeError("no gradients are wanted")),
        [Symbol.dispose]: () => checkpoint.close(),
      };
    },
    screen: { isTerminal: false, columns: () => 80, write: (text) => void shown.push(text) },
    print: (text) => void printed.push(text),
  });
  return { printed: printed.join("\n"), shown: shown.join("") };
}

async function withLoras(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await writeLoras(directory);
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("LoRAs of two families are written as two sets that hold them whole", async () => {
  await withLoras(async (directory) => {
    const line = "make --from-loras @loras --out @out --rank 4 --clusters auto --captured 99.9";
    const { printed, shown } = await run(directory, line);
    assertMatch(printed, /^energy held +set +rank 4\nmean +100.0%\na0 +\d +100.0%\n/);
    assertMatch(printed, /"rank":4,"sets":2,"captured":(1|0.99999)/);
    assertMatch(shown, /^1\/(\d+) reading LoRAs\n[^]*\n\1\/\1 LoRAs\n$/);
    const report = JSON.parse(await Deno.readTextFile(`${directory}/out/report.json`));
    const sets = report.sets.map(({ file }: { file: string }) => file);
    assertEquals(sets, ["factors-1.safetensors", "factors-2.safetensors"]);
    for (const { name, file, factors, captured, capturedByRank, bytes } of report.loras) {
      const read = (file: string) => Deno.readFile(`${directory}/out/${file}`);
      const [set, core] = [readFactors(await read(factors)), readCore(await read(file))];
      core.checkFactors(set);
      assertEquals((await read(file)).length, bytes);
      const lora = await readPeftDirectory(`${directory}/loras/${name}`);
      const projected = importPeft(lora, set);
      assertAlmostEquals(captured, 1 - projected.report.residual, 1e-6);
      assertAlmostEquals(capturedByRank[4], captured);
      core.cores.forEach((value, i) => assertAlmostEquals(value, projected.core.cores[i], 1e-4));
    }
    const factorsOf = report.loras.map(({ factors }: { factors: string }) => factors);
    assertEquals([factorsOf[0], factorsOf[2]], [factorsOf[1], factorsOf[3]]);
  });
});

Deno.test("several ranks print what each would hold, and nothing is written", async () => {
  await withLoras(async (directory) => {
    const { printed } = await run(directory, "make --from-loras @loras/a0 @loras/b1 --rank 8,2,4");
    assertMatch(
      printed,
      /^energy held +set +rank 2 +rank 4 +rank 8\nmean +[\d.]+% +[\d.]+% +100.0%/,
    );
    assertMatch(printed, /\na0 +1 [^]*\nb1 +1 [^\n]*100.0%$/);
    assertEquals((await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name), [
      "loras",
    ]);
  });
});

Deno.test("in float16 the cores are of the set as it is stored", async () => {
  await withLoras(async (directory) => {
    await run(directory, "make --from-loras @loras/a0 --rank 4 --out @half --float16");
    const set = readFactors(await Deno.readFile(`${directory}/half/factors.safetensors`));
    readCore(await Deno.readFile(`${directory}/half/a0.safetensors`)).checkFactors(set);
  });
});

Deno.test("what cannot be compressed is told by the flag or the directory", async () => {
  await withLoras(async (directory) => {
    const refused = async (line: string, text: string) =>
      await assertRejects(() => run(directory, `make --out @out ${line}`), Error, text);
    await refused("--from-loras @none", "--from-loras");
    await refused("--from-loras @loras @loras/a0", "a0: its core would be a0.safetensors");
    await Deno.mkdir(`${directory}/empty`);
    await refused("--from-loras @empty", "it is no PEFT directory, and holds none");
    await refused("--from-loras @loras --clusters 5 --rank 4", "Cannot make 5 clusters of 4 LoRAs");
    await Deno.writeTextFile(`${directory}/loras/b0/adapter_config.json`, "{}");
    await refused("--from-loras @loras", "/b0: Cannot read LoRA: peft_type");
  });
});

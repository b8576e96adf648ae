/** The factors command on a tiny model: sets made, shown, compared; and one run as a process. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { readFactors, writeFactors } from "../../../../adapters/lotr/format.ts";
import { randomFactors } from "../../../../adapters/lotr/make/makers.ts";
import { stackOf } from "../../../../adapters/lotr/stack.ts";
import { describeFile, runFactors } from "../../../../server/cli/factors/command.ts";
import { parseFactorsCommand } from "../../../../server/cli/factors/flags.ts";
import type { FactorsBase } from "../../../../server/cli/factors/matrices.ts";
import { openCheckpoint } from "../../../../src/checkpoint/open.ts";
import { MODULES } from "../../../../src/models/hook.ts";
import { Gradients, gradientsWithin } from "../../../adapters/small.ts";

const FIXTURES = new URL("../../../fixtures/adapters/", import.meta.url);
const TINY = new URL("../../../fixtures/models/llama", import.meta.url).pathname;

/** Runs command lines on a tiny model whose gradients lie within a random set of rank 4. */
class Command implements AsyncDisposable {
  readonly printed: string[] = [];
  readonly screen: string[] = [];

  private constructor(readonly directory: string) {}

  static async open(): Promise<Command> {
    return new Command(await Deno.makeTempDir());
  }

  path(name: string): string {
    return `${this.directory}/${name}`;
  }

  /** Runs one line; words of the form @name become paths. Returns what it printed. */
  async run(line: string): Promise<string> {
    const args = line.split(" ").map((word) => word.replace(/^@/, `${this.directory}/`));
    this.printed.length = 0;
    await runFactors(parseFactorsCommand(args), {
      load: () => this.#load(),
      screen: {
        isTerminal: false,
        columns: () => 80,
        write: (text) => void this.screen.push(text),
      },
      print: (text) => void this.printed.push(text),
    });
    return this.printed.join("\n");
  }

  async #load(): Promise<FactorsBase> {
    const checkpoint = await openCheckpoint(TINY);
    const stack = stackOf(await checkpoint.digest(), checkpoint.config);
    const truth = randomFactors({ stack, rank: 4, modules: MODULES, seed: 1 });
    await Deno.writeFile(this.path("truth"), writeFactors(truth));
    return {
      checkpoint,
      openSource: () => new Gradients(gradientsWithin(truth)),
      cache: this.path("cache"),
      [Symbol.dispose]: () => checkpoint.close(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("every maker makes a set, and says what it has written", async () => {
  await using command = await Command.open();
  const digests = new Set<unknown>();
  for (const maker of ["gradient", "random", "gaussian", "svd"]) {
    const made = JSON.parse(await command.run(`make --out @${maker} --maker ${maker} --rank 4`));
    assertEquals([made.kind, made.rank, made.modules], ["factors", 4, ["q_proj", "v_proj"]]);
    digests.add(made.digest);
  }
  assertEquals(digests.size, 4);
});

Deno.test("the gradient maker takes a calibration file and shows how far it is", async () => {
  await using command = await Command.open();
  await Deno.writeTextFile(command.path("text"), "A first passage.\n\nAnd a second one.");
  await command.run("make --out @f --rank 4 --calibration @text");
  assertMatch(command.screen.join(""), /\d+\/\d+ tokens\n[^]*\n7\/7 B\.v_proj\n$/);
  await Deno.writeTextFile(command.path("empty"), "\n");
  await assertRejects(
    () => command.run("make --out @f --rank 4 --calibration @empty"),
    TypeError,
    "empty: Cannot calibrate on the text",
  );
  await assertRejects(
    () => command.run("make --out @f --calibration @none"),
    Error,
    "No such file",
  );
});

Deno.test("gradient factors are found to hold all of the gradients, random ones little", async () => {
  await using command = await Command.open();
  await command.run("make --out @g --rank 4");
  await command.run("make --out @r --rank 4 --maker random --seed 9");
  const table = await command.run("inspect @g --energy gradients");
  assertMatch(
    table,
    /g, of the gradients:\nenergy held +A +B +A and B\nall +100.0% +100.0% +100.0%/,
  );
  assertMatch(table, /\nq_proj +100.0%[^]*\nv_proj +100.0%[^]*\nlayer 0 +100.0%[^]*\nlayer 1 /);
  const { energy } = JSON.parse(await command.run("inspect @r --energy gradients --json"));
  assert(energy.all.core < 0.5, JSON.stringify(energy.all));
  assertEquals(energy.linears.length, 4);
  assertEquals(Object.keys(energy.modules), ["q_proj", "v_proj"]);
});

Deno.test("svd factors hold more of the weights than random ones", async () => {
  await using command = await Command.open();
  await command.run("make --out @s --rank 4 --maker svd");
  await command.run("make --out @r --rank 4 --maker random");
  const line = "compare @s @r --energy weights --json";
  const { energies: [svd, random], overlaps } = JSON.parse(await command.run(line));
  assert(svd.all.core > random.all.core, JSON.stringify([svd.all, random.all]));
  assertEquals(overlaps.map(({ name }: { name: string }) => name), [
    "A.attn_in",
    "B.q_proj",
    "B.v_proj",
  ]);
});

Deno.test("sets are compared by the angles between their spans, without a base", async () => {
  await using command = await Command.open();
  await command.run("make --out @g --rank 4");
  assertMatch(
    await command.run("compare @g @truth"),
    /^basis +overlap +by chance[^]*\nA.attn_in +100.0% +[\d.]+% +0.0° +0.0° +0.0°\n/,
  );
});

Deno.test("a factor set of another base is not measured", async () => {
  await using command = await Command.open();
  const file = new URL("factors.safetensors", FIXTURES).pathname;
  await assertRejects(
    () => command.run(`inspect ${file} --energy weights`),
    TypeError,
    "its base is",
  );
});

Deno.test("a set in float16 is another set, and the file says so", async () => {
  await using command = await Command.open();
  await command.run("make --out @full --rank 4 --maker random");
  const { digest } = JSON.parse(
    await command.run("make --out @half --rank 4 --maker random --float16"),
  );
  const read = (name: string) => readFactors(Deno.readFileSync(command.path(name))).digest;
  assertEquals(read("half"), digest);
  assert(read("full") !== digest);
});

Deno.test("a file is described by its kind, digests and shape", () => {
  const core = describeFile(Deno.readFileSync(new URL("shelf.safetensors", FIXTURES)));
  const factors = describeFile(Deno.readFileSync(new URL("factors.safetensors", FIXTURES)));
  assertEquals([core.kind, core.rank, core.layers, core.factors], [
    "core",
    16,
    30,
    factors.digest,
  ]);
  assertEquals(factors.residentBytes, 61440);
});

Deno.test("the factors command ends with one line and a failure on bad input", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "server/cli/factors.ts", "inspect", "deno.json"],
    cwd: new URL("../../../../", import.meta.url),
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stderr);
  assertEquals([code, stdout.length], [1, 0]);
  assertMatch(text, /^deno\.json: Cannot read safetensors[^\n]*\n$/);
});

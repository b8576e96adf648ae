/** The command from its line to its files, over a base without weights. */
import {
  assert,
  assertEquals,
  assertExists,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import { AdapterDirectory } from "../../../../adapters/catalog/directory.ts";
import { readCore, readFactors, writeFactors } from "../../../../adapters/lotr/format.ts";
import { AdapterRegistry } from "../../../../adapters/catalog/registry.ts";
import { runTrain } from "../../../../server/cli/train/command.ts";
import {
  FAKE_ROWS,
  fakeBase,
  fakeFactors,
  fakeStack,
  type FakeTrainerOptions,
} from "../../../fakes/trainer.ts";

/** 71 tokens. */
const LONG_ROW = `{"prompt": "x", "completion": "${"y".repeat(69)}"}\n`;

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory of its own with the rows in `d.jsonl`. */
class Place implements AsyncDisposable {
  private constructor(readonly root: string) {}

  static async make(): Promise<Place> {
    const place = new Place(await Deno.makeTempDir());
    await Deno.writeTextFile(`${place.root}/d.jsonl`, FAKE_ROWS);
    return place;
  }

  /** Trains acme/shelf into `out`; more flags may follow. */
  async train(line = "", options: FakeTrainerOptions = {}): Promise<Ran> {
    const [out, err]: [string[], string[]] = [[], []];
    const code = await runTrain({
      args: [...this.args(), ...line.split(" ").filter((arg) => arg !== "")],
      env: () => undefined,
      version: "1.2.3",
      load: () => Promise.resolve(fakeBase(options)),
      screen: { isTerminal: false, columns: () => 80, write: (text) => void err.push(text) },
      print: (text) => void out.push(`${text}\n`),
      now: () => 0,
      marks: "brackets",
      wait: () => Promise.resolve(),
    });
    return { code, stdout: out.join(""), stderr: err.join("") };
  }

  args(): string[] {
    const { root } = this;
    return `--data ${root}/d.jsonl --tenant acme --name shelf --out ${root}/out`.split(" ");
  }

  read(path: string): Promise<Uint8Array<ArrayBuffer>> {
    return Deno.readFile(`${this.root}/out/${path}`);
  }

  async json(path: string): Promise<Record<string, unknown>> {
    return JSON.parse(new TextDecoder().decode(await this.read(path)));
  }

  /** Paths below `out`. */
  async files(folder = ""): Promise<string[]> {
    const found: string[] = [];
    for await (const { name, isDirectory } of Deno.readDir(`${this.root}/out/${folder}`)) {
      if (isDirectory) found.push(...await this.files(`${folder}${name}/`));
      else found.push(`${folder}${name}`);
    }
    return found.sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}

Deno.test("training writes a core, its factors, a report and a curve, and no checkpoint stays", async () => {
  await using place = await Place.make();
  const { code, stdout, stderr } = await place.train();
  assertEquals(code, 0, stderr);
  const factors = fakeFactors();
  const factorsFile = `factors-${factors.digest.slice(0, 12)}.safetensors`;
  assertEquals(await place.files(), [
    "acme/shelf.curve.svg",
    "acme/shelf.report.json",
    "acme/shelf.safetensors",
    factorsFile,
  ]);
  const core = readCore(await place.read("acme/shelf.safetensors"));
  assertEquals(readFactors(await place.read(factorsFile)).digest, core.factors);
  const report = await place.json("acme/shelf.report.json");
  assertEquals(Reflect.get(Object(report.core), "digest"), core.digest);
  assertEquals((report.steps as unknown[]).length, 6);
  assertEquals(report.data, {
    file: `${place.root}/d.jsonl`,
    sha256: "6619d5ed2da1ddbda1bf43c00382b6b948e6ead113e42ceab7c9818fe03fcefa",
    rows: 5,
    tokens: 38,
    lossTokens: 19,
  });
  assertEquals(report.verdict, "published");
  assertMatch(stdout, /base +2\.5000 +25\.0%\ncore, step 6 of 6 +1\.4220 +55\.8%/);
  assertMatch(stdout, /256 parameters \(rank 8, q_proj v_proj\)/);
  assertMatch(stderr, /serve it: deno task serve --adapters \S+\/out, .*acme\/shelf/);
  assertStringIncludes(stderr, "without --valid");
});

Deno.test("the directory that training writes is one that the server reads", async () => {
  await using place = await Place.make();
  await place.train();
  await place.train("--name order --seed 9");
  const registry = new AdapterRegistry({ stack: fakeStack() });
  const directory = await AdapterDirectory.open(`${place.root}/out`, registry);
  const { adapters, factors, warnings } = await directory.scan();
  assertEquals(warnings, []);
  assertEquals(factors.length, 1);
  assertEquals(adapters.map(({ model }) => model), ["acme/order", "acme/shelf"]);
});

Deno.test("rows of both files are counted, and a factor file is trained for", async () => {
  await using place = await Place.make();
  await Deno.writeTextFile(`${place.root}/v.jsonl`, FAKE_ROWS.split("\n")[0]);
  await Deno.writeFile(`${place.root}/f.safetensors`, writeFactors(fakeFactors(4)));
  const { code, stderr } = await place.train(
    `--valid ${place.root}/v.jsonl --factors ${place.root}/f.safetensors`,
  );
  assertEquals(code, 0, stderr);
  assertStringIncludes(stderr, "v.jsonl: 1 row, 6 tokens, 4 of them with loss");
  assertEquals(stderr.includes("without --valid"), false);
  const core = readCore(await place.read("acme/shelf.safetensors"));
  assertEquals([core.rank, core.factors], [4, fakeFactors(4).digest]);
});

Deno.test("a failure is one line and code 1, a wrong line code 2, and neither writes anything", async () => {
  await using place = await Place.make();
  await Deno.writeTextFile(`${place.root}/bad.jsonl`, `${FAKE_ROWS}{"prompt": 1}\n`);
  await Deno.writeTextFile(`${place.root}/long.jsonl`, LONG_ROW);
  const cases: readonly [string, number, RegExp][] = [
    [
      `--data ${place.root}/bad.jsonl`,
      1,
      /Cannot train on \S+bad\.jsonl: 1 of its 6 lines is broken\nline 6: /,
    ],
    [
      `--data ${place.root}/none.jsonl`,
      1,
      /Cannot use --data \S+none\.jsonl: there is no '\S+none\.jsonl'/,
    ],
    [`--data ${place.root}/long.jsonl`, 1, /it has 71 tokens, at most 64 fit/],
    [`--factors ${place.root}/d.jsonl`, 1, /Cannot use --factors \S+d\.jsonl: /],
    ["--rank 16", 1, /Cannot train at rank 16: the factor set has rank 8/],
    ["--rank x", 2, /--rank/],
  ];
  for (const [line, expected, text] of cases) {
    const { code, stdout, stderr } = await place.train(line);
    assertEquals([code, stdout], [expected, ""], stderr);
    assertMatch(stderr, text);
  }
  assertEquals([...Deno.readDirSync(place.root)].some(({ name }) => name === "out"), false);
});

Deno.test("a directory that cannot be written to is told before anything is trained", async () => {
  await using place = await Place.make();
  await Deno.symlink("nowhere", `${place.root}/out`);
  const pace = () => Promise.reject(new Error("it trained"));
  const { code, stderr } = await place.train("", { pace });
  assertEquals(code, 1);
  assertMatch(stderr, /Cannot write to \S+\/out\/acme: /);
});

Deno.test("long rows are cut where that is asked for, and the report says so", async () => {
  await using place = await Place.make();
  await Deno.writeTextFile(`${place.root}/d.jsonl`, `${LONG_ROW}${FAKE_ROWS}`);
  const { code, stderr } = await place.train("--truncate");
  assertEquals(code, 0);
  assertStringIncludes(
    stderr,
    "1 row is cut at 64 tokens, which loses 7 tokens (the first is line 1)",
  );
  const { warnings } = await place.json("acme/shelf.report.json");
  assertStringIncludes(
    JSON.stringify(warnings),
    "1 row is cut at 64 tokens, which loses 7 tokens (the first is line 1)",
  );
});

Deno.test("a core that the gate refuses is kept aside, fails the command, and yields to --force", async () => {
  await using place = await Place.make();
  await place.train("--seed 1");
  const before = await place.read("acme/shelf.safetensors");
  const refuses = () => "its loss is not below the base's";
  const held = await place.train("", { refuses });
  assertEquals(held.code, 1);
  assertMatch(held.stderr, /Not published: its loss .* kept as \S+shelf\.refused\.safetensors/);
  assertEquals(await place.read("acme/shelf.safetensors"), before, "the old core serves on");
  assertEquals((await place.json("acme/shelf.report.json")).verdict, "refused");
  const forced = await place.train("--force", { refuses });
  assertEquals(forced.code, 0);
  assertStringIncludes(forced.stderr, "published because of --force");
  assertNotEquals(await place.read("acme/shelf.safetensors"), before);
  assert(!(await place.files()).includes("acme/shelf.refused.safetensors"));
});

Deno.test("a run that broke leaves its checkpoint, and --resume ends with the very same files", async () => {
  await using place = await Place.make();
  await place.train();
  const [core, report] = [
    await place.read("acme/shelf.safetensors"),
    await place.json("acme/shelf.report.json"),
  ];
  let calls = 0;
  const fails = () => ++calls > 5 ? "the device is gone" : undefined;
  const broken = await place.train("--name other", { fails });
  assertEquals([broken.code, calls], [1, 6]);
  assertStringIncludes(broken.stderr, "the device is gone");
  assert((await place.files()).includes("acme/other.checkpoint.safetensors"));
  const anew = await place.train("--name other");
  assertEquals(anew.code, 1);
  assertMatch(anew.stderr, /Cannot start anew: .*other\.checkpoint\.safetensors.*--resume/);
  // a default set that has changed meanwhile is not taken for the one that the run began with
  const resumed = await place.train("--name other --resume", { defaultRank: 4 });
  assertEquals(resumed.code, 0, resumed.stderr);
  assertStringIncludes(resumed.stderr, "going on after step 4");
  assertEquals(await place.read("acme/other.safetensors"), core);
  const again = await place.json("acme/other.report.json");
  for (const key of ["steps", "evaluations", "best", "hyperparameters"]) {
    assertEquals(again[key], report[key], key);
  }
  assert((await place.files()).every((file) => !file.includes("checkpoint")));
});

Deno.test("--resume without a checkpoint starts at the beginning and says so", async () => {
  await using place = await Place.make();
  const { code, stderr } = await place.train("--resume");
  assertEquals(code, 0);
  assertStringIncludes(stderr, "no checkpoint to go on from");
});

Deno.test("a sweep trains all, keeps the best that is not refused, and reports each", async () => {
  await using place = await Place.make();
  const { code, stdout } = await place.train(
    "--sweep learning-rate-multiplier=0.5,1,1.5,2;rank=4",
    {
      refuses: ({ hyperparameters: h }) => h.learningRateMultiplier === 2 ? "no" : undefined,
      fails: ({ hyperparameters: h }) => h.learningRateMultiplier === 0.5 ? "broke" : undefined,
    },
  );
  assertEquals(code, 0);
  assertMatch(stdout, /\n {2}learning-rate-multiplier=0\.5 rank=4 {2,}failed: broke\n/);
  assertMatch(stdout, /\n\* learning-rate-multiplier=1\.5 rank=4 +\d/);
  assertMatch(stdout, /\n {2}learning-rate-multiplier=2 rank=4 .*refused\n/);
  const { runs, hyperparameters } = await place.json("acme/shelf.report.json");
  assertEquals((runs as unknown[]).length, 4);
  const { asked } = hyperparameters as { asked: { learningRateMultiplier: number } };
  assertEquals(asked.learningRateMultiplier, 1.5);
  assertEquals(readCore(await place.read("acme/shelf.safetensors")).rank, 4);
});

Deno.test("a sweep of which every run breaks fails, and says why of each", async () => {
  await using place = await Place.make();
  const { code, stderr } = await place.train("--sweep rank=2,4", { fails: () => "broke" });
  assertEquals(code, 1);
  assertMatch(stderr, /every run failed: rank=2: broke; rank=4: broke/);
});

Deno.test("--json is progress and the result, one object a line on stdout", async () => {
  await using place = await Place.make();
  const { stdout } = await place.train("--json");
  const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.map(({ type }) => type), [
    "start",
    ..."step step evaluation step step evaluation step step evaluation".split(" "),
    "result",
  ]);
  const { steps: _, ...result } = lines.at(-1);
  assertExists(result.core.digest);
});

Deno.test("a dry run shows the rows with their loss marked, and trains nothing", async () => {
  await using place = await Place.make();
  const { code, stdout } = await place.train("--dry-run");
  assertEquals(code, 0);
  assertStringIncludes(stdout, "line 5, 5 tokens\nfi⟦ve<|end|>⟧\n");
  assertStringIncludes(stdout, "5 rows, 38 tokens, 19 of them with loss");
  assertEquals([...Deno.readDirSync(place.root)].length, 1);
  const json = await place.train("--dry-run --json");
  const lines = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines[4], {
    type: "row",
    file: `${place.root}/d.jsonl`,
    line: 5,
    tokens: [
      { id: 102, text: "f", weight: 0 },
      { id: 105, text: "i", weight: 0 },
      { id: 118, text: "v", weight: 1 },
      { id: 101, text: "e", weight: 1 },
      { id: 256, text: "<|end|>", weight: 1 },
    ],
  });
  assertEquals(lines[5].lossTokens, 19);
});

Deno.test("a teacher answers prompts, the report names it, and what it said is kept until the end", async () => {
  await using place = await Place.make();
  const prompts = ["one", "two", "three"].map((prompt) => `${JSON.stringify({ prompt })}\n`);
  await Deno.writeTextFile(`${place.root}/p.jsonl`, FAKE_ROWS + prompts.join(""));
  const line = `--data ${place.root}/p.jsonl --teacher acme/lora`;
  const stopped = await place.train(line, { fails: () => "it broke" });
  assertEquals(stopped.code, 1);
  const kept = (await place.files()).filter((file) => file.startsWith("acme/shelf.teacher/"));
  assertEquals(kept.length, 2);
  const { code, stdout, stderr } = await place.train(line);
  assertEquals(code, 0, stderr);
  const { teacher, data, valid } = await place.json("acme/shelf.report.json");
  const usual = { on: "auto", count: 32, temperature: 1, maxTokens: 256 };
  assertEquals(teacher, { teacher: "acme/lora", ...usual, digest: "acme/lora", mass: 1 });
  assertEquals([Reflect.get(Object(data), "rows"), Reflect.get(Object(valid), "rows")], [7, 1]);
  assertMatch(stdout, /KL +agreement/);
  assertMatch(stderr, /teacher: 7\/7 training rows\nteacher: 1\/1 validation rows/);
  assertEquals(stderr.includes("without --valid"), false);
  assertEquals((await place.files()).filter((file) => file.includes("teacher")), []);
});

Deno.test("a teacher that is not there is told by its flag, prompts without one by their lines", async () => {
  await using place = await Place.make();
  const nobody = await place.train("--teacher nobody");
  assertEquals(nobody.code, 1);
  assertMatch(nobody.stderr, /Cannot use --teacher nobody: there is neither a file/);
  await Deno.writeTextFile(`${place.root}/p.jsonl`, `{"prompt": "one"}\n`);
  const unanswered = await place.train(`--data ${place.root}/p.jsonl`);
  assertMatch(unanswered.stderr, /completion is missing/);
  const given = await place.train(`--data ${place.root}/p.jsonl --teacher t --on given`);
  assertMatch(given.stderr, /line 1: it has no answer/);
});

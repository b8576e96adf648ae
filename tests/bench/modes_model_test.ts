/**
 * Each mode of `deno task bench` once, with settings so small that its figures say nothing: it runs,
 * and ends in one line of JSON. Those that need a server or the default base take longer, and run
 * where `LEMBAS_TEST_LONG=1` asks for them, as in .ci/run.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { cp } from "node:fs/promises";
import { MODES } from "../../bench/flags.ts";
import { BENCHES } from "../../bench/train/flags.ts";
import { LONG } from "../long.ts";

const ROOT = new URL("../../", import.meta.url);

/** Flags by mode; MODEL is a tiny model, DATA rows of two tasks. */
const SHORT: Readonly<Record<string, string>> = {
  "decode": "--model MODEL --rounds 1 --steps 2 --batches 1,2 --ranks 4",
  "overhead": "--model MODEL --rounds 1 --batches 1,2",
  "quality-base": "--model MODEL --dtype int8,fp32 --window 32 --windows 2",
  "answers": "--model MODEL --data DATA --rows 2",
  "train speed": "--model MODEL --rounds 1 --steps 1 --ranks 4 --data DATA",
  "train jobs": "--model MODEL --data DATA --jobs 2 --rows 4 --batch 2 --alone 1",
  "train quality": "--model MODEL --data DATA --methods core4 --seeds 0 --rates 1 --rows 4 " +
    "--epochs 1 --batch 2 --out DATA/quality.jsonl",
};
const WITH_SERVER: Readonly<Record<string, string>> = {
  "serve": "--rounds 1 --requests 4 --clients 2 --prompt 8 --output 2 --rank 4 " +
    "--popularity base,distinct:2",
  "train traffic": "--data DATA --clients 1 --requests 2 --prompt 8 --output 2",
  "cores": "--cores 24 --few 2 --rank 4 --rate 8 --requests 4 --rounds 1 --prompt 8 --output 2 " +
    "--loads 2 --only traffic,cold,bound --core-memory 64KiB",
  "flood": "--tenants 1 --rate 2 --prompt 8 --output 2 --clients 2 --flood-prompt 8 " +
    "--flood-output 4 --seconds 2 --rounds 1",
  "soak": "--requests 60 --clients 4 --every 20 --from 20 --tenants 2 --sets 1",
};

Deno.test("every mode of the bench is run by these tests", () => {
  const modes = [
    ...MODES,
    ...BENCHES.map((one) => `train ${one}`),
    "answers",
    "cores",
    "flood",
    "quality-base",
    "soak",
  ];
  const run = [...Object.keys(SHORT), ...Object.keys(WITH_SERVER), "peers"];
  assertEquals(run.toSorted(), modes.toSorted());
});

for (const [mode, flags] of Object.entries(SHORT)) {
  Deno.test(`bench ${mode} runs, and ends in a line of JSON`, () => runMode(mode, flags));
}
for (const [mode, flags] of Object.entries(WITH_SERVER)) {
  Deno.test({
    name: `bench ${mode} runs on the default base, and ends in a line of JSON`,
    ignore: !LONG,
    fn: () => runMode(mode, flags),
  });
}

Deno.test("bench peers says in one line what it lacks", async () => {
  await withInputs(async (fill) => {
    const line = fill("--model MODEL --rounds 1 --steps 2 --batches 1,2 --ranks 4");
    const python = await bench("peers", `${line} --python no-such-python`);
    assertEquals(python.code, 1);
    assertEquals(python.errors, [
      "Cannot measure llama.cpp: there is no Python 'no-such-python': pass --python PATH",
    ]);
  });
});

Deno.test({
  name: "bench peers runs beside llama.cpp where it can be had, or says in one line why it cannot",
  ignore: !LONG,
  fn: async () => {
    const flags = "--types shipped --rounds 1 --steps 2 --batches 1,2 --ranks 4 --only decode";
    const { code, output, errors } = await bench("peers", flags);
    if (code === 0) assertEquals(JSON.parse(output.at(-1) ?? "").mode, "peers");
    else assertMatch(errors.join("\n"), /^Cannot measure llama\.cpp: [^\n]*$/);
  },
});

Deno.test("a flag that is none is one line, not a stack", async () => {
  for (const mode of ["decode", "train speed", "answers", "cores", "flood", "soak"]) {
    const { code, errors } = await bench(mode, "--no-such-flag 1");
    assertEquals([code, errors.length], [1, 1], `${mode}: ${errors.join("\n")}`);
    assertMatch(errors[0] ?? "", /^Cannot bench: /);
  }
});

async function runMode(mode: string, flags: string): Promise<void> {
  await withInputs(async (fill) => {
    const { code, output, errors } = await bench(mode, fill(flags));
    assertEquals(code, 0, errors.join("\n"));
    const { machine, figures, ...rest } = JSON.parse(output.at(-1) ?? "");
    assertEquals(rest.mode, mode);
    assert(machine.cores > 0 && figures !== undefined, output.at(-1));
  });
}

interface Ended {
  readonly code: number;
  readonly output: readonly string[];
  readonly errors: readonly string[];
}

async function bench(
  mode: string,
  flags: string,
  env: Record<string, string> = {},
): Promise<Ended> {
  const words = `${mode} ${flags}`.split(" ");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "bench/main.ts", ...words],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
  }).output();
  return { code, output: linesIn(stdout), errors: linesIn(stderr) };
}

function linesIn(bytes: Uint8Array): readonly string[] {
  const text = new TextDecoder().decode(bytes).trimEnd();
  return text === "" ? [] : text.split("\n");
}

/** Gives `body` what puts a tiny model of 2,048 positions and rows of two tasks into flags. */
async function withInputs(body: (fill: (flags: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "lembas-bench-" });
  const [model, data] = [`${folder}/tiny`, `${folder}/data`];
  try {
    await cp(new URL("tests/fixtures/models/llama", ROOT), model, { recursive: true });
    const config = JSON.parse(await Deno.readTextFile(`${model}/config.json`));
    const wide = JSON.stringify({ ...config, "max_position_embeddings": 2048 });
    await Deno.writeTextFile(`${model}/config.json`, wide);
    await Deno.mkdir(data);
    for (const task of ["question", "polarity"]) {
      for (const part of ["train", "valid", "test"]) {
        await Deno.writeTextFile(`${data}/${task}.${part}.jsonl`, rowsOf(task));
      }
    }
    await body((flags) => flags.replaceAll("MODEL", model).replaceAll("DATA", data));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Six conversations that are answered with one of two words. */
function rowsOf(task: string): string {
  return Array.from({ length: 6 }, (_, i) => {
    const messages = [
      { role: "user", content: `A ${task} of number ${i}?` },
      { role: "assistant", content: i % 2 === 0 ? "yes" : "no" },
    ];
    return `${JSON.stringify({ messages })}\n`;
  }).join("");
}

/** The file of quality runs: what is in it is found again, and what a kill left torn is not. */
import { assertEquals, assertRejects } from "@std/assert";
import { readPeftRuns, RunFile, type TrialRun } from "../../../bench/train/runs.ts";
import { TrialStates } from "../../../bench/train/states.ts";

const RUN: TrialRun = {
  method: "core32",
  task: "question",
  rate: 0.5,
  seed: 1,
  rows: 64,
  epochs: 1,
  batch: 16,
  evaluated: 10,
  factors: "ab",
  parameters: 61_440,
  valid: { exact: 0.5, label: 0.6 },
  test: { exact: 0.5, label: 0.5 },
  rowsExact: "10",
  rowsLabel: "01",
};

Deno.test("a run on file is found by what it was, and by nothing else", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/runs.jsonl`;
    const file = await RunFile.open(path);
    assertEquals(file.find(RUN), undefined);
    await file.add(RUN);
    const again = await RunFile.open(path);
    assertEquals(again.find(RUN), RUN);
    for (const other of [{ rate: 1 }, { seed: 0 }, { rows: 65 }, { factors: "" }, { epochs: 2 }]) {
      assertEquals(again.find({ ...RUN, ...other }), undefined);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a line that was cut off in the middle is as if it were not there", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/runs.jsonl`;
    const torn = JSON.stringify({ ...RUN, seed: 2 }).slice(0, 40);
    await Deno.writeTextFile(path, `${JSON.stringify(RUN)}\n${torn}`);
    const file = await RunFile.open(path);
    assertEquals(file.find(RUN), RUN);
    await file.add({ ...RUN, seed: 2 });
    const again = await RunFile.open(path);
    assertEquals(again.find({ ...RUN, seed: 2 })?.seed, 2);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the peer's lines become runs, whatever it printed between them", async () => {
  const path = await Deno.makeTempFile();
  try {
    const { method: _, ...rest } = RUN;
    const line = JSON.stringify({ peer: "PEFT LoRA r=8", ...rest });
    await Deno.writeTextFile(path, `loading\n${line}\n`);
    const [run] = await readPeftRuns(path);
    assertEquals([run.method, run.rowsExact, run.rate], ["PEFT LoRA r=8", "10", 0.5]);
    await Deno.writeTextFile(path, `{"peer": "PEFT bfloat16", "tokensPerSecond": 9}\n`);
    await assertRejects(() => readPeftRuns(path), TypeError, "has no verdicts");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("a trial's checkpoint is found by that trial alone, until it is done", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const states = new TrialStates(`${directory}/runs.jsonl`);
    assertEquals(await states.read(RUN), undefined);
    await states.write(RUN, Uint8Array.of(1, 2));
    assertEquals(await states.read(RUN), Uint8Array.of(1, 2));
    assertEquals(await states.read({ ...RUN, rate: 9 }), undefined);
    await states.remove(RUN);
    assertEquals(await states.read(RUN), undefined);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

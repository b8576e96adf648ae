/**
 * Weights kept on disk: they say what weights in memory say, are made once, and never served where
 * they are not what was written.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { planOf } from "../../src/executor/base.ts";
import type { LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { WeightFiles } from "../../src/models/weight_files.ts";
import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { LONG } from "../long.ts";
import { preparedModel } from "./prepared.ts";

const WIDTH = 64;

/** A folder of prepared weights, opened again and again. */
class Home implements Disposable {
  readonly folder = Deno.makeTempDirSync();
  readonly device: Device = openDevice("cpu");
  readonly notices: string[] = [];
  made = 0;

  /** What the model says with the weights of this folder, and how many weights were made for it. */
  async start(plan?: LoweringPlan): Promise<{ said: Float32Array; made: number }> {
    const before = this.made;
    const files = await WeightFiles.open({
      device: this.device,
      folder: this.folder,
      progress: () => this.made++,
      notice: (text) => this.notices.push(text),
    });
    const weights = new DeviceWeights(this.device, files);
    const said = await preparedModel(WIDTH, plan).run(this.device, weights);
    weights.release();
    return { said, made: this.made - before };
  }

  /** The files of the one part that there is. */
  files(): string[] {
    const [part] = [...Deno.readDirSync(this.folder)].filter(({ isDirectory }) => isDirectory);
    assert(part !== undefined);
    const folder = `${this.folder}/${part.name}`;
    return [...Deno.readDirSync(folder)].map(({ name }) => `${folder}/${name}`).sort();
  }

  [Symbol.dispose](): void {
    this.device.release();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

async function inMemory(plan?: LoweringPlan): Promise<Float32Array> {
  using device = openDevice("cpu");
  const weights = new DeviceWeights(device);
  try {
    return await preparedModel(WIDTH, plan).run(device, weights);
  } finally {
    weights.release();
  }
}

for (const dtype of ["int8", "int4", "fp32"] as const) {
  for (const maxBatch of [1, 4]) {
    Deno.test(`${dtype}, batch ${maxBatch}: prepared weights say the bits that weights in memory say`, async () => {
      using home = new Home();
      const plan = planOf({ dtype, maxBatch });
      const expected = await inMemory(plan);
      const first = await home.start(plan);
      const second = await home.start(plan);
      assertEquals([first.said, second.said], [expected, expected]);
      assert(first.made > 4);
      assertEquals(second.made, 0);
    });
  }
}

/** Changes one byte in the middle of a file, and nothing else that a listing shows. */
async function flip(path: string): Promise<void> {
  const { mtime, atime } = await Deno.stat(path);
  const bytes = await Deno.readFile(path);
  bytes[bytes.length >> 1] ^= 1;
  await Deno.writeFile(path, bytes);
  if (mtime !== null && atime !== null) await Deno.utime(path, atime, mtime);
}

const DAMAGES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  "changed in one bit": flip,
  truncated: async (path) => await Deno.truncate(path, (await Deno.stat(path)).size - 1),
  "emptied": async (path) => await Deno.truncate(path, 0),
  "gone": async (path) => await Deno.remove(path),
};

for (const [name, damage] of Object.entries(DAMAGES)) {
  Deno.test(`a file that was ${name} is refused, said, and made again`, async () => {
    using home = new Home();
    const { said, made } = await home.start();
    const files = home.files().filter((path) => !path.endsWith("stamps.json"));
    assert(files.length >= 5);
    for (const path of files) {
      await damage(path);
      const again = await home.start();
      assertEquals(again, { said, made }, path);
      assertStringIncludes(home.notices.pop() ?? "", "made again");
    }
  });
}

Deno.test("a part that was copied, or whose stamps are lost, is checked and taken", async () => {
  using home = new Home();
  const { said } = await home.start();
  for (const path of home.files()) {
    if (path.endsWith(".bin")) await Deno.writeFile(path, await Deno.readFile(path));
  }
  assertEquals(await home.start(), { said, made: 0 });
  const stamps = home.files().find((path) => path.endsWith("stamps.json")) ?? "";
  await Deno.remove(stamps);
  assertEquals(await home.start(), { said, made: 0 });
  assert((await Deno.stat(stamps)).isFile);
  assertEquals(home.notices, []);
});

Deno.test("weights that another graph wants besides become a part of their own", async () => {
  using home = new Home();
  await home.start();
  const eight = await home.start(planOf({ dtype: "int8", maxBatch: 1 }));
  assert(eight.made > 0);
  assertEquals([...Deno.readDirSync(home.folder)].filter((e) => e.isDirectory).length, 2);
  assertEquals((await home.start()).made, 0);
});

Deno.test("where the disk has no room, one sentence says how much is wanted", async () => {
  using home = new Home();
  const { lowered } = preparedModel(WIDTH);
  const make = () => new Float32Array();
  const weight = { dtype: "float32", shape: [2 ** 20, 2 ** 30], make } as const;
  const huge = { ...lowered, weights: new Map([["model.huge.weight", weight]]), packing: () => [] };
  const files = await WeightFiles.open({ device: home.device, folder: home.folder });
  const error = await assertRejects(() => files.place([huge]), Error);
  assertStringIncludes(error.message, "they take up to 10240 TiB");
  assertStringIncludes(error.message, "set LEMBAS_HOME");
});

interface Started {
  readonly made: boolean;
  readonly said: string;
}

function start(folder: string, width: number): Deno.ChildProcess {
  const worker = new URL("./weight_files_worker.ts", import.meta.url).pathname;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", worker, folder, String(width)],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

async function outcome(child: Deno.ChildProcess): Promise<Started> {
  const { success, stdout } = await child.output();
  assert(success);
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test("of two that start at once one makes the weights, and both say the same", async () => {
  const folder = await Deno.makeTempDir();
  const both = await Promise.all([0, 1].map(() => outcome(start(folder, 512))));
  assertEquals(both.map(({ made }) => made).sort(), [false, true]);
  assertEquals(both[0].said, both[1].said);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("killed while weights are made, again and again, the next start is right", async () => {
  const [whole, killed] = [await Deno.makeTempDir(), await Deno.makeTempDir()];
  const width = 1024;
  const began = performance.now();
  const expected = await outcome(start(whole, width));
  const time = performance.now() - began;
  const kills = LONG ? 20 : 3;
  for (let i = 0; i < kills; i++) {
    const child = start(killed, width);
    await new Promise((resolve) => setTimeout(resolve, time * (0.2 + 0.8 * i / kills)));
    try {
      child.kill("SIGKILL");
    } catch (error) {
      // it was through already
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
    await child.output();
  }
  assertEquals((await outcome(start(killed, width))).said, expected.said);
  for (const folder of [whole, killed]) await Deno.remove(folder, { recursive: true });
});

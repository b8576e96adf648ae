/**
 * A tiny real model with a LoRA as a teacher: what it says of rows, on whose answers, kept part by part;
 * and a core that is trained on it comes near to the LoRA.
 */
import { assert, assertAlmostEquals, assertEquals, assertLess, assertRejects } from "@std/assert";
import { BaseTrainer } from "../../../../adapters/training/base_trainer.ts";
import type { TrainRequest, TrainResult } from "../../../../adapters/training/training.ts";
import { DEFAULT_HYPERPARAMETERS } from "../../../../adapters/training/hyperparameters.ts";
import {
  type OpenedTeacher,
  openTeacher,
} from "../../../../adapters/training/distillation/open_teacher.ts";
import {
  type Following,
  heldMass,
  type Shelf,
  taughtRows,
} from "../../../../adapters/training/distillation/taught_rows.ts";
import { readTaught, writeTaught } from "../../../../adapters/training/distillation/taught_file.ts";
import { stackOf } from "../../../../adapters/lotr/stack.ts";
import { DeviceLock } from "../../../../src/runtime/device_lock.ts";
import type { Example } from "../../../../src/train/gradients/model.ts";
import { randomPrompt, Tiny } from "../../../engine/tiny.ts";
import { smallLora } from "../../lora/small_loras.ts";

const FOLLOWING: Following = { on: "sampled", count: 8, temperature: 1, maxTokens: 12, seed: 3 };

/** A tiny llama and a LoRA of it as a teacher. */
class School implements AsyncDisposable {
  private constructor(
    readonly tiny: Tiny,
    readonly opened: OpenedTeacher,
    readonly lock: DeviceLock,
    readonly parts: Map<string, Uint8Array<ArrayBuffer>>,
    readonly directory: string,
  ) {}

  static async open(): Promise<School> {
    const tiny = await Tiny.open("llama");
    const directory = await Deno.makeTempDir();
    const stack = stackOf(tiny.digest, tiny.checkpoint.config);
    await Deno.writeFile(`${directory}/lora.safetensors`, smallLora(stack, 5));
    const lock = new DeviceLock();
    const source = { teacher: `${directory}/lora.safetensors`, directory };
    const { base, checkpoint } = tiny;
    const opened = await openTeacher(source, { base, checkpoint, lock });
    return new School(tiny, opened, lock, new Map(), directory);
  }

  taught(
    rows: readonly Example[],
    following: Partial<Following> = {},
    more: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {},
  ) {
    return taughtRows(rows, {
      teacher: this.opened.teacher,
      following: { ...FOLLOWING, ...following },
      base: this.tiny.digest,
      shelf: (digest) => this.shelf(digest),
      ...more,
    });
  }

  shelf(digest: string): Shelf {
    return {
      read: (part) => Promise.resolve(this.parts.get(`${digest}/${part}`)),
      write: (part, bytes) => Promise.resolve(void this.parts.set(`${digest}/${part}`, bytes)),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.opened[Symbol.asyncDispose]();
    this.tiny[Symbol.dispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

function prompts(count: number): Example[] {
  return Array.from({ length: count }, (_, i) => {
    const tokens = Int32Array.from(randomPrompt(4 + i % 5, i));
    return { tokens, weights: new Float32Array(tokens.length), line: i + 1 };
  });
}

/** Prompts with an answer of three tokens. */
function answered(count: number): Example[] {
  return prompts(count).map(({ tokens, line }) => {
    const whole = Int32Array.from([...tokens, ...randomPrompt(3, line + 100)]);
    const weights = Float32Array.from(whole, (_, i) => i < tokens.length ? 0 : 1);
    return { tokens: whole, weights, line };
  });
}

Deno.test("a teacher's shares fall, name each token once, and sum to 1 with the rest", async () => {
  await using school = await School.open();
  const rows = await school.taught(answered(3), { on: "given" });
  assertEquals(rows.map(({ tokens }) => tokens), answered(3).map(({ tokens }) => tokens));
  for (const { teaching } of rows) {
    assert(teaching !== undefined);
    const { count, shares, tokens } = teaching;
    assertEquals([count, tokens.length, shares.length], [8, 3 * 8, 3 * 9]);
    for (let position = 0; position < 3; position++) {
      const own = Array.from(shares.subarray(9 * position, 9 * position + 9));
      assertAlmostEquals(own.reduce((sum, share) => sum + share, 0), 1, 1e-6);
      own.slice(1, 8).forEach((share, i) => assert(share <= own[i]));
      assertEquals(new Set(tokens.subarray(8 * position, 8 * position + 8)).size, 8);
    }
  }
  const mass = heldMass(rows);
  assert(mass > 8 / 128 && mass < 1, `${mass}`);
});

Deno.test("rows are followed on their answers, on the teacher's, or on both", async () => {
  await using school = await School.open();
  const mixed = [...answered(2), ...prompts(3).slice(2)];
  const lines = async (on: Following["on"]) =>
    (await school.taught(mixed, { on })).map(({ line, tokens }) => `${line}:${tokens.length}`);
  const given = mixed.slice(0, 2).map(({ line, tokens }) => `${line}:${tokens.length}`);
  const both = await lines("both");
  assertEquals(both.length, 5);
  assertEquals([both[0], both[2]], given);
  assertEquals((await lines("auto")).slice(0, 2), given);
  assertEquals((await lines("sampled")).length, 3);
  await assertRejects(() => lines("given"), RangeError, "line 3: it has no answer");
  for (const { tokens, weights, teaching } of await school.taught(mixed)) {
    const first = weights.findIndex((weight) => weight > 0);
    assertEquals(weights.subarray(first).every((weight) => weight === 1), true);
    assertEquals(teaching?.tokens.length, 8 * (tokens.length - first));
  }
});

Deno.test("parts that were made are not made again, and what is kept is kept to the last bit", async () => {
  await using school = await School.open();
  const rows = prompts(70);
  const end = new AbortController();
  const onProgress = (done: number) => done >= 32 && end.abort();
  await assertRejects(
    () => school.taught(rows, {}, { signal: end.signal, onProgress }),
    DOMException,
  );
  assertEquals(school.parts.size, 1);
  const [[name, kept]] = school.parts;
  const went: number[] = [];
  const taught = await school.taught(rows, {}, { onProgress: (done) => went.push(done) });
  assertEquals([went, school.parts.size], [[32, 64, 70], 3]);
  assertEquals(school.parts.get(name), kept);
  const digest = name.slice(0, 64);
  assertEquals(readTaught(writeTaught(taught, digest), digest), taught);
  assertEquals(await school.taught(rows), taught);
  await assertRejects(
    () => Promise.resolve().then(() => readTaught(kept, "0".repeat(64))),
    TypeError,
    "is wanted",
  );
});

/** Trains a core of rank 32 over six linears of each layer. */
async function follow(
  { tiny, lock }: School,
  rows: readonly Example[],
  request: Partial<TrainRequest> = {},
): Promise<TrainResult> {
  await using training = new BaseTrainer(tiny.base.shared, { turn: () => lock.take(1) });
  const modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"] as const;
  return await training.trainer.train({
    train: rows.slice(8),
    valid: rows.slice(0, 8),
    factors: tiny.factors(32, modules),
    hyperparameters: {
      ...DEFAULT_HYPERPARAMETERS,
      ...{ rank: 32, epochs: 10, batchSize: 16, learningRateMultiplier: 2 },
    },
    ...request,
  });
}

Deno.test("a core comes near to a LoRA, and one that was cut off becomes the same", async () => {
  await using school = await School.open();
  // judged by other answers to the same prompts
  const rows = [
    ...await school.taught(prompts(8), { seed: 4 }),
    ...await school.taught(prompts(64)),
  ];
  const whole = await follow(school, rows);
  assertEquals(whole.refused, undefined);
  // random weights turned by a random LoRA: much of it lies outside of the core's factors
  assertLess(whole.best.loss, 0.7 * whole.base.loss);
  assert(whole.best.accuracy >= whole.base.accuracy);
  const end = new AbortController();
  const saved: Uint8Array[] = [];
  await assertRejects(() =>
    follow(school, rows, {
      signal: end.signal,
      checkpointEvery: 5,
      onCheckpoint: ({ bytes, step }) => {
        saved.push(bytes);
        if (step >= 20) end.abort();
        return Promise.resolve();
      },
    })
  );
  const resumed = await follow(school, rows, { resume: saved[saved.length - 1] });
  assertEquals(resumed.core.digest, whole.core.digest);
  await assertRejects(
    () => follow(school, answered(56), { resume: saved[saved.length - 1] }),
    TypeError,
    "the data of the checkpoint",
  );
  await assertRejects(
    () => follow(school, [...rows.slice(0, 20), ...answered(4)]),
    RangeError,
    "some rows are taught",
  );
});

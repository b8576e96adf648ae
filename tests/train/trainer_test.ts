/** Many jobs over one model: shared equals alone, resuming is exact, failures stay where they are. */
import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "@std/assert";
import type { JobPlan, JobState } from "../../src/train/job.ts";
import type { Example, MicroBatch } from "../../src/train/gradients/model.ts";
import { streamKey, uniformOf } from "../../src/util/random.ts";
import { Trainer } from "../../src/train/trainer.ts";
import { fakeExamples, FakeGradientModel } from "../fakes/gradient_model.ts";
import { planOf, runAlone } from "./fake_plan.ts";

function trainerOf(model: FakeGradientModel): Trainer {
  return new Trainer(model, { now: () => 0 });
}

function assertClose(actual: JobState, expected: JobState, tolerance = 1e-4): void {
  actual.parameters.forEach((value, i) => {
    const difference = Math.abs(value - expected.parameters[i]);
    assertLess(difference, tolerance, `parameter ${i}`);
  });
  assertEquals(actual.step, expected.step);
}

Deno.test("a job alone gives the same bits and the same micro-batches each time", async () => {
  const [one, two] = [await runAlone(planOf()), await runAlone(planOf())];
  assertEquals(one.state, two.state);
  assertEquals(one.model.batches, two.model.batches);
});

Deno.test("a micro-batch keeps to the model's tokens, a longer row is alone", async () => {
  const model = new FakeGradientModel({ maxTokens: 8 });
  // The fake itself refuses what is too large.
  const state = await trainerOf(model).run(planOf());
  assertEquals(state.step, 12);
  const longest = ({ rows }: MicroBatch) => Math.max(...rows.map((r) => r.example.tokens.length));
  assert(model.batches.some((batch) => longest(batch) > 8));
});

Deno.test("jobs of other data, ranks, rates and lengths share micro-batches, each as if alone", async () => {
  const plans = [
    planOf(),
    planOf({ seed: 4, rate: 0.05, epochs: 3 }),
    planOf({ seed: 5, rank: 2, start: new Float32Array(16), batchSize: 3, clip: 0.1 }),
    planOf({ seed: 6, rows: 5, batchSize: 2, schedule: "linear", weightDecay: 0 }),
  ];
  const model = new FakeGradientModel({ maxTokens: 96 });
  const trainer = trainerOf(model);
  const together = await Promise.all(plans.map((plan) => trainer.run(plan)));
  assertGreater(Math.max(...model.batches.map(({ trainables }) => trainables.length)), 2);
  for (const [i, plan] of plans.entries()) assertClose(together[i], (await runAlone(plan)).state);
  assertEquals(trainer.running, 0);
});

Deno.test("sharing needs fewer micro-batches than one job after the other", async () => {
  const plans = Array.from({ length: 8 }, (_, seed) => planOf({ seed }));
  const shared = new FakeGradientModel({ maxTokens: 256 });
  const trainer = trainerOf(shared);
  await Promise.all(plans.map((plan) => trainer.run(plan)));
  let alone = 0;
  for (const plan of plans) alone += (await runAlone(plan)).model.batches.length;
  assertLess(shared.batches.length, alone / 3);
});

/** Waits a drawn number of turns of the event loop, so that jobs interleave differently. */
async function wander(key: number, counter: number): Promise<void> {
  const turns = Math.floor(uniformOf(key, counter) * 4);
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("jobs that come and go at random times change no other's result", async () => {
  for (let seed = 0; seed < 6; seed++) {
    const key = streamKey(seed, 0);
    let counter = 0;
    const model = new FakeGradientModel({
      maxTokens: 40 + 20 * seed,
      before: () => wander(key, counter++),
    });
    const trainer = trainerOf(model);
    const plans = [1, 2, 3, 4].map((i) => planOf({ seed: 10 * seed + i, epochs: 1 + i % 3 }));
    const states = await Promise.all(plans.map(async (plan, i) => {
      await wander(key, 1000 + 7 * i);
      await wander(key, 1001 + 7 * i);
      const stop = new AbortController();
      if (i === 3) setTimeout(() => stop.abort(), 3);
      const onState = () => wander(key, 2000 + counter);
      return await trainer.run(plan, { signal: stop.signal, onState }).catch(() => undefined);
    }));
    for (const [i, state] of states.entries()) {
      if (state !== undefined) assertClose(state, (await runAlone(plans[i])).state);
    }
    assertEquals([trainer.running, states.slice(0, 3).includes(undefined)], [0, false]);
  }
});

/** All states that a run writes, at every step. */
async function statesOf(plan: JobPlan): Promise<{ states: JobState[]; end: JobState }> {
  const states: JobState[] = [];
  const onState = (state: JobState) => {
    states.push(state);
    return Promise.resolve();
  };
  const { state: end } = await runAlone(plan, { onState, stateEvery: 1 });
  return { states, end };
}

Deno.test("a job that goes on from any of its steps ends in the same bits", async () => {
  const plan = planOf({ patience: 3, epochs: 3 });
  const { states, end } = await statesOf(plan);
  assertEquals(states.map(({ step }) => step), Array.from({ length: 18 }, (_, i) => i + 1));
  for (const from of states) assertEquals((await runAlone(plan, { from })).state, end);
});

Deno.test("a job that ended is not run again", async () => {
  const { state, model } = await runAlone(planOf());
  const again = await runAlone(planOf(), { from: state });
  assertEquals([again.state, again.model.batches.length], [state, 0]);
  assertGreater(model.batches.length, 0);
});

Deno.test("states are written after each evaluation, every so many steps, and awaited", async () => {
  const model = new FakeGradientModel();
  const heard: string[] = [];
  await trainerOf(model).run(planOf(), {
    stateEvery: 4,
    onEvent: ({ type }) => heard.push(type),
    onState: async ({ step }) => {
      heard.push(`write ${step}`);
      await new Promise((resolve) => setTimeout(resolve, 1));
      heard.push("written");
    },
  });
  const one = (step: number) => `write ${step} written`;
  assertEquals(
    heard.join(" "),
    `base step step step step ${one(4)} step step evaluation ${one(6)} ` +
      `step step step step ${one(10)} step step evaluation ${one(12)}`,
  );
});

Deno.test("work older than half a minute is written between evaluations", async () => {
  const model = new FakeGradientModel();
  let clock = 0;
  const written: number[] = [];
  await new Trainer(model, { now: () => clock }).run(planOf(), {
    onEvent: ({ type }) => clock += type === "step" ? 16_000 : 0,
    onState: ({ step }) => Promise.resolve(void written.push(step)),
  });
  assertEquals(written, [2, 4, 6, 8, 10, 12]);
});

Deno.test("while one job writes its state the others train on", async () => {
  const model = new FakeGradientModel();
  const trainer = trainerOf(model);
  const gate = Promise.withResolvers<void>();
  const slow = trainer.run(planOf(), { onState: () => gate.promise });
  await trainer.run(planOf({ seed: 4, epochs: 5 }));
  assertEquals(trainer.running, 1);
  gate.resolve();
  assertEquals((await slow).step, 12);
});

Deno.test("an aborted job writes its last whole step, and going on from it gives the same bits", async () => {
  const plan = planOf();
  const { state: end } = await runAlone(plan);
  for (const at of [0, 1, 4, 6, 7, 12]) {
    const stop = new AbortController();
    let last: JobState | undefined;
    const error = await assertRejects(() =>
      runAlone(plan, {
        signal: stop.signal,
        onEvent: (event) => {
          if (event.type === "base" ? at === 0 : "step" in event && event.step === at) stop.abort();
        },
        onState: (state) => Promise.resolve(void (last = state)),
      }), DOMException);
    assertEquals(error.name, "AbortError");
    assert(last !== undefined);
    assertEquals(last.step, at);
    assertEquals((await runAlone(plan, { from: last })).state, end);
  }
});

Deno.test("an abort in the midst of a micro-batch writes the last whole step", async () => {
  const plan = planOf();
  const stop = new AbortController();
  let [runs, last] = [0, 0];
  const model = new FakeGradientModel({
    before: (_, kind) => {
      if (kind === "gradients" && ++runs === 4) stop.abort();
    },
  });
  const onState = ({ step }: JobState) => Promise.resolve(void (last = step));
  const job = trainerOf(model).run(plan, { signal: stop.signal, onState });
  await assertRejects(() => job, DOMException);
  assertEquals([runs, last], [4, 3]);
});

Deno.test("an abort ends a shared micro-batch only where all of its jobs abort", async () => {
  for (const aborting of [[0], [0, 1]]) {
    const stops = [new AbortController(), new AbortController()];
    const plans = [planOf({ seed: 0 }), planOf({ seed: 1 })];
    const trained: Example[] = [];
    let shared = 0;
    const model = new FakeGradientModel({
      before: ({ trainables, rows }, kind) => {
        if (kind === "losses") return;
        trained.push(...rows.map(({ example }) => example));
        if (trainables.length < 2) return;
        shared++;
        for (const i of aborting) stops[i].abort();
      },
    });
    const trainer = trainerOf(model);
    const jobs = plans.map((plan, i) => trainer.run(plan, { signal: stops[i].signal }));
    await assertRejects(() => jobs[0], DOMException);
    if (aborting.length === 2) await assertRejects(() => jobs[1], DOMException);
    else {
      assertClose(await jobs[1], (await runAlone(plans[1])).state);
      const own = trained.filter((example) => plans[1].train.includes(example));
      assertEquals(own.length, 2 * plans[1].train.length, "a row was run in vain");
    }
    assertEquals([shared, trainer.running], [1, 0]);
  }
});

Deno.test("a job aborted before it starts runs nothing", async () => {
  const model = new FakeGradientModel();
  const signal = AbortSignal.abort();
  await assertRejects(() => trainerOf(model).run(planOf(), { signal }), DOMException);
  assertEquals(model.batches.length, 0);
});

Deno.test("a row that the model cannot run fails its own job, not its neighbours", async () => {
  const poison = planOf({ seed: 4 });
  const bad = new Set(poison.train.slice(0, 1));
  const model = new FakeGradientModel({
    before: ({ rows }, kind) => {
      const found = rows.some(({ example }) => bad.has(example));
      if (kind === "gradients" && found) throw new Error("Cannot run this row");
    },
  });
  const trainer = trainerOf(model);
  const [sound, broken] = await Promise.allSettled([trainer.run(planOf()), trainer.run(poison)]);
  assert(broken.status === "rejected" && broken.reason.message === "Cannot run this row");
  assert(sound.status === "fulfilled");
  assertClose(sound.value, (await runAlone(planOf())).state);
});

Deno.test("a device that fails fails its jobs; the trainer goes on with the next", async () => {
  let broken = true;
  const model = new FakeGradientModel({
    before: () => {
      if (broken) throw new Error("the device is lost");
    },
  });
  const trainer = trainerOf(model);
  const jobs = [planOf(), planOf({ seed: 4 })].map((plan) => trainer.run(plan));
  for (const job of jobs) await assertRejects(() => job, Error, "the device is lost");
  broken = false;
  assertEquals((await trainer.run(planOf())).step, 12);
});

Deno.test("a hook that throws ends its own job", async () => {
  const trainer = trainerOf(new FakeGradientModel());
  const fail = () => {
    throw new Error("the disk is full");
  };
  const jobs = [
    trainer.run(planOf(), { onState: () => Promise.reject(new Error("the disk is full")) }),
    trainer.run(planOf(), { onEvent: fail }),
  ];
  const sound = trainer.run(planOf({ seed: 4 }));
  for (const job of jobs) await assertRejects(() => job, Error, "the disk is full");
  assertEquals((await sound).step, 12);
});

Deno.test("a job of long rows takes no more than its share beside one of short rows", async () => {
  const long = planOf({ train: fakeExamples(60, { longest: 30, seed: 8 }), batchSize: 20 });
  const short = planOf({ seed: 4, epochs: 6 });
  const tokens = new Map<number, number>();
  const model = new FakeGradientModel({ maxTokens: 60 });
  const trainer = trainerOf(model);
  const shares: number[] = [];
  const [first] = [
    trainer.run(long),
    trainer.run(short, {
      onEvent: (event) => {
        if (event.type !== "step" || event.step % 6 !== 0) return;
        for (const { rows } of model.batches.splice(0)) {
          for (const { example } of rows) {
            const whose = long.train.includes(example) || long.evaluated.includes(example) ? 0 : 1;
            tokens.set(whose, (tokens.get(whose) ?? 0) + example.tokens.length);
          }
        }
        if (trainer.running === 2) shares.push((tokens.get(0) ?? 0) / (tokens.get(1) ?? 1));
      },
    }),
  ];
  await first;
  assertGreater(shares.length, 1);
  for (const share of shares) assert(share > 0.5 && share < 2, `${shares}`);
});

Deno.test("a job that comes late does not hold up the others until it has caught up", async () => {
  const [early, late] = [planOf({ epochs: 6 }), planOf({ seed: 4 })];
  // Rows hardly ever fit together, so that each turn is one job's.
  const model = new FakeGradientModel({ maxTokens: 12 });
  const trainer = trainerOf(model);
  let other: Promise<JobState> | undefined;
  let joined = 0;
  await trainer.run(early, {
    onEvent: (event) => {
      if (event.type !== "step" || event.step !== 24) return;
      joined = model.batches.length;
      other = trainer.run(late);
    },
  });
  const next = model.batches.slice(joined, joined + 20).flatMap(({ rows }) => rows);
  const rows = new Set([...early.train, ...early.evaluated]);
  const own = next.filter(({ example }) => rows.has(example)).length;
  assert(own > 5 && own < next.length - 5, `${own} of ${next.length} rows`);
  await other;
});

Deno.test("rows too long or without loss are refused by their line", async () => {
  const run = (plan: JobPlan) => trainerOf(new FakeGradientModel({ maxContext: 12 })).run(plan);
  const [row] = fakeExamples(1);
  const long = { ...row, tokens: new Int32Array(13), weights: new Float32Array(13), line: 7 };
  await assertRejects(() => run(planOf({ train: [row, long] })), RangeError, "line 7: it has 13");
  const mute = { ...row, weights: row.weights.map(() => 0), line: 9 };
  await assertRejects(() => run(planOf({ evaluated: [mute] })), RangeError, "line 9: none");
  await assertRejects(() => run(planOf({ evaluated: [] })), RangeError, "at least one of each");
});

/** The state machine of a job: rows and steps, the best step, patience, rollbacks. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  DivergedError,
  MOST_ROLLBACKS,
  stepsOf,
  type TrainingEvent,
  workOf,
} from "../../src/train/job.ts";
import { answer, byHand, planOf, runAlone } from "./fake_plan.ts";

function typesOf(events: readonly TrainingEvent[]): string[] {
  return events.map(({ type }) => type);
}

Deno.test("a job learns: loss falls, accuracy rises, from the base's own", async () => {
  const { state } = await runAlone(planOf({ epochs: 4 }));
  assert(state.base !== undefined && state.best !== undefined);
  assert(state.best.evaluation.loss < state.base.loss - 0.5);
  assert(state.best.evaluation.accuracy > state.base.accuracy + 0.2);
});

Deno.test("base, steps and evaluations come in their order and number", async () => {
  const { events, state } = await runAlone(planOf());
  assertEquals(
    typesOf(events).join(" "),
    [
      "base step step step step step step evaluation",
      "step step step step step step evaluation",
    ].join(" "),
  );
  const epochs = events.flatMap((event) => event.type === "step" ? [event.epoch] : []);
  assertEquals(epochs, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
  assertEquals([state.step, state.losses.length], [12, 12]);
});

Deno.test("each epoch trains on every row once, in an order of its own", () => {
  const plan = planOf();
  const run = byHand(plan);
  answer(run, 2);
  const seen: number[][] = [];
  while (run.kind !== "none") {
    const work = workOf(plan, run.state);
    if (work.type === "step") seen.push(work.rows.map(({ line }) => line));
    answer(run, 2);
  }
  const [first, second] = [seen.slice(0, 6).flat(), seen.slice(6).flat()];
  const lines = plan.train.map(({ line }) => line);
  assertEquals([first, second].map((epoch) => epoch.toSorted((a, b) => a - b)), [lines, lines]);
  assert(first.join() !== second.join());
});

Deno.test("a step's loss, accuracy and norm are means over its rows' weights and tokens", () => {
  const run = byHand(planOf());
  answer(run, 3);
  const rows = run.waiting;
  const results = rows.map((row, i) => ({
    row,
    loss: { loss: i + 1, weight: 2, hits: 1, tokens: 4 },
  }));
  const gradient = new Float32Array(run.plan.start.length);
  gradient[0] = 16;
  assertEquals(run.take(results.slice(0, 1), gradient), []);
  assertEquals(run.waiting.length, 3);
  const [event] = run.take(results.slice(1), gradient);
  assert(event.type === "step");
  assertAlmostEquals(event.loss, (1 + 2 + 3 + 4) / 8, 1e-12);
  assertAlmostEquals(event.accuracy, 0.25, 1e-12);
  assertAlmostEquals(event.gradientNorm, 32 / 8, 1e-6);
  assertEquals(event.tokens, rows.reduce((sum, row) => sum + row.example.tokens.length, 0));
});

Deno.test("a step split over micro-batches is the step in one", () => {
  const [whole, split] = [byHand(planOf()), byHand(planOf())];
  answer(whole, 2);
  answer(split, 2);
  answer(whole, 2);
  const gradient = new Float32Array(split.plan.start.length).fill(1);
  for (const row of [...split.waiting].reverse()) {
    split.take([{ row, loss: { loss: 2, weight: 1, hits: 0, tokens: 1 } }], gradient);
  }
  assertEquals(split.state, whole.state);
});

Deno.test("the best evaluated parameters are kept, not the last", () => {
  const run = byHand(planOf({ epochs: 3 }));
  answer(run, 3);
  const evaluated = [2, 1, 1.5];
  let parameters = run.state.parameters;
  while (run.kind !== "none") {
    const at = run.state.step;
    if (run.kind === "step") answer(run, 2, at % 3 - 1);
    else {
      if (at === 12) parameters = run.state.parameters;
      answer(run, evaluated.shift() ?? 0);
    }
  }
  assertEquals(run.state.best?.step, 12);
  assertEquals(run.state.best?.evaluation.loss, 1);
  assertEquals(run.state.best?.parameters, parameters);
  assert(run.state.parameters.some((value, i) => value !== parameters[i]));
});

Deno.test("patience ends a job after so many evaluations without a better one", () => {
  const run = byHand(planOf({ epochs: 9, patience: 2 }));
  answer(run, 3);
  const evaluated = [2, 2.5, 1.9, 2, 1.9];
  const events: TrainingEvent[] = [];
  while (run.kind !== "none") {
    events.push(...answer(run, run.kind === "step" ? 2 : evaluated.shift() ?? 0));
  }
  assertEquals(evaluated, []);
  const last = events.at(-1);
  assert(last?.type === "stopped");
  assertEquals(last.reason, "no better evaluation in 2 since step 18");
  assertEquals([last.step, run.state.stopped], [30, last.reason]);
});

Deno.test("patience of 0 never ends a job", () => {
  const run = byHand(planOf({ epochs: 5 }));
  for (let loss = 3; run.kind !== "none"; loss += run.kind === "evaluation" ? 0.01 : 0) {
    answer(run, loss);
  }
  assertEquals(run.state.step, stepsOf(run.plan));
});

Deno.test("a loss that is NaN takes parameters and moments back to the best step, at half the rate", () => {
  const run = byHand(planOf({ schedule: "constant", warmup: 0 }));
  answer(run, 3);
  while (run.state.best === undefined) answer(run, 2, run.state.step % 2 + 1);
  const { best } = run.state;
  answer(run, 1);
  const events = answer(run, NaN);
  assertEquals(typesOf(events), ["step", "rollback"]);
  assertEquals(run.state.parameters, best.parameters);
  assertEquals(run.state.optimizer, best.optimizer);
  assertEquals([run.state.step, run.state.losses.at(-1)], [best.step + 2, NaN]);
  const [event] = answer(run, 1);
  assert(event.type === "step");
  assertAlmostEquals(event.learningRate, 0.1, 1e-12);
});

Deno.test("before any evaluation a rollback goes to the start", () => {
  for (const [loss, gradient] of [[Infinity, 1], [1, NaN], [1, Infinity]]) {
    const run = byHand(planOf());
    answer(run, 3);
    answer(run, 2);
    const [, rollback] = answer(run, loss, gradient);
    assert(rollback.type === "rollback" && rollback.reason.includes("back to the start"));
    assertEquals(run.state.parameters, run.plan.start);
    assertEquals(run.state.optimizer.updates, 0);
  }
});

Deno.test("an evaluation far above the base's loss has diverged", () => {
  const run = byHand(planOf());
  answer(run, 2);
  while (run.kind === "step") answer(run, 2);
  const events = answer(run, 3.51);
  assertEquals(typesOf(events), ["evaluation", "rollback"]);
  assertEquals(run.state.parameters, run.plan.start);
  assertEquals(run.state.best, undefined);
  assertEquals(run.kind, "step");
});

Deno.test("a step whose loss jumps asks for an evaluation ahead of its time", () => {
  const run = byHand(planOf({ rows: 80, epochs: 1 }));
  answer(run, 2);
  for (let i = 0; i < 5; i++) answer(run, 0.5);
  assertEquals(run.kind, "step");
  answer(run, 2.1);
  assertEquals([run.kind, run.state.step], ["evaluation", 6]);
  answer(run, 1);
  assertEquals([run.kind, run.state.best?.step], ["step", 6]);
});

Deno.test("a job that keeps diverging fails where it was never better than the base", () => {
  const run = byHand(planOf({ epochs: 9 }));
  answer(run, 2);
  for (let i = 0; i < MOST_ROLLBACKS; i++) answer(run, NaN);
  const error = assertThrows(() => answer(run, NaN), DivergedError);
  assert(error.message.includes("multiplier may help"), error.message);
});

Deno.test("a job that keeps diverging fails where its best is no better than the base", () => {
  const run = byHand(planOf({ epochs: 9 }));
  answer(run, 2);
  while (run.kind === "step") answer(run, 2);
  answer(run, 2.1);
  for (let i = 0; i < MOST_ROLLBACKS; i++) answer(run, NaN);
  assertThrows(() => answer(run, NaN), DivergedError);
});

Deno.test("a job that keeps diverging keeps its best where that is better than the base", () => {
  const run = byHand(planOf({ epochs: 9 }));
  answer(run, 2);
  while (run.kind === "step") answer(run, 2);
  answer(run, 1.5);
  const events: TrainingEvent[] = [];
  while (run.kind !== "none") events.push(...answer(run, NaN));
  assertEquals(events.filter(({ type }) => type === "rollback").length, MOST_ROLLBACKS);
  assert(run.state.stopped?.endsWith("the core of step 6 is kept"));
  assertEquals(run.state.best?.step, 6);
});

Deno.test("a base whose own loss is not finite is not trained", () => {
  assertThrows(() => answer(byHand(planOf()), NaN), DivergedError, "base's own loss");
});

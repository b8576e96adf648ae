/** Job plans over the fake gradient model, and a job run by itself. */
import type { JobPlan, JobState, TrainingEvent } from "../../src/train/job.ts";
import { type JobHooks, RunningJob } from "../../src/train/running_job.ts";
import { paceOf } from "../../src/train/plan.ts";
import { Trainer } from "../../src/train/trainer.ts";
import { fakeExamples, FakeGradientModel, VOCABULARY } from "../fakes/gradient_model.ts";

export const PARAMETERS = VOCABULARY ** 2;

export interface PlanOptions extends Partial<Omit<JobPlan, "pace" | "rates">> {
  readonly rows?: number;
  readonly epochs?: number;
  readonly batchSize?: number;
  readonly rate?: number;
}

/** 24 rows, 2 epochs of 6 steps, 8 evaluated rows; everything can be replaced. */
export function planOf(options: PlanOptions = {}): JobPlan {
  const { rows = 24, epochs = 2, batchSize = 4, rate = 0.2, seed = 3, ...given } = options;
  const train = given.train ?? fakeExamples(rows, { seed: seed + 10 });
  const evaluated = given.evaluated ?? fakeExamples(8, { seed: seed + 20 });
  const start = given.start ?? new Float32Array(PARAMETERS);
  const counts = { epochs, batchSize, learningRateMultiplier: 1 };
  return {
    train,
    evaluated,
    rank: 4,
    start,
    pace: paceOf(counts, train.length, { train: train.length, evaluated: 0 }),
    rates: [{ length: start.length, rate }],
    schedule: "cosine",
    warmup: 0.2,
    weightDecay: 0.01,
    clip: 1,
    patience: 0,
    seed,
    ...given,
  };
}

export interface AloneResult {
  readonly state: JobState;
  readonly events: readonly TrainingEvent[];
  readonly model: FakeGradientModel;
}

/** The job with a model of its own. */
export async function runAlone(plan: JobPlan, hooks: JobHooks = {}): Promise<AloneResult> {
  const model = new FakeGradientModel();
  const events: TrainingEvent[] = [];
  const state = await new Trainer(model, { now: () => 0 }).run(plan, {
    ...hooks,
    onEvent: (event) => {
      events.push(event);
      hooks.onEvent?.(event);
    },
  });
  return { state, events, model };
}

/** A fresh run whose rows are answered by hand. */
export function byHand(plan: JobPlan): RunningJob {
  return new RunningJob(plan, {}, { served: 0, now: () => 0 });
}

/** Answers all rows that wait with this mean loss and gradient. */
export function answer(run: RunningJob, loss: number, gradient = 1): readonly TrainingEvent[] {
  const results = run.waiting.map((row) => ({
    row,
    loss: { loss, weight: 1, hits: 0, tokens: 1 },
  }));
  const sum = new Float32Array(run.plan.start.length).fill(gradient * results.length);
  return run.take(results, run.kind === "step" ? sum : undefined);
}

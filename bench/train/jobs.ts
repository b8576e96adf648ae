/**
 * `bench train jobs`: many small jobs together in shared micro-batches, against one after the other,
 * against one big job of all their rows, and against PEFT one after the other; and how far a job's
 * core is from what it is alone. What is measured on some jobs and extrapolated to all says so.
 */
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import type { TrainResult } from "../../adapters/training/training.ts";
import { round } from "../stats.ts";
import { tokensOf, type Work } from "./contest.ts";
import { readTraining } from "./data.ts";
import type { JobsFlags } from "./flags.ts";
import { PEFT_DTYPES, PeftWorker } from "./peft.ts";
import { Trainee } from "./trainee.ts";

const RANK = 32;
/** Tenants of different tasks: their rows differ in length and prompt. */
const TASKS = ["question", "polarity"];
/** Rows that evaluations go by: a job has some, and their time counts. */
const VALID = 16;
const MAX_CONTEXT = 512;

/** One way of running jobs. */
export interface JobsFigure {
  readonly way: string;
  /** Jobs that were run, and what all of them take at that pace. */
  readonly measured: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

export async function benchJobs(flags: JobsFlags, tell: (line: string) => void): Promise<unknown> {
  const figures: JobsFigure[] = [];
  const add = (figure: JobsFigure) => {
    figures.push(figure);
    tell(describe(figure, flags.jobs));
  };
  await using stack = new AsyncDisposableStack();
  const trainee = stack.use(await Trainee.open({ ...flags, maxContext: MAX_CONTEXT }));
  const jobs = await jobsOf(trainee, flags);
  const first = (job: Work) => ({ ...job, rows: job.rows.slice(0, flags.batch) });
  await Promise.all(jobs.map((job) => trainee.steps(first(job))));
  const together = await timed(jobs, (own) => Promise.all(own.map((job) => run(trainee, job))));
  add(figureOf("together", jobs, together));
  const single = jobs.slice(0, flags.alone);
  const alone = await timed(single, (own) => inOrder(own, (job) => run(trainee, job)));
  add(figureOf("one after the other", jobs, alone));
  const big = { ...jobs[0], rows: jobs.flatMap(({ rows }) => rows) };
  const one = await timed([big], (own) => inOrder(own, (job) => run(trainee, job)));
  add({ ...figureOf("one big job", [big], one), measured: flags.jobs });
  const apart = apartOf(together.results, alone.results);
  if (flags.peft !== undefined) {
    const worker = stack.use(await PeftWorker.start(flags.peft, await resolveModel(flags.model)));
    for (const figure of await peftFigures(worker, jobs, flags)) add(figure);
  }
  const ratios = ratiosOf(figures);
  tell(describeRatios(ratios));
  tell(`  in company against alone, farthest: ${JSON.stringify(apart)}`);
  return { figures, ratios, apart };
}

/** Jobs of rows of their own, every other one of another task. */
async function jobsOf({ checkpoint }: Trainee, flags: JobsFlags): Promise<readonly Work[]> {
  const tasks = await Promise.all(
    TASKS.map((task) => readTraining(flags.data, task, checkpoint, MAX_CONTEXT)),
  );
  const { rows: count, epochs, batch } = flags;
  return Array.from({ length: flags.jobs }, (_, job) => {
    const all = tasks[job % tasks.length];
    const from = Math.floor(job / tasks.length) * count;
    const rows = Array.from({ length: count }, (_, i) => all[(from + i) % all.length]);
    return { rows, epochs, batch, rank: RANK };
  });
}

function run(trainee: Trainee, job: Work): Promise<TrainResult> {
  return trainee.train(job, { valid: validOf(job) });
}

function validOf({ rows }: Work): readonly Example[] {
  return rows.slice(-VALID);
}

interface Timed<T> {
  readonly jobs: readonly Work[];
  readonly results: readonly T[];
  readonly seconds: number;
}

async function timed<T>(
  jobs: readonly Work[],
  use: (jobs: readonly Work[]) => Promise<readonly T[]>,
): Promise<Timed<T>> {
  const began = performance.now();
  const results = await use(jobs);
  return { jobs, results, seconds: (performance.now() - began) / 1e3 };
}

async function inOrder<T>(
  jobs: readonly Work[],
  use: (job: Work) => Promise<T>,
): Promise<readonly T[]> {
  const results: T[] = [];
  for (const job of jobs) results.push(await use(job));
  return results;
}

/** Tokens a second as measured; seconds for all jobs at that pace. */
function figureOf(
  way: string,
  all: readonly Work[],
  { jobs, seconds }: Timed<unknown>,
): JobsFigure {
  const tokens = (some: readonly Work[]) => some.reduce((sum, job) => sum + tokensOf(job), 0);
  const pace = tokens(jobs) / seconds;
  return {
    way,
    measured: jobs.length,
    seconds: round(tokens(all) / pace, 1),
    tokensPerSecond: round(pace, 1),
  };
}

async function peftFigures(
  worker: PeftWorker,
  jobs: readonly Work[],
  flags: JobsFlags,
): Promise<readonly JobsFigure[]> {
  const figures: JobsFigure[] = [];
  for (const dtype of PEFT_DTYPES) {
    const peer = worker.contestant(dtype);
    await peer.steps({ ...jobs[0], rows: jobs[0].rows.slice(0, flags.batch) });
    const some = jobs.slice(0, flags.peftJobs);
    const { results } = await timed(some, (own) => inOrder(own, (job) => peer.steps(job)));
    const seconds = results.flat().reduce((sum, value) => sum + value, 0);
    figures.push(
      figureOf(`${peer.label}, one after the other`, jobs, { jobs: some, results, seconds }),
    );
  }
  return figures;
}

/** How far jobs in shared micro-batches are from the same jobs alone: the farthest of them. */
export interface Apart {
  /** Of the base's own loss, relative: what neighbours alone do to a row. */
  readonly baseLoss: number;
  /** Of the best step's loss, relative. */
  readonly bestLoss: number;
  /** ‖together - alone‖ / ‖alone‖ of the best cores. */
  readonly cores: number;
}

type Trained = Pick<TrainResult, "base" | "best"> & {
  readonly core: { readonly cores: Float32Array };
};

export function apartOf(together: readonly Trained[], alone: readonly Trained[]): Apart {
  const farthest = (of: (own: Trained, other: Trained) => number) =>
    Number(Math.max(...alone.map((other, i) => of(together[i], other))).toPrecision(3));
  const relative = (own: number, other: number) => Math.abs(own - other) / other;
  return {
    baseLoss: farthest((own, other) => relative(own.base.loss, other.base.loss)),
    bestLoss: farthest((own, other) => relative(own.best.loss, other.best.loss)),
    cores: farthest((own, other) => distance(own.core.cores, other.core.cores)),
  };
}

function distance(own: Float32Array, other: Float32Array): number {
  let [squares, norm] = [0, 0];
  for (let i = 0; i < other.length; i++) {
    squares += (own[i] - other[i]) ** 2;
    norm += other[i] ** 2;
  }
  return Math.sqrt(squares / norm);
}

/** How many times sooner the jobs are done together than in each other way. */
function ratiosOf([together, ...others]: readonly JobsFigure[]): Readonly<Record<string, number>> {
  return Object.fromEntries(
    others.map(({ way, seconds }) => [way, round(seconds / together.seconds, 2)]),
  );
}

function describe({ way, measured, seconds, tokensPerSecond }: JobsFigure, jobs: number): string {
  const how = measured < jobs ? ` (extrapolated from ${measured} of them)` : "";
  return `  ${jobs} jobs, ${way}: ${seconds} s${how}, ${tokensPerSecond} tok/s`;
}

function describeRatios(ratios: Readonly<Record<string, number>>): string {
  const times = Object.entries(ratios).map(([way, ratio]) => `${way} ${ratio}`);
  return `  times as long as together: ${times.join("; ")}`;
}

/**
 * Training in this process: data checked, weights loaded, all runs at once, the best one's files
 * written, an interrupted one resumable.
 */
import { readFactors } from "../../../adapters/lotr/format.ts";
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import { writeAtomically } from "../../../src/checkpoint/fetch/cache.ts";
import type { DatasetOptions } from "../../../src/train/data/dataset.ts";
import type { OpenedTrainer, TrainBase, TrainEnvironment } from "./base.ts";
import { curveSvg } from "./curve.ts";
import { countsText, dataOptions, loadData, type LoadedData, readData } from "./data.ts";
import { follow, removeTaught } from "./teacher/follow.ts";
import type { Follow, FollowedTeacher } from "./teacher/flags.ts";
import type { PlannedRun, TrainFlags } from "./flags.ts";
import { History } from "./history.ts";
import { variantLabel } from "./sweep.ts";
import { settleRank } from "../../../adapters/training/hyperparameters.ts";
import { naming } from "../flags.ts";
import { EndSignals } from "../signals.ts";
import {
  CheckpointFile,
  keepFactors,
  outputPaths,
  prepareOutput,
  type Saved,
  writeTrained,
} from "./output.ts";
import {
  bestRun,
  curveOf,
  type EndedRun,
  reportOf,
  type ReportParts,
  shellQuote,
  summary,
} from "./report.ts";
import { TrainDisplay } from "./progress.ts";

/** Trains; resolves with the exit code. */
export async function trainHere(flags: TrainFlags, environment: TrainEnvironment): Promise<number> {
  const plans = await planRuns(flags);
  const factorsPath = flags.factors ?? plans.find(({ saved }) => saved)?.saved?.factorsPath;
  const factors = factorsPath === undefined ? undefined : await loadFactors(factorsPath);
  const base = await environment.load(flags.model);
  try {
    const note = (text: string) => environment.screen.write(`${text}\n`);
    const options = dataOptions(flags, base.source);
    const data = await loadAll(flags, options, note);
    const { maxContext } = options;
    const opened = await base.openTrainer({ factors, maxContext, onNote: note });
    try {
      const job = { flags, environment, base, data, plans, opened, note };
      const { follow } = flags;
      return await (follow === undefined ? runAll(job) : followThenRun(job, follow));
    } finally {
      await opened.close();
    }
  } finally {
    await base.close();
  }
}

/** A run with the file of its checkpoint, and what is in it if it is to go on. */
interface Plan extends PlannedRun {
  readonly checkpoint: CheckpointFile;
  readonly saved: Saved | undefined;
}

interface AllData {
  readonly train: LoadedData;
  readonly valid: LoadedData | undefined;
  readonly warnings: readonly string[];
  /** Whom the rows are taught by. */
  readonly teacher?: FollowedTeacher;
}

interface LocalRun {
  readonly flags: TrainFlags;
  readonly environment: TrainEnvironment;
  readonly base: TrainBase;
  readonly data: AllData;
  readonly plans: readonly Plan[];
  readonly opened: OpenedTrainer;
  readonly note: (text: string) => void;
}

/** @throws {TypeError} where a checkpoint would be overwritten by starting anew. */
async function planRuns(flags: TrainFlags): Promise<Plan[]> {
  const paths = outputPaths(flags);
  return await Promise.all(flags.runs.map(async (run) => {
    const checkpoint = new CheckpointFile(paths, run.variant);
    if (flags.start === "anew" && await naming("--out", flags.out, () => checkpoint.exists())) {
      throw new TypeError(
        `Cannot start anew: ${checkpoint.path} is left from a run that was cut off. ` +
          `Go on with it by --resume, or remove it.`,
      );
    }
    return { ...run, checkpoint, saved: await checkpoint.read() };
  }));
}

async function loadFactors(path: string): Promise<FactorSet> {
  return await naming("--factors", path, async () => readFactors(await readData(path)));
}

async function loadAll(
  flags: TrainFlags,
  options: DatasetOptions,
  note: (text: string) => void,
): Promise<AllData> {
  const train = await loadData(flags.data, options);
  const valid = flags.valid === undefined ? undefined : await loadData(flags.valid, options);
  const warnings = [
    ...train.warnings,
    ...(valid?.warnings ?? []),
    ...(valid === undefined && flags.follow === undefined
      ? ["without --valid a sample of the training rows judges the core, which flatters it"]
      : []),
  ];
  for (const { file } of [train, ...(valid === undefined ? [] : [valid])]) {
    note(`${file.file}: ${countsText(file)}`);
  }
  for (const warning of warnings) note(`warning: ${warning}`);
  return { train, valid, warnings };
}

/** Has the teacher speak, then trains on what it said. */
async function followThenRun(job: LocalRun, teacher: Follow): Promise<number> {
  const taught = await taughtBy(job, teacher);
  return "exitCode" in taught ? taught.exitCode : await runAll({ ...job, data: taught });
}

/** The data as a teacher has it, or how the process ends where a signal came first. */
async function taughtBy(
  job: LocalRun,
  teacher: Follow,
): Promise<AllData | { readonly exitCode: number }> {
  const { flags, environment, base, data, opened, note } = job;
  const paths = outputPaths(flags);
  await prepareOutput(paths);
  using signals = new EndSignals((signal) => note(`${signal}: what the teacher said is kept`));
  try {
    const taught = await follow(data, {
      ...{ follow: teacher, paths, opened, screen: environment.screen },
      seed: flags.runs[0]?.hyperparameters.seed ?? 0,
      base: await base.digest(),
      signal: signals.signal,
    });
    return { ...data, ...taught };
  } catch (error) {
    if (signals.exitCode === undefined || !isAbort(error)) throw error;
    note(`interrupted; go on with: ${resumeCommand(environment.args)}`);
    return { exitCode: signals.exitCode };
  }
}

async function runAll(job: LocalRun): Promise<number> {
  const { environment, plans, opened, note } = job;
  for (const { hyperparameters } of plans) settleRank(hyperparameters, opened.factors.rank);
  const { screen, now } = environment;
  const display = new TrainDisplay({ screen, runs: plans.length, now });
  using signals = new EndSignals((signal) =>
    display.line(`${signal}: writing a checkpoint after this step`)
  );
  const paths = outputPaths(job.flags);
  await prepareOutput(paths);
  await keepFactors(paths, opened.factors);
  const began = now();
  if (job.flags.start === "resume" && plans.every(({ saved }) => saved === undefined)) {
    note("no checkpoint to go on from: starting at the beginning");
  }
  const { signal } = signals;
  // all of them: after a signal each writes its checkpoint before it ends
  const settled = await Promise.allSettled(
    plans.map((plan) => trainOne(job, plan, display, signal)),
  );
  display.close();
  const failed = settled.find((one) => one.status === "rejected");
  if (failed !== undefined) {
    if (signals.exitCode === undefined || !isAbort(failed.reason)) throw failed.reason;
    note(`interrupted; go on with: ${resumeCommand(environment.args)}`);
    return signals.exitCode;
  }
  const runs = settled.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
  return await finish(job, runs, (now() - began) / 1000);
}

/** One run to its end. A fault of its own is its outcome; an interruption is thrown. */
async function trainOne(
  { flags, environment, data, plans, opened }: LocalRun,
  plan: Plan,
  display: TrainDisplay,
  signal: AbortSignal,
): Promise<EndedRun> {
  const { variant, checkpoint, saved } = plan;
  const hyperparameters = settleRank(plan.hyperparameters, opened.factors.rank);
  const history = new History(saved?.history);
  const label = variantLabel(variant);
  const show = flags.output === "json"
    ? (progress: object) => environment.print(JSON.stringify({ run: label, ...progress }))
    : display.run(label);
  try {
    const result = await opened.trainer.train({
      train: data.train.examples,
      valid: data.valid?.examples ?? [],
      hyperparameters,
      factors: opened.factors,
      ...(saved === undefined ? {} : { resume: saved.checkpoint }),
      signal,
      ...(flags.checkpointEvery === undefined ? {} : { checkpointEvery: flags.checkpointEvery }),
      onProgress: (progress) => {
        history.add(progress);
        show(progress);
      },
      onCheckpoint: ({ bytes }) => checkpoint.write(bytes, history, opened.factors),
    });
    return { variant, hyperparameters, history, outcome: { type: "trained", result } };
  } catch (error) {
    // a sweep goes on without the run that failed; a run alone fails with its own words
    if (signal.aborted || plans.length === 1 || !(error instanceof Error)) throw error;
    const outcome = { type: "failed", reason: error.message } as const;
    return { variant, hyperparameters, history, outcome };
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

async function finish(job: LocalRun, runs: readonly EndedRun[], seconds: number): Promise<number> {
  const { flags, environment, base, data, plans, note } = job;
  const best = bestRun(runs);
  if (best === undefined) {
    const reasons = runs.flatMap(({ variant, outcome }) =>
      outcome.type === "failed" ? [`${variantLabel(variant)}: ${outcome.reason}`] : []
    );
    throw new Error(`Cannot train: every run failed: ${reasons.join("; ")}`);
  }
  const { result } = best.outcome;
  const paths = outputPaths(flags);
  const verdict = result.refused === undefined || flags.gate === "force" ? "published" : "refused";
  const core = await writeTrained(paths, result.core, result.factors, verdict);
  const parts: ReportParts = {
    version: environment.version,
    tenant: flags.tenant,
    name: flags.name,
    model: { id: base.source.id, digest: await base.digest() },
    data: data.train.file,
    valid: data.valid?.file,
    teacher: data.teacher,
    runs,
    best,
    core,
    verdict,
    warnings: data.warnings,
    seconds,
  };
  const report = reportOf(parts);
  await writeAtomically(paths.report, JSON.stringify(report, null, 1) + "\n");
  await writeAtomically(paths.curve, curveSvg(curveOf(parts)));
  for (const { checkpoint } of plans) await checkpoint.remove();
  await removeTaught(paths);
  environment.print(
    flags.output === "json" ? JSON.stringify({ type: "result", ...report }) : summary(parts, paths),
  );
  if (result.refused !== undefined) {
    note(refusalText(result.refused, core.path, verdict));
    return verdict === "published" ? 0 : 1;
  }
  if (flags.output === "text") note(servingText(flags));
  return 0;
}

function refusalText(reason: string, path: string, verdict: "published" | "refused"): string {
  return verdict === "published"
    ? `warning: the core is not better than the base: ${reason}; published because of --force`
    : `Not published: ${reason}. The core is kept as ${path}; --force publishes it all the same.`;
}

function servingText({ out, tenant, name, model }: TrainFlags): string {
  const base = model === undefined ? "" : ` --model ${shellQuote(model)}`;
  return `serve it: deno task serve${base} --adapters ${shellQuote(out)}` +
    `, and ask for the model ${tenant}/${name}`;
}

/** The same command with --resume; a key is never repeated. */
function resumeCommand(args: readonly string[]): string {
  const kept = args.filter((arg, i) => !/^--api-key/.test(arg) && args[i - 1] !== "--api-key");
  const resume = kept.includes("--resume") ? [] : ["--resume"];
  return ["deno task train", ...kept.map(shellQuote), ...resume].join(" ");
}

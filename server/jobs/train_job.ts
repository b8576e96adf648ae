/**
 * One job from its first step to a published core: what the trainer reports becomes events, durable
 * progress and checkpoints, and a result that passed the gate becomes a model.
 */
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { writeCore, writeFactors } from "../../adapters/lotr/format.ts";
import type {
  TrainCheckpoint,
  TrainProgress,
  TrainResult,
} from "../../adapters/training/training.ts";
import type { CoreTrainer } from "../../adapters/training/core_trainer.ts";
import { DEFAULT_RANK } from "../../adapters/lotr/stack.ts";
import type {
  JobPatch,
  JobRecord,
  StepMetrics,
  Store,
  UsageRecord,
  UsageStore,
} from "../../adapters/store/store.ts";
import { taughtDataset, TaughtProgress, type TeacherPorts } from "./distil_job.ts";
import { NotBetter } from "./job_status.ts";
import { Teller, type TellerPorts, type TrainingRun } from "./journal.ts";
import type { TunedModels } from "../../adapters/catalog/tuned_models.ts";

export interface TrainingPorts extends TellerPorts, TeacherPorts {
  readonly trainer: Pick<CoreTrainer, "train">;
  readonly store: Pick<Store, "usage">;
  readonly tuned: TunedModels;
  /** The factor set of jobs that name none; made when first asked for. */
  readonly defaultFactors: () => Promise<FactorSet>;
}

/** Milliseconds after which a wait for the factor set is told. */
const SLOW_MS = 2000;

/**
 * Trains, judges and publishes; returns what the job's record is to say at the end.
 * @throws {JobFailure} where the core is not to be published; what `signal` was aborted with; what
 *   the trainer throws
 */
export async function trainJob(read: TrainingRun, ports: TrainingPorts): Promise<JobPatch> {
  const { run, resume, packed } = await taught(read, ports);
  const { job, dataset, journal, held } = run;
  const factors = await factorsFor(run, ports);
  const rank = await pin(run, factors, ports);
  const teller = new Teller(run, ports);
  const usage = await TrainingUsage.open(ports.store.usage, job);
  const result = await ports.trainer.train({
    train: dataset.train,
    valid: dataset.valid,
    hyperparameters: { ...job.hyperparameters, rank, seed: job.seed },
    factors,
    ...(resume === undefined ? {} : { resume }),
    signal: held.signal,
    onProgress: (progress) => {
      usage.hear(progress);
      teller.tell(progress);
    },
    onCheckpoint: async (checkpoint) => {
      await usage.checkpoint(checkpoint.step);
      await saveCheckpoint({ ...checkpoint, bytes: packed(checkpoint.bytes) }, run, ports);
    },
  });
  await journal.flush();
  held.signal.throwIfAborted();
  await held.check();
  await usage.finish(result.trainedTokens);
  return await conclude(result, run, ports);
}

/** A run whose rows are taught where its job follows a teacher, and how its state is kept. */
interface TaughtRun {
  readonly run: TrainingRun;
  /** The training's state to go on from. */
  readonly resume: Uint8Array | undefined;
  /** The job's progress from the training's state. */
  readonly packed: (state: Uint8Array) => Uint8Array;
}

async function taught(run: TrainingRun, ports: TrainingPorts): Promise<TaughtRun> {
  const { job: { id, distillation }, data } = run;
  const kept = await data.jobs.progress(id);
  if (distillation === undefined) return { run, resume: kept, packed: (state) => state };
  const progress = new TaughtProgress(kept);
  const dataset = await taughtDataset(run, distillation, progress, ports);
  return {
    run: { ...run, dataset },
    resume: progress.state,
    packed: (state) => progress.bytes(state),
  };
}

async function factorsFor(
  { job, journal, held }: TrainingRun,
  { tuned, defaultFactors }: TrainingPorts,
): Promise<FactorSet> {
  const { factors } = job.hyperparameters;
  if (factors !== null) return await tuned.factorsOf(factors);
  const slow = setTimeout(
    () => journal.message("Making the base's factor set, once: about a minute"),
    SLOW_MS,
  );
  try {
    return await unlessAborted(defaultFactors(), held.signal);
  } finally {
    clearTimeout(slow);
  }
}

/** Making a factor set takes a minute: a job may be cancelled meanwhile. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/**
 * Writes the factor set and rank down: a resumed job keeps them though the default may have
 * changed.
 */
async function pin(
  { job: { id, hyperparameters }, data }: TrainingRun,
  factors: FactorSet,
  { tuned }: TrainingPorts,
): Promise<number> {
  await tuned.keepFactors(factors);
  const { rank: asked } = hyperparameters;
  const rank = asked === "auto" ? Math.min(DEFAULT_RANK, factors.rank) : asked;
  const pinned = { ...hyperparameters, rank, factors: factors.digest };
  await data.jobs.change(id, { hyperparameters: pinned });
  return rank;
}

async function saveCheckpoint(
  { step, bytes, core, evaluation }: TrainCheckpoint,
  { job, data, dataset, journal, held }: TrainingRun,
  { tuned, log }: TrainingPorts,
): Promise<void> {
  const { jobs } = data;
  const known = await jobs.checkpoints(job.id);
  const isNew = !known.some((other) => other.step === step && other.core === core.digest);
  if (evaluation !== undefined && step > 0 && isNew) {
    const figures = checkpointMetrics(journal.at(step), step, dataset.valid.length > 0);
    await tuned.addCheckpoint(job, { core }, step, figures);
    journal.message(`Checkpoint created at step ${step}`);
  }
  await journal.flush();
  await jobs.saveProgress(job.id, bytes);
  if (!held.advanced && step > (held.from ?? step)) {
    held.advanced = true;
    await jobs.change(job.id, { attempts: 0 });
  }
  log.debug(`${job.id} can go on from step ${step}`, { bytes: bytes.length });
}

/** OpenAI's names; figures of a validation file only where there is one. */
function checkpointMetrics(seen: StepMetrics, step: number, validated: boolean): StepMetrics {
  const names = ["train_loss", "train_mean_token_accuracy"];
  if (validated) {
    names.push("valid_loss", "valid_mean_token_accuracy");
    names.push("full_valid_loss", "full_valid_mean_token_accuracy");
  }
  const found = names.flatMap((name) => {
    const value = seen[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { step, ...Object.fromEntries(found) };
}

async function conclude(
  result: TrainResult,
  run: TrainingRun,
  ports: TrainingPorts,
): Promise<JobPatch> {
  const { job, journal } = run;
  const resultFiles = await writeResults(result, run);
  const { trainedTokens, base, best, refused } = result;
  const figures = `loss ${base.loss.toFixed(3)} → ${best.loss.toFixed(3)}`;
  if (refused !== undefined) {
    await keepRefused(result, run, ports);
    ports.log.warning(`${job.id} not published: ${refused}`);
    throw new NotBetter(refused, { trainedTokens, resultFiles });
  }
  const model = await ports.tuned.publish(job, result, { trainedTokens, resultFiles });
  journal.message(`New fine-tuned model created: ${model}`);
  ports.log.info(`${job.id} published ${model}: ${figures}, best at step ${best.step}`);
  return { fineTunedModel: model, trainedTokens, resultFiles };
}

async function keepRefused(
  { core, factors, best }: TrainResult,
  { job, data, journal }: TrainingRun,
  { tuned }: TrainingPorts,
): Promise<void> {
  const known = await data.jobs.checkpoints(job.id);
  if (known.some((other) => other.core === core.digest)) return;
  const metrics = { ...checkpointMetrics(journal.at(best.step), best.step, true) };
  await tuned.addCheckpoint(job, { core, factors }, best.step, metrics);
}

/** The curve, the core and its factor set, as files to download. */
async function writeResults(
  { core, factors }: TrainResult,
  { data, journal }: TrainingRun,
): Promise<string[]> {
  const contents = [
    ["step_metrics.csv", new TextEncoder().encode(journal.csv())],
    ["core.safetensors", writeCore(core)],
    ["factors.safetensors", writeFactors(factors)],
  ] as const;
  const ids: string[] = [];
  for (const [filename, bytes] of contents) {
    await using staged = await data.files.stage(ReadableStream.from([bytes]));
    ids.push((await staged.commit({ filename, purpose: "fine-tune-results" })).id);
  }
  return ids;
}

type Counted = Pick<JobRecord, "id" | "tenant" | "model" | "createdAt">;
type Records = Pick<UsageStore, "add" | "trained">;

/**
 * A job's trained tokens, written down before each checkpoint is kept. A record covers what no record
 * before it does, whichever process wrote that, so that steps which are repeated after a crash are
 * counted once, and a job's records add up to its `trained_tokens`. A job that fails or is cancelled has
 * paid up to its last checkpoint.
 */
export class TrainingUsage {
  readonly #store: Records;
  readonly #job: Counted;
  /** Tokens trained on, from the job's beginning. */
  #trained = 0;
  #written: number;

  private constructor(store: Records, job: Counted, written: number) {
    this.#store = store;
    this.#job = job;
    this.#written = written;
  }

  /** Goes on after what earlier runs of the job have written. */
  static async open(store: Records, job: Counted): Promise<TrainingUsage> {
    return new TrainingUsage(store, job, await store.trained(job));
  }

  /** To be told of tokens as they are trained on. */
  hear(progress: TrainProgress): void {
    if (progress.type === "start" || progress.type === "step") this.#trained = progress.tokens;
  }

  /** To be awaited before the checkpoint is kept. */
  async checkpoint(step: number): Promise<void> {
    await this.#write(`step-${step}`, this.#trained);
  }

  /** To be awaited before the job has ended well. @param trained tokens of the whole job */
  async finish(trained: number): Promise<void> {
    await this.#write("end", trained);
  }

  async #write(name: string, trained: number): Promise<void> {
    const tokens = trained - this.#written;
    if (tokens <= 0) return;
    const { id, tenant, model } = this.#job;
    const record: UsageRecord = {
      id: `${id}/${name}`,
      at: Date.now(),
      tenant,
      keyId: null,
      model,
      kind: "training",
      promptTokens: 0,
      cachedTokens: 0,
      completionTokens: 0,
      trainedTokens: tokens,
      requestId: id,
    };
    await this.#store.add([record]);
    this.#written = trained;
  }
}

/** Records as OpenAI's API shows them, and its hyperparameters as records have them. */
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training/training.ts";
import type { FileBody } from "../http/schema/files.ts";
import type {
  CheckpointBody,
  HyperparametersField,
  JobBody,
  JobEventBody,
} from "../http/schema/fine_tuning.ts";
import type {
  CheckpointRecord,
  FileRecord,
  JobEvent,
  JobHyperparameters,
  JobRecord,
} from "../../adapters/store/store.ts";
import { checkpointName } from "./names.ts";

export function fileBody({ id, bytes, createdAt, filename, purpose }: FileRecord): FileBody {
  return {
    id,
    object: "file",
    bytes,
    created_at: seconds(createdAt),
    filename,
    purpose,
    status: "processed",
  };
}

/** `estimatedFinish`: Unix milliseconds, of a job that runs. */
export function jobBody(job: JobRecord, estimatedFinish: number | undefined): JobBody {
  const hyperparameters = hyperparametersBody(job);
  return {
    id: job.id,
    object: "fine_tuning.job",
    created_at: seconds(job.createdAt),
    model: job.model,
    fine_tuned_model: job.fineTunedModel,
    organization_id: job.tenant,
    status: job.status,
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: [...job.resultFiles],
    trained_tokens: job.trainedTokens,
    finished_at: job.finishedAt === null ? null : seconds(job.finishedAt),
    estimated_finish: estimatedFinish === undefined ? null : seconds(estimatedFinish),
    error: job.error,
    seed: job.seed,
    hyperparameters,
    method: { type: "supervised", supervised: { hyperparameters } },
    metadata: job.metadata,
    integrations: [],
    user_provided_suffix: job.suffix,
  };
}

function hyperparametersBody({ hyperparameters: asked, settled }: JobRecord) {
  return {
    n_epochs: settled?.epochs ?? asked.epochs,
    batch_size: settled?.batchSize ?? asked.batchSize,
    learning_rate_multiplier: settled?.learningRateMultiplier ?? asked.learningRateMultiplier,
    rank: asked.rank,
    method: asked.method,
    schedule: asked.schedule,
    warmup: asked.warmup,
    weight_decay: asked.weightDecay,
    clip: asked.clip,
    patience: asked.patience,
    factors: asked.factors,
    ...(settled && { learning_rate: settled.learningRate }),
  };
}

/** A request's hyperparameters; what it leaves out is the default. */
export function toHyperparameters(given: HyperparametersField | undefined): JobHyperparameters {
  const fallback = DEFAULT_HYPERPARAMETERS;
  return {
    epochs: given?.n_epochs ?? fallback.epochs,
    batchSize: given?.batch_size ?? fallback.batchSize,
    learningRateMultiplier: given?.learning_rate_multiplier ?? fallback.learningRateMultiplier,
    rank: given?.rank ?? "auto",
    method: given?.method ?? fallback.method,
    schedule: given?.schedule ?? fallback.schedule,
    warmup: given?.warmup ?? fallback.warmup,
    weightDecay: given?.weight_decay ?? fallback.weightDecay,
    clip: given?.clip ?? fallback.clip,
    patience: given?.patience ?? fallback.patience,
    factors: given?.factors ?? null,
  };
}

export function eventBody({ id, createdAt, level, message, type, data }: JobEvent): JobEventBody {
  return {
    id,
    object: "fine_tuning.job.event",
    created_at: seconds(createdAt),
    level,
    message,
    type,
    data: data && { ...data },
  };
}

export function checkpointBody(job: JobRecord, checkpoint: CheckpointRecord): CheckpointBody {
  return {
    id: checkpoint.id,
    object: "fine_tuning.job.checkpoint",
    created_at: seconds(checkpoint.createdAt),
    fine_tuned_model_checkpoint: checkpointName(job, checkpoint.step),
    fine_tuning_job_id: job.id,
    metrics: { ...checkpoint.metrics },
    step_number: checkpoint.step,
  };
}

function seconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}

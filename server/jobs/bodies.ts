/** Records as OpenAI's API shows them, and its hyperparameters as records have them. */
import { ASKED_BY_DEFAULT, JOB_HYPERPARAMETERS } from "../../adapters/training/hyperparameters.ts";
import { unixSeconds } from "../../src/util/time.ts";
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
import { checkpointName } from "../../adapters/catalog/name.ts";

export function fileBody({ id, bytes, createdAt, filename, purpose }: FileRecord): FileBody {
  return {
    id,
    object: "file",
    bytes,
    created_at: unixSeconds(createdAt),
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
    created_at: unixSeconds(job.createdAt),
    model: job.model,
    fine_tuned_model: job.fineTunedModel,
    organization_id: job.tenant,
    status: job.status,
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: [...job.resultFiles],
    trained_tokens: job.trainedTokens,
    finished_at: job.finishedAt === null ? null : unixSeconds(job.finishedAt),
    estimated_finish: estimatedFinish === undefined ? null : unixSeconds(estimatedFinish),
    error: job.error,
    seed: job.seed,
    hyperparameters,
    method: { type: "supervised", supervised: { hyperparameters } },
    metadata: job.metadata,
    integrations: [],
    user_provided_suffix: job.suffix,
  };
}

const ROWS = Object.entries(JOB_HYPERPARAMETERS)
  .map(([name, { field }]) => [name as keyof typeof JOB_HYPERPARAMETERS, field] as const);

function hyperparametersBody({ hyperparameters: asked, settled }: JobRecord) {
  const values = { ...asked, ...settled };
  return {
    ...Object.fromEntries(ROWS.map(([name, field]) => [field, values[name]])),
    factors: asked.factors,
    ...(settled && { learning_rate: settled.learningRate }),
  };
}

/** A request's hyperparameters; what it leaves out is the default. */
export function toHyperparameters(given: HyperparametersField | undefined): JobHyperparameters {
  const values = ROWS.map(([name, field]) => [name, given?.[field] ?? ASKED_BY_DEFAULT[name]]);
  return { ...Object.fromEntries(values), factors: given?.factors ?? null };
}

export function eventBody({ id, createdAt, level, message, type, data }: JobEvent): JobEventBody {
  return {
    id,
    object: "fine_tuning.job.event",
    created_at: unixSeconds(createdAt),
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
    created_at: unixSeconds(checkpoint.createdAt),
    fine_tuned_model_checkpoint: checkpointName(job, checkpoint.step),
    fine_tuning_job_id: job.id,
    metrics: { ...checkpoint.metrics },
    step_number: checkpoint.step,
  };
}

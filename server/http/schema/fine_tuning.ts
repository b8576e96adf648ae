/**
 * Shapes of `/v1/fine_tuning/jobs`: OpenAI's, and lembas' own hyperparameters beside theirs; and how
 * records show in them. Which files, models and factor sets exist the route looks up.
 */
import { z } from "@hono/zod-openapi";
import {
  ASKED_BY_DEFAULT,
  type Hyperparameter,
  HYPERPARAMETERS,
  JOB_HYPERPARAMETERS,
  type Range,
} from "../../../adapters/training/hyperparameters.ts";
import {
  DEFAULT_FOLLOWING,
  FOLLOWED_ON,
  type Following,
  MOST_TEACHER_TOKENS,
} from "../../../adapters/training/distillation/taught_rows.ts";
import {
  type CheckpointRecord,
  JOB_STATUSES,
  type JobEvent,
  type JobHyperparameters,
  type JobRecord,
} from "../../../adapters/store/store.ts";
import { checkpointName } from "../../../adapters/catalog/name.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import { harmless } from "./common.ts";
import { metadataSchema } from "./common.ts";
import { limitField } from "./files.ts";
import { methodBody } from "./fine_tuning_method.ts";

/** What a tenant or a suffix may be: a part of an adapter's name. */
const namePart = z.string().min(1).max(64).regex(
  /^[A-Za-z0-9_][A-Za-z0-9._-]*$/,
  "letters, digits, '.', '-' and '_', and no '.' or '-' in front",
);

/** A hyperparameter as a request has it. */
function hyperparameterSchema({ range, auto, help, origin }: Hyperparameter) {
  const meaning = `${help[0]?.toUpperCase()}${help.slice(1)}`;
  const description = `${meaning}${origin === "lembas" ? " (lembas)" : ""}.`;
  const value = valueSchema(range);
  const given = auto === undefined ? value : z.union([z.literal("auto"), value]);
  return given.nullish().openapi({ description });
}

function valueSchema(range: Range): z.ZodType<number | string> {
  if (range.type === "word") return z.enum(range.words);
  if (range.type === "whole") return z.int().min(range.least).max(range.most);
  const { low, high } = range;
  const above = "from" in low ? z.number().min(low.from) : z.number().gt(low.above);
  return "to" in high ? above.max(high.to) : above.lt(high.below);
}

type Field = (typeof JOB_HYPERPARAMETERS)[keyof typeof JOB_HYPERPARAMETERS]["field"];
const fields = Object.fromEntries(
  Object.values(JOB_HYPERPARAMETERS).map((row) => [row.field, hyperparameterSchema(row)]),
) as Readonly<Record<Field, ReturnType<typeof hyperparameterSchema>>>;

export const hyperparametersSchema = z.strictObject({
  ...fields,
  factors: z.string().regex(/^[0-9a-f]{64}$/, "a SHA-256 in lower-case hex").nullish().openapi({
    description: "Digest of a loaded factor set to train for; default: the base's own (lembas).",
  }),
}).openapi("FineTuningHyperparameters");
export type HyperparametersField = Readonly<z.output<typeof hyperparametersSchema>>;

const USUAL = DEFAULT_FOLLOWING;

const distillationSchema = z.strictObject({
  teacher: z.string().min(1).openapi({
    description: "The model that is followed: a LoRA, core or tuned model of the tenant's.",
  }),
  on: z.enum(FOLLOWED_ON).nullish().openapi({
    description:
      "On which answers: the rows', the teacher's own, or both; auto = a row's where it " +
      `has one, else the teacher's. Default: ${USUAL.on}.`,
  }),
  teacher_tokens: z.int().min(1).max(MOST_TEACHER_TOKENS).nullish().openapi({
    description:
      "The teacher's likeliest tokens that count one by one at each position, the others " +
      `together. Default: ${USUAL.count}.`,
  }),
  temperature: z.number().min(0).max(2).nullish().openapi({
    description: `At which the teacher answers. Default: ${USUAL.temperature}.`,
  }),
  max_tokens: z.int().min(1).nullish().openapi({
    description: `Most tokens of an answer of the teacher's. Default: ${USUAL.maxTokens}.`,
  }),
  hyperparameters: hyperparametersSchema.nullish(),
}).openapi("FineTuningDistillation", {
  description: "Follows a served model's distributions; rows may be prompts alone (lembas).",
});
export type DistillationField = Readonly<z.output<typeof distillationSchema>>;

export const createJobSchema = z.strictObject({
  model: z.string().min(1).openapi({ description: "The base model." }),
  training_file: z.string().min(1),
  validation_file: z.string().min(1).nullish(),
  hyperparameters: hyperparametersSchema.nullish().openapi({
    description: "The older place; either here or under `method`.",
  }),
  method: z.discriminatedUnion("type", [
    z.strictObject({
      type: z.literal("supervised"),
      supervised: z.strictObject({ hyperparameters: hyperparametersSchema.nullish() }).nullish(),
    }),
    z.strictObject({ type: z.literal("distillation"), distillation: distillationSchema }),
  ]).nullish(),
  suffix: namePart.nullish().openapi({
    description: "Names the model: `ft:BASE:TENANT:SUFFIX:ID`, and the adapter `TENANT/SUFFIX`.",
  }),
  seed: z.int().min(0).max(HYPERPARAMETERS.seed.range.most).nullish(),
  metadata: metadataSchema.nullish(),
  integrations: harmless("integrations", [[]]),
  tenant: namePart.nullish().openapi({
    description: "If given, the tenant that the request acts for (lembas).",
  }),
}).openapi("CreateFineTuningJobRequest");
export type CreateJobBody = Readonly<z.output<typeof createJobSchema>>;

const settledSchema = z.record(z.string(), z.union([z.string(), z.number(), z.null()])).openapi(
  "SettledHyperparameters",
  { description: "As in the request; numbers take the place of `auto` when training starts." },
);

const SHOWN_STATUSES = JOB_STATUSES.filter((status) => status !== "paused");

export const jobSchema = z.object({
  id: z.string(),
  object: z.literal("fine_tuning.job"),
  created_at: z.int(),
  model: z.string(),
  fine_tuned_model: z.string().nullable(),
  organization_id: z.string().openapi({ description: "The tenant." }),
  status: z.enum(SHOWN_STATUSES).openapi({
    description: "OpenAI's; a paused job is `queued`, and `paused` says so.",
  }),
  paused: z.boolean().openapi({ description: "Whether it waits to be resumed (lembas)." }),
  training_file: z.string(),
  validation_file: z.string().nullable(),
  result_files: z.array(z.string()).openapi({
    description: "`step_metrics.csv`, then the core and its factor set as safetensors.",
  }),
  trained_tokens: z.int().nullable(),
  finished_at: z.int().nullable(),
  estimated_finish: z.int().nullable(),
  error: z.object({
    code: z.string(),
    message: z.string(),
    param: z.string().nullable(),
  }).nullable(),
  seed: z.int(),
  hyperparameters: settledSchema,
  method: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("supervised"),
      supervised: z.object({ hyperparameters: settledSchema }),
    }),
    z.object({
      type: z.literal("distillation"),
      distillation: z.object({
        teacher: z.string().openapi({ description: "Its full name, with the version." }),
        on: z.enum(FOLLOWED_ON),
        teacher_tokens: z.int(),
        temperature: z.number(),
        max_tokens: z.int(),
        hyperparameters: settledSchema,
      }),
    }),
  ]),
  metadata: z.record(z.string(), z.string()).nullable(),
  integrations: z.array(z.unknown()),
  user_provided_suffix: z.string().nullable(),
}).openapi("FineTuningJob");
export type JobBody = z.output<typeof jobSchema>;

const metricsSchema = z.record(z.string(), z.number());

export const jobEventSchema = z.object({
  id: z.string(),
  object: z.literal("fine_tuning.job.event"),
  created_at: z.int(),
  level: z.enum(["info", "warn", "error"]),
  message: z.string(),
  type: z.enum(["message", "metrics"]),
  data: metricsSchema.nullable(),
}).openapi("FineTuningJobEvent");
export type JobEventBody = z.output<typeof jobEventSchema>;

export const checkpointSchema = z.object({
  id: z.string(),
  object: z.literal("fine_tuning.job.checkpoint"),
  created_at: z.int(),
  fine_tuned_model_checkpoint: z.string(),
  fine_tuning_job_id: z.string(),
  metrics: metricsSchema,
  step_number: z.int(),
}).openapi("FineTuningJobCheckpoint");
export type CheckpointBody = z.output<typeof checkpointSchema>;

export const jobListSchema = z.object({
  object: z.literal("list"),
  data: z.array(jobSchema),
  has_more: z.boolean(),
}).openapi("FineTuningJobList");

export const jobEventListSchema = z.object({
  object: z.literal("list"),
  data: z.array(jobEventSchema),
  has_more: z.boolean(),
}).openapi("FineTuningJobEventList");

export const checkpointListSchema = z.object({
  object: z.literal("list"),
  data: z.array(checkpointSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
}).openapi("FineTuningJobCheckpointList");

export const pageQuerySchema = z.strictObject({
  after: z.string().optional(),
  limit: limitField(1000),
});

export const jobQuerySchema = pageQuerySchema.extend({
  metadata: z.union([z.literal("null"), z.record(z.string(), z.string())]).optional().openapi({
    description: "`metadata[key]=value`, or `metadata=null` for jobs without any.",
  }),
});

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
    // OpenAI's clients know no status of its own for it
    status: job.status === "paused" ? "queued" : job.status,
    paused: job.status === "paused",
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: [...job.resultFiles],
    trained_tokens: job.trainedTokens,
    finished_at: job.finishedAt === null ? null : unixSeconds(job.finishedAt),
    estimated_finish: estimatedFinish === undefined ? null : unixSeconds(estimatedFinish),
    error: job.error,
    seed: job.seed,
    hyperparameters,
    method: methodBody(job.distillation, hyperparameters),
    metadata: job.metadata,
    integrations: [],
    user_provided_suffix: job.suffix,
  };
}

/** How a teacher is followed; what a request leaves out is the default. */
export function toFollowing(
  { on, teacher_tokens: count, temperature, max_tokens: maxTokens }: DistillationField,
): Omit<Following, "seed"> {
  return {
    on: on ?? USUAL.on,
    count: count ?? USUAL.count,
    temperature: temperature ?? USUAL.temperature,
    maxTokens: maxTokens ?? USUAL.maxTokens,
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

/** OpenAI's `/v1/fine_tuning/jobs`: jobs, their events and checkpoints. */
import { z } from "@hono/zod-openapi";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { get, list, post } from "../endpoint.ts";
import { ApiError, invalid, modelNotFound, refusing, shuttingDown } from "../../errors.ts";
import {
  checkpointBody,
  checkpointListSchema,
  type CreateJobBody,
  createJobSchema,
  eventBody,
  type HyperparametersField,
  jobBody,
  jobEventListSchema,
  jobListSchema,
  jobQuerySchema,
  jobSchema,
  pageQuerySchema,
  toFollowing,
  toHyperparameters,
} from "../schema/fine_tuning.ts";
import type { FineTuning, TenantTuning } from "../../jobs/fine_tuning.ts";
import { JobStateError } from "../../jobs/job_status.ts";
import type { JobRunner } from "../../jobs/runner.ts";
import { baseName, findCore, isBase } from "../../generate/model_name.ts";
import { type Principal, TENANT_HEADER } from "../../access/access.ts";
import { pageOf } from "../../../adapters/store/pages.ts";
import type { JobDistillation } from "../../../adapters/store/jobs/job_records.ts";
import type { JobRecord } from "../../../adapters/store/store.ts";

const TAG = "fine-tuning";
const JOBS = "/v1/fine_tuning/jobs";
const JOB = `${JOBS}/{fine_tuning_job_id}`;
const params = z.object({ fine_tuning_job_id: z.string() });

export function registerFineTuning(app: App, context: ServerContext, tuning: FineTuning): void {
  post(app, {
    method: "post",
    path: JOBS,
    tag: TAG,
    summary: "Creates a job: its files are validated, then it trains beside the others.",
    body: createJobSchema,
    ok: { description: "The job.", json: jobSchema },
    scopes: ["train"],
  }, async (c, body) => {
    if (context.lifecycle.draining) throw shuttingDown();
    return c.json(show(await create(c.get("principal"), body, context, tuning), tuning));
  });
  list(app, {
    method: "get",
    path: JOBS,
    tag: TAG,
    summary: "Lists jobs, newest first.",
    query: jobQuerySchema,
    ok: { description: "A page of jobs.", json: jobListSchema },
    scopes: ["train"],
  }, async (c, { after, limit = 20, metadata: asked }) => {
    const metadata = asked === "null" ? null : asked;
    const query = { after, limit, metadata, order: "desc" } as const;
    const { items, hasMore } = await dataOf(c, tuning).jobs.list(query);
    const data = items.map((job) => show(job, tuning));
    return c.json({ object: "list", data, has_more: hasMore });
  });
  registerOne(app, tuning);
  registerActions(app, tuning);
}

function registerOne(app: App, tuning: FineTuning): void {
  get(app, {
    method: "get",
    path: JOB,
    tag: TAG,
    summary: "Describes one job.",
    params,
    ok: { description: "The job.", json: jobSchema },
    scopes: ["train"],
  }, async (c) => c.json(show(await find(c, tuning), tuning)));
  list(app, {
    method: "get",
    path: `${JOB}/events`,
    tag: TAG,
    summary: "Lists what has happened to a job, newest first.",
    params,
    query: pageQuerySchema,
    ok: { description: "A page of events.", json: jobEventListSchema },
    scopes: ["train"],
  }, async (c, { after, limit = 20 }) => {
    const { id } = await find(c, tuning);
    const query = { after, limit, order: "desc" } as const;
    const { items, hasMore } = await dataOf(c, tuning).jobs.events(id, query);
    return c.json({ object: "list", data: items.map(eventBody), has_more: hasMore });
  });
  list(app, {
    method: "get",
    path: `${JOB}/checkpoints`,
    tag: TAG,
    summary: "Lists a job's checkpoints, newest first; each can be used as a model.",
    params,
    query: pageQuerySchema,
    ok: { description: "A page of checkpoints.", json: checkpointListSchema },
    scopes: ["train"],
  }, async (c, { after, limit = 10 }) => {
    const job = await find(c, tuning);
    const all = await dataOf(c, tuning).jobs.checkpoints(job.id);
    // they come newest first already
    const query = { after, limit, order: "asc" } as const;
    const { items, hasMore } = pageOf(all, query);
    return c.json({
      object: "list",
      data: items.map((checkpoint) => checkpointBody(job, checkpoint)),
      first_id: items[0]?.id ?? null,
      last_id: items.at(-1)?.id ?? null,
      has_more: hasMore,
    });
  });
}

const ACTIONS = {
  cancel: "Ends a job within a micro-batch; its checkpoints stay.",
  pause: "Stops a job where it can go on.",
  resume: "Lets a paused job go on.",
} as const;

function registerActions(app: App, tuning: FineTuning): void {
  for (const action of ["cancel", "pause", "resume"] as const) {
    get(app, {
      method: "post",
      path: `${JOB}/${action}`,
      tag: TAG,
      summary: ACTIONS[action],
      params,
      ok: { description: "The job.", json: jobSchema },
      errors: [400],
      scopes: ["train"],
    }, async (c) => {
      const job = await find(c, tuning);
      return c.json(show(await act(runnerOf(tuning), action, job), tuning));
    });
  }
}

async function act(
  runner: JobRunner,
  action: keyof typeof ACTIONS,
  job: JobRecord,
): Promise<JobRecord> {
  try {
    return await runner[action](job);
  } catch (error) {
    if (!(error instanceof JobStateError)) throw error;
    throw new ApiError(400, error.message, { code: "invalid_job_state" });
  }
}

function dataOf(c: AppContext, tuning: FineTuning): TenantTuning {
  return tuning.forTenant(c.get("principal").tenant);
}

async function create(
  principal: Principal,
  body: CreateJobBody,
  context: ServerContext,
  tuning: FineTuning,
): Promise<JobRecord> {
  const runner = runnerOf(tuning);
  const { tenant } = principal;
  checkTenant(body.tenant, tenant);
  await checkModel(principal, body.model, context);
  const given = hyperparametersOf(body);
  const data = tuning.forTenant(tenant);
  await checkFile("training_file", body.training_file, data);
  if (body.validation_file) await checkFile("validation_file", body.validation_file, data);
  await checkRank(given, tuning);
  const distillation = await distillationOf(principal, body, context);
  return await runner.create({
    model: context.model.id,
    tenant,
    suffix: body.suffix ?? null,
    seed: body.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
    trainingFile: body.training_file,
    validationFile: body.validation_file ?? null,
    hyperparameters: toHyperparameters(given),
    metadata: body.metadata ?? null,
    ...(distillation === undefined ? {} : { distillation }),
  });
}

/**
 * The teacher of a job, pinned: its version and content as they are now.
 * @throws {ApiError} 404 where the tenant has no such model, 400 for the base
 */
async function distillationOf(
  principal: Principal,
  { method }: CreateJobBody,
  context: ServerContext,
): Promise<JobDistillation | undefined> {
  if (method?.type !== "distillation") return undefined;
  const { distillation: asked } = method;
  const param = "method.distillation.teacher";
  if (isBase(context.model, asked.teacher)) {
    throw invalid(param, "The base is what a core begins as: name a LoRA or a core to follow.");
  }
  const found = await findCore(context.adapters, principal, asked.teacher);
  if (found === undefined) throw modelNotFound(asked.teacher);
  if (found.tenant !== principal.tenant) {
    throw invalid(
      param,
      `'${asked.teacher}' is not a model of tenant '${principal.tenant}', which the job is for.`,
    );
  }
  return { ...toFollowing(asked), teacher: found.name, digest: found.digest };
}

/** Files, job and model are one tenant's; the same answer whether the other one is there or not. */
function checkTenant(asked: string | null | undefined, own: string): void {
  if (!asked || asked === own) return;
  throw invalid(
    "tenant",
    `This request acts for tenant '${own}', not for '${asked}': leave 'tenant' out, or (as an ` +
      `administrator, or in open mode) send the header '${TENANT_HEADER}: ${asked}' with the ` +
      `files, with this and with whatever asks for the job.`,
  );
}

async function checkModel(
  principal: Principal,
  name: string,
  context: ServerContext,
): Promise<void> {
  if (isBase(context.model, name)) return;
  const core = await findCore(context.adapters, principal, name);
  if (core === undefined) throw modelNotFound(name);
  throw invalid(
    "model",
    `Only the base model can be fine-tuned: '${
      baseName(context.model)
    }', not its adapter '${name}'.`,
  );
}

function hyperparametersOf({ hyperparameters, method }: CreateJobBody):
  | HyperparametersField
  | undefined {
  const nested = method?.type === "distillation"
    ? method.distillation.hyperparameters
    : method?.supervised?.hyperparameters;
  if (hyperparameters && nested) {
    throw invalid(
      "hyperparameters",
      "Hyperparameters are given twice: leave out 'hyperparameters', or those under 'method'.",
    );
  }
  return hyperparameters ?? nested ?? undefined;
}

async function checkFile(param: string, id: string, { files }: TenantTuning): Promise<void> {
  const file = await files.find(id);
  if (file === undefined) {
    throw invalid(param, `Invalid '${param}': there is no file '${id}'.`, "file_not_found");
  }
  if (file.purpose !== "fine-tune") {
    throw invalid(param, `Invalid '${param}': the purpose of '${id}' is '${file.purpose}'.`);
  }
}

/** A named factor set must be known, and have the rank that is asked for. */
async function checkRank(
  given: HyperparametersField | undefined,
  { tuned }: FineTuning,
): Promise<void> {
  const { factors, rank: asked } = given ?? {};
  if (!factors) return;
  const { rank } = await refusing("hyperparameters.factors", () => tuned.factorsOf(factors));
  if (typeof asked !== "number" || asked <= rank) return;
  throw invalid(
    "hyperparameters.factors",
    `rank ${asked} is above the factor set's, ${rank}`,
  );
}

async function find(c: AppContext, tuning: FineTuning): Promise<JobRecord> {
  const { jobs } = dataOf(c, tuning);
  const id = c.req.param("fine_tuning_job_id") ?? "";
  const job = await jobs.find(id);
  if (job !== undefined) return job;
  throw new ApiError(404, `Could not find fine tune: ${id.slice(0, 80)}`, {
    param: "fine_tune_id",
    code: "fine_tune_not_found",
  });
}

function runnerOf({ runner }: FineTuning): JobRunner {
  if (runner !== undefined) return runner;
  throw new ApiError(400, "This server serves, and does not train.", {
    code: "training_unavailable",
  });
}

function show(job: JobRecord, { runner }: FineTuning) {
  return jobBody(job, job.status === "running" ? runner?.estimatedFinish(job.id) : undefined);
}

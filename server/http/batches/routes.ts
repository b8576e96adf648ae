/** OpenAI's `/v1/batches`: a file of requests, answered behind all others, a file of answers. */
import { z } from "@hono/zod-openapi";
import type { BatchRecord } from "../../../adapters/store/store.ts";
import type { Principal } from "../../access/access.ts";
import { BatchStateError } from "../../batches/runner.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { ApiError, invalid, shuttingDown } from "../../errors.ts";
import type { FineTuning } from "../../jobs/fine_tuning.ts";
import { get, list, post } from "../endpoint.ts";
import {
  batchBody,
  batchListSchema,
  batchQuerySchema,
  batchSchema,
  type CreateBatchBody,
  createBatchSchema,
} from "./schema.ts";

type Batches = NonNullable<ServerContext["batches"]>;

/** What batches need beside their runner. */
interface BatchDoor extends Pick<ServerContext, "lifecycle"> {
  /** Has the files. */
  readonly tuning: FineTuning;
}

const TAG = "batches";
const BATCH = "/v1/batches/{batch_id}";
const params = z.object({ batch_id: z.string() });

export function registerBatches(app: App, batches: Batches, door: BatchDoor): void {
  post(app, {
    method: "post",
    path: "/v1/batches",
    tag: TAG,
    summary: "Creates a batch: its file is validated, then its requests run behind all others.",
    body: createBatchSchema,
    ok: { description: "The batch.", json: batchSchema },
    scopes: ["infer"],
  }, async (c, body) => {
    if (door.lifecycle.draining) throw shuttingDown();
    return c.json(batchBody(await create(c.get("principal"), body, batches, door)));
  });
  list(app, {
    method: "get",
    path: "/v1/batches",
    tag: TAG,
    summary: "Lists batches, newest first.",
    query: batchQuerySchema,
    ok: { description: "A page of batches.", json: batchListSchema },
    scopes: ["infer"],
  }, async (c, { after, limit = 20 }) => {
    const own = batches.of(c.get("principal").tenant);
    const { items, hasMore } = await own.list({ after, limit, order: "desc" });
    return c.json({
      object: "list",
      data: items.map(batchBody),
      first_id: items[0]?.id ?? null,
      last_id: items.at(-1)?.id ?? null,
      has_more: hasMore,
    });
  });
  get(app, {
    method: "get",
    path: BATCH,
    tag: TAG,
    summary: "Describes one batch.",
    params,
    ok: { description: "The batch.", json: batchSchema },
    scopes: ["infer"],
  }, async (c) => c.json(batchBody(await find(c, batches))));
  get(app, {
    method: "post",
    path: `${BATCH}/cancel`,
    tag: TAG,
    summary: "Ends a batch soon; what it has done stays.",
    params,
    ok: { description: "The batch.", json: batchSchema },
    errors: [409],
    scopes: ["infer"],
  }, async (c) => c.json(batchBody(await cancel(await find(c, batches), batches))));
}

async function create(
  { tenant, keyId, scopes }: Principal,
  body: CreateBatchBody,
  batches: Batches,
  { tuning }: BatchDoor,
): Promise<BatchRecord> {
  const param = "input_file_id";
  const { input_file_id: inputFile, endpoint } = body;
  const file = await tuning.forTenant(tenant).files.find(inputFile);
  if (file === undefined) {
    throw invalid(param, `Invalid '${param}': there is no file '${inputFile}'.`, "file_not_found");
  }
  if (file.purpose !== "batch") {
    throw invalid(
      param,
      `Invalid '${param}': the purpose of '${inputFile}' is '${file.purpose}', not 'batch'.`,
    );
  }
  return await batches.create({
    ...{ tenant, keyId, scopes: [...scopes], endpoint, inputFile },
    metadata: body.metadata ?? null,
    outputExpiresAfter: body.output_expires_after?.seconds ?? null,
  });
}

async function cancel(batch: BatchRecord, batches: Batches): Promise<BatchRecord> {
  try {
    return await batches.cancel(batch);
  } catch (error) {
    if (!(error instanceof BatchStateError)) throw error;
    throw new ApiError(409, error.message, { code: "invalid_batch_state" });
  }
}

async function find(c: AppContext, batches: Batches): Promise<BatchRecord> {
  const id = c.req.param("batch_id") ?? "";
  const batch = await batches.of(c.get("principal").tenant).find(id);
  if (batch !== undefined) return batch;
  throw new ApiError(404, `No batch found with id '${id.slice(0, 80)}'.`, {
    param: "batch_id",
    code: "batch_not_found",
  });
}

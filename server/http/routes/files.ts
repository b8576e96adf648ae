/**
 * OpenAI's `/v1/files`: training data and requests up, results down. A key has the files of what it
 * may do: to train, or to infer.
 */
import { z } from "@hono/zod-openapi";
import { type Access, checkScope, isAdministrator, type Principal } from "../../access/access.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { ANY_SCOPE, get, list, nestedFields, validated } from "../endpoint.ts";
import { ApiError, invalid, shuttingDown } from "../../errors.ts";
import {
  fileBody,
  fileDeletedSchema,
  fileListSchema,
  fileQuerySchema,
  fileSchema,
  uploadFieldsSchema,
  uploadFormSchema,
} from "../schema/files.ts";
import type { FineTuning, TenantTuning } from "../../jobs/fine_tuning.ts";
import { isFinished } from "../../jobs/job_status.ts";
import {
  FILE_PURPOSES,
  type FilePurpose,
  type FileRecord,
  type Scope,
} from "../../../adapters/store/store.ts";
import { readUpload } from "../upload.ts";

const TAG = "files";
const MAX_LISTED = 10_000;
const params = z.object({ file_id: z.string() });

const SCOPE: Readonly<Record<FilePurpose, Scope>> = {
  "fine-tune": "train",
  "fine-tune-results": "train",
  batch: "infer",
  assistants: "infer",
  vision: "infer",
  "user_data": "infer",
  evals: "infer",
  "batch_output": "infer",
};

/** @throws {ApiError} 403 where the key may not do what the file is for */
export function checkPurpose(principal: Principal, purpose: FilePurpose): void {
  checkScope(principal, [SCOPE[purpose]]);
}

function purposesOf(principal: Principal): readonly FilePurpose[] {
  return FILE_PURPOSES.filter((purpose) =>
    isAdministrator(principal) || principal.scopes.has(SCOPE[purpose])
  );
}

/** What uploads need beside the files themselves. */
interface Door extends Pick<ServerContext, "lifecycle"> {
  readonly access: Pick<Access, "admit">;
}

export function registerFiles(app: App, tuning: FineTuning, door: Door): void {
  get(app, {
    method: "post",
    path: "/v1/files",
    tag: TAG,
    summary: "Uploads a file to train on, or requests of a batch; jobs and batches validate it.",
    form: uploadFormSchema,
    ok: { description: "The file.", json: fileSchema },
    scopes: ANY_SCOPE,
  }, async (c) => {
    if (door.lifecycle.draining) throw shuttingDown();
    return c.json(fileBody(await upload(c, tuning, door)));
  });
  list(app, {
    method: "get",
    path: "/v1/files",
    tag: TAG,
    summary: "Lists files, newest first.",
    query: fileQuerySchema,
    ok: { description: "A page of files.", json: fileListSchema },
    scopes: ANY_SCOPE,
  }, async (c, { purpose, after, limit = MAX_LISTED, order = "desc" }) => {
    const purposes = purposesOf(c.get("principal"))
      .filter((one) => purpose === undefined || one === purpose);
    const query = { purpose: purposes, after, limit, order };
    const { items, hasMore } = await dataOf(c, tuning).files.list(query);
    return c.json({
      object: "list",
      data: items.map(fileBody),
      first_id: items[0]?.id ?? null,
      last_id: items.at(-1)?.id ?? null,
      has_more: hasMore,
    });
  });
  registerOne(app, tuning);
}

function registerOne(app: App, tuning: FineTuning): void {
  get(app, {
    method: "get",
    path: "/v1/files/{file_id}",
    tag: TAG,
    summary: "Describes one file.",
    params,
    ok: { description: "The file.", json: fileSchema },
    scopes: ANY_SCOPE,
  }, async (c) => c.json(fileBody(await find(c, dataOf(c, tuning)))));
  get(app, {
    method: "get",
    path: "/v1/files/{file_id}/content",
    tag: TAG,
    summary: "The file's content.",
    params,
    ok: { description: "The content, as it is.", text: ["application/octet-stream"] },
    scopes: ANY_SCOPE,
  }, async (c) => {
    const data = dataOf(c, tuning);
    return await content(await find(c, data), data);
  });
  get(app, {
    method: "delete",
    path: "/v1/files/{file_id}",
    tag: TAG,
    summary: "Deletes a file that no job or batch under way needs.",
    params,
    ok: { description: "That it is deleted.", json: fileDeletedSchema },
    errors: [409],
    scopes: ANY_SCOPE,
  }, async (c) => {
    const data = dataOf(c, tuning);
    const { id } = await find(c, data);
    await refuseInUse(id, data);
    await data.files.remove(id);
    return c.json({ id, object: "file", deleted: true });
  });
}

function dataOf(c: AppContext, tuning: FineTuning): TenantTuning {
  return tuning.forTenant(c.get("principal").tenant);
}

async function upload(c: AppContext, tuning: FineTuning, { access }: Door): Promise<FileRecord> {
  const { files } = dataOf(c, tuning);
  const receive = async (content: AsyncIterable<Uint8Array>) => {
    await access.admit(c.get("principal").tenant);
    return await files.stage(content);
  };
  const field = { name: "file", limit: tuning.maxFileBytes };
  const { file, filename, fields } = await readUpload(c.req.raw, field, receive);
  await using staged = file;
  const given = validated(uploadFieldsSchema, nestedFields(Object.entries(fields)));
  checkPurpose(c.get("principal"), given.purpose);
  if (staged.bytes === 0) throw invalid("file", "The file is empty.");
  return await staged.commit({
    filename: filename.slice(0, 255),
    purpose: given.purpose,
    expiresAfter: given.expires_after?.seconds ?? null,
  });
}

async function find(c: AppContext, { files }: TenantTuning): Promise<FileRecord> {
  const id = c.req.param("file_id") ?? "";
  const file = await files.find(id);
  if (file !== undefined) {
    checkPurpose(c.get("principal"), file.purpose);
    return file;
  }
  throw new ApiError(404, `No such File object: ${id.slice(0, 80)}`, { param: "id" });
}

async function content({ id, bytes }: FileRecord, { files }: TenantTuning): Promise<Response> {
  return new Response(await files.open(id), {
    headers: { "content-type": "application/octet-stream", "content-length": String(bytes) },
  });
}

async function refuseInUse(id: string, { jobs, batches }: TenantTuning): Promise<void> {
  const job = (await jobs.all()).find((job) =>
    !isFinished(job) && (job.trainingFile === id || job.validationFile === id)
  );
  const user = job ?? await batches.userOf(id);
  if (user === undefined) return;
  const kind = job === undefined ? "batch" : "job";
  throw new ApiError(409, `Cannot delete ${id}: ${kind} ${user.id} (${user.status}) needs it.`, {
    param: "id",
    code: "file_in_use",
  });
}

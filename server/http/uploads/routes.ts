/** OpenAI's `/v1/uploads`: a large file in parts, each kept as soon as it is acknowledged. */
import { z } from "@hono/zod-openapi";
import type { Access } from "../../access/access.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { ApiError, invalid, shuttingDown } from "../../errors.ts";
import type { FineTuning } from "../../jobs/fine_tuning.ts";
import type { PartRecord, UploadRecord, UploadStore } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import { ANY_SCOPE, get, post, validated } from "../endpoint.ts";
import { checkPurpose } from "../routes/files.ts";
import { readUpload } from "../upload.ts";
import {
  completeUploadSchema,
  createUploadSchema,
  partFormSchema,
  uploadBody,
  uploadPartSchema,
  uploadSchema,
} from "./schema.ts";

const TAG = "uploads";
const UPLOAD = "/v1/uploads/{upload_id}";
/** OpenAI's. */
const MOST_PART_BYTES = 64 * 2 ** 20;
const params = z.object({ upload_id: z.string() });

/** What uploads need beside the store. */
interface Door extends Pick<ServerContext, "lifecycle"> {
  readonly access: Pick<Access, "admit">;
}

export function registerUploads(app: App, tuning: FineTuning, door: Door): void {
  const most = tuning.maxFileBytes;
  post(app, {
    method: "post",
    path: "/v1/uploads",
    tag: TAG,
    summary: "Begins a file that comes in parts, within an hour.",
    body: createUploadSchema,
    ok: { description: "The upload, pending.", json: uploadSchema },
    scopes: ANY_SCOPE,
  }, async (c, { filename, bytes, mime_type: mimeType, purpose, expires_after: expires }) => {
    if (door.lifecycle.draining) throw shuttingDown();
    const { tenant } = c.get("principal");
    checkPurpose(c.get("principal"), purpose);
    checkSize(bytes, most);
    await door.access.admit(tenant);
    const expiresAfter = expires?.seconds ?? null;
    const made = { filename, bytes, mimeType, purpose, expiresAfter };
    return c.json(uploadBody(await uploadsOf(c, tuning).create(made), undefined));
  });
  registerPart(app, tuning, door);
  registerEnds(app, tuning);
}

function registerPart(app: App, tuning: FineTuning, { lifecycle }: Door): void {
  get(app, {
    method: "post",
    path: `${UPLOAD}/parts`,
    tag: TAG,
    summary: "Adds a part; when this answers it is on disk.",
    params,
    form: partFormSchema,
    ok: { description: "The part.", json: uploadPartSchema },
    scopes: ANY_SCOPE,
  }, async (c) => {
    if (lifecycle.draining) throw shuttingDown();
    const { id } = await find(c, tuning);
    const { createdAt, id: part } = await readPart(c, id, tuning);
    return c.json({
      id: part,
      object: "upload.part",
      created_at: unixSeconds(createdAt),
      upload_id: id,
    });
  });
}

async function readPart(c: AppContext, id: string, tuning: FineTuning): Promise<PartRecord> {
  const uploads = uploadsOf(c, tuning);
  const most = tuning.maxFileBytes;
  const field = { name: "data", limit: Math.min(MOST_PART_BYTES, most) };
  const receive = (content: AsyncIterable<Uint8Array>) => uploads.stagePart(id, content, most);
  const { file, fields } = await readUpload(c.req.raw, field, receive);
  await using staged = file;
  validated(z.strictObject({}), fields);
  if (staged.bytes === 0) throw invalid("data", "Invalid 'data': the part is empty.");
  return await staged.commit();
}

function registerEnds(app: App, tuning: FineTuning): void {
  post(app, {
    method: "post",
    path: `${UPLOAD}/complete`,
    tag: TAG,
    summary: "Makes the parts a file.",
    params,
    body: completeUploadSchema,
    ok: { description: "The upload, with its file.", json: uploadSchema },
    scopes: ANY_SCOPE,
  }, async (c, { part_ids: partIds, md5 }) => {
    const { id } = await find(c, tuning);
    const made = await uploadsOf(c, tuning).complete(id, { partIds, md5: md5 ?? undefined });
    return c.json(uploadBody(made.upload, made.file));
  });
  get(app, {
    method: "post",
    path: `${UPLOAD}/cancel`,
    tag: TAG,
    summary: "Gives an upload up, with its parts.",
    params,
    ok: { description: "The upload, cancelled.", json: uploadSchema },
    errors: [400],
    scopes: ANY_SCOPE,
  }, async (c) => {
    const { id } = await find(c, tuning);
    return c.json(uploadBody(await uploadsOf(c, tuning).cancel(id), undefined));
  });
}

function uploadsOf(c: AppContext, tuning: FineTuning): UploadStore {
  return tuning.forTenant(c.get("principal").tenant).uploads;
}

async function find(c: AppContext, tuning: FineTuning): Promise<UploadRecord> {
  const id = c.req.param("upload_id") ?? "";
  const upload = await uploadsOf(c, tuning).find(id);
  if (upload === undefined) {
    throw new ApiError(404, `No such Upload object: ${id.slice(0, 80)}`, { param: "upload_id" });
  }
  checkPurpose(c.get("principal"), upload.purpose);
  return upload;
}

function checkSize(bytes: number, most: number): void {
  if (bytes <= most) return;
  throw invalid(
    "bytes",
    `Invalid 'bytes': number above maximum value. Expected a value <= ${most}, the most of a ` +
      `file here (--max-file), but got ${bytes} instead.`,
    "number_above_max_value",
  );
}

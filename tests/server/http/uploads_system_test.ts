// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client uploads files in parts, and with an end. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { createHash } from "node:crypto";
import OpenAI from "openai";
import { upload, withServer } from "../tuning_server.ts";

const NEW = { filename: "rows.jsonl", mime_type: "application/jsonl", purpose: "batch" } as const;

function part(text: string): File {
  return new File([text], "blob");
}

function md5(text: string): string {
  return createHash("md5").update(text).digest("hex");
}

Deno.test("a file in parts is the same as one sent at once", () =>
  withServer(async ({ client }) => {
    const text = "first second";
    const made = await client.uploads.create({ ...NEW, bytes: text.length });
    assertMatch(made.id, /^upload_\w{24}$/);
    assertEquals([made.object, made.status, made.file], ["upload", "pending", null]);
    assertEquals(made.expires_at - made.created_at, 3600);
    const add = (text: string) => client.uploads.parts.create(made.id, { data: part(text) });
    const [second, first] = [await add("second"), await add("first ")];
    assertMatch(first.id, /^part_\w{24}$/);
    assertEquals([first.object, first.upload_id], ["upload.part", made.id]);
    const done = await client.uploads.complete(made.id, {
      part_ids: [first.id, second.id],
      md5: md5(text),
    });
    assertEquals([done.status, done.file?.bytes, done.file?.purpose], ["completed", 12, "batch"]);
    const { id = "" } = done.file ?? {};
    assertEquals(await (await client.files.content(id)).text(), text);
    const late = await assertRejects(() => add("late"), OpenAI.BadRequestError);
    assertEquals(late.param, "upload_id");
    assertStringIncludes(late.message, "completed");
  }));

Deno.test("uploads that cannot be are refused by their field, cancelled ones end", () =>
  withServer(async ({ client, url }) => {
    const refused = async (run: () => Promise<unknown>, param: string) => {
      const error = await assertRejects(run, OpenAI.BadRequestError);
      assertEquals(error.param, param, error.message);
    };
    const create = (more: object) => () => client.uploads.create({ ...NEW, bytes: 5, ...more });
    await refused(create({ bytes: (1 << 20) + 1 }), "bytes");
    await refused(create({ bytes: 0 }), "bytes");
    await refused(create({ purpose: "batch_output" as "batch" }), "purpose");
    await refused(create({ mime_type: "jsonl" }), "mime_type");
    const expires_after = { anchor: "created_at", seconds: 60 };
    await refused(create({ expires_after }), "expires_after.seconds");
    const { id } = await client.uploads.create({ ...NEW, bytes: 5 });
    const complete = (body: object) => () =>
      client.uploads.complete(id, body as { part_ids: string[] });
    await refused(complete({ part_ids: ["part_x"] }), "part_ids[0]");
    await refused(complete({ part_ids: [] }), "part_ids");
    const { id: four } = await client.uploads.parts.create(id, { data: part("four") });
    await refused(complete({ part_ids: [four] }), "part_ids");
    const one = (await client.uploads.parts.create(id, { data: part("5") })).id;
    await refused(complete({ part_ids: [four, one], md5: md5("four6") }), "md5");
    await refused(() => client.uploads.parts.create(id, { data: part("") }), "data");
    const body = new FormData();
    body.set("file", part("x"));
    const unnamed = await fetch(`${url}/v1/uploads/${id}/parts`, { method: "POST", body });
    assertEquals([unnamed.status, (await unnamed.json()).error.param], [400, "data"]);
    assertEquals((await client.uploads.cancel(id)).status, "cancelled");
    await refused(() => client.uploads.cancel(id), "upload_id");
    await assertRejects(() => client.uploads.cancel("upload_x"), OpenAI.NotFoundError);
  }));

Deno.test("a file says when it expires; purposes are those of its uses", () =>
  withServer(async ({ client }) => {
    const file = new File(["{}"], "a.jsonl");
    const expires_after = { anchor: "created_at", seconds: 7200 } as const;
    const made = await client.files.create({ file, purpose: "batch", expires_after });
    assertEquals((made.expires_at ?? 0) - made.created_at, 7200);
    const kept = await upload(client);
    assertEquals((await client.files.retrieve(kept)).expires_at, undefined);
    const batch = await client.files.list({ purpose: "batch" });
    assertEquals(batch.data.map(({ id }) => id), [made.id]);
    const long = { anchor: "created_at", seconds: 2_592_001 } as const;
    const error = await assertRejects(
      () => client.files.create({ file, purpose: "batch", expires_after: long }),
      OpenAI.BadRequestError,
    );
    assertEquals(error.param, "expires_after.seconds");
    const upto = await client.uploads.create({ ...NEW, bytes: 2, expires_after });
    const { id } = await client.uploads.parts.create(upto.id, { data: part("{}") });
    const { file: whole } = await client.uploads.complete(upto.id, { part_ids: [id] });
    assert(whole?.expires_at !== undefined);
    assertEquals(whole.expires_at - whole.created_at, 7200);
  }));

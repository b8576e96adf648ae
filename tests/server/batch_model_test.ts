// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client uploads requests in parts, and has the default model and its cores answer them. */
import { assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { Lembas } from "../../adapters/lembas.ts";
import { answers, batchThat, ended } from "./batch_client.ts";
import { serveLoaded } from "./tuning_server.ts";

const ADAPTERS = new URL("../fixtures/adapters", import.meta.url).pathname;
const MODEL = "SmolLM2-135M-Instruct";
const NOTE = "Put this note on its shelf. Answer with the shelf's word only.\n" +
  "Note: They told me that the mortgage was paid two weeks late.";
const MODELS = [MODEL, "shelf", "order"];

function ask(model: string) {
  return {
    model,
    messages: [{ role: "user" as const, content: NOTE }],
    ...{ max_tokens: 8, temperature: 0 },
  };
}

Deno.test("a batch over the default model and two cores says what the same requests say", async () => {
  const data = await Deno.makeTempDir();
  const { client, loaded, stop } = await serveLoaded(
    (listener) =>
      Lembas.load({
        adapters: ADAPTERS,
        ...{ maxBatch: 4, maxContext: 256, kvMemory: 2 ** 28, listener },
      }),
    { data },
  );
  try {
    const url = "/v1/chat/completions";
    const requests = Array.from({ length: 9 }, (_, i) => {
      const body = ask(MODELS[i % 3] ?? MODEL);
      return JSON.stringify({ custom_id: `r${i}`, method: "POST", url, body }) + "\n";
    });
    const texts = [requests.slice(0, 4).join(""), requests.slice(4).join("")];
    const bytes = texts.join("").length;
    const begun = await client.uploads.create({
      ...{ filename: "in.jsonl", bytes, mime_type: "application/jsonl", purpose: "batch" },
    });
    const part_ids: string[] = [];
    for (const text of texts) {
      const part = await client.uploads.parts.create(begun.id, { data: new File([text], "part") });
      part_ids.push(part.id);
    }
    const { file } = await client.uploads.complete(begun.id, { part_ids });
    const { id } = await client.batches.create({
      input_file_id: file?.id ?? "",
      endpoint: url,
      completion_window: "24h",
    });
    // somebody asks meanwhile
    const direct = new Map<string, string | null | undefined>();
    for (const model of MODELS) {
      const { choices } = await client.chat.completions.create(ask(model));
      direct.set(model, choices[0]?.message.content);
    }
    const batch = await batchThat(client, id, ended);
    assertEquals(batch.request_counts, { total: 9, completed: 9, failed: 0 });
    assertGreater(batch.usage?.output_tokens ?? 0, 9);
    const out = await answers(client, batch.output_file_id);
    const said = out.map(({ response }) => response?.body.choices[0].message.content);
    assertEquals(said, out.map((_, i) => direct.get(MODELS[i % 3] ?? "")));
    assertEquals(direct.get("shelf"), "ledger");
    assertNotEquals(direct.get("order"), direct.get("shelf"));
    loaded.engine.checkIntegrity();
  } finally {
    await stop();
    await Deno.remove(data, { recursive: true });
  }
});

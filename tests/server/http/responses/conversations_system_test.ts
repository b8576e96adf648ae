// deno-lint-ignore-file camelcase -- names of the wire format
/** Conversations through OpenAI's client: kept, gone on with by responses, listed and deleted. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { NO_LIMITS } from "../../../../adapters/store/store.ts";
import { errorOf, post } from "../../asked.ts";
import { fakeContext } from "../../fake_context.ts";
import { openKeyedApp } from "../../keyed_app.ts";
import { clientOf } from "./keyed_client.ts";

/** An answer of a few tokens. */
const SHORT = { model: "tiny", max_output_tokens: 4, temperature: 0 };

/** What was answered; the client adds its own. */
function bare(answer: object): unknown {
  return JSON.parse(JSON.stringify(answer));
}

Deno.test("conversations", async (t) => {
  await using served = await openKeyedApp();
  const client = clientOf(served, served.keys.acme);
  const { conversations, responses } = client;
  const step = (name: string, run: () => Promise<void>) => t.step(name, run);
  const user = (content: string) => ({ role: "user" as const, content });
  /** `user: one` of each item. */
  const told = async (id: string) =>
    (await Array.fromAsync(conversations.items.list(id, { order: "asc" }))).map((item) => {
      assert(item.type === "message" && item.content[0] && "text" in item.content[0]);
      return `${item.role}: ${item.content[0].text}`;
    });

  await step("one is made, read, changed and deleted with its items", async () => {
    const made = await conversations.create({ items: [user("one")], metadata: { topic: "a" } });
    assertEquals(bare(await conversations.retrieve(made.id)), bare(made));
    const changed = await conversations.update(made.id, { metadata: { topic: "b" } });
    assertEquals(bare(changed), { ...made, metadata: { topic: "b" } });
    const added = await conversations.items.create(made.id, {
      items: [user("two"), { role: "assistant", content: "three" }],
    });
    const [two, three] = added.data;
    assertEquals([added.first_id, added.last_id, added.has_more], [two?.id, three?.id, false]);
    assertEquals(await told(made.id), ["user: one", "user: two", "assistant: three"]);
    const one = { conversation_id: made.id };
    assertEquals(bare(await conversations.items.retrieve(two?.id ?? "", one)), two as unknown);
    assertEquals(bare(await conversations.items.delete(two?.id ?? "", one)), bare(changed));
    const gone = () => conversations.items.retrieve(two?.id ?? "", one);
    await assertRejects(gone, OpenAI.NotFoundError, "Item");
    assertEquals(await told(made.id), ["user: one", "assistant: three"]);
    const page = await conversations.items.list(made.id, { limit: 1 });
    assertEquals([page.data.map(({ id }) => id), page.has_more], [[three?.id], true]);
    const deleted = { id: made.id, object: "conversation.deleted", deleted: true };
    assertEquals(bare(await conversations.delete(made.id)), deleted);
    await assertRejects(() => conversations.retrieve(made.id), OpenAI.NotFoundError, made.id);
    await assertRejects(() => conversations.items.list(made.id), OpenAI.NotFoundError);
  });

  await step("responses go on with it and add to it, kept themselves or not", async () => {
    const { id } = await conversations.create({ items: [user("one")] });
    const first = await responses.create({ ...SHORT, conversation: id, input: "two" });
    assertEquals(first.conversation, { id });
    const stream = responses.stream({ ...SHORT, conversation: { id }, store: false });
    const second = await stream.finalResponse();
    const expected = ["user: one", "user: two", `assistant: ${first.output_text}`];
    assertEquals(await told(id), [...expected, `assistant: ${second.output_text}`]);
    const messages = [user("one"), user("two"), {
      role: "assistant" as const,
      content: first.output_text,
    }];
    const { choices, usage } = await client.chat.completions.create({
      ...{ model: "tiny", max_tokens: 4, temperature: 0, messages },
    });
    assertEquals(second.output_text, choices[0]?.message.content);
    assertEquals(second.usage?.input_tokens, usage?.prompt_tokens);
    await assertRejects(() => responses.retrieve(second.id), OpenAI.NotFoundError);
    await conversations.items.delete(second.output[0]?.id ?? "", { conversation_id: id });
    const count = await responses.inputTokens.count({ model: "tiny", conversation: id });
    assertEquals(count.input_tokens, usage?.prompt_tokens);
  });

  await step("what cannot be is refused by name, and leaves nothing", async () => {
    const { id } = await conversations.create();
    const { id: previous } = await responses.create({ ...SHORT, input: "one" });
    const { key, json } = { key: served.keys.acme, json: { ...SHORT, input: "x" } };
    const refusal = async (path: string, body: object) =>
      await errorOf(await served.ask("POST", path, { key, json: { ...body } }));
    const both = { ...json, conversation: id, previous_response_id: previous };
    const cases = [
      [both, 400, "conversation"],
      [{ ...json, conversation: `conv_${"0".repeat(32)}` }, 404, "conversation"],
      [{ ...json, conversation: "conv_1" }, 404, "conversation"],
    ] as const;
    for (const [body, status, param] of cases) {
      const error = await refusal("/v1/responses", body);
      assertEquals([error.status, error.param], [status, param], error.message);
    }
    const many = await refusal("/v1/conversations", { items: Array(21).fill(user("x")) });
    assertEquals([many.status, many.param], [400, "items"]);
    const items = [{ type: "item_reference", id: "msg_1" }];
    const none = await refusal(`/v1/conversations/${id}/items`, { items });
    assertEquals([none.status, none.param], [404, "items[0].id"]);
    const storedBytes = await served.store.tenants.storedBytes("acme") + 100;
    await served.store.tenants.update({ id: "acme", limits: { ...NO_LIMITS, storedBytes } });
    const full = await refusal("/v1/conversations", { items: [user("x".repeat(200))] });
    assertEquals([full.status, full.code], [403, "storage_quota_exceeded"]);
    assertEquals(await told(id), []);
  });
});

Deno.test("a server that keeps no responses has no conversations", async () => {
  const none = await post(fakeContext(), "/v1/conversations", {});
  assertEquals(none.status, 404);
  const body = { model: "tiny", input: "x", conversation: "conv_1" };
  const error = await errorOf(await post(fakeContext(), "/v1/responses", body));
  assertEquals([error.status, error.param], [400, "conversation"]);
});

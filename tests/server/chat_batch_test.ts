/** Several conversations in one request, with an engine that says what it is told to. */
import { assertEquals } from "@std/assert";
import { errorOf, type Json, post } from "./asked.ts";
import { fakeContext } from "./fake_context.ts";

const BATCH = "/v1/chat/completions/batch";
const turn = (content: string) => [{ role: "user", content }];
const ASK = { model: "tiny", messages: [turn("a"), turn("bb"), turn("ccc")] };

Deno.test("a batch has a choice a conversation, in their order, and the usage of all", async () => {
  const context = fakeContext();
  context.engine.reply = ({ prompt }) => `${prompt.length}`;
  const answer = await post(context, BATCH, ASK);
  const { choices, usage } = await answer.json() as {
    readonly choices: readonly { readonly index: number; readonly message: Json }[];
    readonly usage: Json;
  };
  const lengths = context.engine.requests.map(({ prompt }) => prompt.length);
  assertEquals(lengths, [lengths[0], (lengths[0] ?? 0) + 1, (lengths[0] ?? 0) + 2]);
  assertEquals(
    choices.map(({ index, message }) => [index, message["content"]]),
    lengths.map((length, index) => [index, `${length}`]),
  );
  const prompt = lengths.reduce((sum, length) => sum + length, 0);
  assertEquals([usage["prompt_tokens"], usage["completion_tokens"]], [prompt, 6]);
  assertEquals(context.engine.running, 0);
});

Deno.test("what a batch cannot have is refused by name", async () => {
  const tools = [{ type: "function", function: { name: "f" } }];
  const cases: readonly (readonly [Json, string])[] = [
    [{ stream: true }, "stream"],
    [{ n: 2 }, "n"],
    [{ tools }, "tools"],
    [{ messages: [] }, "messages"],
    [{ messages: [turn("a"), []] }, "messages[1]"],
  ];
  for (const [more, param] of cases) {
    const refused = await errorOf(await post(fakeContext(), BATCH, { ...ASK, ...more }));
    assertEquals([refused.status, refused.param], [400, param]);
  }
});

Deno.test("where one conversation cannot begin, none is left running", async () => {
  const context = fakeContext();
  const messages = [turn("a"), [{ role: "assistant", content: "no" }], turn("x".repeat(500))];
  const refused = await errorOf(await post(context, BATCH, { ...ASK, messages }));
  assertEquals([refused.status, refused.param], [400, "messages"]);
  assertEquals(context.engine.running, 0);
});

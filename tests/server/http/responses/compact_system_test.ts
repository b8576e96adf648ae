// deno-lint-ignore-file camelcase -- names of the wire format
/** Compaction: a window that stands for a conversation, for its tenant alone, and unchanged alone. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { Sealer } from "../../../../server/access/sealing.ts";
import { keepingLog, openTestStore } from "../../../adapters/store/test_store.ts";
import { errorOf, type Json, post } from "../../asked.ts";
import { byteTokenizer, fakeContext } from "../../fake_context.ts";
import { openKeyedApp } from "../../keyed_app.ts";
import { clientOf } from "./keyed_client.ts";

const PATH = "/v1/responses";

Deno.test("a compaction stands for what was summarised, and the user's messages stay", async () => {
  await using opened = await openTestStore(keepingLog());
  const fake = fakeContext();
  const engine = Object.assign(fake.engine, { maxContext: 4000 });
  const sealer = new Sealer("a secret of the test");
  const context = { ...fake, responses: { store: opened.store, sealer, days: 30 } };
  const ask = async (path: string, json: Json) => {
    const response = await post(context, path, json);
    const body = await response.json();
    assertEquals(response.status, 200, JSON.stringify(body));
    const prompt = byteTokenizer.decode([...engine.requests.at(-1)?.prompt ?? []]);
    return { body, prompt };
  };
  const first = await ask(PATH, { input: "one" });
  engine.reply = () => " They greeted.\n";
  const compacting = { previous_response_id: first.body.id, input: "two", instructions: "Brief." };
  const { body, prompt } = await ask(`${PATH}/compact`, compacting);
  const said = "<system>Brief.</system><user>one</user><assistant>Hello, world</assistant>";
  assert(prompt.startsWith(`${said}<user>two</user><user>Summarise `), prompt);
  assertEquals(body.object, "response.compaction");
  assertEquals(body.usage.input_tokens, prompt.length);
  const [one, two, compaction, ...more] = body.output;
  assertEquals([one.role, one.content[0].text, two.content[0].text], ["user", "one", "two"]);
  assertEquals([compaction.type, more], ["compaction", []]);
  assert(!JSON.stringify(body).includes("greeted"));
  // the window goes on, and is kept as it was sent
  engine.reply = () => "Sure";
  const onward = await ask(PATH, { input: [...body.output, { role: "user", content: "three" }] });
  const summary = "Summary of the conversation up to here:\nThey greeted.";
  const window = `<user>one</user><user>two</user><assistant>${summary}</assistant>`;
  assertEquals(onward.prompt, `${window}<user>three</user><assistant>`);
  const next = await ask(PATH, { previous_response_id: onward.body.id, input: "four" });
  assertEquals(
    next.prompt,
    `${window}<user>three</user><assistant>Sure</assistant><user>four</user><assistant>`,
  );
  // of nothing there is nothing to be said
  const asked = engine.requests.length;
  const empty = await ask(`${PATH}/compact`, {});
  assertEquals([empty.body.output.length, empty.body.usage.total_tokens], [1, 0]);
  assertEquals(engine.requests.length, asked);
  const after = await ask(PATH, { input: [...empty.body.output, { role: "user", content: "x" }] });
  assertEquals(after.prompt, "<user>x</user><assistant>");
  const nobody = await errorOf(await post(context, `${PATH}/compact`, { model: "nobody" }));
  assertEquals([nobody.status, nobody.code], [404, "model_not_found"]);
  // one that fits, and leaves no room for its summary
  engine.maxContext = 200;
  const long = await errorOf(await post(context, `${PATH}/compact`, { input: "x".repeat(150) }));
  assertEquals([long.status, long.param], [400, "input"]);
});

Deno.test("a compaction is read for its own tenant alone, and only as it was sealed", async () => {
  await using served = await openKeyedApp({ metered: true });
  const { responses } = clientOf(served, served.keys.acme);
  const { output, usage } = await responses.compact({ model: "tiny" as never, input: "one" });
  const compaction = output.find(({ type }) => type === "compaction");
  assert(compaction?.type === "compaction");
  const [total] = await served.store.usage.total({ tenant: "acme", by: "model" });
  assertEquals([total?.requests, total?.completionTokens], [1, usage.output_tokens]);
  const create = (api: OpenAI.Responses, encrypted_content: string) =>
    api.create({
      ...{ model: "tiny", max_output_tokens: 2 },
      input: [{ role: "user", content: "x" }, { type: "compaction", encrypted_content }],
    });
  const { encrypted_content: sealed } = compaction;
  assertEquals((await create(responses, sealed)).status, "incomplete");
  const { responses: others } = clientOf(served, served.keys.globex);
  const flipped = sealed.slice(0, -2) + (sealed.at(-2) === "A" ? "B" : "A") + sealed.at(-1);
  const cases = [[others, sealed], [responses, flipped], [responses, ""], [
    responses,
    "ä",
  ]] as const;
  for (const [api, text] of cases) {
    const error = await assertRejects(() => create(api, text), OpenAI.BadRequestError);
    assertEquals(error.param, "input[1].encrypted_content");
  }
});

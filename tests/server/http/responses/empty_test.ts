/** Responses to an empty conversation: what its prompt is, and whose fault it is where it cannot be. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { post } from "../../asked.ts";
import { byteTokenizer, fakeContext } from "../../fake_context.ts";

const PATH = "/v1/responses";

Deno.test("without input the conversation is empty, but for instructions", async () => {
  const context = fakeContext();
  const prompts = [];
  for (const asked of [{}, { input: [] }, { instructions: "Be brief." }]) {
    const response = await post(context, PATH, asked);
    assertEquals([response.status, (await response.json()).status], [200, "completed"]);
    prompts.push(byteTokenizer.decode(context.engine.requests.at(-1)?.prompt ?? []));
  }
  const [nothing, , instructed] = prompts;
  assertEquals(prompts, [nothing, nothing, instructed]);
  assertEquals([nothing, instructed], ["<assistant>", "<system>Be brief.</system><assistant>"]);
});

Deno.test("a template that cannot do with an empty conversation is a refusal of input", async () => {
  const { model, ...rest } = fakeContext();
  const chatTemplate = {
    source: "",
    render: () => {
      throw new TypeError("the conversation is empty");
    },
  };
  const silent = { source: "", render: () => "" };
  const cases = [[chatTemplate, "the conversation is empty"], [
    silent,
    "Invalid 'input': the",
  ]] as const;
  for (const [chatTemplate, named] of cases) {
    const response = await post({ ...rest, model: { ...model, chatTemplate } }, PATH, {});
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, "input"]);
    assertStringIncludes(error.message, named);
  }
});

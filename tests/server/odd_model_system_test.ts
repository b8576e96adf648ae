// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * `deno task serve` over a tiny GGUF whose metadata is odd: what it does about it is in its log, as is
 * the device that it takes, and a chat ends at the end of turn that the metadata does not name.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { patchedGguf } from "../checkpoint/gguf_patch.ts";
import { ServerProcess } from "./server_process.ts";

const MAIN = new URL("../../server/cli/serve.ts", import.meta.url);
const ENDOFTEXT = 0;
const IM_END = 2;

interface Choice {
  readonly finish_reason: string;
  readonly message: { readonly content: string };
}

/** Asks for an answer that begins with <|im_end|>, and ends the server. */
async function chat(model: string): Promise<{ choice: Choice; lines: readonly string[] }> {
  const args = ["--model", model, "--port", "0", "--max-context", "64", "--max-batch", "2"];
  const server = new ServerProcess(MAIN, { args });
  const asked = await Promise.allSettled([
    server.url().then((url) =>
      fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          model: "odd",
          messages: [{ role: "user", content: "Hi" }],
          logit_bias: { [IM_END]: 100 },
          max_tokens: 8,
        }),
      })
    ).then((response) => response.json()),
  ]);
  server.kill("SIGTERM");
  const { lines } = await server.ended();
  const [answer] = asked;
  if (answer.status === "rejected") throw answer.reason;
  return { choice: answer.value.choices[0], lines };
}

Deno.test("serve says which device it takes, and what an odd GGUF leaves out, and ends its chats at <|im_end|>", async () => {
  const directory = await Deno.makeTempDir();
  const patch = {
    set: { "tokenizer.ggml.eos_token_id": ENDOFTEXT },
    hide: ["tokenizer.ggml.token_type", "tokenizer.ggml.pre"],
  };
  try {
    await Deno.writeFile(`${directory}/odd.gguf`, patchedGguf("llama.gguf", patch));
    const { choice, lines } = await chat(`${directory}/odd.gguf`);
    assertEquals([choice.finish_reason, choice.message.content], ["stop", ""]);
    const log = lines.join("\n");
    assertMatch(log, /--device auto takes cpu: \w+/);
    assertStringIncludes(log, "odd: a turn ends at <|im_end|> (2)");
    assertStringIncludes(log, "odd: the GGUF has no tokenizer.ggml.token_type");
    assertStringIncludes(log, "odd: the GGUF has no tokenizer.ggml.pre");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

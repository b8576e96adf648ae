/**
 * `deno task serve` over a tiny GGUF whose metadata is odd: what it does about it is in its log, and
 * a chat ends at the end of turn that the metadata does not name.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { patchedGguf } from "../checkpoint/gguf_patch.ts";
import { ServerProcess } from "./server_process.ts";

const MAIN = new URL("../../server/main.ts", import.meta.url);
const ENDOFTEXT = 0;
const IM_END = 2;

Deno.test("serve says what an odd GGUF leaves out, and ends its chats at <|im_end|>", async () => {
  const directory = await Deno.makeTempDir();
  const model = `${directory}/odd.gguf`;
  const patch = {
    set: { "tokenizer.ggml.eos_token_id": ENDOFTEXT },
    hide: ["tokenizer.ggml.token_type", "tokenizer.ggml.pre"],
  };
  await Deno.writeFile(model, patchedGguf("llama.gguf", patch));
  const args = ["--model", model, "--port", "0", "--max-context", "64", "--max-batch", "2"];
  const server = new ServerProcess(MAIN, { args });
  try {
    const response = await fetch(`${await server.url()}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "odd",
        messages: [{ role: "user", content: "Hi" }],
        logit_bias: { [IM_END]: 100 },
        max_tokens: 8,
      }),
    });
    const { choices: [choice] } = await response.json();
    assertEquals([choice.finish_reason, choice.message.content], ["stop", ""]);
    server.kill("SIGTERM");
    const warnings = (await server.ended()).lines.filter((line) => line.includes("odd: "));
    for (
      const told of ["a turn ends at <|im_end|> (2)", "no tokenizer.ggml.token_type", "ggml.pre"]
    ) {
      assertStringIncludes(warnings.join("\n"), told);
    }
  } catch (error) {
    server.kill("SIGKILL");
    await server.ended();
    throw error;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * `deno task serve --chat-template`: what is told by it instead of the model's own, on the event loop,
 * in the thread for long texts and in the one that reads training data.
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { readTemplate } from "../../../server/cli/named_paths.ts";
import { ServerProcess } from "../server_process.ts";

const MAIN = new URL("../../../server/cli/serve.ts", import.meta.url);
const MODEL = new URL("../../fixtures/checkpoint/llama.gguf", import.meta.url).pathname;
/** It shows no content, so that a long conversation is a short prompt. */
const TEMPLATE =
  `{% for one in messages %}[{{ mood }}{{ one.role }}]{% if one.content == "Melkor" %}{{
  raise_exception("no Melkor here") }}{% endif %}{% endfor %}`;

const MOOD = ["--default-chat-template-kwargs", '{"mood": "sad "}'];

/** Serves the tiny model while `use` asks; tells the log. */
async function serving(
  more: readonly string[],
  use: (url: string) => Promise<void>,
): Promise<string> {
  const args = ["--model", MODEL, "--port", "0", "--max-context", "64", "--device", "cpu", ...more];
  const server = new ServerProcess(MAIN, { args });
  const used = await Promise.allSettled([server.url().then(use)]);
  server.kill("SIGTERM");
  const { lines } = await server.ended();
  const [{ status, ...outcome }] = used;
  if (status === "rejected") throw Reflect.get(outcome, "reason");
  return lines.join("\n");
}

async function post(url: string, body: unknown): Promise<Record<string, unknown>> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  return await response.json();
}

/** What becomes of a training file with one conversation. */
async function trained(url: string, content: string): Promise<string> {
  const row = {
    messages: [{ role: "user", content }, { role: "assistant", content: "No." }],
  };
  const form = new FormData();
  form.set("purpose", "fine-tune");
  form.set("file", new File([JSON.stringify(row) + "\n"], "rows.jsonl"));
  const file = await (await fetch(`${url}/v1/files`, { method: "POST", body: form })).json();
  const asked = { model: "llama", training_file: file.id };
  const job = await post(`${url}/v1/fine_tuning/jobs`, asked);
  while (true) {
    const response = await fetch(`${url}/v1/fine_tuning/jobs/${job["id"]}`);
    const { status, error } = await response.json();
    if (["failed", "succeeded", "cancelled"].includes(status)) return `${status} ${error?.message}`;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

Deno.test("a template from a file shows chats, long ones and training data, and the log names it", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/roles.jinja`;
  try {
    await Deno.writeTextFile(path, TEMPLATE);
    const log = await serving(["--chat-template", path, ...MOOD], async (url) => {
      for (const content of ["Hi", "long ".repeat(4000)]) {
        const messages = [{ role: "user", content }, { role: "assistant", content: "So?" }];
        const { prompt } = await post(`${url}/apply-template`, { messages });
        assertEquals(prompt, "[sad user][sad assistant]");
        const own = { messages, chat_template_kwargs: { mood: "" } };
        assertEquals((await post(`${url}/apply-template`, own))["prompt"], "[user][assistant]");
        const { tokens } = await post(`${url}/tokenize`, { messages });
        assertEquals((await post(`${url}/detokenize`, { tokens }))["prompt"], prompt);
      }
      const props = await (await fetch(`${url}/props`)).json();
      assertEquals(props.chat_template, TEMPLATE);
      const refused = await post(`${url}/v1/chat/completions`, {
        messages: [{ role: "user", content: "Melkor" }],
      });
      assertStringIncludes(JSON.stringify(refused), "no Melkor here");
      assertStringIncludes(await trained(url, "Melkor"), "no Melkor here");
    });
    assertStringIncludes(log, `chat template ${path} instead of the model's own`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a template may be the flag's own text; what is neither ends the start in one line", async () => {
  assertEquals(await readTemplate(TEMPLATE), TEMPLATE);
  assertEquals(await readTemplate(undefined), undefined);
  for (
    const [given, message] of [
      ["gone.jinja", "Cannot use --chat-template: there is no file 'gone.jinja'."],
      ["{% if %}", "Cannot use --chat-template (a text): Cannot read the chat template: "],
      [MODEL, `Cannot use --chat-template ${MODEL}: `],
    ] as const
  ) await assertRejects(() => readTemplate(given), TypeError, message);
  const args = ["--model", MODEL, "--port", "0", "--chat-template", "{% for %}"];
  const { code, lines } = await new ServerProcess(MAIN, { args }).ended();
  assertEquals([code, lines.filter((line) => line !== "").length], [1, 1], lines.join("\n"));
  assertStringIncludes(lines.join(), "Cannot use --chat-template");
});

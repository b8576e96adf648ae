/** The command's life in a process of its own: start, signals, exit codes. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ServerProcess } from "./server_process.ts";

/** The command over a model without weights. */
class Child extends ServerProcess {
  constructor(args: readonly string[]) {
    super(new URL("./serve_child.ts", import.meta.url), { args });
  }
}

function complete(url: string, maxTokens: number): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "tiny",
      prompt: "hello",
      max_tokens: maxTokens,
      ignore_eos: true,
      stream: true,
    }),
  });
}

Deno.test("SIGTERM lets a running stream end, and then the process with code 0", async () => {
  const child = new Child(["--port", "0"]);
  const url = await child.url();
  const running = await complete(url, 150);
  child.kill("SIGTERM");
  await child.line(/SIGTERM: finishing requests/);
  const refused = await complete(url, 1);
  assertEquals(refused.status, 503);
  await refused.body?.cancel();
  child.kill("SIGUSR2");
  const text = await running.text();
  assertStringIncludes(text, '"finish_reason":"length"');
  const { code, lines } = await child.ended();
  assertEquals(code, 0);
  assertStringIncludes(lines.at(-1) ?? "", "stopped");
});

Deno.test("what runs longer than the grace is cut short, and the process still ends well", async () => {
  const child = new Child(["--port", "0", "--grace", "0"]);
  const running = await complete(await child.url(), 200);
  child.kill("SIGINT");
  await child.line(/SIGINT: finishing requests/);
  child.kill("SIGUSR2");
  const text = await running.text();
  assert(!text.includes('"finish_reason":"length"'), text.slice(-300));
  const { code, lines } = await child.ended();
  assertEquals(code, 0);
  assertStringIncludes(lines.at(-1) ?? "", "cut short");
});

Deno.test("a second signal ends the process at once", async () => {
  const child = new Child(["--port", "0"]);
  const running = await complete(await child.url(), 200);
  child.kill("SIGTERM");
  await child.line(/finishing requests/);
  child.kill("SIGTERM");
  assertEquals((await child.ended()).code, 143);
  await running.text().catch(() => "");
});

Deno.test("it says what it serves, and logs a line a request", async () => {
  const child = new Child(["--port", "0"]);
  const url = await child.url();
  await (await complete(url, 2)).text();
  await child.line(/POST \/v1\/completions status=200 .*model=tiny prompt=\d+ output=2/);
  child.kill("SIGTERM");
  const { lines } = await child.ended();
  const text = lines.join("\n");
  assertMatch(text, /model tiny abababababab, int8 on cpu/);
  assertMatch(
    text,
    /slots 4, context 256 tokens \(the model's limit\), 1 MiB for all keys and values/,
  );
  assertMatch(text, /factors [0-9a-f]{12} \(rank 4, q_proj v_proj\)/);
});

Deno.test("a taken port is one clear line", async () => {
  const holder = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { code, lines } = await new Child(["--port", String(holder.addr.port)]).ended();
  holder.close();
  assertEquals([code, lines.length], [1, 1]);
  assertMatch(lines[0] ?? "", /Cannot listen on 127\.0\.0\.1:\d+: the port is in use/);
});

Deno.test("a bad flag is one line and code 2; help and version are code 0", async () => {
  const bad = await new Child(["--prot", "1"]).ended();
  assertEquals([bad.code, bad.lines.length], [2, 1]);
  assertStringIncludes(bad.lines[0] ?? "", "did you mean '--port'?");
  const help = await new Child(["--help"]).ended();
  assertEquals([help.code, help.lines.length], [0, 0]);
  assertStringIncludes(help.stdout, "--kv-memory");
  const version = await new Child(["--version"]).ended();
  assertEquals([version.code, version.stdout], [0, "lembas 0.0.0\n"]);
});

/** What nothing has caught: it is logged, and ends the process where its state may be broken. */
import { assertEquals, assertMatch } from "@std/assert";
import { ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("./last_resort_child.ts", import.meta.url);

async function start(): Promise<{ readonly process: ServerProcess; readonly url: string }> {
  const process = new ServerProcess(SCRIPT, { args: ["--port", "0"] });
  return { process, url: await process.url() };
}

/** A stream of which the first event has come, and what is read of it in the end. */
async function stream(url: string): Promise<() => Promise<string>> {
  const answer = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 200, stream: true }),
  });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader?.read())?.value ?? "";
  return async () => {
    for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) {
      text += next.value;
    }
    return text;
  };
}

Deno.test("a rejection that nobody handles is logged, and the server goes on", async () => {
  const { process, url } = await start();
  process.kill("SIGUSR2");
  assertMatch(
    await process.line(/nobody waits/),
    / error a promise .*Error: nobody waits for this/,
  );
  const answer = await fetch(`${url}/v1/models`);
  assertEquals(answer.status, 200, await answer.text());
  process.kill("SIGTERM");
  assertEquals((await process.ended()).code, 0);
});

for (
  const [signal, what] of [["SIGHUP", "slots are off"], ["SIGWINCH", "thrown in a timer"]] as const
) {
  Deno.test(`where state may be broken (${what}), requests are told and the process ends with code 1`, async () => {
    const { process, url } = await start();
    const rest = await stream(url);
    process.kill(signal);
    assertMatch(await rest(), /"finish_reason":"abort".*data: \[DONE\]\n\n$/s);
    const { code, lines } = await process.ended();
    assertEquals(code, 1);
    const errors = lines.filter((line) => /^[\d:.]+ error /.test(line));
    assertEquals(errors.length, 1, lines.join("\n"));
    assertMatch(errors[0] ?? "", new RegExp(`${what}.*`));
    assertMatch(lines.join("\n"), /started anew/);
  });
}

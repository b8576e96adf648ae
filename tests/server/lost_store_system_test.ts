/** A server whose database thread breaks off: it says so once, finishes, and ends for a supervisor. */
import { assertEquals, assertMatch } from "@std/assert";
import { ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("./lost_store_child.ts", import.meta.url);

Deno.test("a server whose store is gone ends with code 1 and one logged line, and starts again", async () => {
  const data = await Deno.makeTempDir({ prefix: "lembas-lost-" });
  try {
    const args = ["--port", "0", "--open", "true"];
    const process = new ServerProcess(SCRIPT, { args, data });
    const url = await process.url();
    const ready = await fetch(`${url}/ready`);
    assertEquals([ready.status, await ready.json()], [200, { status: "ready" }]);
    const answer = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 4 }),
    });
    assertEquals(answer.status, 200, await answer.text());
    process.kill("SIGUSR2");
    const { code, lines } = await process.ended();
    assertEquals(code, 1);
    // Deno tells of the thread's end as well, in words of its own.
    const errors = lines.filter((line) => /^[\d:.]+ error /.test(line));
    assertEquals(errors.length, 1, lines.join("\n"));
    assertMatch(errors[0] ?? "", /Cannot reach the database: its thread ended: .*started anew/);
    const again = new ServerProcess(SCRIPT, { args, data });
    assertEquals((await fetch(`${await again.url()}/ready`)).status, 200);
    again.kill("SIGTERM");
    assertEquals((await again.ended()).code, 0);
  } finally {
    await Deno.remove(data, { recursive: true });
  }
});

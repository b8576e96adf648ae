/** A server whose graphics device fails, on one in software. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { onWebGpu, SoftwareGpu } from "../programs/software_gpu.ts";
import { ServerProcess } from "./server_process.ts";

const FAILING = new URL("./webgpu_failing_child.ts", import.meta.url);

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly retryAfter: string | null;
}

async function complete(url: string, stream: boolean): Promise<Answer> {
  const answer = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{ model: "llama", prompt: "hello", max_tokens: 90, ignore_eos: true, temperature: 0 },
      stream,
    }),
  });
  const retryAfter = answer.headers.get("retry-after");
  return { status: answer.status, body: await answer.text(), retryAfter };
}

Deno.test({
  ...onWebGpu(
    "a device that fails answers 503 to what is in flight, and the server ends with code 1",
  ),
  fn: async () => {
    await using gpu = await SoftwareGpu.unpack();
    const server = new ServerProcess(FAILING, { args: ["--port", "0"], env: gpu.env });
    const url = await server.url();
    assertEquals((await complete(url, false)).status, 200);
    const flying = [complete(url, false), complete(url, true)];
    await new Promise((resolve) => setTimeout(resolve, 100));
    server.kill("SIGUSR2");
    const [whole, streamed] = await Promise.all(flying);
    assertEquals([whole.status, whole.retryAfter], [503, "10"], whole.body);
    const { error } = JSON.parse(whole.body);
    assertEquals([error.type, error.code], ["service_unavailable", "device_failed"]);
    assert(streamed.status === 503 || streamed.body.includes("device_failed"), streamed.body);
    const { code, lines } = await server.ended();
    assertEquals(code, 1);
    assertMatch(
      lines.join("\n"),
      /error The graphics device failed: its memory ran out.*started anew/,
    );
  },
});

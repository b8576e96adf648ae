/** `deno task serve` where `--device auto` has something to try. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { folderOf } from "../engine/tiny.ts";
import { onWebGpu, SoftwareGpu } from "../programs/software_gpu.ts";
import { IdleGpu, onIdleGpu } from "../runtime/cuda/idle_gpu.ts";
import { ServerProcess } from "./server_process.ts";

const SERVE = new URL("../../server/cli/serve.ts", import.meta.url);

function start(env: Readonly<Record<string, string>>, ...args: readonly string[]): ServerProcess {
  const options = ["--port", "0", "--model", folderOf("llama"), "--max-batch", "2"];
  return new ServerProcess(SERVE, { args: [...options, ...args], env });
}

/** What a server logs that answers a request and is stopped. */
async function served(server: ServerProcess): Promise<string> {
  const answer = await fetch(`${await server.url()}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "the road goes", ["max_tokens"]: 4 }),
  });
  const { choices } = await answer.json();
  assertEquals([answer.status, typeof choices[0].text], [200, "string"]);
  server.kill("SIGTERM");
  const { code, lines } = await server.ended();
  assertEquals(code, 0, lines.join("\n"));
  return lines.join("\n");
}

Deno.test(
  onIdleGpu(
    "a GPU that opens and fails at its first run is warned of, and the CPU serves, unless it was asked for",
  ),
  async () => {
    await using gpu = await IdleGpu.make();
    const log = await served(start(gpu.env));
    assertMatch(log, /warn +cuda: it is not taken, the next one is tried: Cannot run session/);
    assertMatch(log, /--device auto takes cpu: .*, cuda failed/);
    assertStringIncludes(log, "on cpu (--dtype auto");

    const refused = await served(start(gpu.env, "--dtype", "fp32"));
    assertMatch(refused, /warn +cuda: .*Cannot serve fp32 on cuda/);

    const { code, lines } = await start(gpu.env, "--device", "cuda").ended();
    assertEquals([code, lines.length], [1, 1], lines.join("\n"));
    assertMatch(lines[0] ?? "", /error +Cannot run session/);
  },
);

Deno.test(
  onIdleGpu("of a driver that finds no GPU is said why it is not taken, in the one line"),
  async () => {
    await using gpu = await IdleGpu.make();
    await Deno.remove(`${gpu.home}/libcuda.so.1`);
    // a library of that name which is no driver
    const [cuda] = [...Deno.readDirSync(`${gpu.home}/cuda`)];
    await Deno.copyFile(
      `${gpu.home}/cuda/${cuda?.name}/libcurand.so.10`,
      `${gpu.home}/libcuda.so.1`,
    );
    await Deno.remove(`${gpu.home}/cuda/${cuda?.name}/libcublas.so.13`);
    const log = await served(start(gpu.env));
    assertMatch(log, /--device auto takes cpu: .*Cannot use CUDA: libcublas\.so\.13 .* is missing/);
    assertEquals(log.includes(" warn  cuda"), false, log);
  },
);

Deno.test(onWebGpu("a graphics device in software is not taken by itself"), async () => {
  await using gpu = await SoftwareGpu.unpack();
  const log = await served(start(gpu.env));
  assertMatch(log, /--device auto takes cpu: .*(?:no graphics card|in software alone)/);
  assertStringIncludes(log, "on cpu (--dtype auto");
});

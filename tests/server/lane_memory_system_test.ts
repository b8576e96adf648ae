/** `deno task serve` over a tiny base and factor sets that `--lane-memory` has no room for. */
import { assertEquals, assertMatch } from "@std/assert";
import { writeFactors } from "../../adapters/lotr/format.ts";
import { factorsOf, folderOf } from "../engine/tiny.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { ServerProcess } from "./server_process.ts";

const MAIN = new URL("../../server/cli/serve.ts", import.meta.url);

Deno.test("serve ends with one line and code 1 where a factor set's lane is larger than lane memory", async () => {
  const directory = await Deno.makeTempDir();
  try {
    using checkpoint = await openCheckpoint(folderOf("llama"));
    const shape = { rank: 4, modules: ["q_proj"] } as const;
    const set = factorsOf(checkpoint, await checkpoint.digest(), shape);
    const file = `${directory}/factors.safetensors`;
    await Deno.writeFile(file, writeFactors(set));
    const args = ["--model", folderOf("llama"), "--port", "0", "--max-context", "64"];
    const server = new ServerProcess(MAIN, {
      args: [...args, "--max-batch", "2", "--factors", file, "--lane-memory", "1000"],
    });
    void server.line(/serving/).then(() => server.kill("SIGTERM"), () => {});
    const { code, lines } = await server.ended();
    const told = new RegExp(
      `Cannot open a lane for factor set ${set.digest}: it takes \\d+ bytes, ` +
        "lane memory is 1000. The server needs a larger --lane-memory",
    );
    assertEquals([code, lines.length], [1, 1], lines.join("\n"));
    assertMatch(lines[0] ?? "", told);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

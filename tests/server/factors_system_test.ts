/** A core that was trained elsewhere comes onto a running server with keys, its factor set first. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { writeFactors } from "../../adapters/lotr/format.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import { factorsOf, folderOf } from "../engine/tiny.ts";
import { ServerProcess } from "./server_process.ts";

const CLI = new URL("../../server/cli/", import.meta.url);
const MODEL = folderOf("llama");
const ROW = { prompt: "the road goes", completion: " ever on and on" };

/** Runs a command as people do; what it prints, and whether it went well. */
async function run(
  command: "train" | "admin",
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", new URL(`${command}.ts`, CLI).pathname, ...args],
    env,
  }).output();
  const text = new TextDecoder();
  return { code, out: text.decode(stdout), err: text.decode(stderr) };
}

async function succeed(...call: Parameters<typeof run>): Promise<string> {
  const { code, out, err } = await run(...call);
  assertEquals(code, 0, err);
  return out;
}

Deno.test("a core trained here is put beside its factors on a server with keys, and outlives kill -9", async () => {
  const folder = await Deno.makeTempDir();
  const data = await newDataDirectory();
  const args = ["--port", "0", "--model", MODEL, "--max-batch", "2", "--open=false"];
  const start = (...more: readonly string[]) =>
    new ServerProcess(new URL("serve.ts", CLI), {
      args: [...args, "--data", data, ...more],
      env: { LEMBAS_API_KEY: "the-administrator" },
    });
  let running: ServerProcess | undefined = start();
  try {
    using checkpoint = await openCheckpoint(MODEL);
    const set = factorsOf(checkpoint, await checkpoint.digest(), { rank: 4, modules: ["q_proj"] });
    const factors = `${folder}/set.safetensors`;
    await Deno.writeFile(factors, writeFactors(set));
    await Deno.writeTextFile(`${folder}/rows.jsonl`, `${JSON.stringify(ROW)}\n`.repeat(8));
    await succeed("train", [
      ...["--model", MODEL, "--data", `${folder}/rows.jsonl`, "--factors", factors],
      ...["--tenant", "acme", "--name", "road", "--rank", "4", "--epochs", "4", "--force"],
      ...["--out", `${folder}/cores`],
    ]);

    const url = await running.url();
    const env = { LEMBAS_SERVER: url, LEMBAS_API_KEY: "the-administrator" };
    await succeed("admin", ["tenants", "create", "acme"], env);
    const made = await succeed("admin", ["keys", "create", "acme", "--scopes", "infer,train"], env);
    const key = made.trim().split("\n").at(-1) ?? "";
    const core = (await Deno.readFile(`${folder}/cores/acme/road.safetensors`)).toBase64();
    const ask = (at: string, path: string, body: unknown) =>
      fetch(`${at}${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
        body: JSON.stringify(body),
      });
    const early = await ask(url, "/v1/cores/road", { cores: core });
    assertEquals([early.status, (await early.json()).error.code], [400, "unknown_factors"]);

    assertMatch(await succeed("admin", ["factors", "put", factors], env), new RegExp(set.digest));
    assertMatch(await succeed("admin", ["factors", "list"], env), new RegExp(set.digest));
    const stored = await ask(url, "/v1/cores/road", { cores: core });
    assertEquals(stored.status, 200, await stored.text());
    const complete = async (at: string, model: string) => {
      const more = { temperature: 0, ["max_tokens"]: 6 };
      const answer = await ask(at, "/v1/completions", { model, prompt: ROW.prompt, ...more });
      const body = await answer.json();
      assertEquals(answer.status, 200, JSON.stringify(body));
      return [body.choices[0].text, body["system_fingerprint"]];
    };
    const said = await complete(url, "road");
    assert(said[1] !== (await complete(url, "llama"))[1], "the core did not answer");
    const used = await run("admin", ["factors", "remove", set.digest.slice(0, 12)], env);
    assertEquals([used.code, used.out], [1, ""]);
    assertMatch(used.err, /Cannot remove factor set .*: core acme\/road@1 needs it/);
    const missing = await run("admin", ["factors", "put", `${folder}/none`], env);
    assertEquals(missing.code, 1);
    assertMatch(missing.err, /^Cannot read '.*none': there is no such file\n$/);

    running.kill("SIGKILL");
    await running.ended();
    running = start();
    assertEquals(await complete(await running.url(), "road"), said);
    running.kill("SIGTERM");
    await running.ended();
    running = undefined;
    const offline = ["--data", data];
    await succeed("admin", ["cores", "remove", "acme/road", ...offline]);
    await succeed("admin", ["factors", "remove", set.digest.slice(0, 12), ...offline]);
    assertEquals((await succeed("admin", ["factors", "list", ...offline])).trim(), "none");
    assertMatch(await succeed("admin", ["factors", "put", factors, ...offline]), /[0-9a-f]{64}/);
  } finally {
    running?.kill("SIGKILL");
    await running?.ended();
    await Deno.remove(data, { recursive: true });
    await Deno.remove(folder, { recursive: true });
  }
});

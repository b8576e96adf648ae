/** A training process and what ends it early: signals that ask, and one that does not. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { FAKE_ROWS } from "../../../fakes/trainer.ts";

const CHILD = new URL("./train_child.ts", import.meta.url).pathname;
/** A training process whose standard error is read until it stands still, or ends. */
function train(root: string, name: string, more: readonly string[], stopBefore?: number) {
  const args = `--data ${root}/d.jsonl --tenant acme --name ${name} --out ${root}/out`.split(" ");
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", CHILD, ...args, ...more],
    env: stopBefore === undefined ? {} : { STOP_BEFORE: String(stopBefore) },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = process.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const until = async (wanted: string) => {
    while (!text.includes(wanted)) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
    }
  };
  return {
    stands: () => until("standing still"),
    kill: (signal: Deno.Signal) => process.kill(signal),
    ended: async () => {
      await until("\0");
      return { code: (await process.status).code, stderr: text };
    },
  };
}

async function withPlace(test: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${root}/d.jsonl`, FAKE_ROWS);
    await test(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

Deno.test("SIGINT ends after a checkpoint with code 130 and the line that goes on", () =>
  withPlace(async (root) => {
    const run = train(root, "x", ["--api-key", "hidden"], 4);
    await run.stands();
    run.kill("SIGINT");
    const { code, stderr } = await run.ended();
    assertEquals(code, 130, stderr);
    const line = `deno task train --data ${root}/d.jsonl --tenant acme --name x --out ${root}/out` +
      " --resume";
    assertStringIncludes(stderr, `interrupted; go on with: ${line}\n`);
    assertEquals(stderr.includes("hidden"), false);
    const resumed = await train(root, "x", ["--resume"]).ended();
    assertEquals(resumed.code, 0, resumed.stderr);
    assertMatch(resumed.stderr, /going on after step 3\n/);
    await sameAsUnbroken(root, "x");
  }));

Deno.test("kill -9 loses what came after the last checkpoint, and --resume makes it again", () =>
  withPlace(async (root) => {
    const run = train(root, "x", [], 6);
    await run.stands();
    run.kill("SIGKILL");
    assertEquals((await run.ended()).code, 137);
    const resumed = await train(root, "x", ["--resume"]).ended();
    assertEquals(resumed.code, 0, resumed.stderr);
    assertMatch(resumed.stderr, /going on after step 4\n/);
    await sameAsUnbroken(root, "x");
  }));

async function sameAsUnbroken(root: string, name: string): Promise<void> {
  assertEquals((await train(root, "whole", []).ended()).code, 0);
  const read = (file: string) => Deno.readFile(`${root}/out/acme/${file}.safetensors`);
  assertEquals(await read(name), await read("whole"));
}

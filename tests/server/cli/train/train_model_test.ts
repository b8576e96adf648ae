/**
 * The command as a process over real models: tiny ones with random weights, whose cores learn what
 * they are shown, and whose directory the library serves.
 */
import { assert, assertEquals, assertLess, assertMatch, assertNotEquals } from "@std/assert";
import { Lembas } from "../../../../adapters/lembas.ts";

const COMMAND = new URL("../../../../server/cli/train.ts", import.meta.url).pathname;
const MODEL = new URL("../../../fixtures/models/llama", import.meta.url).pathname;
const TO_LEARN = "--epochs 15 --learning-rate-multiplier 20 --batch-size 4";

/** The process, with the cache directory in `root`. */
function train(root: string, name: string, more: string): Deno.ChildProcess {
  const args = `--model ${MODEL} --data ${root}/d.jsonl --tenant acme --name ${name}` +
    ` --out ${root}/out --checkpoint-every 1 ${TO_LEARN} ${more}`;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", COMMAND, ...args.trim().split(/ +/)],
    env: { LEMBAS_HOME: `${root}/home` },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function trained(root: string, name: string, more = ""): Promise<string> {
  const { code, stdout, stderr } = await train(root, name, more).output();
  const text = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  assertEquals(code, 0, text);
  return text;
}

async function withPlace(test: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    const rows = Array.from({ length: 12 }, (_, i) => ({
      messages: [
        { role: "user", content: `say ${i % 3}` },
        { role: "assistant", content: ["red", "green", "blue"][i % 3] },
      ],
    }));
    const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
    await Deno.writeTextFile(`${root}/d.jsonl`, text);
    await test(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Loss of the base and of the core in a run's report. */
async function losses(root: string, name: string): Promise<readonly [number, number]> {
  const { base, best } = JSON.parse(
    await Deno.readTextFile(`${root}/out/acme/${name}.report.json`),
  );
  return [base.loss, best.loss];
}

Deno.test("a core is trained for a default factor set made on the way, and served from its directory", () =>
  withPlace(async (root) => {
    const text = await trained(root, "colours", `--valid ${root}/d.jsonl`);
    assertMatch(text, /making the default factor set, once/);
    const [base, core] = await losses(root, "colours");
    assertLess(core, base / 2);
    const env = Deno.env.get("LEMBAS_HOME");
    Deno.env.set("LEMBAS_HOME", `${root}/home`);
    try {
      const warnings: string[] = [];
      await using lembas = await Lembas.load({
        model: MODEL,
        adapters: `${root}/out`,
        maxBatch: 2,
        kvMemory: 1 << 24,
        onWarning: ({ message }) => warnings.push(message),
      });
      const ask = (adapter?: string) =>
        lembas.chat([{ role: "user", content: "say 1" }], {
          temperature: 0,
          maxTokens: 12,
          ...(adapter === undefined ? {} : { adapter }),
        });
      const [alone, adapted] = [await ask(), await ask("acme/colours")];
      assertNotEquals(adapted.tokens, alone.tokens);
      assertEquals(warnings, []);
    } finally {
      if (env === undefined) Deno.env.delete("LEMBAS_HOME");
      else Deno.env.set("LEMBAS_HOME", env);
    }
  }));

Deno.test("a real training killed at any moment and resumed gives the very same core", () =>
  withPlace(async (root) => {
    await trained(root, "whole");
    const process = train(root, "killed", "");
    const checkpoint = `${root}/out/acme/killed.checkpoint.safetensors`;
    while (!await Deno.stat(checkpoint).catch(() => undefined)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    process.kill("SIGKILL");
    await process.output();
    await trained(root, "killed", "--resume");
    const read = (name: string) => Deno.readFile(`${root}/out/acme/${name}.safetensors`);
    assertEquals(await read("killed"), await read("whole"));
  }));

Deno.test("a real sweep over ranks and the LoTR method yield cores that are better than the base", () =>
  withPlace(async (root) => {
    const text = await trained(root, "swept", "--sweep rank=2,8");
    assertMatch(text, /\n[* ] rank=2 +\d+\.\d+ .*\n[* ] rank=8 +\d+\.\d+ /);
    await trained(root, "paper", "--method lotr --rank 4");
    for (const name of ["swept", "paper"]) {
      const [base, core] = await losses(root, name);
      assertLess(core, base);
    }
    const sets = [...Deno.readDirSync(`${root}/out`)].filter(({ name }) => /^factors-/.test(name));
    assert(sets.length === 2, "the default set, and the one that was trained");
  }));

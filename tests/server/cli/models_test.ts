/** `deno task models`: what a start has kept on disk, listed and removed. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { runModels } from "../../../server/cli/models.ts";

/** A cache directory with prepared weights of two bases, as a version that is gone left them. */
async function cache(): Promise<string> {
  const home = await Deno.makeTempDir();
  for (const [base, key, model] of [["ab12", "cd34", "small"], ["ef56", "0123", "large"]]) {
    const folder = `${home}/weights/${base}${"0".repeat(60)}/${key}`;
    await Deno.mkdir(`${folder}/part-1`, { recursive: true });
    await Deno.writeFile(`${folder}/part-1/0.bin`, new Uint8Array(3 * 2 ** 20));
    const about = { model, made: "2026-01-02T03:04:05Z", kernels: "another" };
    await Deno.writeTextFile(`${folder}/about.json`, JSON.stringify(about));
  }
  return home;
}

async function withHome(run: (home: string) => Promise<void>): Promise<void> {
  const before = Deno.env.get("LEMBAS_HOME");
  const home = await cache();
  Deno.env.set("LEMBAS_HOME", home);
  try {
    await run(home);
  } finally {
    if (before === undefined) Deno.env.delete("LEMBAS_HOME");
    else Deno.env.set("LEMBAS_HOME", before);
    await Deno.remove(home, { recursive: true });
  }
}

Deno.test("models are listed with size and age, and removed by name, key or staleness", async () => {
  await withHome(async (home) => {
    const list = await runModels(["list"]);
    assertMatch(list, /^large +ef5600000000 +0123 +3 MiB +2026-01-02 03:04 +stale$/m);
    assertMatch(list, /^small +ab1200000000 +cd34 +3 MiB/m);
    assertStringIncludes(list, "6 MiB in ");
    assertStringIncludes(await runModels(["remove", "small"]), "removed 1 prepared weights, 3 MiB");
    assertEquals([...Deno.readDirSync(`${home}/weights`)].map(({ name }) => name.slice(0, 4)), [
      "ef56",
    ]);
    const json = JSON.parse(await runModels(["list", "--json"]));
    assertEquals([json.length, json[0].model, json[0].stale], [1, "large", true]);
    assertStringIncludes(await runModels(["remove", "--stale"]), "removed 1");
    assertStringIncludes(await runModels(["list"]), "none");
  });
});

Deno.test("what cannot be followed is refused in one line that says what would be right", async () => {
  await withHome(async () => {
    for (
      const [args, words] of [
        [["remove"], "name a model, a base or a key, or pass --stale or --all"],
        [["remove", "none"], "no prepared weights have it"],
        [["lst"], "the commands are list and remove"],
        [["list", "--alll"], "did you mean '--all'"],
      ] as const
    ) {
      const { message } = await assertRejects(() => runModels(args), Error);
      assertStringIncludes(message, words);
      assert(!message.includes("\n"));
    }
  });
});

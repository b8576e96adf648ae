// deno-lint-ignore-file no-console -- what a command prints is its console
/**
 * `deno task test`: every test, in three runs. What loads the default base, which takes gigabytes,
 * lies in `*_model_test.ts` and runs apart from all others, which come first; the examples of
 * documents and doc comments run last. With arguments
 * it is `deno test -A` with these. `--fast` runs what needs no base, no server process, no database
 * and no browser: neither `*_model_test.ts` nor `*_system_test.ts`. Types are `deno check`'s.
 *
 * Deno starts a worker for each module, which takes longer than most modules' tests; so the modules of
 * a room that need nothing are run as one, which imports them.
 */
import { pathToFileURL } from "node:url";

const MODEL = "tests/**/*_model_test.ts";
const SYSTEM = "tests/**/*_system_test.ts";

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly ok: boolean;
}

/** The runs that a command line asks for, each as arguments of `deno test -A`. */
function runsOf(args: readonly string[], rooms: readonly string[]): (readonly string[])[] {
  const [first, ...others] = args;
  if (first === "--fast") return [["--parallel", "--no-check", ...others, ...rooms]];
  if (first !== undefined) return [args];
  return [
    ["--parallel", "--no-check", ...rooms, SYSTEM],
    ["--parallel", "--no-check", MODEL],
    // Deno adds imports to examples, which noUnusedLocals does not let pass
    ["--parallel", "--doc", "--no-check", "--ignore=tests"],
  ];
}

/** Writes a module for each folder of tests, which imports those that need nothing; their paths. */
async function gather(into: string): Promise<string[]> {
  const rooms = Map.groupBy(await modules("tests"), (path) => path.split("/").at(1) ?? "");
  const written = Array.from(rooms, async ([room, paths]) => {
    const path = `${into}/${room.replace(/(_test\.tsx?)?$/, "_test.ts")}`;
    const imports = paths.sort().map((each) =>
      `import ${JSON.stringify(pathToFileURL(each).href)};\n`
    );
    await Deno.writeTextFile(path, imports.join(""));
    return path;
  });
  return await Promise.all(written);
}

async function modules(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) found.push(...await modules(path));
    else if (/_test\.tsx?$/.test(name) && !/_(model|system)_test\./.test(name)) found.push(path);
  }
  return found;
}

/** Runs `deno test`, passes on what it prints, and reads its closing line. */
async function test(args: readonly string[]): Promise<Outcome> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["test", "--node-modules-dir=auto", "-A", ...args],
    stdout: "piped",
  });
  const run = command.spawn();
  const [printed, passedOn] = run.stdout.tee();
  const shown = passedOn.pipeTo(Deno.stdout.writable, { preventClose: true });
  const outcome = outcomeOf(await new Response(printed).text());
  await shown;
  const { success } = await run.status;
  return success || outcome.failed > 0
    ? { ...outcome, ok: success }
    : { ...outcome, failed: 1, ok: false }; // a module that does not load has no closing line
}

/** What the last line of `deno test` counts: `ok | 12 passed (3 steps) | 1 failed | …`. */
function outcomeOf(printed: string): Omit<Outcome, "ok"> {
  // deno-lint-ignore no-control-regex -- colours
  const lines = printed.replaceAll(/\x1b\[\d*m/g, "").matchAll(
    /^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/gm,
  );
  const [, passed = "0", failed = "0"] = [...lines].at(-1) ?? [];
  return { passed: Number(passed), failed: Number(failed) };
}

if (import.meta.main) {
  const outcomes: Outcome[] = [];
  const folder = await Deno.makeTempDir({ prefix: "tests-" });
  try {
    for (const run of runsOf(Deno.args, await gather(folder))) outcomes.push(await test(run));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const [passed, failed] = (["passed", "failed"] as const).map((count) =>
    outcomes.reduce((sum, outcome) => sum + outcome[count], 0)
  );
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(outcomes.every(({ ok }) => ok) ? 0 : 1);
}

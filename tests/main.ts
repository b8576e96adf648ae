// deno-lint-ignore-file no-console -- what a command prints is its console
/**
 * `deno task test`: every test, in two runs. What uses the whole machine by itself, the default base
 * above all, runs one module after the other, in files named `*_model_test.ts` and in examples that
 * load a base; everything else runs in parallel before it. With arguments it is `deno test -A --doc`
 * with these. `--fast` leaves out what needs a base, a server process, a database or a browser
 * (`*_model_test.ts` and `*_system_test.ts`).
 */
const MODEL = "tests/**/*_model_test.ts";
const SYSTEM = "tests/**/*_system_test.ts";
/** Documents and sources whose examples load the default base. */
const MODEL_EXAMPLES = ["README.md", "mod.ts", "adapters/lembas.ts"];

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly ok: boolean;
}

/** The runs that a command line asks for, each as arguments of `deno test -A`. */
export function runsOf(args: readonly string[]): readonly (readonly string[])[] {
  const [first, ...others] = args;
  if (first === "--fast") return [["--parallel", `--ignore=${MODEL},${SYSTEM}`, ...others]];
  if (first !== undefined) return [["--doc", ...args]];
  const ignored = [MODEL, ...MODEL_EXAMPLES].join(",");
  return [
    ["--doc", "--parallel", `--ignore=${ignored}`],
    ["--doc", ...MODEL_EXAMPLES, MODEL],
  ];
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
export function outcomeOf(printed: string): Omit<Outcome, "ok"> {
  // deno-lint-ignore no-control-regex -- colours
  const lines = printed.replaceAll(/\x1b\[\d*m/g, "").matchAll(
    /^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/gm,
  );
  const [, passed = "0", failed = "0"] = [...lines].at(-1) ?? [];
  return { passed: Number(passed), failed: Number(failed) };
}

if (import.meta.main) {
  const outcomes: Outcome[] = [];
  for (const run of runsOf(Deno.args)) outcomes.push(await test(run));
  const [passed, failed] = (["passed", "failed"] as const).map((count) =>
    outcomes.reduce((sum, outcome) => sum + outcome[count], 0)
  );
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(outcomes.every(({ ok }) => ok) ? 0 : 1);
}

// deno-lint-ignore-file no-console -- what a command prints is its console
/**
 * `deno task test`: every test, in three runs. What uses the whole machine by itself, the default
 * base above all, lies in `*_model_test.ts`, and these modules run one after the other; all others run
 * in parallel before them, and the examples of documents and doc comments run last. With arguments
 * it is `deno test -A` with these. `--fast` runs what needs no base, no server process, no database
 * and no browser: neither `*_model_test.ts` nor `*_system_test.ts`; types are `deno check`'s there.
 */
const MODEL = "tests/**/*_model_test.ts";
const SYSTEM = "tests/**/*_system_test.ts";

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly ok: boolean;
}

/** The runs that a command line asks for, each as arguments of `deno test -A`. */
export function runsOf(args: readonly string[]): readonly (readonly string[])[] {
  const [first, ...others] = args;
  if (first === "--fast") {
    return [["--parallel", "--no-check", `--ignore=${MODEL},${SYSTEM}`, ...others]];
  }
  if (first !== undefined) return [args];
  return [
    ["--parallel", `--ignore=${MODEL}`],
    [MODEL],
    // unchecked: Deno adds imports to examples, which noUnusedLocals does not let pass
    ["--doc", "--no-check", "--ignore=tests"],
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

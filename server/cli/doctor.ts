/** The entry point of `deno task doctor`: one page that says what this machine can do. */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import config from "../../deno.json" with { type: "json" };
import { examine, reportText } from "./doctor/report.ts";
import { withoutHome } from "./doctor/machine.ts";
import { type Asked, FlagError, flagsHelp, readCommandLine, type ToldTable } from "./flags.ts";

const FLAGS = {
  json: { help: "the same as JSON, sizes in bytes, rates a second" },
  "no-measure": { help: "leave the measures of the processor out" },
} as const satisfies ToldTable;

export const DOCTOR_HELP = `deno task doctor

Says what this machine can do, to be pasted into a report: versions, processor, memory, what is in the
cache directory, what each device lacks and what to install for it. It measures the processor for some
seconds, changes nothing and names nobody.

Flags:
${flagsHelp(FLAGS)}
`;

/** @throws {FlagError} for a command line that cannot be followed */
export function parseDoctor(args: readonly string[]): Asked<typeof FLAGS> {
  const line = { command: "deno task doctor", flags: FLAGS, asks: ["help"] } as const;
  return readCommandLine(line, args, () => undefined);
}

/** Runs the command; what it prints. */
export async function runDoctor(args: readonly string[]): Promise<string> {
  const asked = parseDoctor(args);
  if (asked.type !== "run") return DOCTOR_HELP;
  const report = await examine(config.version, !asked.values.noMeasure);
  const text = asked.values.json ? JSON.stringify(report, null, 2) : reportText(report);
  return withoutHome(text, Deno.env.get("HOME") ?? Deno.env.get("USERPROFILE"));
}

if (import.meta.main) {
  try {
    console.log(await runDoctor(Deno.args));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(error instanceof FlagError ? 2 : 1);
  }
}

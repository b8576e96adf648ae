/**
 * `deno task train --dry-run`: the rows as the model would see them, with counts and warnings. It
 * loads no weights and trains nothing.
 */
import type { TrainEnvironment } from "./command.ts";
import { countsText, loadData } from "./data.ts";
import type { TrainFlags } from "./flags.ts";

/** Rows that are shown for people; with --json all of them come. */
const SHOWN_ROWS = 5;

/** Shows the data; resolves with the exit code. */
export async function dryRun(
  flags: TrainFlags,
  { load, print }: Pick<TrainEnvironment, "load" | "print">,
): Promise<number> {
  const base = await load(flags.model);
  try {
    for (const path of [flags.data, ...(flags.valid === undefined ? [] : [flags.valid])]) {
      const { file, examples, warnings } = await loadData(path, base, flags);
      if (flags.output === "json") {
        for (const { line, tokens, weights } of examples) {
          print(JSON.stringify({
            type: "row",
            file: path,
            line,
            tokens: [...tokens],
            weights: [...weights],
          }));
        }
        print(JSON.stringify({ type: "data", ...file, warnings }));
        continue;
      }
      for (const example of examples.slice(0, SHOWN_ROWS)) {
        print(`--- ${path}, line ${example.line}\n${base.showExample(example)}`);
      }
      const more = examples.length - SHOWN_ROWS;
      if (more > 0) print(`--- ${more} more rows (--json shows all)`);
      print(`${path}: ${countsText(file)}`);
      for (const warning of warnings) print(`warning: ${warning}`);
    }
    return 0;
  } finally {
    await base.close();
  }
}

/** `deno task train --dry-run`: the rows as the model would see them, with counts and warnings. */
import { type Marks, showExample, tokenViews } from "../../../src/train/data/dry_run.ts";
import type { TextSource } from "../../../src/train/data/render.ts";
import type { TrainEnvironment } from "./base.ts";
import { countsText, dataOptions, loadData, type LoadedData } from "./data.ts";
import type { TrainFlags } from "./flags.ts";

/** Rows that are shown for people; with --json all of them come. */
const SHOWN_ROWS = 5;

/** Shows the data; resolves with the exit code. */
export async function dryRun(
  flags: TrainFlags,
  { load, print, marks }: Pick<TrainEnvironment, "load" | "print" | "marks">,
): Promise<number> {
  const base = await load(flags.model);
  try {
    const options = dataOptions(flags, base.source);
    for (const path of [flags.data, ...(flags.valid === undefined ? [] : [flags.valid])]) {
      const data = await loadData(path, options);
      const lines = flags.output === "json"
        ? jsonLines(data, base.source)
        : textLines(data, base.source, marks);
      for (const line of lines) print(line);
    }
    return 0;
  } finally {
    await base.close();
  }
}

function* textLines(
  { file, examples, warnings }: LoadedData,
  { tokenizer }: TextSource,
  marks: Marks,
): Generator<string> {
  for (const example of examples.slice(0, SHOWN_ROWS)) {
    yield `--- ${file.file}, line ${example.line}, ${example.tokens.length} tokens`;
    yield showExample(example, tokenizer, marks);
  }
  const more = examples.length - SHOWN_ROWS;
  if (more > 0) yield `--- ${more} more (--json shows all)`;
  yield `${file.file}: ${countsText(file)}`;
  for (const warning of warnings) yield `warning: ${warning}`;
}

function* jsonLines(
  { file, examples, warnings }: LoadedData,
  { tokenizer }: TextSource,
): Generator<string> {
  for (const example of examples) {
    const row = { type: "row", file: file.file, line: example.line };
    yield JSON.stringify({ ...row, tokens: tokenViews(example, tokenizer) });
  }
  yield JSON.stringify({ type: "data", ...file, warnings });
}

// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench answers`: what share of rows adapters answer rightly, a table of tasks by
 * directories of adapters, and one line of JSON with every row's verdict.
 */
import { Lembas } from "../../adapters/lembas.ts";
import { describeMachine } from "../machine.ts";
import { exactVerdicts, shareOf } from "../train/answers.ts";
import { type Judged, readJudged } from "../train/data.ts";
import { type AnswersFlags, HELP, parseAnswersFlags } from "./flags.ts";

/** Rows are short conversations; answers end themselves. */
const MAX_CONTEXT = 512;
const MAX_BATCH = 32;
const ANSWER_TOKENS = 32;
const PART = ".test.jsonl";

interface Answered {
  readonly task: string;
  readonly exact: number;
  /** "1" or "0" for each row. */
  readonly rows: string;
}

interface Figure {
  /** "base", or a directory of adapters. */
  readonly of: string;
  readonly tasks: readonly Answered[];
}

/** @throws {TypeError} for flags that cannot be, or adapters that cannot be read */
export async function benchAnswers(args: readonly string[]): Promise<void> {
  const flags = parseAnswersFlags(args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  const tasks = await readTasks(flags);
  const figures: Figure[] = [];
  for (const directory of [undefined, ...flags.adapters]) {
    const figure = await asked(flags, directory, tasks);
    figures.push(figure);
    console.log(describe(figure));
  }
  console.log(JSON.stringify({ mode: "answers", machine, settings: flags, figures }));
}

type Tasks = ReadonlyMap<string, readonly Judged[]>;

async function readTasks({ data, rows }: AnswersFlags): Promise<Tasks> {
  const names = (await Array.fromAsync(Deno.readDir(data))).map(({ name }) => name)
    .filter((name) => name.endsWith(PART)).sort();
  if (names.length === 0) throw new TypeError(`Cannot bench: ${data} has no TASK${PART}`);
  return new Map(
    await Promise.all(names.map(async (name) => {
      const judged = (await readJudged(`${data}/${name}`)).slice(0, rows);
      return [name.slice(0, -PART.length), judged] as const;
    })),
  );
}

/** Asks the base, or each adapter of a directory that is named after a task. */
async function asked(
  { model }: AnswersFlags,
  directory: string | undefined,
  tasks: Tasks,
): Promise<Figure> {
  await using lembas = await Lembas.load({
    ...(model === undefined ? {} : { model }),
    ...(directory === undefined ? {} : { adapters: directory }),
    maxBatch: MAX_BATCH,
    maxContext: MAX_CONTEXT,
    onWarning: ({ message }) => console.log(`warning: ${message}`),
  });
  const answered: Answered[] = [];
  for (const [task, rows] of tasks) {
    if (directory !== undefined && lembas.registry.resolve(task) === undefined) continue;
    const named = directory === undefined ? {} : { adapter: task };
    const verdicts = await exactVerdicts(lembas, rows, { ...named, maxTokens: ANSWER_TOKENS });
    answered.push({ task, exact: shareOf(verdicts), rows: verdicts.join("") });
  }
  return { of: directory ?? "base", tasks: answered };
}

function describe({ of, tasks }: Figure): string {
  const percent = (share: number) => `${(100 * share).toFixed(0)}%`;
  const mean = tasks.reduce((sum, { exact }) => sum + exact, 0) / tasks.length;
  const each = tasks.map(({ task, exact }) => `${task} ${percent(exact)}`).join(", ");
  return `${of}: mean ${percent(mean)}; ${each}`;
}

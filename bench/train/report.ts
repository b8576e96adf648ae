/**
 * The quality report: of each method's runs the rate that did best on the validation rows, its
 * accuracy over seeds, and how far it is from a reference, row by row. Pure: runs in, text out.
 */
import { round } from "../stats.ts";
import { type Interval, pairedInterval, rowMeans } from "./bootstrap.ts";
import type { Run } from "./runs.ts";

/** The method that differences are taken to. */
export const REFERENCE = "PEFT LoRA r=8";

/** A method on a task at its best rate. */
export interface MethodResult {
  readonly task: string;
  readonly method: string;
  readonly parameters: number;
  /** Chosen on validation rows by the first seed. */
  readonly rate: number;
  readonly seeds: readonly number[];
  readonly label: Scores;
  readonly exact: Scores;
}

export interface Scores {
  /** Over seeds, 0 to 1. */
  readonly mean: number;
  /** Sample standard deviation over seeds; 0 for one. */
  readonly deviation: number;
  /** Against the reference; undefined where it has no runs. */
  readonly difference: Interval | undefined;
}

/**
 * The rate of the best validation accuracy: by greedy answer, then by label; the smaller of equals.
 * @param runs of one method, task and seed
 */
export function bestRate(runs: readonly Run[]): number | undefined {
  const [best] = runs.toSorted((a, b) =>
    b.valid.exact - a.valid.exact || b.valid.label - a.valid.label || a.rate - b.rate
  );
  return best?.rate;
}

/** Each task's methods in the order of their first runs; `seed` chooses the rates. */
export function resultsOf(runs: readonly Run[], seed: number): readonly MethodResult[] {
  const groups = Map.groupBy(runs, ({ task, method }) => `${task}\n${method}`);
  const chosen = [...groups.values()].map((group) => atBestRate(group, seed));
  return chosen.map((group) => {
    const [{ task, method, parameters, rate }] = group;
    const reference = method === REFERENCE
      ? undefined
      : chosen.find(([one]) => one.task === task && one.method === REFERENCE);
    return {
      task,
      method,
      parameters,
      rate,
      seeds: group.map((run) => run.seed),
      label: scoresOf(group, reference, "label"),
      exact: scoresOf(group, reference, "exact"),
    };
  });
}

function atBestRate(group: readonly Run[], seed: number): readonly Run[] {
  const first = group.filter((run) => run.seed === seed);
  const rate = bestRate(first.length > 0 ? first : group);
  return group.filter((run) => run.rate === rate).toSorted((a, b) => a.seed - b.seed);
}

function scoresOf(
  group: readonly Run[],
  reference: readonly Run[] | undefined,
  kind: "label" | "exact",
): Scores {
  const values = group.map(({ test }) => test[kind]);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
  const rows = (runs: readonly Run[]) =>
    rowMeans(runs.map((run) => kind === "label" ? run.rowsLabel : run.rowsExact));
  const difference = reference === undefined
    ? undefined
    : pairedInterval(rows(group), rows(reference));
  return { mean, deviation, difference };
}

/** A table for people, a block for each task. */
export function reportTable(results: readonly MethodResult[]): string {
  const blocks = [...Map.groupBy(results, ({ task }) => task)].map(([task, own]) => [
    `${task}: test accuracy in %, mean ± deviation over seeds; in brackets the difference to ` +
    `${REFERENCE} with its 95% interval over test rows`,
    ...columns([HEADER, ...own.map(cells)]),
  ]);
  return blocks.map((lines) => lines.join("\n")).join("\n\n");
}

const HEADER = ["method", "trained", "rate", "seeds", "label", "greedy answer"];

function cells({ method, parameters, rate, seeds, label, exact }: MethodResult): string[] {
  return [
    method,
    parameters.toLocaleString("en-US"),
    parameters === 0 ? "–" : String(rate),
    String(seeds.length),
    scoreText(label),
    scoreText(exact),
  ];
}

function scoreText({ mean, deviation, difference }: Scores): string {
  const percent = (value: number) => (100 * value).toFixed(1);
  const signed = (value: number) => (value < 0 ? "" : "+") + percent(value);
  const own = `${percent(mean)} ± ${percent(deviation)}`;
  if (difference === undefined) return own;
  return `${own} [${signed(difference.mean)}: ${signed(difference.low)} … ${
    signed(difference.high)
  }]`;
}

/** Lines of cells, each column as wide as its widest. */
function columns(lines: readonly (readonly string[])[]): readonly string[] {
  const widths = HEADER.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines.map((line) =>
    `  ${line.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()}`
  );
}

/** The same as figures, rounded, for the line of JSON. */
export function figuresOf(results: readonly MethodResult[]): readonly unknown[] {
  const scores = ({ mean, deviation, difference }: Scores) => ({
    mean: round(mean, 4),
    deviation: round(deviation, 4),
    ...(difference && {
      difference: round(difference.mean, 4),
      interval: [round(difference.low, 4), round(difference.high, 4)],
    }),
  });
  return results.map((one) => ({ ...one, label: scores(one.label), exact: scores(one.exact) }));
}

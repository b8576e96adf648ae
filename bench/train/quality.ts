/**
 * `bench train quality`: how well cores learn tasks. For each task all methods and rates train at
 * once by the first seed, validation rows choose each method's rate, and the other seeds follow at
 * it; the report sets them beside PEFT's runs of the same rows.
 */
import { Lembas } from "../../adapters/lembas.ts";
import { readTask, type TaskData } from "./data.ts";
import type { QualityFlags } from "./flags.ts";
import { bestRate, figuresOf, reportTable, resultsOf } from "./report.ts";
import { readPeftRuns, type Run, RunFile, type Trial } from "./runs.ts";
import { TrialStates } from "./states.ts";
import { type Method, TrialBench } from "./trials.ts";

/** Rows are short conversations. */
const MAX_CONTEXT = 512;
const MAX_BATCH = 32;
/** Keys and values of a full batch, and then some: what one core cached is of no use to another. */
const KV_MEMORY = 2 ** 30;

/** Trains what is not on file yet, prints the report and returns its figures. */
export async function benchQuality(
  flags: QualityFlags,
  tell: (line: string) => void,
): Promise<unknown> {
  const peers = flags.peft === undefined ? [] : await readPeftRuns(flags.peft);
  const file = await RunFile.open(flags.out);
  await using lembas = await Lembas.load({
    ...(flags.model === undefined ? {} : { model: flags.model }),
    maxBatch: MAX_BATCH,
    maxContext: MAX_CONTEXT,
    kvMemory: KV_MEMORY,
    onWarning: ({ message }) => tell(`warning: ${message}`),
  });
  const bench = new TrialBench(lembas, { file, states: new TrialStates(flags.out), tell });
  const runs: Run[] = [];
  for (const task of flags.tasks) {
    const limits = { ...flags, maxContext: MAX_CONTEXT };
    const data = await readTask(flags.data, task, lembas.checkpoint, limits);
    tell(`${task}: ${data.train.length} rows, judged by ${data.test.length}`);
    runs.push(...await taskRuns(bench, data, flags));
    runs.push(...peers.filter((run) => run.task === task));
  }
  const results = resultsOf(runs, flags.seeds[0]);
  tell(`\n${reportTable(results)}\n`);
  return figuresOf(results);
}

async function taskRuns(
  bench: TrialBench,
  data: TaskData,
  flags: QualityFlags,
): Promise<readonly Run[]> {
  const [first, ...others] = flags.seeds;
  const trialOf = async (method: Method, rate: number, seed: number) => {
    const { digest } = await bench.factors(method);
    return {
      method,
      trial: { ...commonOf(flags, data), method: method.name, rate, seed, factors: digest },
    };
  };
  const base = await bench.base(
    { ...commonOf(flags, data), method: "base", rate: 0, seed: first, factors: "" },
    data,
  );
  const sweep = [];
  for (const method of flags.methods) {
    for (const rate of flags.rates) sweep.push(await trialOf(method, rate, first));
  }
  const swept = await bench.train(sweep, data);
  const repeats = [];
  for (const method of flags.methods) {
    const rate = bestRate(swept.filter((run) => run.method === method.name));
    if (rate === undefined) continue;
    for (const seed of others) repeats.push(await trialOf(method, rate, seed));
  }
  return [base, ...swept, ...await bench.train(repeats, data)];
}

function commonOf(
  { rows, epochs, batch, evaluated }: QualityFlags,
  { task }: TaskData,
): Pick<Trial, "task" | "rows" | "epochs" | "batch" | "evaluated"> {
  return { task, rows, epochs, batch, evaluated };
}

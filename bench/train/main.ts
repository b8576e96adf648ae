// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * `deno task bench train BENCH`: runs one bench of training, tells people what it measures as it
 * goes, and ends in one line of JSON. The benches' work is in the files beside it.
 */
import { describeMachine } from "../machine.ts";
import { HELP, parseTrainFlags, type TrainFlags } from "./flags.ts";
import { benchJobs } from "./jobs.ts";
import { benchQuality } from "./quality.ts";
import { benchSpeed } from "./speed.ts";
import { benchTraffic } from "./traffic.ts";

/** @throws {TypeError} for flags that cannot be; what a bench throws. */
export async function benchTrain(args: readonly string[]): Promise<void> {
  const flags = parseTrainFlags(args);
  if (flags === undefined) return console.log(HELP);
  const machine = await describeMachine();
  console.log(`${machine.cpu}, ${machine.cores} cores, Deno ${machine.deno}`);
  const figures = await run(flags, console.log);
  const mode = `train ${flags.bench}`;
  console.log(JSON.stringify({ mode, machine, settings: flags, figures }));
}

function run(flags: TrainFlags, tell: (line: string) => void): Promise<unknown> {
  switch (flags.bench) {
    case "quality":
      return benchQuality(flags, tell);
    case "jobs":
      return benchJobs(flags, tell);
    case "speed":
      return benchSpeed(flags, tell);
    case "traffic":
      return benchTraffic(flags, tell);
  }
}

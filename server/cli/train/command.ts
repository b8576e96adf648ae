/**
 * The life of `deno task train`: flags, where to train, exit code. It owns the order and the words of
 * a failure; bases are opened by a loader that is passed in.
 */
import type { Marks } from "../../../src/train/data/dry_run.ts";
import { FlagError } from "../serve_flags.ts";
import type { BaseLoader } from "./base.ts";
import { dryRun } from "./dry_run.ts";
import { parseTrainCommand, type TrainFlags, trainHelp } from "./flags.ts";
import { trainHere } from "./local.ts";
import type { ProgressScreen } from "./progress.ts";
import { trainOnServer } from "./remote.ts";

/** What a process gives the command. */
export interface TrainEnvironment {
  readonly args: readonly string[];
  readonly env: (name: string) => string | undefined;
  readonly version: string;
  readonly load: BaseLoader;
  /** Where progress and failures go. */
  readonly screen: ProgressScreen;
  /** A line of the result. */
  readonly print: (line: string) => void;
  /** How a dry run marks tokens with loss in what it prints. */
  readonly marks: Marks;
  /** Milliseconds, rising. */
  readonly now: () => number;
  /** Resolves after so many milliseconds, or when `signal` fires. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

/** Runs the command; resolves with the exit code. */
export async function runTrain(environment: TrainEnvironment): Promise<number> {
  const { args, env, print, screen, version } = environment;
  try {
    const command = parseTrainCommand(args, env);
    switch (command.type) {
      case "help":
        print(trainHelp());
        return 0;
      case "version":
        print(`lembas ${version}`);
        return 0;
      case "train":
        return await train(command.flags, environment);
    }
  } catch (error) {
    screen.write(`${failureText(error)}\n`);
    return error instanceof FlagError ? 2 : 1;
  }
}

function train(flags: TrainFlags, environment: TrainEnvironment): Promise<number> {
  switch (flags.where.type) {
    case "here":
      return trainHere(flags, environment);
    case "nowhere":
      return dryRun(flags, environment);
    case "server":
      return trainOnServer(flags, flags.where, environment);
  }
}

/** A sentence for what the user can mend; a stack where the fault is ours. */
function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message.startsWith("internal:") ? error.stack ?? error.message : error.message;
}

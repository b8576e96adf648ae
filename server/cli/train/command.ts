/** The life of `deno task train`: flags, where to train, exit code. */
import { FlagError, naming } from "../flags.ts";
import type { TrainEnvironment } from "./base.ts";
import { dryRun } from "./dry_run.ts";
import { parseTrainCommand, type TrainFlags, trainHelp } from "./flags.ts";
import { trainHere } from "./local.ts";
import { trainOnServer } from "./remote.ts";

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

async function train(flags: TrainFlags, environment: TrainEnvironment): Promise<number> {
  await checkFile("--data", flags.data);
  if (flags.valid !== undefined) await checkFile("--valid", flags.valid);
  switch (flags.where.type) {
    case "here":
      return await trainHere(flags, environment);
    case "nowhere":
      return await dryRun(flags, environment);
    case "server":
      return await trainOnServer(flags, flags.where, environment);
  }
}

function checkFile(flag: string, path: string): Promise<void> {
  return naming(flag, path, async () => {
    const { isDirectory } = await Deno.stat(path);
    if (isDirectory) throw new TypeError("it is a directory");
  });
}

/** A sentence for what the user can mend; a stack where the fault is ours. */
function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message.startsWith("internal:") ? error.stack ?? error.message : error.message;
}

/**
 * What `deno task train --teacher` does before it trains: the teacher answers and says what it expects,
 * once; what it said is kept beside the core's checkpoint until training is over, so that a run that was
 * cut off goes on where it was.
 */
import {
  heldMass,
  heldOut,
  type Shelf,
  taughtRows,
} from "../../../../adapters/training/distillation/taught_rows.ts";
import { shortDigest } from "../../../../adapters/lotr/stack.ts";
import { exists, writeAtomically } from "../../../../src/checkpoint/fetch/cache.ts";
import type { Example } from "../../../../src/train/gradients/model.ts";
import { naming } from "../../flags.ts";
import type { OpenedTrainer } from "../base.ts";
import { countsOf, countsText, type LoadedData } from "../data.ts";
import type { OutputPaths } from "../output.ts";
import type { ProgressScreen } from "../progress.ts";
import type { Follow, FollowedTeacher } from "./flags.ts";

export interface FollowOptions {
  readonly follow: Follow;
  readonly seed: number;
  /** Digest of the base. */
  readonly base: string;
  readonly paths: OutputPaths;
  readonly opened: OpenedTrainer;
  readonly screen: ProgressScreen;
  readonly signal: AbortSignal;
}

export interface FollowData {
  readonly train: LoadedData;
  readonly valid: LoadedData | undefined;
}

/**
 * Both files' rows with what the teacher says of them; without validation rows a tenth is held out.
 * @throws {TypeError | RangeError} naming the flag or line at fault; what `signal` was aborted with
 */
export async function follow(
  { train, valid }: FollowData,
  options: FollowOptions,
): Promise<FollowData & { readonly teacher: FollowedTeacher }> {
  const { opened, screen, paths, seed } = options;
  const source = { teacher: options.follow.teacher, directory: paths.out };
  await using teaching = await naming(
    "--teacher",
    source.teacher,
    () => opened.openTeacher(source),
  );
  const { teacher } = teaching;
  const parts = valid === undefined
    ? heldOut(train.examples, seed)
    : { train: train.examples, valid: valid.examples };
  const taught = async (rows: readonly Example[], what: string) =>
    await taughtRows(rows, {
      ...{ teacher, base: options.base, signal: options.signal },
      following: { ...options.follow, seed },
      shelf: (digest) => taughtFiles(paths, digest),
      onProgress: progressOn(screen, what),
    });
  const rows = {
    train: await taught(parts.train, "training"),
    valid: await taught(parts.valid, "validation"),
  };
  const mass = heldMass([...rows.train, ...rows.valid]);
  const { count } = options.follow;
  screen.write(
    `the teacher's ${count} likeliest tokens hold ${(100 * mass).toFixed(2)}% of its probability\n`,
  );
  const judging = rows.valid.length === 0 ? undefined : valid ?? train;
  return {
    train: withRows(train, rows.train, screen),
    valid: judging && withRows(judging, rows.valid, screen),
    teacher: { ...options.follow, digest: teacher.digest, mass },
  };
}

/** Removes what teachers said: training is over. */
export async function removeTaught({ stem }: OutputPaths): Promise<void> {
  const directory = `${stem}.teacher`;
  if (await exists(directory)) await Deno.remove(directory, { recursive: true });
}

function withRows(
  { file, warnings }: LoadedData,
  examples: readonly Example[],
  screen: ProgressScreen,
): LoadedData {
  const counts = countsOf(examples);
  screen.write(`${file.file}, taught: ${countsText(counts)}\n`);
  return { file: { ...file, ...counts }, examples, warnings };
}

/** `DIR/TENANT/NAME.teacher/DIGEST-PART.safetensors` */
function taughtFiles({ stem }: OutputPaths, digest: string): Shelf {
  const pathOf = (part: number) =>
    `${stem}.teacher/${shortDigest(digest)}-${String(part).padStart(5, "0")}.safetensors`;
  return {
    read: async (part) =>
      await exists(pathOf(part)) ? await Deno.readFile(pathOf(part)) : undefined,
    write: (part, bytes) => writeAtomically(pathOf(part), bytes),
  };
}

/** One line that is drawn over on a terminal, a line for each quarter elsewhere. */
function progressOn(screen: ProgressScreen, what: string): (done: number, total: number) => void {
  let told = -1;
  return (done, total) => {
    const text = `teacher: ${done}/${total} ${what} rows`;
    if (screen.isTerminal) return screen.write(`\r\x1b[K${text}${done === total ? "\n" : ""}`);
    const quarter = Math.floor(4 * done / total);
    if (quarter > told) screen.write(`${text}\n`);
    told = quarter;
  };
}

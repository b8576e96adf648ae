/**
 * `bench train speed`: tokens a second of training, a step of the optimizer included, in turns with
 * PEFT on the same rows in the same batches: text with loss on every token, the same with loss on its
 * last tokens, and rows of a chat data set with the system prompt that they share. Also how much
 * memory training takes, in processes of its own.
 */
import { generalText } from "../../adapters/lotr/make/corpus.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { lmExample } from "../../src/train/data/dataset.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import { type Comparison, type Contestant, takeTurns, type Work } from "./contest.ts";
import { readTraining } from "./data.ts";
import type { SpeedFlags } from "./flags.ts";
import { measureMemory } from "./memory.ts";
import { PEFT_DTYPES, PeftWorker } from "./peft.ts";
import { Trainee } from "./trainee.ts";

/** A batch as the peers' own figures have it. */
const ROWS = 8;
const TOKENS = 128;
/** Tokens with loss, where not all have it. */
const ANSWER = 16;
/** Of chat rows: as the quality report trains. */
const CHAT_BATCH = 16;
const CHAT_TASK = "question";
const MAX_CONTEXT = 512;

interface Case {
  readonly name: string;
  readonly rows: readonly Example[];
  readonly batch: number;
}

/** Runs what is asked for and returns the figures; `tell` gets a line for each turn. */
export async function benchSpeed(
  flags: SpeedFlags,
  tell: (line: string) => void,
): Promise<unknown> {
  const memory = flags.only.includes("memory") ? await measureMemory(flags, tell) : [];
  const speeds = flags.only.some((part) => part !== "memory") ? await speedsOf(flags, tell) : [];
  return { speeds, memory };
}

async function speedsOf(
  flags: SpeedFlags,
  tell: (line: string) => void,
): Promise<readonly unknown[]> {
  await using stack = new AsyncDisposableStack();
  const trainee = stack.use(await Trainee.open({ ...flags, maxContext: MAX_CONTEXT }));
  const contestants: Contestant[] = [trainee];
  if (flags.peft !== undefined) {
    const worker = stack.use(await PeftWorker.start(flags.peft, await resolveModel(flags.model)));
    contestants.push(...PEFT_DTYPES.map((dtype) => worker.contestant(dtype)));
  }
  const cases = await casesOf(trainee, flags);
  const speeds = [];
  for (const rank of flags.ranks) {
    for (const { name, rows, batch } of cases) {
      tell(`  rank ${rank}, ${name}`);
      const work: Work = { rows, batch, epochs: 1, rank };
      const comparison = await takeTurns(contestants, work, flags.rounds, tell);
      tell(`  rank ${rank}, ${name}: ${describe(comparison)}`);
      speeds.push({ rank, case: name, rows: rows.length, batch, ...comparison });
    }
  }
  return speeds;
}

async function casesOf(
  { checkpoint }: Trainee,
  { only, data, steps }: SpeedFlags,
): Promise<readonly Case[]> {
  const text = checkpoint.tokenizer.encode(generalText());
  const cases = only.includes("text") ? textCases(text, ROWS * steps) : [];
  if (!only.includes("chat") || data === undefined) return cases;
  const chat = await readTraining(data, CHAT_TASK, checkpoint, MAX_CONTEXT);
  return [...cases, {
    name: `${CHAT_BATCH} rows of ${CHAT_TASK}, loss on the answers`,
    rows: chat.slice(0, CHAT_BATCH * steps),
    batch: CHAT_BATCH,
  }];
}

function textCases(text: readonly number[], count: number): readonly Case[] {
  const rows = textRows(text, count);
  const last = rows.map((row) => ({
    ...row,
    weights: row.weights.map((weight, i) => i < TOKENS - ANSWER ? 0 : weight),
  }));
  const shape = `${ROWS} × ${TOKENS} tokens`;
  return [
    { name: `${shape}, loss on every token`, rows, batch: ROWS },
    { name: `${shape}, loss on the last ${ANSWER}`, rows: last, batch: ROWS },
  ];
}

/** Pieces of a text, from its beginning again where it ends. */
function textRows(text: readonly number[], count: number): readonly Example[] {
  return Array.from(
    { length: count },
    (_, row) =>
      lmExample(
        Array.from({ length: TOKENS }, (_, i) => text[(row * TOKENS + i) % text.length]),
        1,
      ),
  );
}

function describe({ tokensPerSecond, ratio }: Comparison): string {
  const speeds = Object.entries(tokensPerSecond).map(([label, { median, min, max }]) =>
    `${label} ${median} (${min}–${max})`
  );
  return `${speeds.join(", ")} tok/s${ratio === undefined ? "" : `; ratio ${ratio}`}`;
}

// deno-lint-ignore-file no-console -- its one line is what it is for
/**
 * A prompt of 6,000 tokens on the default base, alone and beside a row that decodes, as a line of
 * JSON: what the process had at most, beyond keys, values and what a prompt of 600 takes; and the
 * tokens of each run beside that row, 0 for a decode step.
 */
import { Lembas } from "../../adapters/lembas.ts";
import { keepAllocatorSmall } from "../../src/runtime/memory.ts";

const PROMPT = 6000;
const ASKED = { temperature: 0, ignoreEos: true };

/** Bytes that are the process's own. */
function ownBytes(): number {
  const text = Deno.readTextFileSync("/proc/self/status");
  return 1024 * Number(/RssAnon:\s+(\d+)/.exec(text)?.[1]);
}

async function measure(): Promise<{ readonly most: number; readonly runs: readonly number[] }> {
  let runs: number[] = [];
  let most = 0;
  await using lembas = await Lembas.load({
    maxBatch: 4,
    dtype: "int8",
    listener: {
      step({ kind, tokens }) {
        runs.push(kind === "decode" ? 0 : tokens);
      },
    },
  });
  // in the midst of runs: what a run takes for itself is gone when it ends
  const timer = setInterval(() => {
    const { kvBytes, kvBytesCached, kvBytesSpare } = lembas.engine.stats();
    most = Math.max(most, ownBytes() - kvBytes - kvBytesCached - kvBytesSpare);
  }, 5);
  const tokens = Array.from({ length: PROMPT }, (_, i) => 1000 + i * 7919 % 40000);
  await lembas.generate(tokens.slice(0, 600), { ...ASKED, maxTokens: 4 });
  const before = most;
  await lembas.generate(tokens, { ...ASKED, maxTokens: 1 });
  const taken = most - before;
  const stop = new AbortController();
  const beside = lembas.generate([1, 2, 3], { ...ASKED, maxTokens: 5000, signal: stop.signal });
  while (runs.slice(-3).some((computed) => computed > 0)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  runs = [];
  await lembas.generate(tokens.toReversed(), { ...ASKED, maxTokens: 1 });
  clearInterval(timer);
  stop.abort();
  await beside.catch(() => {});
  return { most: taken, runs };
}

keepAllocatorSmall();
console.log(JSON.stringify(await measure()));

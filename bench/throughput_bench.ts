// deno-lint-ignore-file no-console -- a program that prints what it measures
/**
 * Throughput of the default base as the server runs it: a decoding step of 1, 16 and 32 rows, and a
 * prompt of 16 × 64 tokens, the base alone beside a different core in every row. Deno's table tells
 * times of steps; the lines at the end tell tokens a second. On a noisy machine compare by
 * `deno task bench decode`, where contestants take turns.
 */
import { type Decoding, type LaneContestant, PROMPT } from "./decode.ts";
import { median } from "./stats.ts";
import { Target } from "./target.ts";

const BATCHES = [1, 16, 32] as const;
const [ROWS, LENGTH] = [16, 64] as const;
const RANK = 32;
/** Tokens that are decoded before rows begin anew, and tokens they have room for. */
const [STEPS, ROOM] = [128, 256] as const;
const DECODE = { n: 24, warmup: 4 } as const;
const PREFILL = { n: 5, warmup: 1 } as const;

/** Milliseconds of each run of a bench, and the tokens of one. */
class Speed {
  readonly #times: number[] = [];

  constructor(readonly name: string, readonly tokens: number) {}

  /** Times what Deno times. */
  async measure(b: Deno.BenchContext, run: () => Promise<unknown>): Promise<void> {
    b.start();
    const start = performance.now();
    await run();
    this.#times.push(performance.now() - start);
    b.end();
  }

  line(): string {
    // Deno's own warm-up is among them, which a median passes over
    return `${this.name}: ${(this.tokens / median(this.#times) * 1000).toFixed(0)} tokens/s`;
  }
}

/** One batch of one lane, decoded on and on; its slots are free for the next one when disposed. */
class Batch implements AsyncDisposable {
  #decoding: Promise<Decoding> | undefined;
  #steps = 0;

  constructor(readonly lane: LaneContestant, readonly rows: number) {}

  async ready(): Promise<void> {
    await (this.#decoding ??= this.lane.begin(this.rows));
  }

  async step(): Promise<void> {
    await (await this.#decoding)?.step(PROMPT + this.#steps++ % STEPS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    (await this.#decoding)?.[Symbol.dispose]();
    this.#decoding = undefined;
  }
}

async function defineBenches(): Promise<void> {
  const target = await Target.open({ model: undefined, dtype: "int8", threads: undefined });
  const base = await target.base({ maxBatch: Math.max(...BATCHES), maxContext: ROOM });
  const lanes = [
    { who: "the base", lane: await target.bare(base), baseline: true },
    { who: "a core in every row", lane: await target.adapted(base, RANK), baseline: false },
  ];
  const speeds: Speed[] = [];
  let under: Batch | undefined;
  const take = async (batch: Batch) => {
    if (under !== batch) await under?.[Symbol.asyncDispose]();
    under = batch;
    await batch.ready();
  };
  const speedOf = (name: string, tokens: number) => {
    const speed = new Speed(name, tokens);
    speeds.push(speed);
    return speed;
  };

  for (const rows of BATCHES) {
    const group = `decode a token of ${rows} ${rows === 1 ? "row" : "rows"}`;
    for (const { who, lane, baseline } of lanes) {
      const [batch, speed] = [new Batch(lane, rows), speedOf(`${group}, ${who}`, rows)];
      Deno.bench(speed.name, { group, baseline, ...DECODE }, async (b) => {
        await take(batch);
        await speed.measure(b, () => batch.step());
      });
    }
  }

  const group = `prefill ${ROWS} × ${LENGTH} tokens`;
  for (const { who, lane, baseline } of lanes) {
    const speed = speedOf(`${group}, ${who}`, ROWS * LENGTH);
    Deno.bench(speed.name, { group, baseline, ...PREFILL }, async (b) => {
      await under?.[Symbol.asyncDispose]();
      await speed.measure(b, () => lane.prefill(ROWS, LENGTH));
    });
  }

  globalThis.addEventListener("unload", () => {
    for (const speed of speeds) console.log(speed.line());
    target[Symbol.dispose]();
  });
}

await defineBenches();

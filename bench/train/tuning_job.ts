/**
 * A fine-tuning job on a server, through OpenAI's client: created, paused, resumed and cancelled; and
 * a meter of what the server trains and serves, read from its metrics. It owns no server.
 */
import OpenAI from "openai";

/** Between two looks at a job's status. */
const POLL_MS = 100;
/** A server makes its default factor set before its first job, and a loaded machine takes its time. */
const PATIENCE_MS = 600_000;

/** Rows of a step: one micro-batch, so that the meter's grain is fine. */
const BATCH = 4;
/** More than any bench waits for. */
const EPOCHS = 1000;
/** So small that nothing is learnt by heart in as many. */
const MULTIPLIER = 0.01;

export class TuningJob {
  private constructor(readonly client: OpenAI, readonly id: string) {}

  /** Uploads the rows and creates a job that goes on until it is cancelled. */
  static async create(
    url: string,
    model: string,
    rows: { readonly train: string; readonly valid: string },
  ): Promise<TuningJob> {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    const upload = async (name: string, text: string) =>
      (await client.files.create({ file: new File([text], name), purpose: "fine-tune" })).id;
    const [training, validation] = [
      await upload("train.jsonl", rows.train),
      await upload("valid.jsonl", rows.valid),
    ];
    const hyperparameters = {
      "n_epochs": EPOCHS,
      "batch_size": BATCH,
      "learning_rate_multiplier": MULTIPLIER,
      patience: 0,
    };
    const { id } = await client.fineTuning.jobs.create({
      model,
      training_file: training,
      validation_file: validation,
      method: { type: "supervised", supervised: { hyperparameters } },
    });
    return new TuningJob(client, id);
  }

  /** Resolves when the running step has ended and nothing trains any more. */
  async pause(): Promise<void> {
    await this.client.fineTuning.jobs.pause(this.id);
    await this.#until("paused");
  }

  async resume(): Promise<void> {
    await this.client.fineTuning.jobs.resume(this.id);
    await this.#until("running");
  }

  async cancel(): Promise<void> {
    await this.client.fineTuning.jobs.cancel(this.id);
    await this.#until("cancelled");
  }

  async #until(status: string): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const job = await this.client.fineTuning.jobs.retrieve(this.id);
      const now: string = "paused" in job && job.paused ? "paused" : job.status;
      if (now === status) return;
      if (now === "failed" || performance.now() > deadline) {
        throw new Error(`Cannot go on: the job is ${now}, not ${status}: ${job.error?.message}`);
      }
      await sleep(POLL_MS);
    }
  }
}

/** Tokens trained on so far, as seen at a moment in ms. */
export interface Sight {
  readonly at: number;
  readonly tokens: number;
}

/** What a server did while a meter ran. */
export interface Reading {
  /** Training's pace between the first step that ended and the last; 0 where fewer than two did. */
  readonly tokensPerSecond: number;
  /** Share of the time in which serving held the device. */
  readonly serving: number;
}

/** Between two looks at the metrics: they cost the server about a millisecond. */
const METER_MS = 200;

/** Reads a server's metrics while `during` runs. */
export async function metered<T>(
  url: string,
  during: () => Promise<T>,
): Promise<{ readonly result: T; readonly reading: Reading }> {
  const sights: Sight[] = [];
  let running = true;
  const began = performance.now();
  const busy = await servingSeconds(url);
  const watch = (async () => {
    while (running) {
      sights.push(await trainedTokens(url));
      await sleep(METER_MS);
    }
  })();
  const result = await during();
  running = false;
  const seconds = (performance.now() - began) / 1e3;
  const serving = (await servingSeconds(url) - busy) / seconds;
  await watch;
  return { result, reading: { tokensPerSecond: paceOf(sights), serving } };
}

/** Tokens a second between the first rise and the last: the ends of whole steps. */
export function paceOf(sights: readonly Sight[]): number {
  const rises = sights.filter(({ tokens }, i) => i > 0 && tokens > sights[i - 1].tokens);
  const [first, last] = [rises[0], rises.at(-1)];
  if (first === undefined || last === undefined || first === last) return 0;
  return (last.tokens - first.tokens) / ((last.at - first.at) / 1e3);
}

/** Resolves when the server has trained on anything. */
export async function untilTrained(url: string): Promise<void> {
  const { tokens: before } = await trainedTokens(url);
  const deadline = performance.now() + PATIENCE_MS;
  while ((await trainedTokens(url)).tokens === before) {
    if (performance.now() > deadline) throw new Error("Cannot go on: the job takes no step");
    await sleep(POLL_MS);
  }
}

async function trainedTokens(url: string): Promise<Sight> {
  const tokens = sumOf(await metrics(url), "lembas_training_tokens_total");
  return { at: performance.now(), tokens };
}

/** Seconds in which serving held the device, since the server started. */
async function servingSeconds(url: string): Promise<number> {
  return sumOf(await metrics(url), "lembas_step_seconds_sum");
}

async function metrics(url: string): Promise<string> {
  const response = await fetch(`${url}/metrics`);
  return await response.text();
}

/** The sum of a metric's values over its labels; 0 where it has none. */
export function sumOf(text: string, name: string): number {
  const lines = text.split("\n").filter((line) =>
    line.startsWith(`${name} `) || line.startsWith(`${name}{`)
  );
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

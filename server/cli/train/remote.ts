/**
 * Training on a running server: the files go up, a job is made, its events are shown as if it ran
 * here, its results come down.
 */
import type { Core } from "../../../adapters/lotr/core.ts";
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import { readCore, readFactors } from "../../../adapters/lotr/format.ts";
import { LineSplitter } from "../../../src/train/data/jsonl.ts";
import { writeAtomically } from "../../../src/checkpoint/fetch/cache.ts";
import { TENANT_HEADER } from "../../access/access.ts";
import { type RemoteEvent, type RemoteJob, TrainingApi } from "./api.ts";
import type { TrainEnvironment } from "./base.ts";
import { curveSvg, type Point } from "./curve.ts";
import { openData, readData } from "./data.ts";
import type { TrainFlags, Where } from "./flags.ts";
import {
  type AskedHyperparameters,
  JOB_HYPERPARAMETERS,
} from "../../../adapters/training/hyperparameters.ts";
import { methodBody } from "../../http/schema/fine_tuning_method.ts";
import { EndSignals } from "../signals.ts";
import { type OutputPaths, outputPaths, writeTrained } from "./output.ts";
import { shellQuote } from "./report.ts";
import { TrainDisplay } from "./progress.ts";

type Server = Extract<Where, { readonly type: "server" }>;

/** Milliseconds between two looks at a job. */
const LOOK_EVERY = 1000;
const ENDED: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);

/** Trains there; resolves with the exit code. */
export async function trainOnServer(
  flags: TrainFlags,
  server: Server,
  environment: TrainEnvironment,
): Promise<number> {
  const { screen, wait, now } = environment;
  const display = new TrainDisplay({ screen, runs: 1, now });
  using signals = new EndSignals(() => {});
  const { signal } = signals;
  const api = new TrainingApi({ ...server, tenant: flags.tenant, wait, signal });
  let job: RemoteJob | undefined;
  try {
    job = await api.create(await jobBody(flags, api));
    const follower = new Follower(api, job.id, display, flags, environment);
    job = await follower.end();
    display.close();
    return await finish(job, follower, { flags, server, api, environment });
  } catch (error) {
    display.close();
    if (signals.exitCode === undefined || error !== signal.reason) throw error;
    screen.write(`${leavingText(job, server, flags.tenant)}\n`);
    return signals.exitCode;
  }
}

/** OpenAI's body, with what lembas adds to it. */
async function jobBody(flags: TrainFlags, api: TrainingApi): Promise<Record<string, unknown>> {
  const { data, valid, tenant, name } = flags;
  const [run] = flags.runs;
  if (run === undefined) throw new TypeError("internal: a command has at least one run");
  const files = [data, ...(valid === undefined ? [] : [valid])];
  const contents = await Promise.all(files.map(openData));
  const factors = flags.factors === undefined
    ? undefined
    : readFactors(await readData(flags.factors)).digest;
  const model = await api.baseModel();
  const ids: string[] = [];
  for (const [i, content] of contents.entries()) {
    ids.push(await api.upload(files[i]?.split("/").at(-1) ?? "data.jsonl", content));
  }
  const [trainingFile, validationFile] = ids;
  return {
    model,
    training_file: trainingFile,
    ...(validationFile === undefined ? {} : { validation_file: validationFile }),
    suffix: name,
    tenant,
    seed: run.hyperparameters.seed,
    method: methodBody(flags.follow, hyperparameterBody(run.hyperparameters, factors)),
  };
}

function hyperparameterBody(asked: AskedHyperparameters, factors: string | undefined) {
  const rows = Object.entries(JOB_HYPERPARAMETERS);
  return {
    ...Object.fromEntries(
      rows.map(([name, { field }]) => [field, asked[name as keyof typeof JOB_HYPERPARAMETERS]]),
    ),
    ...(factors === undefined ? {} : { factors }),
  };
}

/** Shows a job's events until it has ended. */
class Follower {
  readonly training: Point[] = [];
  readonly validation: Point[] = [];
  readonly events: RemoteEvent[] = [];
  readonly #show: ReturnType<TrainDisplay["run"]>;

  constructor(
    readonly api: TrainingApi,
    readonly id: string,
    readonly display: TrainDisplay,
    readonly flags: TrainFlags,
    readonly environment: TrainEnvironment,
  ) {
    this.#show = display.run("");
  }

  /** @throws what the server says, or the signal's reason */
  async end(): Promise<RemoteJob> {
    const { signal } = this.api;
    while (true) {
      // the job first: no event comes after its end
      const job = await this.api.job(this.id);
      for (const event of await this.api.eventsAfter(this.id, this.events.at(-1)?.id)) {
        this.events.push(event);
        this.#tell(event);
      }
      if (ENDED.has(job.status)) return job;
      await this.environment.wait(LOOK_EVERY, signal);
      signal.throwIfAborted();
    }
  }

  #tell(event: RemoteEvent): void {
    if (this.flags.output === "json") {
      return this.environment.print(JSON.stringify({ ...event, type: `event.${event.type}` }));
    }
    if (event.type !== "metrics" || event.data === null) return this.display.line(event.message);
    this.#metrics(event.message, event.data);
  }

  #metrics(message: string, data: Readonly<Record<string, unknown>>): void {
    const number = (key: string) => typeof data[key] === "number" ? data[key] : undefined;
    const [step = 0, steps = 0] = [number("step"), number("total_steps")];
    const [loss, accuracy = 0] = [number("train_loss"), number("train_mean_token_accuracy")];
    if (loss !== undefined && this.training.at(-1)?.step !== step) {
      this.training.push({ step, loss });
      this.#show({ type: "step", step, steps, loss, accuracy });
    }
    const valid = number("full_valid_loss") ?? number("valid_loss") ?? number("sample_loss");
    if (valid === undefined) return;
    this.validation.push({ step, loss: valid });
    if (step === 0) return this.display.line(message);
    const hits = number("valid_mean_token_accuracy") ?? number("sample_mean_token_accuracy") ?? 0;
    this.#show({ type: "evaluation", step, evaluation: { loss: valid, accuracy: hits } });
  }
}

interface Finished {
  readonly flags: TrainFlags;
  readonly server: Server;
  readonly api: TrainingApi;
  readonly environment: TrainEnvironment;
}

async function finish(job: RemoteJob, follower: Follower, parts: Finished): Promise<number> {
  const { flags, server, environment } = parts;
  const paths = outputPaths(flags);
  const files = await saveResults(job, follower, paths, parts.api);
  const report = { format: "lembas.remote-training/1", server: server.url, job, files };
  const events = { ...report, events: follower.events };
  await writeAtomically(paths.report, JSON.stringify(events, null, 1) + "\n");
  const model = job.fine_tuned_model;
  if (job.status !== "succeeded" || model === null) throw failureOf(job, files);
  if (flags.output === "json") {
    environment.print(JSON.stringify({ type: "result", ...report }));
    return 0;
  }
  environment.print([
    `model     ${model}, also ${flags.tenant}/${flags.name}`,
    ...files.map((file) => `result    ${file}`),
    `report    ${paths.report}`,
    "",
    "Try it:",
    await tryLine(server, model, flags.data),
  ].join("\n"));
  return 0;
}

function failureOf({ id, status, error }: RemoteJob, files: readonly string[]): Error {
  const refused = files.find((file) => file.endsWith(".refused.safetensors"));
  const kept = refused === undefined ? "" : ` It is kept as ${refused}.`;
  return new Error(`Job ${id} ${status}: ${error?.message ?? "it made no model."}${kept}`);
}

/** The job's files as a training here would leave them; returns their paths. */
async function saveResults(
  job: RemoteJob,
  { training, validation }: Follower,
  paths: OutputPaths,
  api: TrainingApi,
): Promise<string[]> {
  const files: string[] = [];
  let [core, factors]: [Core | undefined, FactorSet | undefined] = [undefined, undefined];
  for (const id of job.result_files) {
    const { filename, content } = await api.download(id);
    if (filename === "core.safetensors") core = readCore(content);
    else if (filename === "factors.safetensors") factors = readFactors(content);
    else {
      const path = `${paths.stem}.${filename.replaceAll(/[^\w.-]/g, "_")}`;
      await writeAtomically(path, content);
      files.push(path);
    }
  }
  if (core !== undefined && factors !== undefined) {
    const verdict = job.status === "succeeded" ? "published" : "refused";
    const written = await writeTrained(paths, core, factors, verdict);
    files.unshift(written.path, written.factorsPath);
  }
  if (training.length + validation.length === 0) return files;
  const title = job.fine_tuned_model ?? job.id;
  const base = validation.find(({ step }) => step === 0)?.loss;
  const curve = { title, training, validation, base, best: undefined };
  await writeAtomically(paths.curve, curveSvg(curve));
  return [...files, paths.curve];
}

/** A request like the first row of the data. */
async function tryLine({ url, apiKey }: Server, model: string, data: string): Promise<string> {
  const key = apiKey === undefined ? "" : ` -H "authorization: Bearer $LEMBAS_API_KEY"`;
  const { path, ...question } = firstQuestion(await firstLine(data));
  const body = { model, ...question, temperature: 0, "max_tokens": 40 };
  return `curl ${url}/v1/${path} -H 'content-type: application/json'${key} \\\n` +
    `  -d ${shellQuote(JSON.stringify(body))}`;
}

type Question =
  | { readonly path: "chat/completions"; readonly messages: readonly unknown[] }
  | { readonly path: "completions"; readonly prompt: string };

/** The first that is not blank. */
async function firstLine(path: string): Promise<string> {
  const lines = new LineSplitter();
  const decoder = new TextDecoder();
  for await (const piece of await openData(path)) {
    for (const { bytes } of lines.push(piece)) return decoder.decode(bytes);
  }
  for (const { bytes } of lines.end()) return decoder.decode(bytes);
  return "{}";
}

/** What the first row asks, without its answer. The server has found the file to be sound. */
function firstQuestion(line: string): Question {
  const { messages, prompt } = JSON.parse(line);
  if (typeof prompt === "string") return { path: "completions", prompt };
  const said: readonly { role: string; content: unknown }[] = messages;
  const asked = said.slice(0, said.findIndex(({ role }) => role === "assistant"));
  // a training message's weight is no part of a request
  return {
    path: "chat/completions",
    messages: asked.map(({ role, content }) => ({ role, content })),
  };
}

function leavingText(
  job: RemoteJob | undefined,
  { url, apiKey }: Server,
  tenant: string,
): string {
  if (job === undefined) return "interrupted before the job was created";
  const key = apiKey === undefined ? "" : ` -H "authorization: Bearer $LEMBAS_API_KEY"`;
  return `job ${job.id} goes on without this command; to cancel it: ` +
    `curl -X POST ${url}/v1/fine_tuning/jobs/${job.id}/cancel -H '${TENANT_HEADER}: ${tenant}'${key}`;
}

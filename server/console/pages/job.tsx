/** One training job: its loss curve as a picture of its own, its settings, events, and its buttons. */
import type { JobEvent, JobRecord, JobStatus } from "../../../adapters/store/store.ts";
import type { AppContext } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import type { FineTuning } from "../../jobs/fine_tuning.ts";
import { JobStateError } from "../../jobs/job_status.ts";
import { checkScope } from "../../access/access.ts";
import { type Curve, curveSvg } from "../../cli/train/curve.ts";
import { type ConsoleApp, type Desk, missing } from "../desk.ts";
import { formatDuration, formatNumber, formatTime } from "../format.ts";
import { Action, Card, Facts, type Frame, Page, Status } from "../parts.tsx";

/** Events that a page lists at most. */
const MOST_EVENTS = 200;
/** Events that a curve is drawn from at most. */
const MOST_FIGURES = 20_000;

const ACTIONS = ["pause", "resume", "cancel"] as const;
type JobAction = typeof ACTIONS[number];

export function registerJob(app: ConsoleApp, desk: Desk, tuning: FineTuning): void {
  app.get("/jobs/:tenant/:job", async (c) => c.html(await show(c, desk, tuning)));
  app.get("/jobs/:tenant/:job/curve.svg", async (c) => {
    const job = await find(c, desk, tuning);
    const events = await eventsOf(job, tuning, { limit: MOST_FIGURES, order: "asc" });
    return new Response(curveSvg(curveOf(job, events)), {
      headers: {
        "content-type": "image/svg+xml",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
      },
    });
  });
  app.post("/jobs/:tenant/:job/:action", async (c) => {
    await desk.gate.form(c);
    checkScope(c.get("principal"), ["train"]);
    const job = await find(c, desk, tuning);
    const action = ACTIONS.find((one) => one === c.req.param("action"));
    if (action === undefined) throw missing("page", c.req.path);
    await act(tuning, action, job);
    return c.redirect(`/console/jobs/${job.tenant}/${job.id}?done=${action}`, 303);
  });
}

async function act({ runner }: FineTuning, action: JobAction, job: JobRecord): Promise<void> {
  if (runner === undefined) throw new ApiError(400, "This server cannot train.");
  try {
    await runner[action](job);
  } catch (error) {
    if (error instanceof JobStateError) throw new ApiError(400, error.message);
    throw error;
  }
}

async function find(c: AppContext, desk: Desk, tuning: FineTuning): Promise<JobRecord> {
  const id = c.req.param("job") ?? "";
  const job = await tuning.forTenant(desk.tenantIn(c)).jobs.find(id);
  if (job === undefined) throw missing("job", id);
  return job;
}

async function eventsOf(
  { tenant, id }: JobRecord,
  tuning: FineTuning,
  part: { readonly limit: number; readonly order: "asc" | "desc" },
): Promise<readonly JobEvent[]> {
  const query = { after: undefined, ...part };
  return (await tuning.forTenant(tenant).jobs.events(id, query)).items;
}

/** Training and validation losses by step, as the job's events tell them. */
export function curveOf(job: JobRecord, events: readonly JobEvent[]): Curve {
  const pick = (...names: readonly string[]) =>
    events.flatMap(({ data }) => {
      const loss = names.map((name) => data?.[name]).find((value) => value !== undefined);
      return loss === undefined ? [] : [{ step: data?.["step"] ?? 0, loss }];
    });
  const training = new Map(pick("train_loss").map((point) => [point.step, point]));
  const evaluated = pick("valid_loss", "sample_loss");
  // step 0 is the base: what is trained is only what comes after it
  const validation = evaluated.filter(({ step }) => step > 0);
  const best = validation.length === 0
    ? undefined
    : validation.reduce((least, point) => point.loss < least.loss ? point : least).step;
  return {
    title: `${job.tenant}: ${job.suffix ?? job.id}`,
    training: [...training.values()],
    validation: evaluated,
    base: evaluated.find(({ step }) => step === 0)?.loss,
    best: job.status === "succeeded" ? best : undefined,
  };
}

async function show(c: AppContext, desk: Desk, tuning: FineTuning) {
  const job = await find(c, desk, tuning);
  const events = await eventsOf(job, tuning, { limit: MOST_EVENTS, order: "desc" });
  const frame = desk.frame(c);
  const path = `/console/jobs/${job.tenant}/${job.id}`;
  return (
    <Page frame={frame} title={job.suffix ?? job.id}>
      <div class="head">
        <div>
          <p class="crumbs">
            <a href="/console/jobs">Jobs</a>
          </p>
          <h1>
            {job.suffix ?? job.id} <Status of={job.status} />
          </h1>
          <p class="lead mono">{job.id}</p>
        </div>
        <Buttons frame={frame} path={path} status={job.status} />
      </div>
      {job.error !== null && <p class="problem" role="alert">{job.error.message}</p>}
      <Card title="Loss">
        <div class="scroll" tabindex={0} role="region" aria-label="Loss by step">
          <img class="curve" src={`${path}/curve.svg`} alt={`Loss of ${job.id} by step`} />
        </div>
        <p class="lead">
          Across: steps of the optimizer, each on one batch of rows. Upward: the loss, in nats, of a
          token that carries loss; lower is better. The thin line is each step's batch, the thick
          one its running mean; dots are evaluations on the validation rows, or on a sample of the
          training rows where there are none. The dashed line across is the untrained base.
        </p>
      </Card>
      <Card title="Settings">
        <Facts facts={factsOf(job, tuning)} />
      </Card>
      <Card title="Events, in UTC">
        <ol class="log" tabindex={0} aria-label="Events, newest first">
          {events.map(({ createdAt, level, message }) => (
            <li>
              <time>{formatTime(createdAt)}</time>
              <span class={level}>{message}</span>
            </li>
          ))}
        </ol>
      </Card>
    </Page>
  );
}

const POSSIBLE: Readonly<Record<JobStatus, readonly JobAction[]>> = {
  "validating_files": ["cancel"],
  queued: ["pause", "cancel"],
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  succeeded: [],
  failed: [],
  cancelled: [],
};

const LABELS: Readonly<Record<JobAction, string>> = {
  pause: "Pause",
  resume: "Resume",
  cancel: "Cancel",
};

interface ButtonsOptions {
  readonly frame: Frame;
  readonly path: string;
  readonly status: JobStatus;
}

function Buttons({ frame, path, status }: ButtonsOptions) {
  return (
    <div class="actions">
      {POSSIBLE[status].map((action) => (
        <Action
          frame={frame}
          action={`${path}/${action}`}
          label={LABELS[action]}
          tone={action === "cancel" ? "danger" : "plain"}
          {...(action === "cancel" ? { confirm: "Cancel this job? It cannot go on again." } : {})}
        />
      ))}
    </div>
  );
}

function factsOf(job: JobRecord, { runner }: FineTuning) {
  const { settled, hyperparameters: asked } = job;
  const left = job.status === "running" ? runner?.estimatedFinish(job.id) : undefined;
  const end = job.finishedAt ?? undefined;
  return [
    ["Tenant", job.tenant],
    ["Base", job.model],
    ["Rank", String(asked.rank)],
    ["Epochs", String(settled?.epochs ?? asked.epochs)],
    ["Batch", String(settled?.batchSize ?? asked.batchSize)],
    [
      "Learning rate",
      settled === null ? "auto" : String(Number(settled.learningRate.toPrecision(3))),
    ],
    ["Seed", String(job.seed)],
    ["Made", `${formatTime(job.createdAt)} UTC`],
    ...(end === undefined ? [] : [["Ended after", formatDuration(end - job.createdAt)] as const]),
    ...(left === undefined ? [] : [["Ready in about", formatDuration(left - Date.now())] as const]),
    ...(job.trainedTokens === null
      ? []
      : [["Tokens trained on", formatNumber(job.trainedTokens)] as const]),
    ...(job.fineTunedModel === null
      ? []
      : [["Model", <code class="long">{job.fineTunedModel}</code>] as const]),
  ] as const;
}

/**
 * The list of training jobs: a tenant's own; for administrators those of all tenants, or of the
 * tenant they ask for.
 */
import type { JobRecord, Page as Listed } from "../../../adapters/store/store.ts";
import type { AppContext } from "../../context.ts";
import type { ConsoleApp, Desk } from "../desk.ts";
import { formatNumber, formatTime } from "../format.ts";
import { readPage } from "../listing.ts";
import { Card, Page, Status, Table } from "../parts.tsx";
import { registerJob } from "./job.tsx";
import { More } from "./tenants.tsx";

export function registerJobPages(app: ConsoleApp, desk: Desk): void {
  app.get("/jobs", async (c) => c.html(await list(c, desk)));
  if (desk.server.tuning !== undefined) registerJob(app, desk, desk.server.tuning);
}

async function list(c: AppContext, desk: Desk) {
  const own = desk.scope(c);
  const asked = own ?? (c.req.query("tenant") || undefined);
  const { items, hasMore } = await jobsOf(c, desk, asked);
  const empty = asked === undefined
    ? "No tenant has a job yet: POST /v1/fine_tuning/jobs makes one."
    : `${asked} has no job yet: POST /v1/fine_tuning/jobs makes one.`;
  return (
    <Page frame={desk.frame(c)} title="Jobs">
      <div class="head">
        <div>
          <h1>Jobs</h1>
          <p class="lead">Cores in training, and how it went</p>
        </div>
      </div>
      {own === undefined && (
        <Card title="Under way">
          <Jobs jobs={await desk.admin.store.jobs.unfinished()} empty="No job is under way." />
        </Card>
      )}
      <Card title={asked === undefined ? "All jobs" : `All jobs of ${asked}`}>
        {own === undefined && <Choose tenants={await desk.tenants(c)} asked={asked} />}
        <Jobs jobs={items} empty={empty} />
        <More items={items} hasMore={hasMore} kept={own === undefined ? { tenant: asked } : {}} />
      </Card>
    </Page>
  );
}

/** Undefined = of all tenants. */
function jobsOf(c: AppContext, desk: Desk, asked: string | undefined): Promise<Listed<JobRecord>> {
  const { store } = desk.admin;
  if (asked === undefined) return readPage(c, (query) => store.jobs.list(query));
  const { jobs } = store.forTenant(asked);
  return readPage(c, (query) => jobs.list({ ...query, metadata: undefined }));
}

function Choose({ tenants, asked }: {
  readonly tenants: readonly string[];
  readonly asked: string | undefined;
}) {
  return (
    <form method="get" action="/console/jobs" class="row">
      <div class="field">
        <label class="hidden" for="field-tenant">Tenant</label>
        <input
          id="field-tenant"
          name="tenant"
          list="tenants"
          placeholder="all tenants"
          value={asked ?? ""}
        />
        <datalist id="tenants">{tenants.map((id) => <option value={id}></option>)}</datalist>
      </div>
      <button class="plain" type="submit">Show</button>
      {asked !== undefined && <a href="/console/jobs">All tenants</a>}
    </form>
  );
}

function Jobs({ jobs, empty }: { readonly jobs: readonly JobRecord[]; readonly empty: string }) {
  return (
    <Table
      caption="Jobs, newest first"
      columns={["Job", "Tenant", "Suffix", "Status", "Made, UTC", "Tokens", "Model"]}
      numbers={[5]}
      rows={[...jobs].sort((a, b) => b.createdAt - a.createdAt).map((job) => [
        <a href={`/console/jobs/${job.tenant}/${job.id}`}>
          <code>{job.id}</code>
        </a>,
        job.tenant,
        job.suffix ?? "–",
        <Status of={job.status} />,
        <time>{formatTime(job.createdAt)}</time>,
        job.trainedTokens === null ? "–" : formatNumber(job.trainedTokens),
        job.fineTunedModel === null ? "–" : <code>{job.fineTunedModel}</code>,
      ])}
      empty={empty}
    />
  );
}

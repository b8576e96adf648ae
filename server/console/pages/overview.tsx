/**
 * The first page: live traffic for administrators, in a panel that is sent again every second, and
 * for everyone what its tenant has used.
 */
import type { UsageTotal } from "../../../adapters/store/store.ts";
import type { AppContext } from "../../context.ts";
import { isAdministrator } from "../../access/access.ts";
import { eventStream } from "../../generate/answer.ts";
import { BarChart, LineChart } from "../charts.tsx";
import type { ConsoleApp, Desk } from "../desk.ts";
import { formatNumber, formatShare, shortDigest } from "../format.ts";
import { Card, Facts, Page, Table } from "../parts.tsx";
import { type Second, type Traffic, WINDOW } from "../../telemetry/traffic.ts";

/** A rate is the mean of so many seconds. */
const RATE_SECONDS = 5;
const DAYS = 14;
const DAY = 86_400_000;

export function registerOverview(app: ConsoleApp, desk: Desk): void {
  app.get("/", async (c) => c.html(await overview(c, desk)));
  app.get("/live", (c) => {
    desk.administratorOnly(c);
    return live(c, desk);
  });
}

async function overview(c: AppContext, desk: Desk) {
  const tenant = desk.scope(c);
  const from = DAY * (Math.floor(Date.now() / DAY) - DAYS + 1);
  const { usage } = desk.admin.store;
  const [days, totals] = await Promise.all([
    usage.total({ tenant, from, by: "day" }),
    usage.total({ tenant, from, by: tenant === undefined ? "tenant" : "model" }),
  ]);
  const frame = desk.frame(c);
  return (
    <Page frame={frame} title="Overview">
      <div class="head">
        <div>
          <h1>Overview</h1>
          <p class="lead">{frame.model}, and what is asked of it</p>
        </div>
      </div>
      {tenant === undefined && (
        <div data-live="/console/live">
          <Live traffic={desk.traffic} />
        </div>
      )}
      <div class="grid-cards two">
        <Card title={`Tokens by day, last ${DAYS} days`}>
          <Days days={days} from={from} />
        </Card>
        <Card title={tenant === undefined ? "By tenant" : "By model"}>
          <Totals totals={totals} kind={tenant === undefined ? "Tenant" : "Model"} />
        </Card>
        {tenant === undefined && <Server desk={desk} />}
      </div>
    </Page>
  );
}

function Live({ traffic }: { readonly traffic: Traffic }) {
  const seconds = traffic.window();
  const recent = seconds.slice(-RATE_SECONDS);
  const rate = (pick: (second: Second) => number) =>
    recent.reduce((sum, second) => sum + pick(second), 0) / RATE_SECONDS;
  const { running, waiting, kvUsage } = traffic.gauges();
  return (
    <>
      <div class="tiles">
        <Tile name="Output" value={formatNumber(rate((s) => s.outputTokens))} unit="tokens/s" />
        <Tile name="Prompts" value={formatNumber(rate((s) => s.promptTokens))} unit="tokens/s" />
        <Tile
          name="Running"
          value={formatNumber(running)}
          unit={`${formatNumber(waiting)} waiting`}
        />
        <div class="tile">
          <span class="name">KV memory</span>
          <span class="value">{formatShare(kvUsage)}</span>
          <svg class="meter" preserveAspectRatio="none" viewBox="0 0 100 6" aria-hidden="true">
            <rect class="track" width="100" height="6" />
            <rect class="fill" width={String(100 * kvUsage)} height="6" />
          </svg>
        </div>
      </div>
      <div class="grid-cards">
        <LiveCharts seconds={seconds} />
      </div>
    </>
  );
}

function LiveCharts({ seconds }: { readonly seconds: readonly Second[] }) {
  const ends = [`${WINDOW} s ago`, "now"] as const;
  const line = (name: string, tone: "first" | "second", pick: (second: Second) => number) => ({
    ...{ name, tone },
    values: seconds.map(pick),
  });
  return (
    <>
      <Card title="Tokens per second">
        <LineChart
          label="Output and prompt tokens in each of the last seconds"
          lines={[
            line("output", "first", (s) => s.outputTokens),
            line("prompts", "second", (s) => s.promptTokens),
          ]}
          least={10}
          format={formatNumber}
          ends={ends}
        />
      </Card>
      <Card title="Requests">
        <LineChart
          label="Running and waiting samples in each of the last seconds"
          lines={[
            line("running", "first", (s) => s.running),
            line("waiting", "second", (s) => s.waiting),
          ]}
          least={4}
          format={formatNumber}
          ends={ends}
        />
      </Card>
      <Card title="KV memory in use">
        <LineChart
          label="Share of the KV memory in use in each of the last seconds"
          lines={[line("in use", "first", (s) => s.kvUsage)]}
          least={1}
          format={formatShare}
          ends={ends}
        />
      </Card>
    </>
  );
}

function Tile({ name, value, unit }: Readonly<Record<"name" | "value" | "unit", string>>) {
  return (
    <div class="tile">
      <span class="name">{name}</span>
      <span class="value">
        {value} <span class="unit">{unit}</span>
      </span>
    </div>
  );
}

function Days({ days, from }: { readonly days: readonly UsageTotal[]; readonly from: number }) {
  const byDay = new Map(days.map((total) => [total.key, total]));
  const bars = Array.from({ length: DAYS }, (_, i) => {
    const day = new Date(from + i * DAY).toISOString().slice(0, 10);
    const value = tokensOf(byDay.get(day));
    return { name: day.slice(5), value, title: `${day}: ${formatNumber(value)} tokens` };
  });
  return (
    <BarChart
      label={`Tokens on each of the last ${DAYS} days`}
      bars={bars}
      format={compact}
    />
  );
}

function tokensOf(total: UsageTotal | undefined): number {
  if (total === undefined) return 0;
  return total.promptTokens + total.completionTokens + total.trainedTokens;
}

function compact(value: number): string {
  return value.toLocaleString("en-US", { notation: "compact" });
}

/** Most rows of the table of totals. */
const MOST_TOTALS = 8;

function Totals(
  { totals, kind }: { readonly totals: readonly UsageTotal[]; readonly kind: string },
) {
  const most = [...totals].sort((a, b) => tokensOf(b) - tokensOf(a)).slice(0, MOST_TOTALS);
  return (
    <Table
      caption={`Usage by ${kind.toLowerCase()}`}
      columns={[kind, "Requests", "Prompt", "Output", "Trained"]}
      numbers={[1, 2, 3, 4]}
      rows={most.map((total) => [
        total.key,
        formatNumber(total.requests),
        formatNumber(total.promptTokens),
        formatNumber(total.completionTokens),
        formatNumber(total.trainedTokens),
      ])}
      empty="Nothing was used yet."
    />
  );
}

function Server({ desk }: { readonly desk: Desk }) {
  const { model, engine, options } = desk.server;
  const store = desk.admin.store.kind === "postgres" ? "PostgreSQL" : "embedded (SQLite)";
  return (
    <Card title="Server" wide>
      <Facts
        facts={[
          ["Model", model.id],
          ["Base digest", <code>{shortDigest(model.digest)}</code>],
          ["Weights", `${model.dtype} on ${model.device}`],
          ["Context", `${formatNumber(engine.maxContext)} tokens`],
          ["Store", store],
          ["Version", options.version],
        ]}
      />
    </Card>
  );
}

/** Sends the live panel every second until the reader leaves or its session ends. */
function live(c: AppContext, desk: Desk): Response {
  const { signal } = c.req.raw;
  const mayStay = async () => {
    const principal = await desk.gate.principal(c);
    return principal !== undefined && isAdministrator(principal);
  };
  const { response, ended } = eventStream({
    events: panels(desk, signal, mayStay),
    signal,
    close: () => {},
    onError: () => "",
  });
  c.get("notes").ended = ended;
  return response;
}

async function* panels(
  { traffic, server }: Desk,
  signal: AbortSignal,
  mayStay: () => Promise<boolean>,
): AsyncGenerator<string> {
  while (!signal.aborted && !server.lifecycle.draining && await mayStay()) {
    const html = String(await <Live traffic={traffic} />);
    yield `event: traffic\ndata: ${JSON.stringify(html)}\n\n`;
    await nextSecond(signal);
  }
}

function nextSecond(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, 1000);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

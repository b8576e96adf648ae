/** The list of tenants, and adding one; for administrators. */
import type { JSX } from "hono/jsx/jsx-runtime";
import type { TenantLimits, TenantRecord } from "../../../adapters/store/store.ts";
import type { AppContext } from "../../context.ts";
import { validated } from "../../http/endpoint.ts";
import { createTenantSchema } from "../../http/schema/admin_tenants.ts";
import type { ConsoleApp, Desk } from "../desk.ts";
import { formatBytes, formatNumber, formatTime } from "../format.ts";
import { readPage } from "../listing.ts";
import { Card, Field, FormToken, type Frame, Page, Table } from "../parts.tsx";

export function registerTenants(app: ConsoleApp, desk: Desk): void {
  const { tenants } = desk.admin.store;
  app.get("/tenants", async (c) => {
    const own = desk.scope(c);
    if (own !== undefined) return c.redirect(`/console/tenants/${own}`, 303);
    return c.html(await list(c, desk));
  });
  app.post("/tenants", async (c) => {
    const form = await desk.gate.form(c);
    desk.administratorOnly(c);
    const { id } = validated(createTenantSchema, { id: String(form.get("id") ?? "").trim() });
    await tenants.create({ id });
    return c.redirect(`/console/tenants/${id}?done=created`, 303);
  });
}

async function list(c: AppContext, desk: Desk) {
  const { tenants } = desk.admin.store;
  const { items, hasMore } = await readPage(c, (query) => tenants.list(query));
  const stored = await tenants.storedBytesOf(items.map(({ id }) => id));
  const frame = desk.frame(c);
  return (
    <Page frame={frame} title="Tenants">
      <div class="head">
        <div>
          <h1>Tenants</h1>
          <p class="lead">Who is served, and within which limits</p>
        </div>
      </div>
      <Card title="All tenants">
        <Table
          caption="Tenants"
          columns={["Tenant", "Added, UTC", "Weight", "Limits", "Stored"]}
          numbers={[2, 4]}
          rows={items.map((tenant) => [
            <a href={`/console/tenants/${tenant.id}`}>{tenant.id}</a>,
            <time>{formatTime(tenant.createdAt)}</time>,
            formatNumber(tenant.limits.weight),
            limitsText(tenant.limits),
            formatBytes(stored.get(tenant.id) ?? 0),
          ])}
          empty="There is no tenant yet."
        />
        <More items={items} hasMore={hasMore} />
      </Card>
      <AddTenant frame={frame} />
    </Page>
  );
}

function AddTenant({ frame }: { readonly frame: Frame }) {
  return (
    <Card title="Add a tenant">
      <form method="post" action="/console/tenants">
        <FormToken frame={frame} />
        <div class="form-grid">
          <Field
            label="Name"
            name="id"
            required
            pattern="[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
            hint="letters, digits, '.', '-' and '_'; part of its models' names"
          />
        </div>
        <button type="submit">Add tenant</button>
      </form>
    </Card>
  );
}

/** The link to the next part of a long list. */
export function More({ items, hasMore, kept = {} }: {
  readonly items: readonly Pick<TenantRecord, "id">[];
  readonly hasMore: boolean;
  /** What else the address asks for. */
  readonly kept?: Readonly<Record<string, string | undefined>>;
}): JSX.Element | null {
  const last = items.at(-1)?.id;
  if (!hasMore || last === undefined) return null;
  const query = new URLSearchParams({ after: last });
  for (const [name, value] of Object.entries(kept)) {
    if (value !== undefined) query.set(name, value);
  }
  return (
    <p>
      <a href={`?${query}`}>Show more</a>
    </p>
  );
}

/** Limits in a few words; what is not limited is left out. */
function limitsText(limits: TenantLimits): string {
  const said = [
    limits.requestsPerMinute === null
      ? ""
      : `${formatNumber(limits.requestsPerMinute)} requests/min`,
    limits.tokensPerMinute === null ? "" : `${formatNumber(limits.tokensPerMinute)} tokens/min`,
    limits.concurrency === null ? "" : `${formatNumber(limits.concurrency)} at once`,
    limits.queued === null ? "" : `${formatNumber(limits.queued)} waiting`,
    limits.storedBytes === null ? "" : `stores ${formatBytes(limits.storedBytes)}`,
  ].filter((text) => text !== "");
  return said.length === 0 ? "none" : said.join(", ");
}

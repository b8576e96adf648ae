/**
 * One tenant: its limits and its keys. Administrators change them; the tenant's own people see them.
 * A new key's text is shown once, on the answer to the form that made it.
 */
import { DEFAULT_TENANT } from "../../../adapters/catalog/name.ts";
import { type KeyRecord, SCOPES, type TenantRecord } from "../../../adapters/store/store.ts";
import { parseBytes } from "../../../src/util/bytes.ts";
import type { AppContext } from "../../context.ts";
import { validated } from "../../http/endpoint.ts";
import { invalid } from "../../errors.ts";
import { issueKey } from "../../access/keys.ts";
import { isAdministrator } from "../../access/access.ts";
import { keyOrder } from "../../http/routes/admin_keys.ts";
import { toLimits } from "../../http/routes/admin_tenants.ts";
import { createKeySchema, limitsSchema } from "../../http/schema/admin_tenants.ts";
import { type ConsoleApp, type Desk, missing } from "../desk.ts";
import { formatBytes, formatNumber, formatTime } from "../format.ts";
import { readPage } from "../listing.ts";
import {
  Action,
  Badge,
  Card,
  Facts,
  Field,
  FormToken,
  type Frame,
  Page,
  Table,
} from "../parts.tsx";
import { More } from "./tenants.tsx";

export function registerTenant(app: ConsoleApp, desk: Desk): void {
  const { keys, tenants } = desk.admin.store;
  app.get("/tenants/:tenant", async (c) => c.html(await show(c, desk, undefined)));
  app.post("/tenants/:tenant/limits", async (c) => {
    const { tenant, form } = await change(c, desk);
    const limits = { ...tenant.limits, ...readLimits(form) };
    await tenants.update({ id: tenant.id, limits });
    return c.redirect(`/console/tenants/${tenant.id}?done=limits`, 303);
  });
  app.post("/tenants/:tenant/remove", async (c) => {
    const { tenant: { id }, form } = await change(c, desk);
    if (form.get("id") !== id) throw invalid("id", `Type '${id}' to remove this tenant.`);
    await tenants.remove(id);
    return c.redirect("/console/tenants?done=removed", 303);
  });
  app.post("/tenants/:tenant/keys", async (c) => {
    const { tenant, form } = await change(c, desk);
    const order = { tenant: tenant.id, ...readKey(form) };
    const { text } = await issueKey(desk.admin.store, desk.admin.hash, order);
    return c.html(await show(c, desk, text));
  });
  app.post("/tenants/:tenant/keys/:key/revoke", async (c) => {
    const { tenant: { id } } = await change(c, desk);
    const key = c.req.param("key");
    if (!await keys.revoke(id, key)) throw missing("key", key);
    return c.redirect(`/console/tenants/${id}?done=revoked`, 303);
  });
}

/** A form of an administrator about a tenant that is there. */
async function change(c: AppContext, desk: Desk) {
  const form = await desk.gate.form(c);
  desk.administratorOnly(c);
  return { form, tenant: await find(c, desk) };
}

async function find(c: AppContext, desk: Desk): Promise<TenantRecord> {
  const id = desk.tenantIn(c);
  const tenant = await desk.admin.store.tenants.find(id);
  if (tenant === undefined) throw missing("tenant", id);
  return tenant;
}

/** Counts that a tenant is limited to: their names in the API and in the store, and for people. */
const WHOLE_LIMITS = [
  ["requests_per_minute", "requestsPerMinute", "Requests per minute", 1],
  ["tokens_per_minute", "tokensPerMinute", "Tokens per minute", 1],
  ["concurrency", "concurrency", "Samples at once", 1],
  ["queued", "queued", "Samples waiting", 0],
] as const;

/** A form as the API's body: an empty field takes a limit away. */
function readLimits(form: FormData): Partial<TenantRecord["limits"]> {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const number = (name: string) => text(name) === "" ? undefined : Number(text(name));
  const stored = text("stored_bytes");
  return toLimits(validated(limitsSchema, {
    ...Object.fromEntries(WHOLE_LIMITS.map(([name]) => [name, number(name) ?? null])),
    stored_bytes: stored === "" ? null : parseBytes(stored) ?? stored,
    weight: number("weight") ?? "",
    priority: number("priority") ?? "",
  }));
}

function readKey(form: FormData): ReturnType<typeof keyOrder> {
  const day = String(form.get("expires") ?? "");
  return keyOrder(validated(createKeySchema, {
    name: String(form.get("name") ?? ""),
    scopes: form.getAll("scope"),
    expires_at: day === "" ? null : Date.parse(`${day}T00:00:00Z`) / 1000,
  }));
}

async function show(c: AppContext, desk: Desk, newKey: string | undefined) {
  const tenant = await find(c, desk);
  const { keys, tenants } = desk.admin.store;
  const frame = desk.frame(c);
  const mine = !isAdministrator(c.get("principal"));
  const { items, hasMore } = await readPage(c, (query) => keys.list(tenant.id, query));
  return (
    <Page frame={frame} title={tenant.id}>
      <div class="head">
        <div>
          {!mine && (
            <p class="crumbs">
              <a href="/console/tenants">Tenants</a>
            </p>
          )}
          <h1>{tenant.id}</h1>
          <p class="lead">
            Since {formatTime(tenant.createdAt)} UTC, stores{" "}
            {formatBytes(await tenants.storedBytes(tenant.id))}
          </p>
        </div>
      </div>
      {newKey !== undefined && <NewKey text={newKey} />}
      <Card title="Keys">
        <Keys frame={frame} keys={items} mine={mine} />
        <More items={items} hasMore={hasMore} />
      </Card>
      {!mine && <MakeKey frame={frame} tenant={tenant.id} />}
      {mine ? <OwnLimits limits={tenant.limits} /> : <Limits frame={frame} tenant={tenant} />}
      {!mine && tenant.id !== DEFAULT_TENANT && <Remove frame={frame} tenant={tenant.id} />}
    </Page>
  );
}

function NewKey({ text }: { readonly text: string }) {
  return (
    <Card title="The new key">
      <p>It is shown this once. Whoever has it acts for this tenant.</p>
      <div class="secret">
        <code id="new-key">{text}</code>
        <button class="plain" type="button" data-copy="new-key">Copy</button>
      </div>
    </Card>
  );
}

interface KeysOptions {
  readonly frame: Frame;
  readonly keys: readonly KeyRecord[];
  readonly mine: boolean;
}

function Keys({ frame, keys, mine }: KeysOptions) {
  return (
    <Table
      caption="Keys"
      columns={[
        "Name",
        "Begins with",
        "Scopes",
        "Made, UTC",
        "Expires",
        "State",
        ...mine ? [] : [""],
      ]}
      rows={keys.map((key) => [
        key.name === "" ? <span class="empty">unnamed</span> : key.name,
        <code>{key.hint}…</code>,
        <span class="nowrap">{key.scopes.map((scope) => <Badge tone="idle">{scope}</Badge>)}</span>,
        <time>{formatTime(key.createdAt)}</time>,
        key.expiresAt === null ? "never" : <time>{formatTime(key.expiresAt)}</time>,
        <State of={key} />,
        ...mine ? [] : [<Revoke frame={frame} of={key} />],
      ])}
      empty="It has no key yet."
    />
  );
}

function isOver({ revokedAt, expiresAt }: KeyRecord): boolean {
  return revokedAt !== null || expiresAt !== null && expiresAt <= Date.now();
}

function State({ of: key }: { readonly of: KeyRecord }) {
  if (key.revokedAt !== null) return <Badge tone="bad">revoked</Badge>;
  return isOver(key) ? <Badge tone="bad">expired</Badge> : <Badge tone="good">active</Badge>;
}

function Revoke({ frame, of: key }: { readonly frame: Frame; readonly of: KeyRecord }) {
  if (isOver(key)) return null;
  return (
    <div class="actions">
      <Action
        frame={frame}
        action={`/console/tenants/${key.tenant}/keys/${key.id}/revoke`}
        label="Revoke"
        about={`key ${key.hint}`}
        tone="danger"
        confirm={`Revoke key ${key.hint}…? Whoever uses it is refused from now on.`}
      />
    </div>
  );
}

function MakeKey({ frame, tenant }: { readonly frame: Frame; readonly tenant: string }) {
  return (
    <Card title="Make a key">
      <form method="post" action={`/console/tenants/${tenant}/keys`}>
        <FormToken frame={frame} />
        <div class="form-grid">
          <Field label="Name" name="name" hint="for people, e.g. where it is used" />
          <Field label="Expires" name="expires" type="date" hint="left out: never" />
          <fieldset>
            <legend>Scopes</legend>
            <div class="checks">
              {SCOPES.map((scope) => (
                <label>
                  <input type="checkbox" name="scope" value={scope} checked={scope === "infer"} />
                  {scope}
                </label>
              ))}
            </div>
          </fieldset>
        </div>
        <button type="submit">Make key</button>
      </form>
    </Card>
  );
}

function OwnLimits({ limits }: { readonly limits: TenantRecord["limits"] }) {
  const facts = WHOLE_LIMITS.map(([, key, label]) => {
    const value = limits[key];
    return [label, value === null ? "no limit" : formatNumber(value)] as const;
  });
  const stored = limits.storedBytes === null ? "no limit" : formatBytes(limits.storedBytes);
  return (
    <Card title="Limits">
      <Facts facts={[...facts, ["Stored", stored]]} />
    </Card>
  );
}

function Limits({ frame, tenant }: { readonly frame: Frame; readonly tenant: TenantRecord }) {
  const { limits } = tenant;
  return (
    <Card title="Limits">
      <form method="post" action={`/console/tenants/${tenant.id}/limits`}>
        <FormToken frame={frame} />
        <div class="form-grid">
          {WHOLE_LIMITS.map(([name, key, label, least]) => (
            <Field
              label={label}
              name={name}
              type="number"
              min={least}
              value={limits[key] ?? undefined}
              hint="empty: no limit"
            />
          ))}
          <Field
            label="Stored"
            name="stored_bytes"
            value={limits.storedBytes === null ? undefined : formatBytes(limits.storedBytes)}
            hint="e.g. 10 GiB; empty: no limit"
          />
          <Field
            label="Weight"
            name="weight"
            type="number"
            step="any"
            min={0}
            value={limits.weight}
            hint="its share beside others'"
          />
          <Field
            label="Priority"
            name="priority"
            type="number"
            value={limits.priority}
            hint="lower is served sooner"
          />
        </div>
        <button type="submit">Change limits</button>
      </form>
    </Card>
  );
}

function Remove({ frame, tenant }: { readonly frame: Frame; readonly tenant: string }) {
  return (
    <Card title="Remove this tenant">
      <p>Its keys, files, jobs and cores go with it; its usage stays.</p>
      <form method="post" action={`/console/tenants/${tenant}/remove`}>
        <FormToken frame={frame} />
        <div class="form-grid">
          <Field label={`Type ${tenant} to confirm`} name="id" required />
        </div>
        <button class="danger" type="submit">Remove tenant</button>
      </form>
    </Card>
  );
}

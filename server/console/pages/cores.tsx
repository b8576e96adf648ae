/** Cores and their versions: which one a name stands for, publishing another one, rolling back. */
import { rankOf } from "../../../adapters/lora/lora_file.ts";
import type { CoreVersion } from "../../../adapters/store/store.ts";
import type { AppContext } from "../../context.ts";
import { checkScope } from "../../access/access.ts";
import { type ConsoleApp, type Desk, missing } from "../desk.ts";
import { formatBytes, formatTime, shortDigest } from "../format.ts";
import { readPage } from "../listing.ts";
import { Action, Badge, Card, type Frame, Page, Table } from "../parts.tsx";
import { More } from "./tenants.tsx";

export function registerCorePages(app: ConsoleApp, desk: Desk): void {
  const { cores } = desk.admin.store;
  app.get("/cores", async (c) => c.html(await list(c, desk)));
  app.get("/cores/:tenant/:name", async (c) => c.html(await show(c, desk)));
  app.post("/cores/:tenant/:name/publish", async (c) => {
    const { tenant, name, version } = await change(c, desk);
    await cores.publish(tenant, name, version);
    return c.redirect(`${pathOf({ tenant, name })}?done=published`, 303);
  });
  app.post("/cores/:tenant/:name/rollback", async (c) => {
    const { tenant, name } = await change(c, desk);
    await cores.rollback(tenant, name);
    return c.redirect(`${pathOf({ tenant, name })}?done=rolled-back`, 303);
  });
  app.post("/cores/:tenant/:name/delete", async (c) => {
    const { tenant, name, version } = await change(c, desk);
    if (await cores.remove(tenant, name, version) === 0) throw missing("version", String(version));
    const left = (await cores.versions(tenant, name)).length > 0;
    return c.redirect(`${left ? pathOf({ tenant, name }) : "/console/cores"}?done=deleted`, 303);
  });
}

/** A form about a core that the visitor may change. */
async function change(c: AppContext, desk: Desk) {
  const form = await desk.gate.form(c);
  checkScope(c.get("principal"), ["train"]);
  const [{ tenant, name }] = await versionsIn(c, desk);
  return { tenant, name, version: Number(form.get("version")) };
}

/** @throws {ApiError} 404 where the path names none, or none of the visitor's */
async function versionsIn(c: AppContext, desk: Desk): Promise<[CoreVersion, ...CoreVersion[]]> {
  const tenant = desk.tenantIn(c);
  const name = c.req.param("name") ?? "";
  const [first, ...rest] = await desk.admin.store.cores.versions(tenant, name);
  if (first === undefined) throw missing("core", `${tenant}/${name}`);
  return [first, ...rest];
}

function pathOf({ tenant, name }: Pick<CoreVersion, "tenant" | "name">): string {
  return `/console/cores/${encodeURIComponent(tenant)}/${encodeURIComponent(name)}`;
}

async function list(c: AppContext, desk: Desk) {
  const { cores } = desk.admin.store;
  const own = desk.scope(c);
  const { items, hasMore } = await readPage(c, (query) => cores.list(own, query), "asc");
  const loaded = desk.server.adapters.loaded(own);
  return (
    <Page frame={desk.frame(c)} title="Cores">
      <div class="head">
        <div>
          <h1>Cores</h1>
          <p class="lead">What requests may name besides the base</p>
        </div>
      </div>
      <Card title="By name">
        <Table
          caption="Cores"
          columns={["Model", "Serves", "Kind", "Digest", "Rank", "Size", "Made, UTC", "From"]}
          numbers={[4, 5]}
          rows={items.map((core) => [
            <a href={pathOf(core)}>{core.tenant}/{core.name}</a>,
            <Standing of={core} />,
            core.ranks === undefined ? "core" : "LoRA",
            <code>{shortDigest(core.digest)}</code>,
            String(core.rank),
            formatBytes(core.bytes),
            <time>{formatTime(core.createdAt)}</time>,
            core.source,
          ])}
          empty="There is no core yet: train one, or upload one to /v1/cores."
        />
        <More
          items={items.map(({ tenant, name }) => ({ id: `${tenant}/${name}` }))}
          hasMore={hasMore}
        />
      </Card>
      {loaded.length > 0 && (
        <Card title="Loaded from files">
          <p>
            Read from the directory of adapters when this server started; a core of the store under
            the same name goes before it.
          </p>
          <Table
            caption="Adapters of this server's directory"
            columns={["Model", "Digest", "Factors", "Loaded, UTC", "From"]}
            numbers={[]}
            rows={loaded.map(({ model, name, digest, factors, ranks, created, source }) => [
              <a href={`/console/playground?left=${encodeURIComponent(model)}`}>{name}</a>,
              <code>{shortDigest(digest)}</code>,
              factors === undefined
                ? `own (LoRA, rank ${rankOf(ranks ?? {})})`
                : <code>{shortDigest(factors)}</code>,
              <time>{formatTime(1000 * created)}</time>,
              own === undefined ? source : "a file of the server's",
            ])}
            empty="There is none."
          />
        </Card>
      )}
    </Page>
  );
}

/** What a core runs over; a LoRA brings its own. */
function Factors({ of: { factors } }: { readonly of: CoreVersion }) {
  return factors === undefined ? <>own (LoRA)</> : <code>{shortDigest(factors)}</code>;
}

/** The state of a name in the list of cores. */
function Standing({ of: core }: { readonly of: CoreVersion }) {
  if (core.state === "quarantined") return <Badge tone="bad">quarantined</Badge>;
  if (core.current) return <Badge tone="good">version {core.version}</Badge>;
  return <Badge tone="idle">nothing</Badge>;
}

async function show(c: AppContext, desk: Desk) {
  const versions = await versionsIn(c, desk);
  const [{ tenant, name }] = versions;
  const frame = desk.frame(c);
  const current = versions.find((version) => version.current);
  const before = versions.some(({ version, state }) =>
    current !== undefined && version < current.version && state === "stored"
  );
  return (
    <Page frame={frame} title={`${tenant}/${name}`}>
      <div class="head">
        <div>
          <p class="crumbs">
            <a href="/console/cores">Cores</a>
          </p>
          <h1>{tenant}/{name}</h1>
          <p class="lead">
            {current === undefined ? "stands for nothing" : `stands for version ${current.version}`}
          </p>
        </div>
        <div class="actions">
          <a class="button" href={`/console/playground?left=${tenant}/${name}`}>Try it</a>
          {before && (
            <Action
              frame={frame}
              action={`${pathOf({ tenant, name })}/rollback`}
              label="Roll back"
              tone="plain"
            />
          )}
        </div>
      </div>
      <Card title="Versions">
        <Versions frame={frame} versions={versions} />
      </Card>
    </Page>
  );
}

interface VersionsOptions {
  readonly frame: Frame;
  readonly versions: readonly CoreVersion[];
}

function Versions({ frame, versions }: VersionsOptions) {
  return (
    <Table
      caption="Versions, newest first"
      columns={["Version", "Digest", "Factors", "Rank", "Size", "Made, UTC", "From", "State", ""]}
      numbers={[3, 4]}
      rows={versions.map((core) => [
        String(core.version),
        <code>{shortDigest(core.digest)}</code>,
        <Factors of={core} />,
        String(core.rank),
        formatBytes(core.bytes),
        <time>{formatTime(core.createdAt)}</time>,
        core.source,
        <VersionState of={core} />,
        <VersionActions frame={frame} of={core} />,
      ])}
      empty="There is no version."
    />
  );
}

function VersionState({ of: core }: { readonly of: CoreVersion }) {
  if (core.state === "quarantined") return <Badge tone="bad">quarantined</Badge>;
  return core.current ? <Badge tone="good">published</Badge> : <Badge tone="idle">kept</Badge>;
}

function VersionActions({ frame, of: core }: { readonly frame: Frame; readonly of: CoreVersion }) {
  const about = `version ${core.version}`;
  const fields = { version: core.version };
  return (
    <div class="actions">
      {!core.current && core.state === "stored" && (
        <Action
          frame={frame}
          action={`${pathOf(core)}/publish`}
          label="Publish"
          about={about}
          fields={fields}
          tone="plain"
        />
      )}
      <Action
        frame={frame}
        action={`${pathOf(core)}/delete`}
        label="Delete"
        about={about}
        fields={fields}
        tone="danger"
        confirm={`Delete ${core.tenant}/${core.name}@${core.version}? It cannot be had back.`}
      />
    </div>
  );
}

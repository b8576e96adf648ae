/** The pieces that pages are made of: shell, tables, badges, forms. */
import type { JSX } from "hono/jsx/jsx-runtime";
import { raw } from "hono/html";
import type { Child, PropsWithChildren } from "hono/jsx";
import type { JobStatus } from "../../adapters/store/store.ts";
import { isAdministrator, type Principal } from "../access/access.ts";
import type { AssetPaths } from "./assets.ts";

/** What every page needs to be drawn. */
export interface Frame {
  readonly assets: AssetPaths;
  /** The base model's id. */
  readonly model: string;
  /** Undefined = nobody is signed in. */
  readonly principal: Principal | undefined;
  /** Whether there is a session to end: in open mode there is none. */
  readonly session: boolean;
  /** The token that forms carry, so that other sites cannot send them. */
  readonly formToken: string;
  /** The path that is shown. */
  readonly path: string;
  /** A notice, shown once after a change. */
  readonly notice: string | undefined;
}

const PAGES = [
  ["/console", "Overview"],
  ["/console/tenants", "Tenants"],
  ["/console/cores", "Cores"],
  ["/console/jobs", "Jobs"],
  ["/console/playground", "Playground"],
] as const;

export interface PageOptions {
  readonly frame: Frame;
  readonly title: string;
}

/** A whole document. */
export function Page({ frame, title, children }: PropsWithChildren<PageOptions>): JSX.Element {
  return (
    <>
      {raw("<!doctype html>")}
      <html lang="en">
        <head>
          <meta charset="utf-8" />
          <meta name="viewport" content="width=device-width, initial-scale=1" />
          <meta name="color-scheme" content="light dark" />
          <title>{title} · lembas</title>
          <link rel="icon" href={frame.assets.icon} type="image/svg+xml" />
          {frame.assets.styles.map((sheet) => <link rel="stylesheet" href={sheet} />)}
          <script src={frame.assets.script} defer></script>
        </head>
        <body>
          <a class="skip" href="#main">Skip to content</a>
          <Header frame={frame} />
          <main id="main" tabindex={-1}>
            {frame.notice !== undefined && <p class="notice" role="status">{frame.notice}</p>}
            {children}
          </main>
        </body>
      </html>
    </>
  );
}

function Header({ frame }: { readonly frame: Frame }) {
  const { principal } = frame;
  return (
    <header class="top">
      <a class="brand" href="/console">
        <img src={frame.assets.icon} alt="" width="22" height="22" />
        <span>lembas</span>
      </a>
      {principal !== undefined && <Navigation path={frame.path} principal={principal} />}
      {principal !== undefined && (
        <div class="who">
          <span class="chip" title="Whose data is shown">
            {isAdministrator(principal) ? "administrator" : principal.tenant}
          </span>
          {frame.session && (
            <form method="post" action="/console/sign-out">
              <FormToken frame={frame} />
              <button class="quiet" type="submit">Sign out</button>
            </form>
          )}
        </div>
      )}
    </header>
  );
}

function Navigation({ path, principal }: { readonly path: string; readonly principal: Principal }) {
  const isHere = (href: string) =>
    href === "/console" ? path === href : path === href || path.startsWith(`${href}/`);
  const name = (href: string, text: string) =>
    href === "/console/tenants" && !isAdministrator(principal) ? "Tenant" : text;
  return (
    <nav aria-label="Main">
      {PAGES.map(([href, text]) => (
        <a href={href} {...(isHere(href) ? { "aria-current": "page" } : {})}>{name(href, text)}</a>
      ))}
    </nav>
  );
}

/** The hidden field with the form's token. */
export function FormToken({ frame }: { readonly frame: Frame }): JSX.Element {
  return <input type="hidden" name="form_token" value={frame.formToken} />;
}

export interface ActionOptions {
  readonly frame: Frame;
  readonly action: string;
  readonly label: string;
  readonly fields?: Readonly<Record<string, string | number>>;
  readonly tone?: "plain" | "danger";
  /** A question that the browser asks before it sends the form. */
  readonly confirm?: string;
  /** What the button is about, read aloud where several buttons have one label. */
  readonly about?: string;
}

/** A button that changes something: a form of its own, so that it needs no script. */
export function Action(options: ActionOptions): JSX.Element {
  const { frame, action, label, fields = {}, tone = "plain", confirm, about } = options;
  return (
    <form class="action" method="post" action={action} data-confirm={confirm}>
      <FormToken frame={frame} />
      {Object.entries(fields).map(([name, value]) => (
        <input type="hidden" name={name} value={String(value)} />
      ))}
      <button
        class={tone}
        type="submit"
        {...(about === undefined ? {} : { "aria-label": `${label} ${about}` })}
      >
        {label}
      </button>
    </form>
  );
}

export interface TableOptions {
  readonly caption: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Child[])[];
  /** Shown where there are no rows. */
  readonly empty: string;
  /** Columns of numbers, by index. */
  readonly numbers?: readonly number[];
}

/** A table with a head; on a narrow screen it scrolls by itself. */
export function Table({ caption, columns, rows, empty, numbers = [] }: TableOptions): JSX.Element {
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  const kind = (index: number) => numbers.includes(index) ? "number" : undefined;
  return (
    <div class="scroll" tabindex={0} role="region" aria-label={caption}>
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>{columns.map((name, i) => <th scope="col" class={kind(i)}>{name}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((cells) => <tr>{cells.map((cell, i) => <td class={kind(i)}>{cell}</td>)}</tr>)}
        </tbody>
      </table>
    </div>
  );
}

/** A list of names and values. */
export function Facts(
  { facts }: { readonly facts: readonly (readonly [string, Child])[] },
): JSX.Element {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export type Tone = "good" | "busy" | "bad" | "idle";

export function Badge({ tone, children }: PropsWithChildren<{ readonly tone: Tone }>): JSX.Element {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export interface CardOptions {
  readonly title: string;
  readonly wide?: boolean;
}

export function Card(
  { title, wide = false, children }: PropsWithChildren<CardOptions>,
): JSX.Element {
  return (
    <section class={wide ? "card wide" : "card"}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

export interface FieldOptions {
  readonly label: string;
  readonly name: string;
  readonly hint?: string;
  readonly value?: string | number | undefined;
  readonly type?: "text" | "number" | "password" | "date";
  readonly required?: boolean;
  readonly pattern?: string;
  readonly step?: string;
  readonly min?: number;
}

export function Field({ label, name, hint, ...input }: FieldOptions): JSX.Element {
  const id = `field-${name}`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id}
        name={name}
        autocomplete="off"
        {...input}
        {...(hint === undefined ? {} : { "aria-describedby": `${id}-hint` })}
      />
      {hint !== undefined && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}

const TONES: Readonly<Record<JobStatus, Tone>> = {
  "validating_files": "idle",
  queued: "idle",
  running: "busy",
  paused: "idle",
  succeeded: "good",
  failed: "bad",
  cancelled: "idle",
};

/** A job's status in its colour. */
export function Status({ of: status }: { readonly of: JobStatus }): JSX.Element {
  return <Badge tone={TONES[status]}>{status.replaceAll("_", " ")}</Badge>;
}

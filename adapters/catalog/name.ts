/**
 * How names of cores are spelled. An adapter is `tenant/name@version`, where the version is a
 * number or the first digits of the core's digest. What a job made has an `ft:` name, as in
 * OpenAI's API.
 */
import { FieldError } from "../../src/util/errors.ts";

/** The tenant of a name without one. */
export const DEFAULT_TENANT = "default";

export interface AdapterName {
  /** Undefined where only the bare name was given. */
  readonly tenant: string | undefined;
  readonly name: string;
  readonly version: AdapterVersion;
}

export type AdapterVersion =
  | { readonly type: "latest" }
  | { readonly type: "number"; readonly number: number }
  /** At least 8 hex digits. */
  | { readonly type: "digest"; readonly prefix: string };

const PART = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

/**
 * Parses `name`, `tenant/name`, `name@version` or `tenant/name@version`.
 * @throws {FieldError} where a part is empty, longer than 64 characters, begins with a dot or
 *   a dash, or has other characters than letters, digits, dot, dash and underscore
 */
export function parseAdapterName(text: string): AdapterName {
  const [path = "", version, ...more] = text.split("@");
  const parts = path.split("/");
  const valid = more.length === 0 && parts.length <= 2 && parts.every((part) => PART.test(part));
  if (!valid) {
    throw new FieldError(
      "name",
      `Cannot use adapter name ${JSON.stringify(text.slice(0, 200))}: it is name, tenant/name or ` +
        `tenant/name@version, of letters, digits, '.', '-' and '_'`,
    );
  }
  const [tenant, name] = parts.length === 2 ? parts : [undefined, parts[0]];
  return { tenant, name: name ?? "", version: parseVersion(text, version) };
}

function parseVersion(text: string, version: string | undefined): AdapterVersion {
  if (version === undefined) return { type: "latest" };
  if (/^[1-9][0-9]{0,6}$/.test(version)) return { type: "number", number: Number(version) };
  if (/^[0-9a-f]{8,64}$/.test(version)) return { type: "digest", prefix: version };
  throw new FieldError(
    "name",
    `Cannot use adapter name ${JSON.stringify(text.slice(0, 200))}: a version is a number from 1 ` +
      `or at least 8 hex digits of the core's digest, current value is ${JSON.stringify(version)}`,
  );
}

/** The full name of one version. */
export function formatAdapterName(tenant: string, name: string, version: number): string {
  return `${tenant}/${name}@${version}`;
}

/**
 * What a tenant calls an adapter, by `tenant/name`: its own by the name that it gave it. An `ft:` name
 * stays as it is.
 */
export function nameFor(tenant: string, model: string): string {
  return model.startsWith(`${tenant}/`) ? model.slice(tenant.length + 1) : model;
}

/** `tenant/name@version` → `tenant/name`. */
export function withoutVersion(name: string): string {
  return name.startsWith(TUNED_PREFIX) ? name : name.split("@")[0] ?? name;
}

/** What the names of tuned models begin with; no adapter's name can. */
export const TUNED_PREFIX = "ft:";
const TAIL = 8;
const CHECKPOINT = /^(.*):ckpt-step-(\d{1,9})$/s;

/** What a job is called by. */
export interface NamedJob {
  readonly id: string;
  /** The base's name. */
  readonly model: string;
  readonly tenant: string;
  readonly suffix: string | null;
}

/** `ft:BASE:TENANT:SUFFIX:ID`; the suffix may be empty. */
export function tunedModelName(job: NamedJob): string {
  return `${TUNED_PREFIX}${job.model}:${job.tenant}:${job.suffix ?? ""}:${tailOf(job)}`;
}

/** The adapter's name within its tenant: the suffix, or where there is none the id. */
export function adapterNameOf(job: NamedJob): string {
  return job.suffix ?? tailOf(job);
}

/** `ft:BASE:TENANT:SUFFIX:ID:ckpt-step-N`. */
export function checkpointName(job: NamedJob, step: number): string {
  return `${tunedModelName(job)}:ckpt-step-${step}`;
}

/** What an `ft:` name says. */
export interface TunedName {
  /** The published model's name. */
  readonly model: string;
  readonly tenant: string;
  /** The end of the job's id. */
  readonly tail: string;
  /** Undefined = the published model itself. */
  readonly step: number | undefined;
}

/** Undefined for what is no such name. */
export function parseTunedName(name: string): TunedName | undefined {
  const checkpoint = CHECKPOINT.exec(name);
  const model = checkpoint?.[1] ?? name;
  const [tail = "", suffix, tenant = "", ...base] = model.split(":").reverse();
  const whole = suffix !== undefined && base.length >= 2 && model.startsWith(TUNED_PREFIX);
  if (!whole || tail.length !== TAIL || tenant === "") return undefined;
  return { model, tenant, tail, step: checkpoint ? Number(checkpoint[2]) : undefined };
}

function tailOf({ id }: NamedJob): string {
  return id.slice(-TAIL);
}

/** Names of what a job makes: OpenAI's `ft:` names and the adapter's own. It looks nothing up. */
import type { JobRecord } from "../../adapters/store/store.ts";

/** What the names of tuned models begin with; no adapter's name can. */
export const TUNED_PREFIX = "ft:";
const TAIL = 8;
const CHECKPOINT = /^(.*):ckpt-step-(\d{1,9})$/s;

type Named = Pick<JobRecord, "id" | "model" | "tenant" | "suffix">;

/** `ft:BASE:TENANT:SUFFIX:ID`; the suffix may be empty. */
export function tunedModelName(job: Named): string {
  return `${TUNED_PREFIX}${job.model}:${job.tenant}:${job.suffix ?? ""}:${tailOf(job)}`;
}

/** The adapter's name within its tenant: the suffix, or where there is none the id. */
export function adapterNameOf(job: Named): string {
  return job.suffix ?? tailOf(job);
}

/** `ft:BASE:TENANT:SUFFIX:ID:ckpt-step-N`. */
export function checkpointName(job: Named, step: number): string {
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

function tailOf({ id }: Named): string {
  return id.slice(-TAIL);
}

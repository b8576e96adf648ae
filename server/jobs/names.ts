/** Names of what a job makes: OpenAI's `ft:` names and the adapter's own. It looks nothing up. */
import type { JobRecord } from "../store/store.ts";

/** What the names of tuned models begin with; no adapter's name can. */
export const TUNED_PREFIX = "ft:";
const TAIL = 8;

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

function tailOf({ id }: Named): string {
  return id.slice(-TAIL);
}

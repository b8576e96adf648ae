/**
 * What is done with a batch that was taken: its file is validated, its lines run, and its end is
 * written. Every change of status but "cancelling" is here. Each step looks at the record anew, so a
 * process that takes a batch over goes on where the last one was.
 */
import { DamagedError, GoneError, QuotaError } from "../../adapters/store/errors.ts";
import {
  type BatchError,
  type BatchPatch,
  type BatchRecord,
  type BatchResult,
  type BatchStatus,
  isEnded,
  type Store,
  type TenantData,
} from "../../adapters/store/store.ts";
import type { Log } from "../telemetry/log.ts";
import { type HeldBatch, Interrupt } from "./held_batch.ts";
import { parseLine, readLines, validateLines } from "./input.ts";
import { type Answerer, unrunLine } from "./line_call.ts";
import { runLines, type Slots } from "./lines_run.ts";

export interface PhaseParts {
  readonly store: Pick<Store, "forTenant">;
  readonly log: Log;
  readonly answer: Answerer;
  readonly slots: Slots;
  /** The process ends: lines that run may end, no other begins. */
  readonly stop: AbortSignal;
  readonly onLine: (result: BatchResult) => void;
}

/** What becomes of a batch's item in the queue. */
export type Ending = "done" | "again" | "lost";

/** Why a line was not run, by the end that its batch came to. */
const UNRUN = {
  expired: {
    code: "batch_expired",
    message: "This request could not be executed before the completion window expired.",
  },
  cancelled: {
    code: "batch_cancelled",
    message: "The batch was cancelled before this request was executed.",
  },
} as const;

/** Does all there is to do. @throws what the store throws where it does not answer */
export async function workAt(held: HeldBatch, parts: PhaseParts): Promise<Ending> {
  const data = parts.store.forTenant(held.tenant);
  for (;;) {
    const batch = await data.batches.find(held.id);
    if (batch === undefined || isEnded(batch)) return "done";
    if (parts.stop.aborted) return "again";
    try {
      await step(batch, held, data, parts);
    } catch (error) {
      const reason: unknown = held.signal.aborted ? held.signal.reason : error;
      if (!(reason instanceof Interrupt)) throw error;
      if (reason.kind === "lost") return "lost";
      if (reason.kind === "gone") return "done";
      if (reason.kind === "stop") return "again";
    }
  }
}

async function step(
  batch: BatchRecord,
  held: HeldBatch,
  data: TenantData,
  parts: PhaseParts,
): Promise<void> {
  const over = batch.expiresAt <= Date.now();
  switch (batch.status) {
    case "validating":
      return over ? await end(batch, "expired", data, parts) : await validate(batch, held, data);
    case "in_progress":
      return over ? await end(batch, "expired", data, parts) : await run(batch, held, data, parts);
    case "finalizing":
      return await end(batch, "completed", data, parts);
    case "cancelling":
      return await end(batch, "cancelled", data, parts);
  }
}

async function validate(batch: BatchRecord, held: HeldBatch, data: TenantData): Promise<void> {
  const { id, inputFile, endpoint } = batch;
  const found = await readable(async () =>
    await validateLines(await data.files.open(inputFile), endpoint, held.signal)
  );
  const { total, model, errors } = "code" in found
    ? { total: 0, model: null, errors: [found] }
    : found;
  await data.batches.change(id, ({ status }) => {
    if (status !== "validating") return {};
    if (errors.length > 0) return { status: "failed", failedAt: Date.now(), errors, total: 0 };
    return { status: "in_progress", inProgressAt: Date.now(), total, model };
  });
}

async function run(
  batch: BatchRecord,
  held: HeldBatch,
  data: TenantData,
  parts: PhaseParts,
): Promise<void> {
  const timer = setTimeout(() => held.cut("expire"), batch.expiresAt - Date.now());
  try {
    const fault = await readable(async () => {
      const { answer, slots, stop, onLine } = parts;
      await runLines({ batch, data, answer, slots, stop, onLine, cut: held.signal });
    });
    if (fault !== undefined) return await fail(batch, fault, data, parts);
    await data.batches.change(
      batch.id,
      ({ status }) =>
        status === "in_progress" ? { status: "finalizing", finalizingAt: Date.now() } : {},
    );
  } finally {
    clearTimeout(timer);
  }
}

/** Where its file, or its quota, does not let it go on: what has run is kept. */
export async function fail(
  batch: BatchRecord,
  error: BatchError,
  data: TenantData,
  { log }: Pick<PhaseParts, "log">,
): Promise<void> {
  const errors = [...batch.errors, error];
  const patch = endPatch("failed", { errors });
  await data.batches.finish(batch.id, { patch });
  log.warning(`${batch.id} failed: ${error.message}`);
}

async function end(
  batch: BatchRecord,
  status: "completed" | "expired" | "cancelled",
  data: TenantData,
  { log }: PhaseParts,
): Promise<void> {
  const { id } = batch;
  const patch = endPatch(status);
  const more = status === "completed" ? undefined : unrunLines(batch, UNRUN[status], data);
  try {
    await data.batches.finish(id, { patch, ...(more && { more }) });
  } catch (error) {
    // their lines tell of nothing that has run: they are left out where there is no room for them
    if (more === undefined || faultOf(error) === undefined) throw error;
    await data.batches.finish(id, { patch });
  }
  log.info(`${id} ${status}`);
}

/** The change to an end, of a batch that has none yet. */
function endPatch(
  status: Extract<BatchStatus, "failed" | "completed" | "expired" | "cancelled">,
  more: BatchPatch = {},
): (batch: BatchRecord) => BatchPatch {
  return (batch) => {
    // another process was faster
    if (isEnded(batch)) throw new Interrupt("lost");
    return { ...more, status, [`${status}At`]: Date.now() };
  };
}

async function* unrunLines(
  { id, endpoint, inputFile, total }: BatchRecord,
  error: { readonly code: string; readonly message: string },
  { batches, files }: TenantData,
): AsyncGenerator<Uint8Array> {
  // what was not validated may be anything
  if (total === 0) return;
  const done = await batches.doneLines(id);
  for await (const raw of readLines(await files.open(inputFile))) {
    if (!done.has(raw.line)) yield unrunLine(parseLine(raw, endpoint).customId, error);
  }
}

/** Runs `work`; what is wrong with the tenant's own things is its result. */
async function readable<T>(work: () => Promise<T>): Promise<T | BatchError> {
  try {
    return await work();
  } catch (error) {
    const fault = faultOf(error);
    if (fault === undefined) throw error;
    return fault;
  }
}

function faultOf(error: unknown): BatchError | undefined {
  const place = { param: null, line: null };
  if (error instanceof QuotaError) {
    return { code: "storage_quota_exceeded", message: error.message, ...place };
  }
  if (error instanceof GoneError || error instanceof DamagedError) {
    return { code: "invalid_input_file", message: error.message, ...place };
  }
  return undefined;
}

/**
 * A job's state as one safetensors file, and back: parameters, the best ones, the moments of both,
 * and every count the state machine goes by.
 */
import { createHash } from "node:crypto";
import {
  float32Tensor,
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../checkpoint/formats/safetensors.ts";
import type { AdamState } from "./adamw.ts";
import type { EvaluatedStep, Evaluation, JobState, Moved } from "./job.ts";
import type { Example } from "./gradients/model.ts";

export const STATE_FORMAT = "lembas.training/1";

/**
 * What a state belongs to, by name: digests of data, base and factors, hyperparameters. A state is
 * only read back where each is the same.
 */
export type Identity = Readonly<Record<string, string>>;

/** The state's numbers that are no tensors. */
interface Counts {
  readonly step: number;
  readonly tokens: number;
  readonly base: Evaluation | null;
  readonly evaluatedAt: number;
  readonly evaluations: readonly EvaluatedStep[];
  readonly best: (EvaluatedStep & { readonly updates: number }) | null;
  readonly updates: number;
  readonly rollbacks: number;
  readonly stopped: string | null;
}

/** Equal states of equal jobs give equal bytes. */
export function writeState(state: JobState, identity: Identity): Uint8Array<ArrayBuffer> {
  const { best } = state;
  const counts: Counts = {
    step: state.step,
    tokens: state.tokens,
    base: state.base ?? null,
    evaluatedAt: state.evaluatedAt,
    evaluations: state.evaluations,
    best: best === undefined ? null : {
      step: best.step,
      evaluation: best.evaluation,
      updates: best.optimizer.updates,
    },
    updates: state.optimizer.updates,
    rollbacks: state.rollbacks,
    stopped: state.stopped ?? null,
  };
  return writeSafetensors(
    [
      ...tensorsOf("", state),
      ...(best === undefined ? [] : tensorsOf("best.", best)),
      ["losses", float64Tensor(state.losses)],
    ],
    [
      ["format", STATE_FORMAT],
      ["state", JSON.stringify(counts)],
      ["identity", JSON.stringify(Object.fromEntries(Object.entries(identity).sort()))],
    ],
  );
}

/**
 * @param count parameters of the job
 * @throws {TypeError} where the bytes are no such file, or belong to another job: the text names
 *   what differs, with both values.
 */
export function readState(bytes: Uint8Array, identity: Identity, count: number): JobState {
  const { metadata, tensors } = parseSafetensors(bytes);
  const format = metadata.get("format");
  if (format !== STATE_FORMAT) {
    throw new TypeError(
      `Cannot resume: the checkpoint's format is ${JSON.stringify(format)}, ` +
        `${STATE_FORMAT} is wanted`,
    );
  }
  checkIdentity(parseField(metadata, "identity"), identity);
  const counts: Counts = parseField(metadata, "state");
  const moved = (prefix: string, updates: number): Moved => ({
    parameters: readTensor(tensors, `${prefix}parameters`, count),
    optimizer: {
      first: readTensor(tensors, `${prefix}first`, count),
      second: readTensor(tensors, `${prefix}second`, count),
      updates,
    },
  });
  const { best } = counts;
  return {
    ...moved("", counts.updates),
    step: counts.step,
    tokens: counts.tokens,
    base: counts.base ?? undefined,
    evaluatedAt: counts.evaluatedAt,
    evaluations: counts.evaluations,
    best: best === null ? undefined : {
      ...moved("best.", best.updates),
      step: best.step,
      evaluation: best.evaluation,
    },
    losses: readLosses(tensors),
    rollbacks: counts.rollbacks,
    stopped: counts.stopped ?? undefined,
  };
}

/**
 * SHA-256 (hex) over the rows' tokens, weights and what a teacher says of them, in their order; lines
 * are only for people.
 */
export function dataDigest(...sets: readonly (readonly Example[])[]): string {
  const hash = createHash("sha256");
  for (const rows of sets) {
    hash.update(`${rows.length} rows\n`);
    for (const { tokens, weights, teaching } of rows) {
      hash.update(`${tokens.length}\n`).update(bytesOf(tokens)).update(bytesOf(weights));
      if (teaching === undefined) continue;
      hash.update(`by ${teaching.count}\n`).update(bytesOf(teaching.tokens));
      hash.update(bytesOf(teaching.shares));
    }
  }
  return hash.digest("hex");
}

function tensorsOf(
  prefix: string,
  { parameters, optimizer }: Moved,
): [string, SafetensorsTensor][] {
  const { first, second }: AdamState = optimizer;
  return Object.entries({ parameters, first, second })
    .map(([name, values]) => [`${prefix}${name}`, float32Tensor([values.length], values)]);
}

function float64Tensor(values: readonly number[]): SafetensorsTensor {
  return { dtype: "F64", shape: [values.length], data: bytesOf(Float64Array.from(values)) };
}

function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function readTensor(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  name: string,
  count: number,
): Float32Array {
  const tensor = tensors.get(name);
  if (tensor?.dtype !== "F32" || tensor.shape.join() !== String(count)) {
    throw new TypeError(
      `Cannot resume: the checkpoint's '${name}' is ${tensor?.dtype} [${tensor?.shape}], ` +
        `F32 [${count}] is wanted`,
    );
  }
  return new Float32Array(tensor.data.slice().buffer);
}

function readLosses(tensors: ReadonlyMap<string, SafetensorsTensor>): number[] {
  const tensor = tensors.get("losses");
  if (tensor?.dtype !== "F64") {
    throw new TypeError(`Cannot resume: the checkpoint's 'losses' is ${tensor?.dtype}, not F64`);
  }
  return Array.from(new Float64Array(tensor.data.slice().buffer));
}

/** Trusted beyond its being JSON: such a file is written by `writeState` alone. */
function parseField<T>(metadata: ReadonlyMap<string, string>, field: string): T {
  const text = metadata.get(field);
  if (text === undefined) {
    throw new TypeError(`Cannot resume: the checkpoint's metadata has no '${field}'`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TypeError(`Cannot resume: the checkpoint's '${field}' is not JSON`, { cause });
  }
}

function checkIdentity(theirs: Identity, ours: Identity): void {
  for (const name of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
    if (ours[name] === theirs[name]) continue;
    throw new TypeError(
      `Cannot resume: ${name} of the checkpoint is ${theirs[name] ?? "not said"}, ` +
        `of this job ${ours[name] ?? "not said"}`,
    );
  }
}

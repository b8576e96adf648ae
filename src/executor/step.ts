/** A step's binding: the compiled graph over some slots, and the small arrays that each run writes. */
import { inputs } from "../models/inputs.ts";
import type { Binding, Device, Session, Tensor } from "../runtime/device.ts";
import type { CoreView } from "./core_slots.ts";
import type { KvViews } from "./kv_cache.ts";
import type { PrefillRow } from "./model.ts";

/** Most bytes of a chunk's scores: attention holds one of each head, token and key at once. */
const SCORE_BYTES = 64 * 2 ** 20;
/** Fewest tokens of a chunk, however many are before it. */
const LEAST_CHUNK = 16;

/** A binding and the arrays that a step writes into. */
export interface Step {
  readonly binding: Binding;
  readonly ids: Int32Array;
  readonly lengths: Int32Array;
  readonly total: Int32Array;
  readonly rows: Int32Array;
  /** Disposes the binding and its own tensors. */
  readonly made: DisposableStack;
}

export interface StepShape {
  readonly first: number;
  readonly batch: number;
  readonly time: number;
  /** First row of this step in the logits buffer. */
  readonly logits: number;
}

/** What a step reads and writes besides its small arrays. */
export interface StepPlaces {
  readonly logits: Tensor;
  /** How many tokens' logits are wanted. */
  readonly rows: number;
  readonly caches: readonly KvViews[];
  readonly cores: readonly CoreView[];
  /** Inputs of another graph than the lane's own, by name. */
  readonly more?: Readonly<Record<string, Tensor>>;
}

/** Its logits go to row `logits` of the buffer and following. */
export function makeStep(
  { device, session, vocabSize }: {
    readonly device: Device;
    readonly session: Session;
    readonly vocabSize: number;
  },
  { batch, time, logits }: StepShape,
  { logits: buffer, rows, caches, cores, more = {} }: StepPlaces,
): Step {
  const arrays = {
    ids: new Int32Array(batch * time),
    lengths: new Int32Array(batch),
    total: new Int32Array(1),
    rows: new Int32Array(rows),
  };
  using made = new DisposableStack();
  const tensor: Device["tensor"] = (...args) => made.use(device.tensor(...args));
  const given: Record<string, Tensor> = {
    ...more,
    [inputs.ids]: tensor("int32", [batch * time], arrays.ids),
    [inputs.grid]: tensor("int64", [2], BigInt64Array.of(BigInt(batch), BigInt(time))),
    [inputs.lengths]: tensor("int32", [batch], arrays.lengths),
    [inputs.total]: tensor("int32", [1], arrays.total),
    [inputs.rows]: tensor("int32", [rows], arrays.rows),
  };
  const offset = logits * vocabSize;
  const out: Record<string, Tensor> = {
    [inputs.logits]: made.use(device.view(buffer, offset, [rows, vocabSize])),
  };
  caches.forEach(({ keys, values }, layer) => {
    given[inputs.keys(layer)] = out[`${inputs.keys(layer)}.out`] = keys;
    given[inputs.values(layer)] = out[`${inputs.values(layer)}.out`] = values;
  });
  for (const { layer, site, tensor } of cores) {
    given[inputs.cores(layer, site)] = tensor;
  }
  const binding = made.use(session.bind(given, out));
  return { ...arrays, binding, made: made.move() };
}

/** Writes the arrays of a step of one token a row, behind so many others in each. */
export function fillDecode(
  step: Step,
  tokens: ArrayLike<number>,
  lengths: ArrayLike<number>,
): void {
  let longest = 0;
  for (let i = 0; i < tokens.length; i++) {
    const length = lengths[i];
    step.ids[i] = tokens[i];
    step.lengths[i] = length;
    if (length > longest) longest = length;
  }
  step.total[0] = longest + 1;
}

/**
 * Groups the rows of a prefill into runs: consecutive slots without past that `agree` go together, a
 * row with past alone.
 */
export function runsOf(
  rows: readonly PrefillRow[],
  agree: (slot: number, other: number) => boolean,
): readonly { readonly first: number; readonly slots: number }[] {
  const runs: { first: number; slots: number }[] = [];
  rows.forEach((row, i) => {
    const before = rows[i - 1];
    const run = runs.at(-1);
    const joins = before !== undefined && before.slot + 1 === row.slot &&
      before.past === 0 && row.past === 0 && agree(before.slot, row.slot);
    if (joins && run !== undefined) run.slots++;
    else runs.push({ first: i, slots: 1 });
  });
  return runs;
}

/** Most tokens of a chunk that looks at so many keys by so many heads. */
export function mostTokens(heads: number, keys: number): number {
  const bytesPerToken = heads * keys * Float32Array.BYTES_PER_ELEMENT;
  return Math.max(LEAST_CHUNK, Math.floor(SCORE_BYTES / bytesPerToken));
}

/**
 * What `--dtype auto` stands for: a choice by the file's own weight types and by how many rows run
 * at once. Blocks of 4 bits are fewer bytes to read, which decides while one row runs; W8A8 computes
 * faster, which decides from two rows on, unless its bytes would crowd the memory.
 */
import type { Checkpoint, WeightType } from "../checkpoint/checkpoint.ts";
import { numbersOf } from "../checkpoint/expected_weights.ts";
import type { ServingDtype } from "./plan/serving_plan.ts";

/** What people ask for. */
export type DtypeChoice = ServingDtype | "auto";

/** The share of the machine's memory that int8 weights may take where the file has 4 bits. */
const MOST_MEMORY = 1 / 4;

/**
 * The dtype to serve; what is not `auto` stays.
 * @param memory the machine's, in bytes
 */
export function chooseDtype(
  choice: DtypeChoice,
  { weights }: Pick<Checkpoint, "weights">,
  maxBatch: number,
  memory = Deno.systemMemoryInfo().total,
): ServingDtype {
  if (choice !== "auto") return choice;
  const [most] = linearTypes(weights);
  if (most === undefined || !FOUR_BITS.has(most)) return "int8";
  // A number is a byte in int8.
  return maxBatch === 1 || numbersOf(weights) > MOST_MEMORY * memory ? "file" : "int8";
}

/**
 * The same for a device with memory of its own, where a step waits for its weights: the file's own
 * blocks where most of it is in blocks that kernels read as they are, else 8 bits in blocks.
 */
export function deviceDtype(
  choice: DtypeChoice,
  { weights }: Pick<Checkpoint, "weights">,
): ServingDtype {
  if (choice !== "auto") return choice;
  const [most] = linearTypes(weights);
  return most !== undefined && OWN_BLOCKS.has(most) ? "file" : "int8";
}

/** Kernels hold 5 bits in 8, which int8's larger blocks do in fewer bytes. */
const FOUR_BITS: ReadonlySet<WeightType> = new Set(["Q4_0", "Q4_1", "Q4_K", "AWQ", "GPTQ"]);
const OWN_BLOCKS: ReadonlySet<WeightType> = new Set([...FOUR_BITS, "Q8_0"]);

/** The types of all matrices but the embedding, those with most numbers first. */
export function linearTypes(weights: Checkpoint["weights"]): WeightType[] {
  const counts = new Map<WeightType, number>();
  for (const name of weights.names()) {
    const { shape: [rows = 0, columns = 0], type } = weights.info(name);
    if (name === "model.embed_tokens.weight" || columns === 0) continue;
    counts.set(type, (counts.get(type) ?? 0) + rows * columns);
  }
  return [...counts].sort(([, a], [, b]) => b - a).map(([type]) => type);
}

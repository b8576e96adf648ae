/**
 * What `--dtype auto` stands for: a choice by the file's own weight types and by how many rows run
 * at once. Blocks of 4 bits are fewer bytes to read, which decides while one row runs; W8A8 computes
 * faster, which decides from two rows on, unless its bytes would crowd the memory.
 */
import type { Checkpoint, WeightType } from "../checkpoint/checkpoint.ts";
import { numbersOf } from "../checkpoint/expected_weights.ts";
import type { ServingDtype } from "./base.ts";

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
 * The same for a device that is not the CPU: its kernels are those of float32 so far.
 * @throws {RangeError} naming what works
 */
export function deviceDtype(device: string, choice: string): "fp32" {
  if (choice === "auto" || choice === "fp32") return "fp32";
  throw new RangeError(
    `Cannot serve ${choice} on ${device}: it computes in float32 alone so far, ` +
      "pass --dtype fp32 (or auto)",
  );
}

/** Kernels hold 5 bits in 8, which int8's larger blocks do in fewer bytes. */
const FOUR_BITS: ReadonlySet<WeightType> = new Set(["Q4_0", "Q4_1", "Q4_K", "AWQ", "GPTQ"]);

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

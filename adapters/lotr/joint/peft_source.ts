/** PEFT directories as LoRAs to be compressed together. */
import {
  CONFIG_FILE,
  type PeftLinear,
  peftLinears,
  readPeftDirectory,
  WEIGHTS_FILE,
} from "../../lora/peft_files.ts";
import { decode } from "../format.ts";
import { dense, scaled, transpose } from "../linalg.ts";
import { checkFinite } from "../stack.ts";
import type { LoraSource, Slice } from "./stacked.ts";

/** Whether a directory holds a PEFT adapter. */
export async function isPeftDirectory(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(`${path}/${CONFIG_FILE}`)).isFile;
  } catch {
    return false;
  }
}

/** The LoRA of a PEFT directory, read anew each time. */
export async function loraSource(name: string, path: string): Promise<LoraSource> {
  return {
    name,
    bytes: await sizeOf(`${path}/${WEIGHTS_FILE}`),
    read: async () => {
      try {
        return peftLinears(await readPeftDirectory(path)).map(sliceOf);
      } catch (error) {
        throw new TypeError(`${path}: ${error instanceof Error ? error.message : error}`);
      }
    },
  };
}

/** 0 where there is none: what is wrong is told by reading it. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch {
    return 0;
  }
}

/** PEFT's ΔW = scale · B·A, transposed: p = A, q = scale · Bᵀ. */
function sliceOf({ layer, module, rank, scale, a, b }: PeftLinear): Slice {
  const name = `${module} of layer ${layer}`;
  const [, inputs = 0] = a.shape;
  const [outputs = 0] = b.shape;
  const values = (half: "A" | "B", tensor: PeftLinear["a"]) => {
    const decoded = decode(`${name}, lora_${half}`, tensor);
    checkFinite(`${name}, lora_${half}`, decoded);
    return decoded;
  };
  return {
    layer,
    module,
    p: dense(rank, inputs, values("A", a)),
    q: scaled(transpose(dense(outputs, rank, values("B", b))), scale),
  };
}

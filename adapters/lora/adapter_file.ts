/** What the file of an adapter holds, whichever kind it is: a core, or a LoRA as it is. */
import type { LoraRanks } from "../../src/models/lora.ts";
import type { Core } from "../lotr/core.ts";
import { readCore } from "../lotr/format.ts";
import { isLoraFile, type LoraContent, readLora } from "./lora_file.ts";

export type AdapterContent = Core | LoraContent;

/**
 * Reads a core file or a LoRA file.
 * @throws {RangeError | TypeError} naming what is wrong
 */
export function readAdapter(bytes: Uint8Array): AdapterContent {
  return isLoraFile(bytes) ? readLora(bytes) : readCore(bytes);
}

export function isLora(content: AdapterContent): content is LoraContent {
  return "linears" in content;
}

/** What lists and leases know of an adapter without its numbers. */
export interface AdapterKind {
  /** SHA-256 of a core's factor set, hex; undefined for a LoRA. */
  readonly factors: string | undefined;
  /** Of a LoRA. */
  readonly ranks: LoraRanks | undefined;
}

export function kindOf(content: AdapterContent): AdapterKind {
  return isLora(content)
    ? { factors: undefined, ranks: content.ranks }
    : { factors: content.factors, ranks: undefined };
}

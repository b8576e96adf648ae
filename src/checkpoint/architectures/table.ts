/**
 * The architectures that a decoder can be built for, by the names that files have for them: `model_type`
 * of a `config.json`, `general.architecture` of a GGUF.
 */
import type { Architecture } from "./architecture.ts";
import { GEMMA2 } from "./gemma2.ts";
import { GEMMA3 } from "./gemma3.ts";
import { GLM4 } from "./glm4.ts";
import { GRANITE } from "./granite.ts";
import { LLAMA } from "./llama.ts";
import { MISTRAL } from "./mistral.ts";
import { OLMO2 } from "./olmo2.ts";
import { PHI3 } from "./phi3.ts";
import { QWEN2 } from "./qwen2.ts";
import { QWEN3 } from "./qwen3.ts";

import { SMOLLM3 } from "./smollm3.ts";

type Names = ReadonlyMap<string, Architecture>;

/** By `model_type`. */
export const SAFETENSORS: Names = new Map([
  ["llama", LLAMA],
  ["mistral", MISTRAL],
  ["qwen2", QWEN2],
  ["qwen3", QWEN3],
  ["gemma2", GEMMA2],
  ["gemma3_text", GEMMA3],
  ["glm4", GLM4],
  ["granite", GRANITE],
  ["olmo2", OLMO2],
  ["phi3", PHI3],
  ["smollm3", SMOLLM3],
]);

/** By `general.architecture`. */
export const GGUF: Names = new Map([
  ["llama", LLAMA],
  ["mistral", MISTRAL],
  ["qwen2", QWEN2],
  ["qwen3", QWEN3],
  ["gemma2", GEMMA2],
  ["gemma3", GEMMA3],
  ["glm4", GLM4],
  ["granite", GRANITE],
  ["olmo2", OLMO2],
  ["phi3", PHI3],
  ["smollm3", SMOLLM3],
]);

/** @throws {TypeError} naming the architecture and those that are supported */
export function knownArchitecture(names: Names, name: string): Architecture {
  const known = names.get(name);
  if (known !== undefined) return known;
  throw new TypeError(
    `Cannot load architecture '${name}': supported are ${[...names.keys()].join(", ")}`,
  );
}

// deno-lint-ignore-file camelcase -- fields of PEFT's config
/** LoRAs with Gaussian elements, as files and as PEFT directories, for tests. */
import { writeLora } from "../../../adapters/lora/lora_file.ts";
import type { PeftLinear } from "../../../adapters/lora/peft_files.ts";
import { type Stack, weightName } from "../../../adapters/lotr/stack.ts";
import { float32Tensor, writeSafetensors } from "../../../src/checkpoint/formats/safetensors.ts";
import { type ModuleName, SITE_OF } from "../../../src/models/hook.ts";
import { gaussian } from "../../../src/util/random.ts";

export interface SmallLora {
  readonly rank?: number;
  readonly modules?: readonly ModuleName[];
}

export function smallLinears(stack: Stack, seed: number, options: SmallLora = {}): PeftLinear[] {
  const { rank = 4, modules = ["q_proj", "v_proj"] } = options;
  return Array.from({ length: stack.layers }, (_, layer) =>
    modules.map((module, place) => {
      const matrix = (rows: number, columns: number, half: number) => {
        const values = gaussian(seed, 10 * (layer * 8 + place) + half, rows * columns);
        return float32Tensor([rows, columns], Float32Array.from(values, (value) => 0.2 * value));
      };
      const a = matrix(rank, stack.inputs[SITE_OF[module]], 0);
      const b = matrix(stack.outputs[module], rank, 1);
      return { layer, module, rank, scale: 1, a, b };
    })).flat();
}

/** A LoRA file of a seed; another seed, another digest. */
export function smallLora(
  stack: Stack,
  seed: number,
  options?: SmallLora,
): Uint8Array<ArrayBuffer> {
  return writeLora(smallLinears(stack, seed, options), stack);
}

/** The same as PEFT has it. */
export async function writePeft(
  path: string,
  stack: Stack,
  seed: number,
  options: SmallLora = {},
): Promise<void> {
  const { rank = 4, modules = ["q_proj", "v_proj"] } = options;
  const tensors = smallLinears(stack, seed, options).flatMap(({ layer, module, a, b }) => {
    const key = `base_model.model.${weightName(layer, module).replace(".weight", "")}`;
    return [[`${key}.lora_A.weight`, a], [`${key}.lora_B.weight`, b]] as const;
  });
  const config = { peft_type: "LORA", r: rank, lora_alpha: rank, target_modules: modules };
  await Deno.mkdir(path, { recursive: true });
  await Deno.writeTextFile(`${path}/adapter_config.json`, JSON.stringify(config));
  await Deno.writeFile(`${path}/adapter_model.safetensors`, writeSafetensors(tensors));
}

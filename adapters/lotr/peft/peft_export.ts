/**
 * A core as a rank-k PEFT LoRA: `lora_A = Aᵀ`, `lora_B = s·(G·B)ᵀ`, exact but for the rounding to
 * float32.
 */
import {
  float32Tensor,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import type { ModuleName } from "../../../src/models/hook.ts";
import type { Core } from "../core.ts";
import { factorsAt, type FactorSet } from "../factors.ts";
import { type Dense, dense, firstColumns, multiply, scaled, transpose } from "../linalg.ts";
import type { PeftFiles } from "../../lora/peft_files.ts";
import { weightName } from "../stack.ts";

export interface PeftExportOptions {
  /** `base_model_name_or_path`: what PEFT users load the base by. */
  readonly baseModel: string;
}

/**
 * @returns `adapter_config.json` (to be written as JSON) and `adapter_model.safetensors`
 * @throws {TypeError} where the core is not made for these factors
 */
export function exportPeft(
  core: Core,
  factors: FactorSet,
  { baseModel }: PeftExportOptions,
): PeftFiles {
  core.checkFactors(factors);
  const tensors: [string, SafetensorsTensor][] = [];
  core.modules.forEach((module, at) => {
    const { a, b } = truncated(factors, module, core.rank);
    for (let layer = 0; layer < core.layers; layer++) {
      const g = dense(core.rank, core.rank, core.matrix(layer, at));
      const prefix = `base_model.model.${weightName(layer, module).replace(/\.weight$/, "")}`;
      tensors.push([`${prefix}.lora_A.weight`, toTensor(transpose(a))]);
      tensors.push([
        `${prefix}.lora_B.weight`,
        toTensor(transpose(scaled(multiply(g, b), core.scale))),
      ]);
    }
  });
  const weights = writeSafetensors(tensors, [["format", "pt"]]);
  return { config: configOf(core, baseModel), weights };
}

/** A's first k columns and B's first k rows, for a core of rank k. */
export function truncated(
  factors: FactorSet,
  module: ModuleName,
  k: number,
): { readonly a: Dense; readonly b: Dense } {
  const { rank } = factors;
  const { a, b } = factorsAt(factors, module);
  const width = b.length / rank;
  return {
    a: firstColumns(dense(a.length / rank, rank, a), k),
    b: dense(k, width, b.subarray(0, k * width)),
  };
}

function toTensor({ rows, columns, data }: Dense): SafetensorsTensor {
  return float32Tensor([rows, columns], Float32Array.from(data));
}

/** The fields of PEFT 0.21's LoraConfig; s is inside lora_B, so lora_alpha = r. */
function configOf(core: Core, baseModel: string): Record<string, unknown> {
  return {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    revision: null,
    inference_mode: true,
    r: core.rank,
    lora_alpha: core.rank,
    lora_dropout: 0,
    target_modules: core.modules,
    exclude_modules: null,
    bias: "none",
    fan_in_fan_out: false,
    use_rslora: false,
    use_dora: false,
    modules_to_save: null,
    init_lora_weights: true,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: {},
    alpha_pattern: {},
  };
}

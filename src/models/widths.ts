/** How wide a decoder's linears are, and which of them a hook adapts. */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { type LinearHook, type ModuleName, SITE_OF, type SiteName } from "./hook.ts";

/** What decides the widths of a layer's linears. */
export type LayerWidths = Pick<
  DecoderConfig,
  "hiddenSize" | "intermediateSize" | "numHeads" | "numKvHeads" | "headDim"
>;

/** What a hook means for the shapes of a graph. */
export type HookShape = Pick<LinearHook, "rank" | "modules">;

/** The adapted modules of a site, in the order in which a core holds them. */
export function modulesOf(hook: HookShape, site: SiteName): ModuleName[] {
  return hook.modules.filter((module) => SITE_OF[module] === site);
}

/** Outputs of a module. */
export function outputsOf(config: LayerWidths, module: ModuleName): number {
  switch (module) {
    case "q_proj":
      return config.numHeads * config.headDim;
    case "k_proj":
    case "v_proj":
      return config.numKvHeads * config.headDim;
    case "gate_proj":
    case "up_proj":
      return config.intermediateSize;
    case "o_proj":
    case "down_proj":
      return config.hiddenSize;
  }
}

/** Inputs of a site. */
export function inputsOf(config: LayerWidths, site: SiteName): number {
  switch (site) {
    case "attn_in":
    case "mlp_in":
      return config.hiddenSize;
    case "attn_out":
      return config.numHeads * config.headDim;
    case "mlp_mid":
      return config.intermediateSize;
  }
}

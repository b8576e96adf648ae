/** Names of a decoder graph's inputs, that whoever runs it binds. */
import type { ModuleName, SiteName } from "./hook.ts";

export const inputs = {
  ids: "ids",
  grid: "grid",
  lengths: "lengths",
  total: "total",
  rows: "rows",
  keys: (layer: number) => `keys.${layer}`,
  values: (layer: number) => `values.${layer}`,
  cores: (layer: number, site: SiteName) => `cores.${layer}.${site}`,
  /** Of LoRAs: a layer's pieces, and where each site's tokens lie among them. */
  loraA: (layer: number, module: ModuleName) => `lora.${layer}.${module}.a`,
  loraB: (layer: number, module: ModuleName) => `lora.${layer}.${module}.b`,
  loraCells: (site: SiteName) => `lora.${site}.cells`,
  loraPlaces: (site: SiteName) => `lora.${site}.places`,
  logits: "logits",
  /** Of one layer alone: what it reads, what it puts out, and what its sites read. */
  hidden: "hidden",
  hiddenOut: "0.out",
  site: (site: SiteName) => `0.${site}`,
  /** Of training: prefixes that rows share (`SharedContext` in `graph/ops.ts`). */
  context: "context",
  offsets: "offsets",
  /** Where tokens lie on the grid (`Layout` in `graph/ops.ts`). */
  cells: "cells",
  places: "places",
  /** What each of `rows` should predict, and how much it counts. */
  targets: "targets",
  /** A teacher's likeliest tokens at each of `rows`, and their shares with the rest's. */
  taught: "taught",
  shares: "shares",
  seeds: "seeds",
} as const;

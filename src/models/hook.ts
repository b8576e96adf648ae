// deno-lint-ignore-file camelcase -- the linears carry Hugging Face's names
/**
 * The seam at which an adapter joins a model's linears: names of the seven linears of a decoder
 * layer, the inputs (sites) they share, and what a model asks of a factor set. `adapters/lotr`
 * supplies the factors.
 */

/** The linears of a decoder layer, by Hugging Face's names. */
export const MODULES = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;
export type ModuleName = typeof MODULES[number];

/** The inputs that linears read: q, k and v share one, gate and up another. */
export const SITES = ["attn_in", "attn_out", "mlp_in", "mlp_mid"] as const;
export type SiteName = typeof SITES[number];

export const SITE_OF: Readonly<Record<ModuleName, SiteName>> = {
  q_proj: "attn_in",
  k_proj: "attn_in",
  v_proj: "attn_in",
  o_proj: "attn_out",
  gate_proj: "mlp_in",
  up_proj: "mlp_in",
  down_proj: "mlp_mid",
};

/**
 * Shared factors as a model sees them (LoTR, arXiv 2402.01376): the branch of module m in layer l
 * is `x · A[site(m)] · G_l,m · B[m]`, G per row of the batch with the scale folded in.
 */
export interface LinearHook {
  /** Digest of the factor set: the lane's name. */
  readonly digest: string;
  readonly rank: number;
  /** Adapted linears in the order in which a core stores them (a subset of MODULES, in that order). */
  readonly modules: readonly ModuleName[];
  /** A of a site, row major [d_in, rank], orthonormal columns or not. */
  a(site: SiteName): Float32Array;
  /** B of a module, row major [rank, d_out]. */
  b(module: ModuleName): Float32Array;
}

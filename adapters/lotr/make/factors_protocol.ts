/** The messages between the factors' thread and whoever waits for it. It knows no mathematics. */
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import type { Settled } from "./assemble.ts";
import type { MakerProgress } from "./gradient_factors.ts";

export interface FactorsOrder {
  readonly settled: Settled;
  readonly gradients: readonly LinearMatrix[];
}

export type FactorsReply =
  | { readonly type: "progress"; readonly progress: MakerProgress }
  | {
    readonly type: "done";
    /** A factor file. */
    readonly bytes: Uint8Array;
    readonly shares: ReadonlyMap<string, number>;
  }
  | { readonly type: "failed"; readonly error: unknown };

/** A request to an encoder's engine, and what the engine keeps of it while it is under way. */
import type { Framed } from "../../checkpoint/encoder/frame.ts";
import type { Account } from "../policy/accounts.ts";
import type { CoreLease, ServedCore, TenantStanding } from "../request/request.ts";

export interface EmbedRequest {
  readonly id: string;
  readonly tenant: string;
  readonly standing: TenantStanding | undefined;
  readonly adapter: ServedCore | undefined;
  readonly texts: readonly Framed[];
  readonly background: boolean;
  readonly signal: AbortSignal;
}

/** A request that is under way. */
export interface Embedding {
  readonly request: EmbedRequest;
  readonly account: Account;
  readonly vectors: Float32Array[];
  /** Texts without a vector. */
  left: number;
  lease: CoreLease | undefined;
  readonly settled: PromiseWithResolvers<readonly Float32Array[]>;
}

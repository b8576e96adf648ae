/** A request to an encoder's engine, and what the engine keeps of it while it is under way. */
import type { Framed } from "../../checkpoint/encoder/frame.ts";
import type { Account } from "../policy/accounts.ts";
import type { FinishedObservation } from "../metrics.ts";
import type { CoreLease, FinishReason, ServedCore, TenantStanding } from "../request/request.ts";

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
  /** Of `performance.now()`. */
  readonly arrived: number;
  /** When a pass first took a text of it; undefined before. */
  admitted: number | undefined;
  readonly settled: PromiseWithResolvers<readonly Float32Array[]>;
}

/** What a request tells when it has ended: no token comes of it, so latencies of tokens are left out. */
export function observationOf(
  { request, arrived, admitted }: Embedding,
  reason: FinishReason,
): FinishedObservation {
  const seconds = (at: number) => (at - arrived) / 1000;
  return {
    ...{ requestId: request.id, index: 0, tenant: request.tenant, samples: 1, reason },
    adapter: request.adapter?.name,
    promptTokens: request.texts.reduce((sum, { ids }) => sum + ids.length, 0),
    ...{ cachedTokens: 0, generationTokens: 0, preemptions: 0, maxTokens: undefined },
    endToEnd: seconds(performance.now()),
    queued: admitted === undefined ? undefined : seconds(admitted),
    ...{ firstToken: undefined, lastToken: undefined },
  };
}

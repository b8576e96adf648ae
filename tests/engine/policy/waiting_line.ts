/** A queue, its ledger and sequences to put into it and into lanes, for tests of the policy alone. */
import { type Account, EQUAL_STANDING, Ledger } from "../../../src/engine/policy/accounts.ts";
import { WaitingQueue } from "../../../src/engine/policy/queue.ts";
import type { PrefillView } from "../../../src/engine/policy/scheduler.ts";
import { GenerationStream, TokenTexts } from "../../../src/engine/request/output.ts";
import { kvBytes } from "../../../src/executor/kv_cache.ts";
import type { TenantStanding } from "../../../src/engine/request/request.ts";
import { Lane, Sequence } from "../../../src/engine/sequence.ts";
import { fakeModel, request, tokenizer } from "../harness.ts";

const texts = new TokenTexts(tokenizer);
const BYTES_PER_TOKEN = 10;

export interface Wanted {
  readonly tenant?: string;
  readonly priority?: number;
  readonly standing?: Partial<TenantStanding>;
}

export function newLane(maxBatch = 4, prefillTokens = 64): Lane {
  const model = { maxBatch, prefillTokens, kvBytesPerToken: BYTES_PER_TOKEN };
  return new Lane(undefined, { slots: maxBatch, bytes: 0 }).open(fakeModel(model));
}

/** One engine's waiting, without the engine. */
export class Line {
  readonly ledger = new Ledger();
  readonly queue = new WaitingQueue(this.ledger);

  /** A sequence of so many prompt tokens that waits in the queue. */
  waiting(lane: Lane, length: number, wanted: Wanted = {}): Sequence {
    const sequence = this.#sequence(lane, length, wanted);
    sequence.enter("waiting");
    this.queue.add(sequence);
    return sequence;
  }

  /** A sequence with all but its newest token computed, in a slot of the lane. */
  running(lane: Lane, length: number, wanted: Wanted = {}): Sequence {
    const sequence = this.partial(lane, length, wanted);
    sequence.computed = length - 1;
    sequence.reserved = kvBytes(sequence.computed, BYTES_PER_TOKEN);
    sequence.enter("running");
    return sequence;
  }

  /** A sequence that is in a slot of the lane with nothing computed yet. */
  partial(lane: Lane, length: number, wanted: Wanted = {}): Sequence {
    const sequence = this.#sequence(lane, length, wanted);
    sequence.enter("waiting");
    sequence.enter("prefill");
    lane.admit(sequence);
    sequence.reserved = kvBytes(length, BYTES_PER_TOKEN);
    return sequence;
  }

  account(tenant: string, standing: Partial<TenantStanding> = {}): Account {
    return this.ledger.account(tenant, { ...EQUAL_STANDING, ...standing }, 0);
  }

  view(lane: Lane, more: Partial<PrefillView> = {}): PrefillView {
    return {
      lane,
      waiting: this.queue,
      admitted: lane.rows,
      freeBytes: 1e6,
      heavy: new Set(),
      background: "free",
      hit: () => 0,
      ...more,
    };
  }

  /** All that waits, in turn. */
  order(): Sequence[] {
    return [...this.queue.inOrder({ share: () => 0, closed: () => false })];
  }

  #sequence(lane: Lane, length: number, wanted: Wanted): Sequence {
    const { tenant = "t", priority = 0, standing } = wanted;
    const account = this.account(tenant, standing);
    account.live++;
    const group = {
      request: request({ tenant, priority, prompt: new Array<number>(length).fill(65) }),
      account,
      stream: new GenerationStream({
        promptTokens: length,
        onLeave: () => {},
        times: () => ({
          ...{ arrived: 0, admitted: undefined, firstToken: undefined, lastToken: undefined },
        }),
      }),
      sequences: [],
      seed: 1,
      maxLength: 256,
      vocabSize: 64,
      arrivedAt: 0,
      texts,
      eosTokens: new Set<number>(),
    };
    return new Sequence(group, { index: 0, arrival: this.queue.nextArrival(), lane });
  }
}

/**
 * Who gets into a full queue, over random traces: whoever is turned away costs nobody anything, and
 * whoever gets in displaces no more than had to go.
 */
import { setImmediate } from "node:timers";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EQUAL_STANDING } from "../../../src/engine/policy/accounts.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import type { GenerationRequest } from "../../../src/engine/request/request.ts";
import { type Harness, harness, read, request, seeded } from "../harness.ts";

/** A request that was taken in, and what became of it. */
interface Taken {
  readonly asked: GenerationRequest;
  failure: unknown;
}

/** Requests of an engine whose model has not ended its first run yet. */
class Arrivals {
  readonly #own: Harness;
  readonly #taken: Taken[] = [];
  readonly #reading: Promise<void>[] = [];

  constructor(own: Harness) {
    this.#own = own;
  }

  get waiting(): number {
    const { waiting, loading } = this.#own.engine.stats();
    return waiting + loading;
  }

  /** Sends a request; whether it was taken in, and which others failed for it. */
  async send(asked: GenerationRequest): Promise<{ taken: boolean; failed: readonly Taken[] }> {
    const before = this.#taken.filter(({ failure }) => failure === undefined);
    const taken = this.#generate(asked);
    await new Promise<void>((resolve) => void setImmediate(resolve));
    return { taken, failed: before.filter(({ failure }) => failure !== undefined) };
  }

  async ended(): Promise<void> {
    await Promise.all(this.#reading);
  }

  #generate(asked: GenerationRequest): boolean {
    try {
      const generation = this.#own.engine.generate(asked);
      const one: Taken = { asked, failure: undefined };
      this.#taken.push(one);
      this.#reading.push(read(generation).then(() => {}, (error) => void (one.failure = error)));
      return true;
    } catch (error) {
      assert(error instanceof OverloadedError);
      return false;
    }
  }
}

const MAX_QUEUE = 12;

/** Requests of four tenants, one of which asks most, and few of which want many samples. */
function randomRequest(random: () => number, loud: number): GenerationRequest {
  const number = random() < 0.5 ? loud : Math.floor(random() * 4);
  return request({
    tenant: `tenant-${number}`,
    standing: { ...EQUAL_STANDING, weight: [1, 1, 2, 4][number] ?? 1 },
    n: random() < 0.8 ? 1 : 2 + Math.floor(random() * 6),
    prompt: "abc".repeat(1 + Math.floor(random() * 40)),
    priority: Math.floor(random() * 3),
    maxTokens: 2,
  });
}

interface Seen {
  refused: number;
  displaced: number;
  several: number;
}

async function checkNewcomer(
  arrivals: Arrivals,
  asked: GenerationRequest,
  seen: Seen,
): Promise<void> {
  const waited = arrivals.waiting;
  const { taken, failed } = await arrivals.send(asked);
  if (!taken) {
    seen.refused++;
    assertEquals(failed.length, 0, `refused, and ${failed.length} others failed for nothing`);
    assertEquals(arrivals.waiting, waited);
    return;
  }
  assert(arrivals.waiting <= MAX_QUEUE, `${arrivals.waiting} wait`);
  const excess = waited + asked.n - MAX_QUEUE;
  const freed = failed.map(({ asked }) => asked.n);
  const all = freed.reduce((sum, n) => sum + n, 0);
  assert(failed.length === 0 || all - Math.min(...freed) < excess, "one gave way for nothing");
  assert(failed.every((other) => other.asked.tenant !== asked.tenant), "it displaced its own");
  if (failed.length > 0) seen.displaced++;
  if (failed.length > 1) seen.several++;
}

/** An engine whose first run does not end until all have come. */
async function episode(random: () => number, seen: Seen): Promise<void> {
  const gate = Promise.withResolvers<void>();
  const model = { maxBatch: 2, onRun: () => gate.promise };
  await using own = harness({ maxQueue: MAX_QUEUE, model });
  using _opened = { [Symbol.dispose]: gate.resolve };
  const arrivals = new Arrivals(own);
  const loud = Math.floor(random() * 4);
  for (let i = 0; i < 40; i++) {
    await checkNewcomer(arrivals, randomRequest(random, loud), seen);
    own.engine.checkIntegrity();
  }
  gate.resolve();
  await arrivals.ended();
}

for (const seed of [1, 2, 3]) {
  Deno.test(`trace ${seed}: a full queue displaces for a newcomer that gets in, and only then`, async () => {
    const random = seeded(seed);
    const seen = { refused: 0, displaced: 0, several: 0 };
    for (let i = 0; i < 20; i++) await episode(random, seen);
    for (const [what, times] of Object.entries(seen)) assert(times > 0, `nothing was ${what}`);
  });
}

Deno.test("requests that come together get in together, or none does and nobody gives way", async () => {
  const gate = Promise.withResolvers<void>();
  const model = { maxBatch: 1, onRun: () => gate.promise };
  await using own = harness({ maxQueue: 6, model });
  using _opened = { [Symbol.dispose]: gate.resolve };
  const flood = Array.from({ length: 6 }, () => own.engine.generate(request({ tenant: "flood" })));
  const asked = [1, 2, 3, 4].map(() => request({ tenant: "guest", maxTokens: 2 }));
  assertThrows(() => own.engine.generateAll(asked), OverloadedError, "6 of 6 wait");
  assertEquals(own.engine.stats().finished.error, 0);
  const guests = own.engine.generateAll(asked.slice(0, 3)).map(read);
  assertEquals(own.engine.stats().finished.error, 3);
  gate.resolve();
  await Promise.allSettled([...flood.map(read), ...guests]);
  assertEquals(own.engine.stats().finished.length, 3 + 3);
});

/** Lanes that come when they are asked for and go when others need their memory, on fake models. */
import { setImmediate } from "node:timers";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { LaneSource, OpenedLane } from "../../src/engine/lane_pool.ts";
import { FieldRangeError } from "../../src/util/errors.ts";
import { adapter } from "../fakes/adapters.ts";
import { FakeAdapters } from "../fakes/adapters.ts";
import {
  alone,
  fakeModel,
  harness,
  type HarnessOptions,
  read,
  readOne,
  request,
} from "./harness.ts";
import { seeded } from "./harness.ts";

const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

/** Lanes of one byte each over fake models; it knows every set whose name begins with "set-". */
class FakeLanes implements LaneSource {
  readonly opened: string[] = [];
  readonly closed: string[] = [];
  most = 0;
  #open = 0;

  constructor(readonly opening: (factors: string) => void | Promise<void> = turn) {}

  bytes(factors: string): number | undefined {
    return factors.startsWith("set-") ? factors === "set-wide" ? 100 : 1 : undefined;
  }

  async open(factors: string): Promise<OpenedLane> {
    await this.opening(factors);
    this.opened.push(factors);
    this.most = Math.max(this.most, ++this.#open);
    const close = () => {
      this.closed.push(factors);
      this.#open--;
      return Promise.resolve();
    };
    return { model: fakeModel(), close };
  }
}

function lanes(laneSource: FakeLanes, options: HarnessOptions = {}) {
  return harness({ laneSource, laneMemory: 2, ...options });
}

const ask = (set: number, options = {}) =>
  request({ adapter: adapter(`a/x@1`, `set-${set}`), maxTokens: 12, ...options });

Deno.test("factor sets one after the other under a bound of two lanes say what they say alone", async () => {
  const source = new FakeLanes();
  await using own = lanes(source);
  const expected = await alone(request({ adapter: adapter("a/x@1"), maxTokens: 12 }));
  for (const set of [1, 2, 3, 4, 1, 4]) {
    assertEquals(await read(own.engine.generate(ask(set))), expected);
    own.engine.checkIntegrity();
  }
  assertEquals(source.opened, ["set-1", "set-2", "set-3", "set-4", "set-1"]);
  assertEquals(source.closed, ["set-1", "set-2", "set-3"]);
  assertEquals(own.engine.stats().lanes, { loaded: 3, bytes: 2, loads: 5, evictions: 3 });
});

Deno.test("a lane is opened once for all who ask, and the least recently asked for goes first", async () => {
  const source = new FakeLanes();
  await using own = lanes(source);
  await Promise.all(Array.from({ length: 6 }, () => read(own.engine.generate(ask(1)))));
  await read(own.engine.generate(ask(2)));
  await read(own.engine.generate(ask(1)));
  await read(own.engine.generate(ask(3)));
  assertEquals(source.opened, ["set-1", "set-2", "set-3"]);
  assertEquals(source.closed, ["set-2"]);
});

Deno.test("a lane in use stays; who waits for its memory gets it when its last sequence has ended", async () => {
  const source = new FakeLanes();
  await using own = lanes(source, { laneMemory: 1 });
  const ended: string[] = [];
  const run = async (name: string, set: number, maxTokens: number) => {
    const sample = await readOne(own.engine.generate(ask(set, { maxTokens, ignoreEos: true })));
    ended.push(name);
    assertEquals(sample.tokens.length, maxTokens);
  };
  const first = run("first", 1, 40);
  await turn();
  const running = [first, run("same", 1, 30), run("other", 2, 2)];
  await turn();
  // it comes after the other set's, in a lane of its own
  running.push(run("late", 1, 2));
  await Promise.all(running);
  assertEquals(ended, ["same", "first", "other", "late"]);
  assertEquals(source.opened, ["set-1", "set-2", "set-1"]);
  assertEquals(source.most, 1);
});

Deno.test("a set that is always in use does not keep another one out", async () => {
  const source = new FakeLanes();
  await using own = lanes(source, { laneMemory: 1 });
  let waited = 0;
  let stop = false;
  const busy = async () => {
    while (!stop) await read(own.engine.generate(ask(1))).then(() => waited++);
  };
  const crowd = [busy(), busy(), busy()];
  for (let i = 0; i < 5; i++) await turn();
  waited = 0;
  await read(own.engine.generate(ask(2)));
  stop = true;
  assert(waited < 10, `${waited} of the busy set's requests went before it`);
  await Promise.all(crowd);
});

Deno.test("a request that waits for a lane can be cancelled, and leaves nothing behind", async () => {
  const { promise: go, resolve: release } = Promise.withResolvers<void>();
  const source = new FakeLanes((factors) => factors === "set-1" ? go : undefined);
  await using own = lanes(source);
  const [slow, queued] = [new AbortController(), new AbortController()];
  const first = readOne(own.engine.generate(ask(1, { signal: slow.signal })));
  const second = readOne(own.engine.generate(ask(2, { signal: queued.signal })));
  const third = readOne(own.engine.generate(ask(3)));
  await turn();
  for (const control of [slow, queued]) control.abort();
  assertEquals((await Promise.all([first, second])).map((s) => s.finishReason), ["abort", "abort"]);
  release();
  assertEquals((await third).finishReason, "length");
  // nobody waits for the second any more: it is not opened
  assertEquals(source.opened, ["set-1", "set-3"]);
  assertEquals(own.adapters.held, 0);
  own.engine.checkIntegrity();
});

Deno.test("a lane that cannot be opened fails its requests only, and the next one tries again", async () => {
  let broken = true;
  const source = new FakeLanes((factors) => {
    if (factors === "set-1" && broken) throw new Error("no memory for set-1");
  });
  await using own = lanes(source);
  const base = readOne(own.engine.generate(request()));
  const failing = [1, 1].map((set) =>
    assertRejects(() => read(own.engine.generate(ask(set))), Error, "no memory for set-1")
  );
  const other = readOne(own.engine.generate(ask(2)));
  await Promise.all(failing);
  assertEquals((await base).finishReason, "length");
  assertEquals((await other).finishReason, "length");
  broken = false;
  assertEquals((await readOne(own.engine.generate(ask(1)))).finishReason, "length");
  assertEquals(own.engine.stats().lanes.loaded, 3);
});

Deno.test("a set that is unknown, or larger than lane memory, is refused by name", async () => {
  await using own = lanes(new FakeLanes());
  const unknown = request({ adapter: adapter("a/x@1", "elsewhere") });
  assertThrows(() => own.engine.generate(unknown), TypeError, "factor set is elsewhere");
  const wide = request({ adapter: adapter("a/x@1", "set-wide") });
  assertThrows(() => own.engine.generate(wide), FieldRangeError, "100 bytes, lane memory is 2.");
});

Deno.test("closing ends who waits for a lane, and waits for the one being opened", async () => {
  const { promise: go, resolve: release } = Promise.withResolvers<void>();
  const source = new FakeLanes(() => go);
  const own = lanes(source);
  const waiting = readOne(own.engine.generate(ask(1)));
  await turn();
  const closing = own.engine.close();
  assertEquals((await waiting).finishReason, "abort");
  release();
  await closing;
  assertEquals(source.opened, ["set-1"]);
});

Deno.test("a seeded trace over six sets and two lanes: invariants after each run, texts as alone", async () => {
  const random = seeded(7);
  const source = new FakeLanes(async () => {
    for (let i = random() * 4; i > 0; i--) await turn();
    if (random() < 0.05) throw new Error("stumbled");
  });
  const adapters = new FakeAdapters({ cold: () => random() < 0.3 ? 2 : undefined });
  await using own = lanes(source, { adapters, kvMemory: 3000 });
  const expected = await alone(request({ adapter: adapter("a/x@1"), maxTokens: 12 }));
  const base = await alone(request({ maxTokens: 12 }));
  let [told, failed] = [0, 0];
  const running: Promise<void>[] = [];
  for (let id = 0; id < 400; id++) {
    const control = new AbortController();
    const { signal } = control;
    const set = Math.floor(random() * 7);
    const asked = set === 0 ? request({ maxTokens: 12, signal }) : ask(set, { signal });
    const cancelled = random() < 0.15;
    running.push(
      read(own.engine.generate(asked)).then((samples) => {
        if (cancelled && samples[0]?.finishReason === "abort") return;
        assertEquals(samples, set === 0 ? base : expected);
        told++;
      }, (error) => {
        assertEquals(error.message, "stumbled");
        failed++;
      }),
    );
    if (cancelled) void turn().then(turn).then(() => control.abort());
    for (let i = random() * 8; i > 0; i--) await turn();
  }
  await Promise.all(running);
  own.engine.checkIntegrity();
  assert(told > 250 && failed > 0, `${told} told, ${failed} failed`);
  assert(own.engine.stats().lanes.evictions > 20);
  assertEquals([adapters.held, source.most <= 2], [0, true]);
});

/**
 * Lanes of factor sets on the real executor: more sets than lane memory holds, one after the other
 * and all at once, say what each says alone; and what a lane took is given back.
 */
import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import { BaseLanes } from "../../../adapters/catalog/factor_sets.ts";
import { CoreCache } from "../../../adapters/catalog/cache.ts";
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import { AdapterRegistry } from "../../../adapters/catalog/registry.ts";
import { stackOf } from "../../../adapters/lotr/stack.ts";
import type { GenerationRequest, ServedCore } from "../../../src/engine/request/request.ts";
import type { Executor } from "../../../src/executor/executor.ts";
import { Engine } from "../../../src/engine/engine.ts";
import { readOne, request } from "../../engine/harness.ts";
import { randomCore, randomPrompt, Tiny } from "../../engine/tiny.ts";

const SETS = 5;

/** An engine over the base and a core of each of some factor sets. */
class Rig implements AsyncDisposable {
  readonly sets: readonly FactorSet[];
  readonly refs: readonly ServedCore[];
  readonly laneBytes: number;
  readonly engine: Engine;
  readonly registry: AdapterRegistry;

  private constructor(
    readonly tiny: Tiny,
    lanes: number,
    first: Executor,
    prefixMemory: number | undefined,
  ) {
    const { checkpoint, digest, base } = tiny;
    this.sets = Array.from({ length: SETS }, (_, i) => tiny.factors(8, ["q_proj", "v_proj"], i));
    this.laneBytes = base.laneBytes(this.sets[0]);
    const registry = new AdapterRegistry({ stack: stackOf(digest, checkpoint.config) });
    this.registry = registry;
    this.refs = this.sets.map((set, i) => {
      registry.factors.add(set);
      const core = randomCore(set, 50 + i, 1.5);
      return registry.add(`t/core-${i}`, { core, source: "memory" });
    });
    this.engine = new Engine({
      lanes: [{ factors: undefined, model: first, bytes: base.laneBytes() }],
      laneSource: new BaseLanes(base, registry.factors),
      laneMemory: lanes * this.laneBytes,
      adapters: new CoreCache({ loader: registry, maxBytes: 1 << 24 }),
      tokenizer: checkpoint.tokenizer,
      eosTokenIds: checkpoint.config.eosTokenIds,
      kvMemory: 2000 * first.kvBytesPerToken,
      ...(prefixMemory === undefined ? {} : { prefixMemory }),
      listener: { step: () => this.engine.checkIntegrity() },
    });
  }

  static async open(lanes: number, prefixMemory?: number): Promise<Rig> {
    const tiny = await Tiny.open("llama");
    return new Rig(tiny, lanes, await tiny.base.lane(), prefixMemory);
  }

  ask(set: number | undefined, options: { signal?: AbortSignal } = {}): GenerationRequest {
    const adapter = set === undefined ? undefined : this.refs[set];
    return {
      ...request({ adapter, maxTokens: 12, ignoreEos: true, ...options }),
      prompt: randomPrompt(20, 3),
    };
  }

  async tokens(set: number | undefined): Promise<readonly number[]> {
    return (await readOne(this.engine.generate(this.ask(set)))).tokens;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine.close();
    this.tiny[Symbol.dispose]();
  }
}

/** What each set's core says, and the base, with lanes for all. */
async function alone(): Promise<readonly (readonly number[])[]> {
  await using rig = await Rig.open(SETS);
  const said: (readonly number[])[] = [];
  for (let set = 0; set < SETS; set++) said.push(await rig.tokens(set));
  assertEquals(rig.engine.stats().lanes.evictions, 0);
  assertEquals(new Set(said.map(String)).size, SETS, "each core says something else");
  return [...said, await rig.tokens(undefined)];
}

Deno.test("more factor sets than lanes say what they say alone, one by one and all at once", async () => {
  const said = await alone();
  await using rig = await Rig.open(2);
  const sets = Array.from({ length: SETS }, (_, set) => set);
  for (const set of [...sets, ...sets]) assertEquals(await rig.tokens(set), said[set], `${set}`);
  const crowd = [...sets, ...sets, ...sets, undefined, undefined];
  const told = await Promise.all(crowd.map((set) => rig.tokens(set)));
  for (const [i, set] of crowd.entries()) assertEquals(told[i], said[set ?? SETS], `${set}`);
  const { loaded, bytes, evictions } = rig.engine.stats().lanes;
  assertEquals([loaded, bytes], [3, 2 * rig.laneBytes + rig.tiny.base.laneBytes()]);
  assertGreater(evictions, 2 * SETS - 3);
  rig.engine.checkIntegrity();
});

Deno.test("lanes that come and go leave no native object behind", async () => {
  // without prefixes, so that each request takes the same runs
  await using rig = await Rig.open(1, 0);
  const rounds = async (sets: readonly number[]) => {
    for (const set of sets) await rig.tokens(set);
    return rig.tiny.device.liveObjects;
  };
  const before = await rounds([0, 1, 2]);
  assertEquals(await rounds([0, 1, 2, 3, 0, 4, 2]), before);
});

Deno.test("a lane that cannot be made fails its requests; memory and the next request are as before", async () => {
  await using rig = await Rig.open(2);
  const { device } = rig.tiny;
  const said = await rig.tokens(1);
  const { session } = device;
  let made = 0;
  device.session = (model, options) => {
    const first = ++made === 1;
    return first ? Promise.reject(new Error("no memory")) : session.call(device, model, options);
  };
  const before = device.liveObjects;
  await Promise.all([
    ...[0, 0].map((set) => assertRejects(() => rig.tokens(set), Error, "no memory")),
    rig.tokens(1).then((tokens) => assertEquals(tokens, said)),
  ]);
  assertEquals(device.liveObjects, before);
  device.session = session;
  assertEquals((await rig.tokens(0)).length, 12);
  assertEquals(rig.engine.stats().lanes.loaded, 3);
});

Deno.test("a request that waits for a lane is cancelled at once, while another one uses the memory", async () => {
  await using rig = await Rig.open(1);
  const control = new AbortController();
  const running = rig.tokens(0);
  const waiting = readOne(rig.engine.generate(rig.ask(1, { signal: control.signal })));
  control.abort();
  assertEquals((await waiting).finishReason, "abort");
  assertEquals((await running).length, 12);
  assert(rig.engine.stats().lanes.loads <= 1);
});

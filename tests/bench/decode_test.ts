/**
 * The decode bench's turns and figures, on contestants whose times are known, and its lane on the
 * engine's model without weights, which refuses calls that break the contract.
 */
import { assertEquals } from "@std/assert";
import {
  compareDecode,
  comparePrefill,
  type Contestant,
  describePhase,
  LaneContestant,
  phaseOf,
} from "../../bench/decode.ts";
import { FakeModel, type FakeRun } from "../fakes/model.ts";

function clockwork(label: string, ms: number, calls: string[]): Contestant {
  return {
    label,
    decode: (batch, steps) => {
      calls.push(`${label} ${batch}`);
      return Promise.resolve(new Array<number>(steps).fill(ms));
    },
    prefill: (batch, length) => {
      calls.push(`${label} ${batch}×${length}`);
      return Promise.resolve(ms);
    },
  };
}

Deno.test("contestants take turns, every other round in the opposite order", async () => {
  const calls: string[] = [];
  const two = [clockwork("a", 10, calls), clockwork("b", 20, calls)];
  const phase = await compareDecode(two, 4, 3, { rounds: 2, references: ["b"] });
  assertEquals(calls, ["a 4", "b 4", "b 4", "a 4"]);
  assertEquals(phase.figures.map(({ tokensPerSecond }) => tokensPerSecond.median), [400, 200]);
  assertEquals(phase.figures.map(({ ratios }) => ratios), [{ b: 2 }, {}]);
});

Deno.test("a contestant sits out the batches it does not take", async () => {
  const calls: string[] = [];
  const two = [{ ...clockwork("single", 10, calls), maxBatch: 1 }, clockwork("any", 20, calls)];
  for (const batch of [1, 2]) await compareDecode(two, batch, 1, { rounds: 1, references: [] });
  assertEquals(calls, ["single 1", "any 1", "any 2"]);
});

Deno.test("a prefill's speed counts all its tokens", async () => {
  const phase = await comparePrefill([clockwork("a", 100, [])], 16, 64, 2, {
    rounds: 1,
    references: [],
  });
  assertEquals(phase.name, "prefill, 16 of 64");
  assertEquals(phase.figures[0]?.tokensPerSecond, { median: 10240, min: 10240, max: 10240 });
});

Deno.test("a ratio is the median of the rounds' own ratios", () => {
  const labels = [{ label: "own" }, { label: "peer" }];
  const { figures } = phaseOf("x", labels, [[10, 20, 30], [20, 10, 60]], 1, ["peer", "absent"]);
  assertEquals(figures[0]?.ratios, { peer: 2 });
});

Deno.test("a lane fills its slots in runs the model takes, decodes and gives them back", async () => {
  const runs: FakeRun[] = [];
  const model = new FakeModel({
    vocabSize: 64,
    maxBatch: 4,
    maxContext: 80,
    prefillTokens: 128,
    onRun: (run) => void runs.push(run),
  });
  const core = { digest: "c", data: Float32Array.of(1) };
  const lane = new LaneContestant("lane", model, (row) => row === 0 ? undefined : core);
  const times = await lane.decode(3, 5);
  const prefills = runs.flatMap((run) => run.kind === "prefill" ? [run.rows.length] : []);
  const decodes = runs.flatMap((run) => run.kind === "decode" ? [run.tokens.length] : []);
  assertEquals([prefills, decodes], [[2, 1], [3, 3, 3, 3, 3]]);
  assertEquals(times.length, 5);
  await lane.prefill(4, 16);
  assertEquals(runs.at(-1)?.kind, "prefill");
});

Deno.test("a phase is told in a line for each contestant", () => {
  const { figures } = phaseOf("p", [{ label: "a" }, { label: "bb" }], [[5], [10]], 10, ["bb"]);
  assertEquals(
    describePhase({ name: "p", figures }),
    "p\n  a   2000 tok/s (2000–2000) 5 ms  2.00× bb\n  bb  1000 tok/s (1000–1000) 10 ms",
  );
});

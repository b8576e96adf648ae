/** Training states as files: exact round trips, and the refusal of what belongs elsewhere. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { dataDigest, readState, writeState } from "../../src/train/checkpoint.ts";
import type { JobState } from "../../src/train/job.ts";
import { fakeExamples } from "../fakes/gradient_model.ts";
import { answer, byHand, PARAMETERS, planOf, runAlone } from "./fake_plan.ts";

const IDENTITY = { "the data": "d1", "the base": "b1", "the rank": "4" };

/** States of a job before, at and after evaluations and rollbacks. */
function someStates(): JobState[] {
  const run = byHand(planOf({ epochs: 9 }));
  answer(run, 2.5);
  const states = [run.state];
  for (const loss of [2, 1, NaN, 0.1 + 0.2, 1, 1 / 3, 1, 1.7, NaN, 1]) {
    answer(run, loss, 0.1 * states.length);
    states.push(run.state);
  }
  while (run.kind !== "none") answer(run, NaN);
  return [...states, run.state];
}

Deno.test("a state is read back to the last bit", () => {
  const states = someStates();
  assert(states.some(({ best, rollbacks, losses }) => best && rollbacks && losses.includes(NaN)));
  assert(states.at(-1)?.stopped !== undefined);
  for (const state of states) {
    assertEquals(readState(writeState(state, IDENTITY), IDENTITY, PARAMETERS), state);
  }
});

Deno.test("equal states give equal bytes, whatever the order of the identity", () => {
  const [state] = someStates();
  const turned = Object.fromEntries(Object.entries(IDENTITY).reverse());
  assertEquals(writeState(state, turned), writeState(state, IDENTITY));
});

Deno.test("a job goes on from a file as from memory", async () => {
  const plan = planOf({ epochs: 3 });
  const files: Uint8Array[] = [];
  const onState = (state: JobState) =>
    Promise.resolve(void files.push(writeState(state, IDENTITY)));
  const { state: end } = await runAlone(plan, { onState, stateEvery: 5 });
  for (const bytes of files) {
    const from = readState(bytes, IDENTITY, PARAMETERS);
    assertEquals((await runAlone(plan, { from })).state, end);
  }
});

Deno.test("a checkpoint of another job is refused with what differs, both ways", () => {
  const bytes = writeState(someStates()[0], IDENTITY);
  const refuse = (identity: Record<string, string>, text: string) =>
    assertThrows(() => readState(bytes, identity, PARAMETERS), TypeError, text);
  refuse({ ...IDENTITY, "the data": "d2" }, "the data of the checkpoint is d1, of this job d2");
  refuse({ ...IDENTITY, "the rank": "8" }, "the rank of the checkpoint is 4, of this job 8");
  refuse({ ...IDENTITY, "the seed": "1" }, "the seed of the checkpoint is not said");
  const { "the base": _, ...fewer } = IDENTITY;
  refuse(fewer, "the base of the checkpoint is b1, of this job not said");
});

Deno.test("a file that is cut, garbled or of another kind is refused", () => {
  const bytes = writeState(someStates()[0], IDENTITY);
  const read = (changed: Uint8Array) => readState(changed, IDENTITY, PARAMETERS);
  for (const length of [0, 7, 100, bytes.length - 1]) {
    assertThrows(() => read(bytes.subarray(0, length)), TypeError);
  }
  const garbled = bytes.slice();
  garbled[20] ^= 0xff;
  assertThrows(() => read(garbled), TypeError);
  assertThrows(() => readState(bytes, IDENTITY, PARAMETERS - 1), TypeError, "[63] is wanted");
  const other = new TextDecoder("latin1").decode(bytes).replace(
    "lembas.training/1",
    "lembas.tra_ning/1",
  );
  assertThrows(
    () => read(Uint8Array.from(other, (letter) => letter.charCodeAt(0))),
    TypeError,
    "lembas.training/1 is wanted",
  );
});

Deno.test("the digest of data sees tokens, weights, order and which set, but not lines", () => {
  const rows = fakeExamples(3);
  const digest = dataDigest(rows, []);
  assertEquals(dataDigest(rows.map((row) => ({ ...row, line: 99 })), []), digest);
  const [first, ...rest] = rows;
  const others = [
    dataDigest(rest, [first]),
    dataDigest([...rest, first], []),
    dataDigest([{ ...first, weights: first.weights.map((w) => w / 2) }, ...rest], []),
    dataDigest([{ ...first, tokens: first.tokens.map((t) => t + 1) }, ...rest], []),
  ];
  for (const other of others) assertNotEquals(other, digest);
});

/** Calls by kind: those of one kind overlap, kinds never do, and the process is as each wants it. */
import { assertEquals, assertRejects } from "@std/assert";
import { Turns } from "../../../src/runtime/onnx/call_queue.ts";

/** Turns that write down what begins and ends. */
function logged() {
  const log: string[] = [];
  const turns = new Turns<string>((kind) => {
    log.push(`enter ${kind}`);
    return () => void log.push(`leave ${kind}`);
  });
  const call = (kind: string, name: string, end: Promise<void>) =>
    turns.run(kind, async () => {
      log.push(`${name} begins`);
      await end;
      log.push(`${name} ends`);
      return name;
    });
  return { log, turns, call };
}

Deno.test("calls of one kind run side by side, another kind's when they have ended", async () => {
  const { log, call } = logged();
  const [one, two] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const first = call("a", "1", one.promise);
  const second = call("a", "2", two.promise);
  const third = call("b", "3", Promise.resolve());
  two.resolve();
  assertEquals(await second, "2");
  one.resolve();
  assertEquals(await Promise.all([first, third]), ["1", "3"]);
  assertEquals(log.slice(0, -1), [
    ...["enter a", "1 begins", "2 begins", "2 ends", "1 ends", "leave a"],
    ...["enter b", "3 begins", "3 ends"],
  ]);
});

Deno.test("a call joins those of its kind that still run, but not past another kind that waits", async () => {
  const { log, call } = logged();
  const end = Promise.withResolvers<void>();
  const first = call("a", "1", end.promise);
  await Promise.resolve();
  const joined = call("a", "2", Promise.resolve());
  const other = call("b", "3", Promise.resolve());
  const later = call("a", "4", Promise.resolve());
  end.resolve();
  await Promise.all([first, joined, other, later]);
  const begun = log.filter((line) => line.endsWith("begins") || line.startsWith("enter"));
  assertEquals(begun, [
    ...["enter a", "1 begins", "2 begins", "enter b", "3 begins", "enter a", "4 begins"],
  ]);
});

Deno.test("a call that fails rejects alone, and its kind is left all the same", async () => {
  const { log, turns, call } = logged();
  const failing = turns.run("a", () => Promise.reject(new TypeError("no")));
  const other = call("a", "1", Promise.resolve());
  await assertRejects(() => failing, TypeError, "no");
  assertEquals(await other, "1");
  assertEquals(await call("b", "2", Promise.resolve()), "2");
  assertEquals(log.includes("leave a"), true);
});

Deno.test("a kind that cannot be entered rejects its calls, and stops no other kind", async () => {
  const turns = new Turns<string>((kind) => {
    if (kind === "a") throw new TypeError("not allowed");
    return () => {};
  });
  const refused = turns.run("a", () => Promise.resolve(1));
  const other = turns.run("b", () => Promise.resolve(2));
  await assertRejects(() => refused, TypeError, "not allowed");
  assertEquals(await other, 2);
});

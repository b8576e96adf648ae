/** Which server takes a request. */
import { assertEquals } from "@std/assert";
import { Placement } from "../../../server/front/placement.ts";

/** A placement over so many servers, all of them up. */
function placementOf(servers: number): Placement {
  const placement = new Placement(servers);
  for (let server = 0; server < servers; server++) placement.set(server, true);
  return placement;
}

Deno.test("requests go to the server with the fewest, and end once", () => {
  const placement = placementOf(3);
  const taken = [1, 2, 3, 4].map(() => placement.take(undefined));
  assertEquals(taken.map((one) => one?.server), [0, 1, 2, 0]);
  taken[1]?.end();
  taken[1]?.end();
  assertEquals([1, 2].map(() => placement.take(undefined)?.server), [1, 1]);
});

Deno.test("a beginning goes where it was, until that server has many more than another", () => {
  const placement = placementOf(2);
  assertEquals(placement.take("other")?.server, 0);
  assertEquals(placement.take("mine")?.server, 1);
  const again = Array.from({ length: 9 }, () => placement.take("mine")?.server);
  assertEquals(again, new Array<number>(9).fill(1));
  assertEquals(placement.take("mine")?.server, 0, "10 against 1");
  assertEquals(placement.take("mine")?.server, 0, "it is there now");
});

Deno.test("nothing goes to a server that is down, and what it held is forgotten", () => {
  const placement = placementOf(2);
  placement.take("first")?.end();
  assertEquals(placement.take("mine")?.server, 0);
  placement.set(0, false);
  assertEquals(placement.take("mine")?.server, 1);
  placement.set(1, false);
  assertEquals(placement.take("mine"), undefined);
  placement.set(0, true);
  placement.set(1, true);
  const loaded = placement.take(undefined);
  assertEquals([loaded?.server, placement.take("mine")?.server], [0, 1]);
});

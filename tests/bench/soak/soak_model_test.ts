/**
 * The soak itself on the default base, short: no wrong answer, and books that balance at the end.
 * What memory does over thousands of requests, only the whole soak shows.
 */
import { assert, assertEquals } from "@std/assert";
import { LONG } from "../../long.ts";

Deno.test({
  name: "a short soak ends with every answer right and the server's books in order",
  ignore: Deno.build.os !== "linux" || !LONG,
  fn: async () => {
    // under ten times --from: memory still grows with what such a server keeps
    const requests = 390;
    const main = new URL("../../../bench/main.ts", import.meta.url).pathname;
    const sizes = ["--clients", "16", "--every", "20", "--from", "40", "--sets", "2"];
    const args = ["run", "-A", main, "soak", "--requests", String(requests), ...sizes];
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
    assert(success, new TextDecoder().decode(stderr));
    const { figures } = JSON.parse(
      new TextDecoder().decode(stdout).trim().split("\n").at(-1) ?? "",
    );
    assert(figures.tally.requests >= requests);
    assertEquals([figures.tally.wrong, figures.serverErrors], [0, 0]);
    assertEquals([figures.verdict.code, figures.verdict.integrity], [0, true]);
    assert(figures.readings.every(({ resident }: { resident: number }) => resident > 100));
  },
});

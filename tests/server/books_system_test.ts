/** What a server says of its engine's books, when it stops and, to those who debug, when it idles. */
import { assertEquals } from "@std/assert";
import { BALANCED, Books } from "../../server/books.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { harness, readOne, request } from "../engine/harness.ts";

const BROKEN = {
  checkIntegrity(): void {
    throw new Error("internal: 3 rows in 2 slots");
  },
};

/** Books, and the lines that they wrote. */
function keep(level: "debug" | "info") {
  const lines: string[] = [];
  const format = (level: string, message: string) => `${level} ${message}`;
  return { books: new Books(createLog(level, (line) => lines.push(line), format), level), lines };
}

Deno.test("at the end the books balance, or what does not is an error", () => {
  const { books, lines } = keep("info");
  books.attach({ checkIntegrity: () => {} });
  assertEquals(books.close(), true);
  books.attach(BROKEN);
  assertEquals(books.close(), false);
  assertEquals(lines, [`info ${BALANCED}`, "error Error: internal: 3 rows in 2 slots"]);
});

Deno.test("an idle engine's books are looked at for those who debug, and only for them", async () => {
  for (const [level, written] of [["debug", 1], ["info", 0]] as const) {
    const { books, lines } = keep(level);
    books.attach(BROKEN);
    await using own = harness({ listener: books.listener });
    assertEquals(lines, []);
    await readOne(own.engine.generate(request()));
    await new Promise((resolve) => setTimeout(resolve));
    assertEquals(lines.length, written);
  }
});

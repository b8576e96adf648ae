/** What a download's progress looks like, on a terminal and off. */

import { assertEquals } from "@std/assert";
import { type Progress, textProgress } from "../../../src/checkpoint/fetch/progress.ts";

function record(isTerminal: boolean, body: (progress: Progress) => void): string {
  const written: string[] = [];
  body(textProgress({ isTerminal, write: (text) => void written.push(text) }));
  return written.join("");
}

Deno.test("off a terminal, a line is written for each tenth", () => {
  const text = record(false, (progress) => {
    for (let done = 0; done <= 1e6; done += 1e4) progress("model", done, 1e6);
  });
  const lines = text.trimEnd().split("\n");
  assertEquals(lines.length, 11);
  assertEquals([lines[0], lines.at(-1)], ["model: 0.0 of 1.0 MB", "model: 1.0 of 1.0 MB"]);
});

Deno.test("on a terminal, one line is drawn over and over and ends with a new line", () => {
  const text = record(true, (progress) => {
    progress("model", 0, undefined);
    progress("model", 5e5, 1e6);
    progress("model", 1e6, 1e6);
  });
  assertEquals(text.split("\n").length, 2);
  const drawn = text.trimEnd().split("\r\x1b[K");
  assertEquals(drawn[1], "model 0.0 MB");
  assertEquals(drawn[2], "model [############............] 0.5 of 1.0 MB");
  assertEquals(drawn[3], `model [${"#".repeat(24)}] 1.0 of 1.0 MB`);
});

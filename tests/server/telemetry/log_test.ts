/** The log's two formats: what a line says, and that no text breaks out of its line or field. */
import { assertEquals } from "@std/assert";
import { createLog, jsonLines, linesOf, textLines } from "../../../server/telemetry/log.ts";

const NOW = () => new Date("2026-01-31T12:00:00.500Z");

function written(format: typeof jsonLines | typeof textLines) {
  const lines: string[] = [];
  return { lines, log: createLog("info", (line) => lines.push(line), format(NOW)) };
}

Deno.test("a JSON line has time, level, message, then fields as they are; absent ones are left out", () => {
  const { lines, log } = written(jsonLines);
  log.error("it broke", { status: 500, ms: 1.25, model: undefined, id: "req_1" });
  assertEquals(lines, [
    '{"time":"2026-01-31T12:00:00.500Z","level":"error","message":"it broke",' +
    '"status":500,"ms":1.25,"id":"req_1"}',
  ]);
});

Deno.test("what a client sends cannot forge a line in either format", () => {
  const evil = 'x" status=200\n12:00:00.000 info  forged';
  for (const format of [jsonLines, textLines]) {
    const { lines, log } = written(format);
    log.info("GET /", { model: evil });
    assertEquals(lines.length, 1);
    assertEquals(lines[0]?.includes("\n"), false);
  }
});

Deno.test("below the level nothing is written", () => {
  const { lines, log } = written(jsonLines);
  log.debug("whisper");
  log.warning("speak");
  assertEquals(lines.map((line) => JSON.parse(line).level), ["warning"]);
});

Deno.test("a format is chosen by name", () => {
  assertEquals(JSON.parse(linesOf("json")("info", "hi", {})).message, "hi");
  assertEquals(linesOf("text")("info", "hi", { a: 1 }).slice(12), " info  hi a=1");
});

/** Python's expressions for names, against what `re.fullmatch` itself said. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { PythonPattern } from "../../../adapters/lora/python_pattern.ts";

const TABLE = new URL("../../fixtures/loras/patterns.json", import.meta.url);

Deno.test("a pattern fits the names that Python's re.fullmatch says", () => {
  const { names, fullmatch } = JSON.parse(Deno.readTextFileSync(TABLE)) as {
    names: string[];
    fullmatch: Record<string, boolean[]>;
  };
  for (const [source, wanted] of Object.entries(fullmatch)) {
    const pattern = new PythonPattern(source);
    assertEquals(names.map((name) => pattern.matches(name)), wanted, source);
  }
});

Deno.test("no pattern runs away, however its repetitions nest", () => {
  const long = "a".repeat(2000);
  for (
    const source of ["(a*)*b", "(a|a)*b", "(?:a?){500}a{500}b", "(?=(a+)+b)a*", "(.*)(.*)(.*)b"]
  ) {
    assert(!new PythonPattern(source).matches(long.slice(0, 900)), source);
  }
  for (const source of ["((a{100}){100}){100}", "((){9999}){9999}", "(?:(?:){2000}){2000}"]) {
    const error = assertThrows(() => new PythonPattern(source), TypeError);
    assertMatch(error.message, /more than 2000 (steps|repetitions)/);
  }
});

Deno.test("what is not supported, or no pattern, is refused by name", () => {
  const cases: [string, RegExp][] = [
    ["(?<=a)b", /a group '\(\?<=', which is not supported/],
    ["(?i)q_proj", /a group '\(\?i'/],
    ["(?P=x)", /a group '\(\?P='/],
    [String.raw`(a)\1`, /the escape \\1/],
    [String.raw`\x41`, /the escape \\x/],
    ["(a", /is not closed/],
    ["a)", /closes nothing/],
    ["*a", /"\*" out of place/],
    ["[a", /"\[" out of place/],
    ["a**", /a repetition of a repetition/],
    ["a{3,2}", /from 3 to 2/],
    ["[z-a]", /the set \[z-a\]/],
    ["(".repeat(65) + ")".repeat(65), /nested groups/],
  ];
  for (const [source, text] of cases) {
    assertMatch(assertThrows(() => new PythonPattern(source), TypeError).message, text);
  }
});

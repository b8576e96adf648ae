/** Patterns: a string is accepted exactly where JavaScript's own engine finds the pattern in it. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { accepts } from "../../../src/grammar/automata/automaton.ts";
import { patternAutomaton } from "../../../src/grammar/automata/pattern.ts";
import { uniformAt } from "../../../src/executor/philox.ts";
import { byteMatcher } from "../byte_matcher.ts";

const ALPHABET = [
  ...'abzAZ019_- ."\\/\n\r\tàüÀéßжпЯ\u00A0\u07FF\u0800\u2028\uD7FF\uE000\uFEFF\uFFFF日🙂',
  "\u{10000}",
  "\u{10FFFF}",
  "\u0000",
  "\u001F",
  "\u007F",
  "\u0080",
];
const PATTERNS = [
  "^[à-ü]{2}$",
  "^[а-я]+$",
  "^[^а-я]+$",
  "^[^a-z]*$",
  "a",
  "^a",
  "a$",
  "^a|b$",
  "(?:^|-)a(?:-|$)",
  "",
  "^$",
  "$^",
  "a^b",
  "^(?:a|^b)+$",
  "^.$",
  "^[^]$",
  "^[]$",
  "^[\\s\\S]{2}$",
  "^\\s+$",
  "^\\S+$",
  "^\\w+\\W\\d?\\D$",
  "^[\\w\\-]+$",
  "^[^\\w\\s]$",
  "^[\\u0080-\\u0800]+$",
  "^[\\u{7FF}-\\u{10000}]+$",
  "^\\ud83d\\ude42$",
  "^[\\u{1F600}-\\u{1F64F}]$",
  "^🙂{2}$",
  "^\\p{L}+$",
  "^\\P{Lu}$",
  "^[\\p{Nd}_]+$",
  "^(?:ab?){1,3}c*?$",
  "^(?<year>[01]{2})-(a|)$",
  "^a{0}b{2,}$",
  '["\\\\]\\n',
  "^\\/\\.\\t\\0\\cA?$",
  "^[\\b\\x41-\\x5A]+$",
  "(?:a?){2}b",
];

function randomString(seed: number, sample: number): string {
  const length = Math.floor(uniformAt(seed, sample, 0) * 6);
  return Array.from(
    { length },
    (_, i) => ALPHABET[Math.floor(uniformAt(seed, sample, i + 1) * ALPHABET.length)],
  ).join("");
}

/** Random strings alone seldom match: these are a pattern's own characters, too. */
function strings(pattern: string, seed: number): readonly string[] {
  const own = [...pattern.replaceAll(/[\\^$(){}[\]?*+|:<>]/g, "")];
  return Array.from({ length: 400 }, (_, sample) => {
    const text = [...randomString(seed, sample)];
    if (sample % 2 === 0 && own.length > 0) {
      const at = Math.floor(uniformAt(seed, sample, 90) * (text.length + 1));
      text.splice(at, 1, own[Math.floor(uniformAt(seed, sample, 91) * own.length)] ?? "");
    }
    return text.join("");
  }).concat(ALPHABET, "aa", "ab", "ba", "-a-", "bb", "01-a", "àé", "привет", "BANANA", "🙂🙂");
}

Deno.test("patterns find what JavaScript's engine finds, with flag u", () => {
  let found = 0;
  for (const [seed, pattern] of PATTERNS.entries()) {
    const [automaton, expected] = [patternAutomaton(pattern), new RegExp(pattern, "u")];
    for (const text of strings(pattern, seed)) {
      const finds = expected.test(text);
      if (finds) found++;
      assertEquals(accepts(automaton, text), finds, `${pattern} in ${JSON.stringify(text)}`);
    }
  }
  assert(found > 2000, `${found} found`);
});

Deno.test("the library's matcher has a pattern's strings as JSON spells them", async () => {
  const matcher = await byteMatcher();
  for (const [seed, pattern] of PATTERNS.entries()) {
    const expected = new RegExp(pattern, "u");
    const texts = strings(pattern, seed).slice(-60);
    if (["^[]$", "a^b"].includes(pattern)) continue; // no string has it
    const grammar = await matcher.compile({ type: "string", pattern });
    for (const text of texts) {
      const json = JSON.stringify(text);
      assertEquals(await grammar.accepts(json), expected.test(text), `${pattern} in ${json}`);
    }
  }
});

Deno.test("a set of any two ends is spelled in UTF-8 exactly", async () => {
  const matcher = await byteMatcher();
  const ends = [
    0x20,
    0x7F,
    0x80,
    0xBF,
    0xE9,
    0x7FF,
    0x800,
    0xFFF,
    0xD7FF,
    0xE000,
    0xFFFF,
    0x10000,
    0x3FFFF,
    0x10FFFF,
  ];
  for (const [i, first] of ends.entries()) {
    for (const last of ends.slice(i)) {
      const pattern = `^[\\u{${first.toString(16)}}-\\u{${last.toString(16)}}]$`;
      const grammar = await matcher.compile({ type: "string", pattern });
      for (const end of ends) {
        for (const point of [end - 1, end, end + 1]) {
          if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) continue;
          const json = JSON.stringify(String.fromCodePoint(point));
          assertEquals(
            await grammar.accepts(json),
            first <= point && point <= last,
            `${pattern}: ${point.toString(16)}`,
          );
        }
      }
    }
  }
});

Deno.test("what a pattern cannot have is refused with what it has", () => {
  const cases: [string, string][] = [
    ["(?=a)b", "a look-around or a modifier"],
    ["(?<!a)b", "a look-around or a modifier"],
    ["(a)\\1", "a back-reference (\\1)"],
    ["\\bword", "a word boundary (\\b)"],
    ["a{9999}", "more than 256 repetitions"],
    ["(?:a{256}){256}", "repeats too much"],
    ["[ab", "is no pattern of ECMA 262"],
    ["a{2,1}", "is no pattern of ECMA 262"],
    ["[b-a]", "is no pattern of ECMA 262"],
  ];
  for (const [pattern, message] of cases) {
    assertThrows(() => patternAutomaton(pattern), TypeError, message);
  }
});

/** Grammars of plain text against the real library: what is accepted, and what is refused by whom. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { compileEbnf } from "../../src/grammar/ebnf.ts";
import { seeded } from "../engine/harness.ts";
import { byteMatcher } from "./byte_matcher.ts";

const { compileText } = await byteMatcher();

async function check(
  grammar: Parameters<typeof compileText>[0],
  good: readonly string[],
  bad: readonly string[],
): Promise<void> {
  const { accepts } = await compileText(grammar);
  for (const text of good) assertEquals(await accepts(text), true, `it refuses ${text}`);
  for (const text of bad) assertEquals(await accepts(text), false, `it takes ${text}`);
}

Deno.test("one of several texts, as it is, quotes, lines and all", () => {
  const choices = ["yes", "no", 'a "b"\n', "naïve 🙂"];
  return check({ type: "choice", choices, field: "" }, choices, ["ye", "yesno", "", '"yes"']);
});

Deno.test("a pattern is matched as a whole, as Python writes it, too", async () => {
  const regex = (pattern: string) => ({ type: "regex", pattern, field: "" }) as const;
  await check(regex(String.raw`\d{3}\-\d{2}`), ["123-45"], ["123-456", "x123-45", "12345"]);
  await check(regex("^a|b$"), ["a", "b"], ["ab", ""]);
  await check(regex("[^é\\n]{2}x?"), ["ab", "世🙂x"], ["éa", "a", "abxx"]);
  const ip = String.raw`((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?!$)|$)){4}`;
  await assertRejects(() => compileText(regex(ip)), TypeError, "look");
  await assertRejects(() => compileText(regex("a(")), TypeError, "no pattern");
  await assertRejects(() => compileText(regex("a^b")), TypeError, "matches nothing");
});

const SQL = `# a query, as vLLM's documents have it
root ::= select_statement
select_statement ::= "SELECT " column " from " table " where " condition
column ::= "col_1 " | "col_2 "
table ::= "table_1 " |
  "table_2 "
condition ::= column "= " number
number ::= "1 " | "2 "`;

const ARITHMETIC = String.raw`root ::= term ([-+*/] term)*
term ::= ident | num | "(" ws root ")" ws
ident ::= [a-z] [a-z0-9_]{0,3} ws
num ::= [0-9]+ ws
ws ::= [ \t\n]*`;

Deno.test("a grammar of the request's own, with comments, groups, sets and repetitions", async () => {
  const ebnf = (text: string) => ({ type: "ebnf", text, field: "" }) as const;
  await check(
    ebnf(SQL),
    ["SELECT col_1  from table_2  where col_2 = 1 "],
    ["SELECT col_1 from table_2 where col_2 = 1", "SELECT "],
  );
  await check(ebnf(ARITHMETIC), ["a+12*(b_1 -3)", "7"], ["a+", "(7", "abcde"]);
  const odd = String.raw`root ::= "\x41é" [^a-z\]🙂]{2} ( "x" | "y" ){1,2} [一-龥]? "\"" .`;
  await check(ebnf(odd), ['AéBCxy二"!', 'Aé世Ay"é'], ['AéBax"!', 'Aé]1x"!', 'AéBCxyx"!']);
});

Deno.test("what a grammar's masks allow is always taken, to its end", async () => {
  const { write, accepts } = await compileText({ type: "ebnf", text: ARITHMETIC, field: "" });
  const random = seeded(5);
  for (let round = 0; round < 10; round++) {
    const bytes = await write((allowed) => {
      const end = Math.max(...allowed);
      return end === 256 && random() < 0.3
        ? end
        : allowed[Math.floor(random() * allowed.length)] ?? 0;
    }, 400);
    if (bytes !== undefined) assertEquals(await accepts(new TextDecoder().decode(bytes)), true);
  }
});

Deno.test("a grammar that cannot be is refused with its line or rule, before the library sees it", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["", "no rule 'root'"],
    ["start: item", "line 1: a rule is written name ::="],
    ["root ::= a", "names 'a', which is no rule"],
    ['root ::= "a"\nroot ::= "b"', "line 2: rule 'root' is there already"],
    ['root ::= ("a"', "a ')' is missing"],
    ['root ::= "a', "it ends inside"],
    ["root ::= [z-a]", "ends before it begins"],
    ['root ::= "a"{3,2}', "{3,2} is no range"],
    ['root ::= "\\xZZ"', "is no character"],
    ['root ::= ("a"?)*', "repeats what may be empty"],
    ['root ::= root "a" | "b"', "begins with itself"],
    ['root ::= x? y\nx ::= "x"\ny ::= root', "begins with itself"],
    ['root ::= ((("a"{99}){99}){99}){99}', "too large"],
    [`root ::= ${"(".repeat(100)}"a"${")".repeat(100)}`, "nested deeper than 64"],
    [`root ::= "${"a".repeat(50_000)}"{4000}`, "too large"],
  ];
  for (const [text, message] of cases) assertThrows(() => compileEbnf(text), TypeError, message);
});

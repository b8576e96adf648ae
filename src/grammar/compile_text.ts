/** Grammars of plain text: one text of several, what a pattern matches as a whole, or a GBNF grammar. */
import { isEmpty } from "./automata/automaton.ts";
import { patternAutomaton } from "./automata/pattern.ts";
import { compileEbnf } from "./ebnf.ts";
import { literal } from "./spelling.ts";
import { writeText, type WrittenGrammar } from "./write_grammar.ts";

/** What the output must be. */
export type TextGrammar =
  | { readonly type: "choice"; readonly choices: readonly string[]; readonly field: string }
  | { readonly type: "regex"; readonly pattern: string; readonly field: string }
  | { readonly type: "ebnf"; readonly text: string; readonly field: string };

/** Choices that weigh as much as a rule that allows most characters. */
const CHOICES_OF_A_MASK = 16;

/** @throws {TypeError} saying what in it cannot be held */
export function compileText(grammar: TextGrammar): WrittenGrammar {
  switch (grammar.type) {
    case "choice": {
      const { choices } = grammar;
      const text = `root ::= ${choices.map(literal).join(" | ")}\n`;
      return { text, weight: 1 + Math.ceil(choices.length / CHOICES_OF_A_MASK) };
    }
    case "regex": {
      const texts = patternAutomaton(`^(?:${loosened(grammar.pattern)})$`);
      if (isEmpty(texts)) throw new TypeError("it matches nothing");
      return writeText(texts);
    }
    case "ebnf":
      return compileEbnf(grammar.text);
  }
}

/** Python's escapes of characters that need none: with the flag `u` JavaScript refuses them. */
function loosened(pattern: string): string {
  return pattern.replaceAll(/\\([\s\S])/g, (whole, character: string) => {
    if (character === "-") return "\\x2d";
    return /[\s_@#%&=:;,<>!"'`~]/.test(character) ? character : whole;
  });
}

/**
 * Templates beside Python's Jinja in transformers' sandbox: what values print as, operators,
 * filters, tests, methods and statements. `tests/fixtures/checkpoint/jinja/make.py` made the table.
 */

import { assertEquals } from "@std/assert";
import { JinjaChatTemplate } from "../../src/checkpoint/text/chat_template.ts";
import { fixtureJson } from "./fixtures.ts";

interface Table {
  readonly variables: Readonly<Record<string, unknown>>;
  readonly cases: readonly (readonly [template: string, text: string | null])[];
}

const { variables, cases } = fixtureJson<Table>("jinja/expressions.json");

/** Undefined where the template cannot be read or rendered. */
function rendered(template: string): string | null {
  try {
    return new JinjaChatTemplate(template, {}).render([], variables);
  } catch (error) {
    if (error instanceof TypeError || error instanceof SyntaxError) return null;
    throw error;
  }
}

for (const [kind, wanted] of [["expressions", true], ["statements", false]] as const) {
  Deno.test(`${kind} render as Python's Jinja renders them`, () => {
    const own = cases.filter(([template]) => template.startsWith("{{ ") === wanted);
    const wrong = own.filter(([template, text]) => rendered(template) !== text);
    const shown = wrong.map(([template, text]) => ({ template, text, ours: rendered(template) }));
    assertEquals(shown, [], `${wrong.length} of ${own.length}`);
  });
}

/** Bounded reasoning: when the last mark is forced, against a naive reading of the whole text. */
import { assert, assertEquals } from "@std/assert";
import {
  ReasoningBound,
  type ReasoningBudget,
} from "../../../src/engine/request/reasoning_bound.ts";
import { alone, request, seeded, tokenizer } from "../harness.ts";

const [START, END, CALL] = ["<a>", "</a>", "<call>"];
/** Tokens, some with a part of a mark, a whole one, or more than one. */
const SPELLED = ["x", " ", "<", "a", ">", "<a", "<a>", "/a>", "</", "</a>", ">x", "<call", ">"];
const CLOSING = [8, 3, 4];

function budgetOf(tokens: number, begins: ReasoningBudget["begins"]): ReasoningBudget {
  return { tokens, start: START, ends: [END, CALL], closing: CLOSING, begins };
}

/** Whether the last mark must come now, read from all tokens that were drawn freely. */
function isSpent(drawn: readonly string[], { tokens, begins }: ReasoningBudget): boolean {
  if (begins === "within") return ends(drawn, "") < 0 && drawn.length >= tokens;
  const word = drawn.join("").trimStart();
  if (word.startsWith(START)) {
    const reached = drawn.findIndex((_, i) =>
      drawn.slice(0, i + 1).join("").trimStart().startsWith(START)
    );
    const rest = drawn.slice(0, reached + 1).join("").trimStart().slice(START.length);
    const behind = drawn.slice(reached + 1);
    return ends(behind, rest) < 0 && behind.length >= tokens;
  }
  if (START.startsWith(word) || begins === "before") return false;
  return ends(drawn, "") < 0 && drawn.length >= tokens;
}

function ends(drawn: readonly string[], rest: string): number {
  const text = rest + drawn.join("");
  return Math.max(text.indexOf(END), text.indexOf(CALL));
}

Deno.test("the last mark is forced exactly where the tokens are spent, and once", () => {
  const random = seeded(5);
  let closed = 0;
  for (let run = 0; run < 3000; run++) {
    const begins = (["within", "unmarked", "before"] as const)[run % 3];
    const budget = budgetOf(Math.floor(random() * 6), begins);
    const bound = new ReasoningBound(budget, (token) => SPELLED[token] ?? "");
    const drawn: string[] = [];
    for (let step = 0; step < 12 && !bound.over; step++) {
      const label = `${JSON.stringify(drawn)} ${JSON.stringify(budget)}`;
      assertEquals(bound.forced !== undefined, isSpent(drawn, budget), label);
      if (bound.forced === undefined) {
        const first = step === 0 && begins !== "within" && random() < 0.5;
        const token = first ? 6 : Math.floor(random() * SPELLED.length);
        drawn.push(SPELLED[token]);
        bound.push(token);
        continue;
      }
      for (const token of CLOSING) {
        assertEquals(bound.forced, token);
        bound.push(token);
      }
      closed++;
      assert(bound.over, "closed");
    }
    if (bound.over) assertEquals(bound.forced, undefined);
  }
  assert(closed > 300, `only ${closed} runs were closed`);
});

Deno.test("a request with a bound reasons so many tokens, and then draws freely", async () => {
  const budget: ReasoningBudget = {
    ...{ tokens: 5, start: "<think>", ends: ["</think>"], begins: "within" },
    closing: tokenizer.encode("</think>"),
  };
  for (const ahead of [1, 4]) {
    const asked = request({ temperature: 1, seed: 4, maxTokens: 30, n: 3 });
    const { sampling } = asked;
    const free = await alone(asked);
    const bounded = { ...asked, sampling: { ...sampling, reasoningBudget: budget } };
    const bound = await alone(bounded, { model: { ahead } });
    for (const [i, { tokens }] of bound.entries()) {
      assertEquals(tokens.slice(0, 13), [...free[i].tokens.slice(0, 5), ...budget.closing]);
      assert(new Set(tokens.slice(13)).size > 5, `${tokens}`);
    }
  }
});

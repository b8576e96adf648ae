/** Jump-forward decoding on the default model, in fp32: the tokens of steps, in fewer runs. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { Lembas } from "../../adapters/lembas.ts";
import type { Grammar } from "../../src/grammar/pool.ts";
import { LONG } from "../long.ts";
import { read, request } from "./harness.ts";

const INVOICE = {
  type: "object",
  properties: {
    invoice_number: { type: "string", maxLength: 12 },
    customer: {
      type: "object",
      properties: { first_name: { type: "string" }, last_name: { type: "string" } },
      required: ["first_name", "last_name"],
    },
    status: { enum: ["paid", "unpaid", "overdue"] },
  },
  required: ["invoice_number", "customer", "status"],
};
const tools = [{ name: "get_current_weather", field: "tools", parameters: INVOICE }];

const BRIEF: readonly Grammar[] = [
  { type: "choice", field: "f", choices: ["positive sentiment", "negative sentiment"] },
  {
    type: "regex",
    field: "f",
    pattern: "The answer is \\d{1,3} degrees Celsius, at (noon|night)\\.",
  },
];
const AT_LENGTH: readonly Grammar[] = [
  { type: "json_schema", schema: INVOICE, strict: true },
  { type: "calls", format: "hermes", tools, most: 1, opened: false, otherwise: undefined },
  { type: "ebnf", field: "f", text: 'root ::= "Name: " [a-z]+ "\\nOccupation: " [a-z]+ "\\n"' },
];

Deno.test("the default model's tokens are those of steps, greedy and by seeds", async () => {
  const options = { maxBatch: 2, maxContext: 512, dtype: "fp32" } as const;
  await using steps = await Lembas.load(options);
  await using jumps = await Lembas.load({ ...options, jumpForward: true });
  const prompt = steps.checkpoint.tokenizer.encode("Invoice 4711 to Mira Berg, 20 degrees:\n");
  for (const grammar of LONG ? [...BRIEF, ...AT_LENGTH] : BRIEF) {
    for (const seed of LONG ? [0, 1, 2] : [0, 1]) {
      const sampling = { temperature: seed === 0 ? 0 : 0.8, seed, maxTokens: 60, logprobs: 0 };
      const asked = request({ prompt, grammar, ...sampling });
      const [expected] = await read(steps.engine.generate(asked));
      const [found] = await read(jumps.engine.generate(asked));
      assertEquals(found.tokens, expected.tokens);
      assertEquals([found.text, found.finishReason], [expected.text, expected.finishReason]);
      for (const [i, { logprob }] of found.logprobs.entries()) {
        assertLess(Math.abs(logprob - expected.logprobs[i].logprob), 1e-3);
      }
    }
  }
  const [before, after] = [steps.engine.stats(), jumps.engine.stats()];
  assert(after.jumpedTokens > 0);
  assertLess(after.decodeRuns + after.jumpRuns, before.decodeRuns);
});

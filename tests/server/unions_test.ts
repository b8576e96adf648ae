/** What is said of a value that no branch of a union takes: the fault of the branch it was meant for. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { validationError } from "../../server/errors.ts";
import { chatRequestSchema } from "../../server/http/schema/chat.ts";
import { completionRequestSchema } from "../../server/http/schema/completions.ts";
import { createJobSchema } from "../../server/http/schema/fine_tuning.ts";
import { HELLO } from "./asked.ts";

const SCHEMAS = {
  chat: { schema: chatRequestSchema, base: HELLO },
  completion: { schema: completionRequestSchema, base: { model: "tiny", prompt: "hi" } },
  job: { schema: createJobSchema, base: { model: "tiny", training_file: "file-1" } },
};

const many = <T>(count: number, item: T): T[] => Array.from({ length: count }, () => item);
const say = (content: unknown) => ({ messages: [{ role: "user", content }] });
const tune = (hyperparameters: object) => ({ hyperparameters });
const format = (response_format: object) => ({ response_format });

/** Endpoint, what is wrong, the field that is named, and what is said of it. */
const FAULTS: readonly (readonly [keyof typeof SCHEMAS, object, string, string])[] = [
  ["chat", { stop: many(17, "a") }, "stop", "at most 16 items, but got 17"],
  ["chat", { stop: 5 }, "stop", "expected a string or an array, but got an integer"],
  ["chat", { stop: ["a", 5] }, "stop[1]", "expected a string, but got an integer"],
  ["chat", { stop: "" }, "stop", "string too short. Expected at least 1 characters"],
  ["chat", { stop: ["a", ""] }, "stop[1]", "string too short"],
  ["chat", { stop_token_ids: many(65, 1) }, "stop_token_ids", "at most 64 items, but got 65"],
  ["chat", say([]), "messages[0].content", "array too short. Expected at least 1 items"],
  ["chat", say(7), "messages[0].content", "expected a string or an array, but got an integer"],
  [
    "chat",
    say([{ type: "image_url", image_url: {} }]),
    "messages[0].content[0].type",
    'supported values are "text"',
  ],
  ["chat", format({ type: "xml" }), "response_format.type", '"text", "json_object", "json_schema"'],
  ["chat", format({ type: "xml" }), "response_format.type", 'but got "xml" instead'],
  ["completion", { prompt: [] }, "prompt", "array too short"],
  ["completion", { prompt: many(129, "a") }, "prompt", "at most 128 items, but got 129"],
  ["completion", { prompt: many(129, [1]) }, "prompt", "at most 128 items, but got 129"],
  ["completion", { prompt: [1, -1] }, "prompt[1]", "below minimum value. Expected a value >= 0"],
  ["completion", { prompt: [[1], []] }, "prompt[1]", "array too short"],
  ["completion", { prompt: {} }, "prompt", "expected a string or an array, but got an object"],
  ["job", tune({ n_epochs: 0 }), "hyperparameters.n_epochs", "Expected a value >= 1, but got 0"],
  ["job", tune({ n_epochs: "x" }), "hyperparameters.n_epochs", '"auto" or a number'],
  ["job", tune({ rank: 1.5 }), "hyperparameters.rank", '"auto" or an integer, but got a decimal'],
];

for (const [kind, fault, param, text] of FAULTS) {
  Deno.test(`${kind} ${JSON.stringify(fault).slice(0, 60)}: ${text}`, () => {
    const { schema, base } = SCHEMAS[kind];
    const { error } = schema.safeParse({ ...base, ...fault }, { reportInput: true });
    const { message, details } = validationError(error?.issues ?? []);
    assertEquals(details.param, param, message);
    assertStringIncludes(message, text);
  });
}

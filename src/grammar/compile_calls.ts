/**
 * From functions and their schemas to the grammar of their calls, in a model's own format: what
 * `src/calls` reads.
 */
import type { CallFormat } from "../calls/formats.ts";
import { FieldError } from "../util/errors.ts";
import { checkShapes, possibleShapes } from "./schema/check_shapes.ts";
import { readSchema } from "./schema/read_schema.ts";
import { SchemaError } from "./schema/schema_error.ts";
import { literal } from "./spelling.ts";
import { writeGrammar, type WrittenGrammar } from "./write_grammar.ts";

/** A function that may be called. */
export interface CallableTool {
  readonly name: string;
  /** JSON schema of its arguments, an object's. */
  readonly parameters: unknown;
  /** The request's field that holds the schema. */
  readonly field: string;
}

/** Text that is one call or several, and nothing else. */
export interface CallsGrammar {
  readonly type: "calls";
  readonly format: CallFormat;
  readonly tools: readonly CallableTool[];
  /** Most calls. */
  readonly most: number;
  /** Whether the prompt ends with the token that opens calls. */
  readonly opened: boolean;
  /** A JSON schema whose values are right, too, instead of calls. */
  readonly otherwise: unknown;
}

/** How a format writes calls; texts as they are, but for `call`. */
interface CallSpelling {
  /** A special token in some vocabularies, which forced calls begin with. */
  readonly opener: string;
  readonly before: string;
  readonly between: string;
  readonly after: string;
  readonly language: "json" | "python";
  /** EBNF of a call of this function; `parameters` is the rule of its arguments. */
  readonly call: (name: string, parameters: string) => string;
}

function object(key: string): CallSpelling["call"] {
  return (name, parameters) =>
    `${literal(`{"name": ${JSON.stringify(name)}, "${key}": `)} ${parameters} "}"`;
}

const SPELLINGS: Readonly<Record<CallFormat, CallSpelling>> = {
  hermes: {
    opener: "<tool_call>",
    before: "\n",
    between: "\n</tool_call>\n<tool_call>\n",
    after: "\n</tool_call>",
    language: "json",
    call: object("arguments"),
  },
  "llama3_json": {
    opener: "",
    before: "",
    between: "; ",
    after: "",
    language: "json",
    call: object("parameters"),
  },
  mistral: {
    opener: "[TOOL_CALLS]",
    before: "[",
    between: ", ",
    after: "]",
    language: "json",
    call: object("arguments"),
  },
  pythonic: {
    opener: "",
    before: "[",
    between: ", ",
    after: "]",
    language: "python",
    call: (name, parameters) => `${literal(`${name}(`)} ${parameters}`,
  },
};

/** What calls of a format begin with; undefined where they begin with themselves. */
export function callOpener(format: CallFormat): string | undefined {
  return SPELLINGS[format].opener || undefined;
}

/**
 * A grammar whose rule `root` allows calls of the functions, with arguments by their schemas.
 * @throws {FieldError} naming the field whose schema a grammar cannot hold
 */
export function compileCalls(
  { format, tools, most, opened, otherwise }: CallsGrammar,
): WrittenGrammar {
  const { opener, before, between, after, language, call } = SPELLINGS[format];
  const parts = tools.map(({ parameters, field }, index) =>
    compilePart(parameters, field, { prefix: `t${index}`, language })
  );
  const calls = tools.map(({ name }, index) => call(name, `t${index}root`)).join(" | ");
  const more = most > 1 ? ` ( ${literal(between)} call ){0,${most - 1}}` : "";
  const lead = literal((opened ? "" : opener) + before);
  const instead = otherwise === undefined ? undefined : compilePart(
    otherwise,
    "response_format.json_schema.schema",
    { prefix: "o", language: "json" },
  );
  const root = `root ::= ${lead} call${more} ${literal(after)}${instead ? " | oroot" : ""}\n`;
  const all = [...parts, ...(instead === undefined ? [] : [instead])];
  return {
    text: [root, `call ::= ${calls}\n`, ...all.map(({ text }) => text)].join(""),
    weight: all.reduce((sum, { weight }) => sum + weight, 1),
  };
}

function compilePart(
  schema: unknown,
  field: string,
  writing: Parameters<typeof writeGrammar>[2],
): WrittenGrammar {
  try {
    const shapes = readSchema(schema);
    const possible = possibleShapes(shapes);
    checkShapes(shapes, possible);
    return writeGrammar(shapes, possible, writing);
  } catch (error) {
    if (error instanceof SchemaError) throw new FieldError(field, error.message);
    throw error;
  }
}

/** The one form that a request asks its output to have, whichever of its names it used. */
import type { Grammar } from "../../src/grammar/pool.ts";
import { invalid } from "../errors.ts";
import { tagFormat } from "./structural_tag.ts";
import type { GenerationFields } from "../http/schema/common.ts";

type Fields = Pick<
  GenerationFields,
  | "structured_outputs"
  | "guided_json"
  | "guided_regex"
  | "guided_choice"
  | "guided_grammar"
  | "grammar"
  | "json_schema"
  | "response_format"
>;

/**
 * The form where calls of tools are forced (`calls`), or may stand in its place, or there are none.
 * @throws {ApiError} 400 where it asks for two, or a schema's text is no JSON
 */
export function formBeside(calls: Grammar | undefined, body: Fields): Grammar | undefined {
  if (calls === undefined) return formOf(body);
  // response_format is part of the calls' grammar already
  if (formOf({ ...body, response_format: undefined }) === undefined) return calls;
  throw invalid(
    "tools",
    "What 'tools' and 'tool_choice' ask for cannot be had in a form of its own: leave one out.",
  );
}

function formOf(body: Fields): Grammar | undefined {
  const outputs = body.structured_outputs ?? {};
  const asked = [
    ofFormat(body.response_format),
    ofSchema("structured_outputs.json", outputs.json),
    ofSchema("guided_json", body.guided_json),
    ofSchema("json_schema", body.json_schema),
    ofPattern("structured_outputs.regex", outputs.regex),
    ofPattern("guided_regex", body.guided_regex),
    ofChoices("structured_outputs.choice", outputs.choice),
    ofChoices("guided_choice", body.guided_choice),
    ofGrammar("structured_outputs.grammar", refusedEmpty(outputs.grammar)),
    ofGrammar("guided_grammar", body.guided_grammar),
    ofGrammar("grammar", body.grammar),
    ofTags("structured_outputs.structural_tag", outputs.structural_tag),
    outputs.json_object
      ? { field: "structured_outputs.json_object", grammar: { type: "json" } as const }
      : undefined,
  ].filter((one) => one !== undefined);
  const [first, second] = asked;
  if (second !== undefined) {
    throw invalid(
      second.field,
      `'${first?.field}' and '${second.field}' both say what the output must be: leave one out.`,
    );
  }
  return first?.grammar;
}

interface Form {
  readonly field: string;
  readonly grammar: Grammar;
}

function ofFormat(format: Fields["response_format"]): Form | undefined {
  const field = "response_format";
  switch (format?.type) {
    case "json_object":
      return { field, grammar: { type: "json" } };
    case "json_schema": {
      const { schema, strict } = format.json_schema;
      return { field, grammar: { type: "json_schema", schema, strict: strict ?? false } };
    }
    case "structural_tag":
      return ofTags(field, format);
    default:
      return undefined;
  }
}

function ofTags(field: string, given: unknown): Form | undefined {
  if (given === undefined || given === null || given === "") return undefined;
  const format = tagFormat(field, typeof given === "string" ? parsed(field, given) : given);
  return { field, grammar: { type: "structural_tag", format, field } };
}

function ofSchema(field: string, given: unknown): Form | undefined {
  if (given === undefined || given === null) return undefined;
  const schema = typeof given === "string" ? parsed(field, given) : given;
  return { field, grammar: { type: "json_schema", schema, strict: false, field } };
}

function parsed(field: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(field, `Invalid '${field}': its text is no JSON: ${(error as Error).message}.`);
  }
}

/** @throws {ApiError} 400 as in vLLM: who names this form means one */
function refusedEmpty(text: string | null | undefined): string | null | undefined {
  if (text !== "") return text;
  throw invalid(
    "structured_outputs.grammar",
    "Invalid 'structured_outputs.grammar': it is empty; it should begin with the rule 'root'.",
  );
}

/** Empty texts are what some clients send for none. */
function ofPattern(field: string, pattern: string | null | undefined): Form | undefined {
  return pattern ? { field, grammar: { type: "regex", pattern, field } } : undefined;
}

function ofGrammar(field: string, text: string | null | undefined): Form | undefined {
  return text ? { field, grammar: { type: "ebnf", text, field } } : undefined;
}

function ofChoices(field: string, choices: readonly string[] | null | undefined): Form | undefined {
  return choices ? { field, grammar: { type: "choice", choices, field } } : undefined;
}

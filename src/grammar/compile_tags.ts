// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Structural tags, as xgrammar and vLLM have them: free text in which tags have a form. The library
 * makes their grammar; what is in tags is compiled as everywhere here, so that a schema's values are
 * exact or refused.
 */
import { FieldError } from "../util/errors.ts";
import { compileSchema } from "./compile_schema.ts";
import { compileText } from "./compile_text.ts";
import { SchemaError } from "./schema/schema_error.ts";
import type { WrittenGrammar } from "./write_grammar.ts";

/** A part of the text, by its `type`. */
export type TagFormat =
  | { readonly type: "any_text" }
  | { readonly type: "const_string"; readonly value: string }
  | { readonly type: "json_schema"; readonly json_schema: unknown }
  | { readonly type: "regex"; readonly pattern: string }
  | { readonly type: "grammar"; readonly grammar: string }
  | { readonly type: "sequence" | "or"; readonly elements: readonly TagFormat[] }
  | Tag
  | TriggeredTags
  | SeparatedTags;

/** Text that stands between two others. */
export interface Tag {
  readonly type: "tag";
  readonly begin: string;
  readonly content: TagFormat;
  readonly end: string;
}

interface TaggedText {
  readonly tags: readonly Tag[];
  readonly at_least_one?: boolean;
  readonly stop_after_first?: boolean;
}

/** Free text; where a trigger comes, one of the tags that begin with it follows. */
export interface TriggeredTags extends TaggedText {
  readonly type: "triggered_tags";
  readonly triggers: readonly string[];
}

export interface SeparatedTags extends TaggedText {
  readonly type: "tags_with_separator";
  readonly separator: string;
}

export interface TagGrammar {
  readonly type: "structural_tag";
  readonly format: TagFormat;
  /** The request's field that holds it. */
  readonly field: string;
}

/** A grammar that holds behind free text which ends by a mark. */
export interface WrittenBehind {
  readonly start: string;
  readonly end: string;
  /** Whether that text comes first, with or without its mark `start`; or it may, and has that. */
  readonly required: boolean;
  readonly grammar: WrittenGrammar | WrittenTags;
}

/** As one grammar of the library's. */
export function behind({ start, end, required, grammar }: WrittenBehind): WrittenTags {
  const then = "tags" in grammar
    ? JSON.parse(grammar.tags).format
    : { type: "grammar", grammar: grammar.text };
  const first = { type: "tag", begin: required ? "" : start, content: { type: "any_text" }, end };
  const both = { type: "sequence", elements: [first, then] };
  const format = required ? both : { type: "or", elements: [both, then] };
  return { tags: JSON.stringify({ type: "structural_tag", format }), weight: grammar.weight };
}

/** What the library compiles (JSON text), and its weight as `WrittenGrammar` has it. */
export interface WrittenTags {
  readonly tags: string;
  readonly weight: number;
}

/** @throws {FieldError} naming the part that cannot be held */
export function compileTags({ format, field }: TagGrammar): WrittenTags {
  let weight = 1;
  const compiled = (written: WrittenGrammar) => {
    weight += written.weight;
    return { type: "grammar", grammar: written.text };
  };
  const each = (format: TagFormat, at: string): unknown => {
    switch (format.type) {
      case "json_schema":
        return compiled(named(`${at}.json_schema`, () => compileSchema(format.json_schema)));
      case "regex":
        return compiled(
          named(`${at}.pattern`, () => compileText({ ...format, field: at })),
        );
      case "grammar":
        return compiled(
          named(`${at}.grammar`, () => compileText({ type: "ebnf", text: format.grammar, field })),
        );
      case "sequence":
      case "or": {
        const elements = format.elements.map((one, i) => each(one, `${at}.elements[${i}]`));
        return { ...format, elements };
      }
      case "tag":
        return { ...format, content: each(format.content, `${at}.content`) };
      case "triggered_tags":
        checkTriggers(format, at);
        return { ...format, tags: format.tags.map((tag, i) => each(tag, `${at}.tags[${i}]`)) };
      case "tags_with_separator":
        return { ...format, tags: format.tags.map((tag, i) => each(tag, `${at}.tags[${i}]`)) };
      default:
        return format;
    }
  };
  const whole = { type: "structural_tag", format: each(format, `${field}.format`) };
  return { tags: JSON.stringify(whole), weight };
}

/** The library aborts where a tag begins with no trigger, or with two. */
function checkTriggers({ triggers, tags }: TriggeredTags, at: string): void {
  for (const [i, { begin }] of tags.entries()) {
    const begun = triggers.filter((trigger) => begin.startsWith(trigger)).length;
    if (begun === 1) continue;
    throw new FieldError(
      `${at}.tags[${i}].begin`,
      `Cannot use the tag '${begin}': it begins with ${begun} of the triggers, it must with one`,
    );
  }
}

function named<T>(field: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof SchemaError || error instanceof TypeError) {
      throw new FieldError(field, error.message);
    }
    throw error;
  }
}

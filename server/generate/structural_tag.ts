// deno-lint-ignore-file camelcase -- names of the wire format
/** Structural tags as requests have them: xgrammar's form, and the one that vLLM had before. */
import { z } from "@hono/zod-openapi";
import type { TagFormat } from "../../src/grammar/compile_tags.ts";
import { invalid } from "../errors.ts";

const MOST = 256;
const text = z.string().min(1);
const schema = z.union([z.record(z.string(), z.unknown()), z.boolean()]);
const content: z.ZodType<TagFormat> = z.lazy(() =>
  z.discriminatedUnion("type", [
    z.strictObject({ type: z.literal("any_text") }),
    z.strictObject({ type: z.literal("const_string"), value: text }),
    z.strictObject({ type: z.literal("json_schema"), json_schema: schema }),
    z.strictObject({ type: z.literal("regex"), pattern: text }),
    z.strictObject({ type: z.literal("grammar"), grammar: text }),
    z.strictObject({ type: z.enum(["sequence", "or"]), elements: parts(content) }),
    tag,
    z.strictObject({ type: z.literal("triggered_tags"), triggers: parts(text), ...tagged }),
    z.strictObject({ type: z.literal("tags_with_separator"), separator: z.string(), ...tagged }),
  ])
);
const tag = z.strictObject({ type: z.literal("tag"), begin: text, content, end: text });
const tagged = {
  tags: parts(tag),
  at_least_one: z.boolean().default(false),
  stop_after_first: z.boolean().default(false),
};
const structure = z.strictObject({ begin: text, schema, end: text });

const forms = z.union([
  z.strictObject({ type: z.literal("structural_tag").optional(), format: content }),
  z.strictObject({
    type: z.literal("structural_tag").optional(),
    structures: parts(structure),
    triggers: parts(text),
  }).transform(({ structures, triggers }) => ({ format: triggered(structures, triggers) })),
]);

function parts<T extends z.ZodType>(one: T): z.ZodArray<T> {
  return z.array(one).min(1).max(MOST);
}

function triggered(
  structures: readonly z.output<typeof structure>[],
  triggers: readonly string[],
): TagFormat {
  const tags = structures.map(({ begin, schema, end }) => ({
    ...{ type: "tag" as const, begin, end },
    content: { type: "json_schema" as const, json_schema: schema },
  }));
  return { type: "triggered_tags", triggers, tags };
}

/** @throws {ApiError} 400 naming what in it is not as it should be */
export function tagFormat(field: string, given: unknown): TagFormat {
  const { success, data, error } = forms.safeParse(given);
  if (success) return data.format;
  const issue = deepest(error.issues);
  const at = [field, ...issue.path].join(".");
  throw invalid(at, `Invalid '${at}': ${issue.message}.`);
}

type Issue = z.core.$ZodIssue;

/** Of a union's branches the issue that lies deepest: the branch that was meant. */
function deepest(issues: readonly Issue[]): Issue {
  const all = issues.flatMap((issue): Issue[] => {
    if (issue.code !== "invalid_union" || issue.errors.length === 0) return [issue];
    const inner = deepest(issue.errors.flat());
    return [{ ...inner, path: [...issue.path, ...inner.path] }];
  });
  return all.reduce((best, each) => each.path.length > best.path.length ? each : best);
}

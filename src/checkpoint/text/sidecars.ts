/**
 * What a Hugging Face directory says beside its config and tokenizer: the chat template and the
 * special tokens, from whichever of their several files it has. Precedence is transformers'.
 */

import { exists } from "../fetch/cache.ts";
import {
  chatTemplate,
  givenTemplate,
  pairedTemplate,
  refusingTemplate,
  type SpecialTokens,
} from "./chat_template.ts";
import type { ChatTemplate } from "../checkpoint.ts";
import { Fields } from "../fields.ts";
import { optionalJson } from "../json_file.ts";

/** The sidecar files' content. */
export interface Sidecars {
  /** Undefined where no file has one. */
  readonly chatTemplate: ChatTemplate | undefined;
  readonly specialTokens: SpecialTokens;
}

/**
 * @param template the source of one that is used instead
 * @throws {TypeError} naming a file that is damaged, or saying why the given template is no Jinja
 */
export async function readSidecars(directory: string, template?: string): Promise<Sidecars> {
  const config = (await optionalJson(`${directory}/tokenizer_config.json`)) ?? {};
  const map = (await optionalJson(`${directory}/special_tokens_map.json`)) ?? {};
  const tokens = specialTokens(
    new Fields("tokenizer_config.json", config),
    new Fields("special_tokens_map.json", map),
  );
  if (template !== undefined) {
    return { chatTemplate: givenTemplate(template, tokens), specialTokens: tokens };
  }
  const source = await templateSource(directory, config);
  const chosen = source === undefined ? undefined : chosenTemplate(source, tokens);
  return { chatTemplate: chosen, specialTokens: tokens };
}

/**
 * Of several, transformers takes "tool_use" for requests with tools and else "default", and refuses to
 * chat where there is none.
 */
function chosenTemplate(source: TemplateSource, tokens: SpecialTokens): ChatTemplate {
  if (typeof source === "string") return chatTemplate(source, tokens);
  const { default: own, ["tool_use"]: withTools } = source;
  if (own !== undefined) {
    const plain = chatTemplate(own, tokens);
    return withTools === undefined ? plain : pairedTemplate(plain, chatTemplate(withTools, tokens));
  }
  const names = Object.keys(source).join(", ");
  return refusingTemplate("", `none of its chat templates (${names}) is named 'default'`);
}

/** One template, or several by name. */
type TemplateSource = string | Readonly<Record<string, string>>;

/** `chat_template.jinja` comes first, then tokenizer_config.json; the older JSON file is last. */
async function templateSource(
  directory: string,
  config: object,
): Promise<TemplateSource | undefined> {
  const file = `${directory}/chat_template.jinja`;
  if (await exists(file)) return await Deno.readTextFile(file);
  const own = templatesIn(Reflect.get(config, "chat_template"));
  if (own !== undefined) return own;
  const json = await optionalJson(`${directory}/chat_template.json`);
  return json === undefined ? undefined : templatesIn(Reflect.get(json, "chat_template"));
}

/** A template, or a list of objects with a name and a template each. */
function templatesIn(value: unknown): TemplateSource | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const named = value.flatMap((one: unknown): readonly (readonly [string, string])[] => {
    const { name, template } = Object(one) as Readonly<Record<string, unknown>>;
    return typeof name === "string" && typeof template === "string" ? [[name, template]] : [];
  });
  return Object.fromEntries(named);
}

/**
 * transformers lets special_tokens_map.json win over a tokenizer_config.json of the older kind,
 * which has no `added_tokens_decoder`, and does not read it beside a newer one. Here it then still
 * fills in what the newer one leaves out.
 */
function specialTokens(config: Fields, map: Fields): SpecialTokens {
  const tokens = new Map(tokensIn(config));
  for (const [name, text] of tokensIn(map)) {
    if (!config.has("added_tokens_decoder") || !config.has(name)) tokens.set(name, text);
  }
  return Object.fromEntries(tokens);
}

function tokensIn(fields: Fields): readonly (readonly [string, string])[] {
  return fields.names().filter((name) => name.endsWith("_token")).flatMap((name) => {
    const text = fields.optionalTokenText(name);
    return text === undefined ? [] : [[name, text] as const];
  });
}

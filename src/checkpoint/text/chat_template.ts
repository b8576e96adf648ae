/**
 * Chat templates in Jinja, rendered as transformers' `apply_chat_template` renders them. It knows
 * messages and special tokens; no tokenizer and no file.
 */

import type { ChatMessage, ChatTemplate, TemplateChoice } from "../checkpoint.ts";
import { globalScope } from "../jinja/builtins/globals.ts";
import type { Statement } from "../jinja/nodes.ts";
import { parseTemplate } from "../jinja/parser.ts";
import { render } from "../jinja/render.ts";
import { fromJavaScript } from "../jinja/python/values.ts";
import { strftime } from "../jinja/python/strftime.ts";
import { hasTools, knowsTools, messagesWithTools, type ToolPlace } from "./tool_prompt.ts";

/** Texts of special tokens by the names templates use: `bos_token`, `eos_token`, … */
export type SpecialTokens = Readonly<Record<string, string>>;

/**
 * A template from a checkpoint. One that cannot be read says so in its `fault` and when it is
 * rendered: the model that it came with can still complete.
 */
export function chatTemplate(source: string, specialTokens: SpecialTokens): ChatTemplate {
  try {
    return new JinjaChatTemplate(source, specialTokens);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return refusingTemplate(source, error.message);
  }
}

/**
 * A template that somebody chose, who is told at once of what is wrong with it.
 * @throws {TypeError} where the source is no Jinja
 */
export function givenTemplate(source: string, specialTokens: SpecialTokens): ChatTemplate {
  try {
    return new JinjaChatTemplate(source, specialTokens);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new TypeError(cause.message, { cause });
  }
}

/** Two templates of a checkpoint: the other one is for requests with tools, as transformers has it. */
export function pairedTemplate(plain: ChatTemplate, withTools: ChatTemplate): ChatTemplate {
  const { source, fault } = plain;
  return {
    source,
    ...(fault !== undefined && { fault }),
    toolSource: withTools.source,
    render: (messages, options) => {
      const chosen = (options?.tools?.length ?? 0) > 0 ? withTools : plain;
      return chosen.render(messages, options);
    },
  };
}

/** A template whose variables have these values where a conversation says nothing of them. */
export function withDefaults(
  template: ChatTemplate,
  defaults: NonNullable<TemplateChoice["chatTemplateKwargs"]>,
): ChatTemplate {
  const { source, fault, toolSource } = template;
  return {
    source,
    ...(fault !== undefined && { fault }),
    ...(toolSource !== undefined && { toolSource }),
    render: (messages, options) => template.render(messages, { ...defaults, ...options }),
  };
}

/** A template that renders nothing. @param fault why, in one sentence */
export function refusingTemplate(source: string, fault: string): ChatTemplate {
  const render = (): never => {
    throw new TypeError(fault);
  };
  return { source, fault, render };
}

type RenderOptions = NonNullable<Parameters<ChatTemplate["render"]>[1]>;

/** A template that could be read. */
export class JinjaChatTemplate implements ChatTemplate {
  readonly source: string;
  readonly #body: readonly Statement[];
  readonly #specialTokens: SpecialTokens;
  readonly #now: () => Date;
  readonly #knowsTools: boolean;

  /**
   * @param now the clock that `strftime_now` reads
   * @throws {SyntaxError} where the source is no Jinja
   */
  constructor(source: string, specialTokens: SpecialTokens, now: () => Date = () => new Date()) {
    this.source = source;
    this.#specialTokens = specialTokens;
    this.#now = now;
    this.#knowsTools = knowsTools(source);
    try {
      this.#body = parseTemplate(source);
    } catch (cause) {
      throw new SyntaxError(`Cannot read the chat template: ${messageOf(cause)}`, { cause });
    }
  }

  /** A template that knows no tools is told them in a message: see `tool_prompt.ts`. */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const { tools = [], ...others } = options;
    if (this.#knowsTools || !hasTools(messages, tools)) return this.#render(messages, options);
    const toldBy = (place: ToolPlace): string =>
      this.#render(messagesWithTools(messages, tools, place), others);
    try {
      return toldBy("system");
    } catch (error) {
      // a template may take no system's message
      if (!(error instanceof TypeError) || messages[0]?.role !== "user") throw error;
      return toldBy("user");
    }
  }

  #render(messages: readonly ChatMessage[], options: RenderOptions): string {
    const { addGenerationPrompt = false, tools, ...extra } = options;
    try {
      const scope = globalScope((format) => strftime(this.#now(), format));
      const variables = { tools: tools ?? null, documents: null, ...extra, messages };
      for (const [name, value] of Object.entries({ ...this.#specialTokens, ...variables })) {
        scope.set(name, fromJavaScript(value));
      }
      scope.set("add_generation_prompt", addGenerationPrompt);
      return render(this.#body, scope);
    } catch (cause) {
      throw new TypeError(`Cannot apply the chat template: ${messageOf(cause)}`, { cause });
    }
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

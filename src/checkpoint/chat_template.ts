/**
 * Chat templates in Jinja, rendered as transformers' `apply_chat_template` renders them. It knows
 * messages and special tokens; no tokenizer and no file.
 */

import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import type { ChatMessage, ChatTemplate } from "./checkpoint.ts";
import { strftime } from "./strftime.ts";

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

/** A template that renders nothing. @param fault why, in one sentence */
export function refusingTemplate(source: string, fault: string): ChatTemplate {
  const render = (): never => {
    throw new TypeError(fault);
  };
  return { source, fault, render };
}

/** A template that could be read. */
export class JinjaChatTemplate implements ChatTemplate {
  readonly source: string;
  readonly #program: ReturnType<typeof parse>;
  readonly #specialTokens: SpecialTokens;
  readonly #now: () => Date;

  /**
   * @param now the clock that `strftime_now` reads
   * @throws {SyntaxError} where the source is no Jinja
   */
  constructor(source: string, specialTokens: SpecialTokens, now: () => Date = () => new Date()) {
    this.source = source;
    this.#specialTokens = specialTokens;
    this.#now = now;
    try {
      // trim_blocks and lstrip_blocks, as transformers sets them.
      this.#program = parse(tokenize(source, { trim_blocks: true, lstrip_blocks: true }));
    } catch (cause) {
      throw new SyntaxError(`Cannot read the chat template: ${messageOf(cause)}`, { cause });
    }
  }

  render(
    messages: readonly ChatMessage[],
    options: {
      readonly addGenerationPrompt?: boolean;
      readonly tools?: readonly unknown[];
      readonly [extra: string]: unknown;
    } = {},
  ): string {
    const { addGenerationPrompt = false, tools, ...extra } = options;
    try {
      const environment = new Environment(globals(this.#now));
      const variables = { tools: tools ?? null, documents: null, ...extra, messages };
      for (const [name, value] of Object.entries({ ...this.#specialTokens, ...variables })) {
        environment.set(name, value);
      }
      environment.set("add_generation_prompt", addGenerationPrompt);
      return String(new Interpreter(environment).run(this.#program).value);
    } catch (cause) {
      throw new TypeError(`Cannot apply the chat template: ${messageOf(cause)}`, { cause });
    }
  }
}

/** What every template can call and name. */
function globals(now: () => Date): Environment {
  const environment = new Environment();
  environment.set("range", range);
  environment.set("raise_exception", refuse);
  environment.set("strftime_now", (format: string) => strftime(now(), format));
  for (const [name, value] of Object.entries({ true: true, false: false, none: null })) {
    environment.set(name, value);
    environment.set(name.charAt(0).toUpperCase() + name.slice(1), value);
  }
  return environment;
}

/** Python's `range`. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  return Array.from({ length }, (_, i) => start + i * step);
}

function refuse(message: string): never {
  throw new TypeError(message);
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Answers of a model that reasons first: where its prompt has it begin, the run with the reasoning parted
 * from the answer, and a form that holds for the answer alone.
 */
import { CALL_TOKENS } from "../../src/calls/formats.ts";
import { type Parted, REASONING_MARKS, ReasoningReader } from "../../src/calls/reasoning.ts";
import type { ReasoningMarks } from "../../src/calls/reasoning.ts";
import { stringOf, type Text } from "../../src/checkpoint/text/prompt.ts";
import type { ReasoningBudget } from "../../src/engine/request/reasoning_bound.ts";
import type { SamplingParams } from "../../src/engine/request/request.ts";
import type { Grammar } from "../../src/grammar/pool.ts";
import type { ServedModel } from "../context.ts";
import { invalid } from "../errors.ts";
import type { ChatRequest } from "../http/schema/chat.ts";
import { heedsEffort } from "./conversation.ts";
import type { Reasoning, Run, RunDelta } from "./run.ts";
import type { Calling } from "./tools.ts";

/** Tokens at a prompt's end in which a mark is looked for, blanks behind it included. */
const TAIL = 32;

/**
 * How the text behind a prompt begins; undefined where the model does not reason, or has already. Trap:
 * bytes of a long message are gone once the chat has been rendered, so `last` is taken before.
 * @param last what the message has that is gone on with; undefined = a new one begins
 */
export function reasoningOf(
  model: ServedModel,
  body: ChatRequest,
  calling: Calling | undefined,
  { prompt, last }: { readonly prompt: readonly number[]; readonly last: string | undefined },
): Reasoning | undefined {
  const { reasoning: format, tokenizer } = model;
  if (format === undefined) return undefined;
  const marks = REASONING_MARKS[format];
  const tail = tokenizer.decode(prompt.slice(-TAIL), { skipSpecialTokens: false });
  const thinking = mayThink(model, body);
  const said = begun(marks, tail.trimEnd(), last);
  const begins = said ?? (thinking && marks.begins);
  if (begins === "over" || !thinking && !begins) return undefined;
  return {
    ...marks,
    begins,
    begun: said === true,
    openers: calling === undefined ? [] : CALL_TOKENS[calling.format],
    shown: body.include_reasoning !== false,
    special: [marks.start, marks.end].some((mark) => {
      const id = tokenizer.tokenId(mark);
      return id !== undefined && tokenizer.isSpecial(id);
    }),
  };
}

function mayThink(
  model: ServedModel,
  { chat_template_kwargs: extra, reasoning_effort: effort }: ChatRequest,
): boolean {
  const asked = extra?.["enable_thinking"];
  if (asked !== undefined) return asked !== false;
  return effort !== "none" || !heedsEffort(model, effort);
}

/**
 * How long the model may reason, where the request bounds it.
 * @throws {ApiError} 400 where the server does not know how this model marks its reasoning
 */
export function reasoningBudget(
  { reasoning: format, tokenizer }: ServedModel,
  { thinking_token_budget: tokens }: ChatRequest,
  reasoning: Reasoning | undefined,
): ReasoningBudget | undefined {
  if (tokens === undefined || tokens === null || tokens === -1) return undefined;
  if (format === undefined) {
    throw invalid(
      "thinking_token_budget",
      "Cannot bound the reasoning: this server is not told how its model marks it. Leave " +
        "'thinking_token_budget' out, or start the server with --reasoning-parser.",
    );
  }
  if (reasoning === undefined) return undefined;
  const { start, end, openers, begins, begun } = reasoning;
  return {
    ...{ tokens, start, ends: [end, ...openers] },
    closing: tokenizer.encode(end, { addSpecialTokens: false }),
    begins: begun ? "within" : begins ? "unmarked" : "before",
  };
}

/** What a prompt says of it. */
function begun(
  { start, end }: ReasoningMarks,
  tail: string,
  last: string | undefined,
): true | "over" | undefined {
  if (last !== undefined && last.trim() !== "") {
    return last.lastIndexOf(start) > last.lastIndexOf(end) ? true : "over";
  }
  if (tail.endsWith(start)) return true;
  return tail.endsWith(end) ? "over" : undefined;
}

/** The text that is gone on with, where it is the final message's. */
export function continued({ continue_final_message, messages }: ChatRequest): string | undefined {
  const { content } = messages.at(-1) ?? {};
  if (!continue_final_message || !content) return undefined;
  const text = (part: Text) => stringOf(part);
  return Array.isArray(content)
    ? content.map((part) => text(part.text)).join("\n")
    : text(content as Text);
}

/**
 * Sampling where reasoning comes first: a form is the answer's alone, and special marks are shown.
 * @throws {ApiError} 400 where a form is asked for that cannot begin behind the marks
 */
export function behindReasoning(
  sampling: SamplingParams,
  { start, end, begins, special }: Reasoning,
  calling: Calling | undefined,
): SamplingParams {
  const skipSpecialTokens = sampling.skipSpecialTokens && !special;
  const { grammar } = sampling;
  if (grammar === undefined) return { ...sampling, skipSpecialTokens };
  if (!special && calling?.opener === undefined) {
    const behind: Grammar = { type: "behind", start, end, required: begins, grammar };
    return { ...sampling, grammar: behind, skipSpecialTokens };
  }
  const field = calling?.grammar === undefined ? "response_format" : "tool_choice";
  throw invalid(
    field,
    `Invalid '${field}': this model marks its reasoning, or its calls, by special tokens, behind ` +
      "which no form can be held. Leave it out, or have the model not reason.",
  );
}

/** A run whose deltas have the answer as text, and the reasoning apart. */
export function reasonedRun(run: Run, reasoning: Reasoning): Run {
  let tokens = 0;
  return {
    ...run,
    usage: () => ({ ...run.usage(), completion_tokens_details: { reasoning_tokens: tokens } }),
    async *[Symbol.asyncIterator](): AsyncGenerator<RunDelta> {
      const readers = new Map<number, ReasoningReader>();
      for await (const delta of run) {
        const reader = readers.get(delta.index) ?? new ReasoningReader(reasoning);
        readers.set(delta.index, reader);
        const parted = [reader.push(delta.text)];
        if (reader.open) tokens += delta.tokens.length;
        if (delta.finishReason !== undefined) parted.push(reader.finish());
        const answer = joined(parted, "answer");
        yield {
          ...delta,
          text: answer,
          reasoning: reasoning.shown ? joined(parted, "reasoning") : "",
        };
      }
    },
  };
}

function joined(parts: readonly Parted[], side: keyof Parted): string {
  return parts.map((part) => part[side]).join("");
}

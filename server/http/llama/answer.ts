// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A run as llama.cpp's `/completion` answers it: whole, or in events of which the last one of each
 * sequence has all but the text.
 */
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import type { FinishReason, TokenLogprob } from "../../../src/engine/request/request.ts";
import type { ServedModel } from "../../context.ts";
import type { ApiError } from "../../errors.ts";
import type { Sample } from "../../generate/answer.ts";
import { chatLogprobs } from "../../generate/logprobs.ts";
import type { Run } from "../../generate/run.ts";
import type { Drawn, LlamaAnswer, LlamaChunk, LlamaRequest } from "./schema.ts";
import type { Timings } from "../schema/common.ts";
import { type LlamaPlan, settingsOf } from "./to_run.ts";

/** When a run was asked for, and when it gave its first token: milliseconds. */
export interface Clock {
  readonly asked: number;
  readonly first: number;
}

/** What a sequence's end tells. */
type Ended = Pick<Sample, "index" | "text" | "tokens" | "finishReason" | "stopReason">;

/** Tells a run's sequences in llama.cpp's shapes. */
export class Telling {
  readonly #model: ServedModel;
  readonly #plan: LlamaPlan;
  readonly #body: LlamaRequest;
  readonly #clock: Clock;

  constructor(model: ServedModel, plan: LlamaPlan, body: LlamaRequest, clock: Clock) {
    this.#model = model;
    this.#plan = plan;
    this.#body = body;
    this.#clock = clock;
  }

  /** One sequence as a whole, of which `response_fields` may want some fields alone. */
  whole(sample: Sample, run: Run): Partial<LlamaAnswer> {
    const answer = {
      ...this.#end(sample, run),
      content: sample.text,
      tokens: this.#body.return_tokens ? [...sample.tokens] : [],
      ...this.#probabilities(sample.logprobs),
    };
    const wanted = this.#body.response_fields ?? [];
    return wanted.length === 0 ? answer : chosen(answer, wanted);
  }

  /** The events of a run; nothing follows the last one. */
  async *events(run: Run): AsyncGenerator<string> {
    const told = this.#plan.prompts.map(() => ({ text: "", tokens: [] as number[] }));
    let running = told.length;
    for await (const { index, text, tokens, logprobs, finishReason, stopReason } of run) {
      const sequence = told[index];
      if (sequence === undefined) throw new RangeError(`internal: a delta of sequence ${index}`);
      sequence.text += text;
      sequence.tokens.push(...tokens);
      if (finishReason !== undefined && --running === 0) await run.complete();
      if (text !== "") {
        yield event(this.#chunk(index, text, tokens, sequence.tokens.length, logprobs));
      }
      if (finishReason === undefined) continue;
      const end = this.#end({ index, ...sequence, finishReason, stopReason }, run);
      yield event({ ...end, content: "", tokens: [] });
    }
  }

  #chunk(
    index: number,
    content: string,
    tokens: readonly number[],
    count: number,
    logprobs: readonly TokenLogprob[] | undefined,
  ): LlamaChunk {
    return {
      ...{ index, content, tokens: [...tokens], stop: false },
      tokens_predicted: count,
      tokens_evaluated: this.#promptOf(index).length,
      ...this.#probabilities(logprobs),
    };
  }

  #end(ended: Ended, run: Run): Omit<LlamaAnswer, "content" | "tokens"> {
    const { index, text, tokens, finishReason, stopReason } = ended;
    const prompt = this.#promptOf(index);
    const { predict } = this.#plan;
    return {
      index,
      stop: true,
      model: this.#plan.model,
      tokens_predicted: tokens.length,
      tokens_evaluated: prompt.length,
      prompt: this.#model.tokenizer.decode(prompt, { skipSpecialTokens: false }),
      has_new_line: text.includes("\n"),
      truncated: finishReason === "length" && tokens.length !== predict,
      stop_type: stopType(finishReason, stopReason),
      stopping_word: typeof stopReason === "string" ? stopReason : "",
      generation_settings: settingsOf(this.#model, this.#plan, this.#body.stream ?? false),
      timings: this.#timings(prompt.length, tokens.length, run),
    };
  }

  #promptOf(index: number): readonly number[] {
    return this.#plan.prompts[index] ?? [];
  }

  /** Of several sequences the cache's part is known of all together alone: it counts as none. */
  #timings(promptTokens: number, predicted: number, run: Run): Timings {
    const all = this.#plan.prompts.length === 1 ? run.usage().prompt_tokens_details : undefined;
    const cached = all?.cached_tokens ?? 0;
    return timingsOf(this.#clock, { cached, computed: promptTokens - cached, predicted });
  }

  #probabilities(logprobs: readonly TokenLogprob[] | undefined): Pick<
    LlamaAnswer,
    "completion_probabilities"
  > {
    if (logprobs === undefined) return {};
    return { completion_probabilities: drawnOf(this.#model.tokenizer, logprobs) };
  }
}

function drawnOf(tokenizer: Tokenizer, logprobs: readonly TokenLogprob[]): Drawn[] {
  return chatLogprobs(tokenizer, logprobs, {}).map(({ top_logprobs, ...drawn }, index) => {
    const { token: id = 0, top = [] } = logprobs[index] ?? {};
    return {
      id,
      ...drawn,
      top_logprobs: top_logprobs.map((other, at) => ({ id: top[at]?.token ?? 0, ...other })),
    };
  });
}

/** What a run took until now, of so many tokens of a cached prefix, the rest of the prompt and the answer. */
export function timingsOf(
  { asked, first }: Clock,
  tokens: { readonly cached: number; readonly computed: number; readonly predicted: number },
): Timings {
  const [prompt_ms, predicted_ms] = [first - asked, performance.now() - first];
  return {
    cache_n: tokens.cached,
    prompt_n: tokens.computed,
    prompt_ms,
    prompt_per_second: rate(tokens.computed, prompt_ms),
    predicted_n: tokens.predicted,
    predicted_ms,
    predicted_per_second: rate(tokens.predicted, predicted_ms),
  };
}

function rate(tokens: number, ms: number): number {
  return ms > 0 ? tokens / ms * 1000 : 0;
}

function stopType(
  reason: FinishReason,
  stopReason: string | number | undefined,
): LlamaAnswer["stop_type"] {
  if (reason === "length") return "limit";
  if (reason !== "stop") return "none";
  return typeof stopReason === "string" ? "word" : "eos";
}

/** Fields by their paths, under these: `{ "generation_settings/n_predict": 8 }`. */
function chosen(answer: object, paths: readonly string[]): Partial<LlamaAnswer> {
  const found = paths.flatMap((path) => {
    const value = path.split("/").reduce<unknown>(
      (within, name) =>
        typeof within === "object" && within !== null && Object.hasOwn(within, name)
          ? Reflect.get(within, name)
          : undefined,
      answer,
    );
    return value === undefined ? [] : [[path, value]];
  });
  return Object.fromEntries(found);
}

function event(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

/** The last event of a stream that failed. */
export function failedEvent(failure: ApiError): string {
  return event(failure.body());
}

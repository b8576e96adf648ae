// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A run as LoRAX answers it: whole, or an event for each token, of which the last has the text. What a
 * stop string takes back is in no token's text, but in the count.
 */
import type { Tokenizer } from "../../../src/checkpoint/checkpoint.ts";
import type { FinishReason, TokenLogprob } from "../../../src/engine/request/request.ts";
import type { ApiError } from "../../errors.ts";
import type { Sample } from "../../generate/answer.ts";
import type { Run } from "../../generate/run.ts";
import type {
  LoraxAnswer,
  LoraxEnd,
  LoraxFailedEvent,
  LoraxParameters,
  LoraxToken,
  LoraxTokenEvent,
} from "./schema.ts";

type Ended = Pick<Sample, "finishReason" | "stopReason">;

export class LoraxTelling {
  readonly #tokenizer: Tokenizer;
  readonly #asked: LoraxParameters;
  readonly #prompt: readonly number[];

  constructor(tokenizer: Tokenizer, asked: LoraxParameters, prompt: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#asked = asked;
    this.#prompt = prompt;
  }

  whole(sample: Sample): LoraxAnswer {
    const generated_text = this.#full(sample.text);
    if (!this.#asked.details) return { generated_text };
    const tokens = (sample.logprobs ?? []).map((drawn) => this.#token(drawn));
    return {
      generated_text,
      details: { ...this.#end(sample, sample.tokens.length), prefill: [], tokens },
    };
  }

  /** The events of a run; nothing follows the last one. */
  async *events(run: Run): AsyncGenerator<string> {
    let [text, count] = ["", 0];
    for await (const delta of run) {
      text += delta.text;
      const drawn = delta.logprobs ?? [];
      const ended = delta.finishReason === undefined
        ? undefined
        : { finishReason: delta.finishReason, stopReason: delta.stopReason };
      if (ended !== undefined) await run.complete();
      for (const [index, each] of drawn.entries()) {
        count++;
        const last = ended !== undefined && index === drawn.length - 1;
        yield event({
          token: this.#token(each),
          generated_text: last ? this.#full(text) : null,
          details: last ? this.#end(ended, count) : null,
        });
      }
    }
  }

  #full(text: string): string {
    if (!this.#asked.return_full_text) return text;
    return this.#tokenizer.decode(this.#prompt, { skipSpecialTokens: true }) + text;
  }

  #token({ token: id, logprob }: TokenLogprob): LoraxToken {
    const shown = this.#tokenizer.decode([id], { skipSpecialTokens: true });
    const text = this.#tokenizer.decode([id], { skipSpecialTokens: false });
    return { id, text, logprob, special: shown === "" && text !== "" };
  }

  #end({ finishReason, stopReason }: Ended, generated_tokens: number): LoraxEnd {
    return {
      finish_reason: reasonOf(finishReason, stopReason),
      prompt_tokens: this.#prompt.length,
      generated_tokens,
      seed: this.#asked.seed ?? null,
    };
  }
}

function reasonOf(
  reason: FinishReason,
  stopReason: string | number | undefined,
): LoraxEnd["finish_reason"] {
  if (reason !== "stop") return "length";
  return typeof stopReason === "string" ? "stop_sequence" : "eos_token";
}

function event(data: LoraxTokenEvent | LoraxFailedEvent): string {
  return `data:${JSON.stringify(data)}\n\n`;
}

/** The last event of a stream that failed, as LoRAX's clients read it. */
export function failedEvent(failure: ApiError): string {
  const { message, code } = failure.body().error;
  return event({ error: message, error_type: code ?? "generation" });
}

/**
 * A teacher as the engine serves it: the base with a LoRA, a core or nothing, which answers prompts and
 * says what it expects at each position of a row. Its requests are background ones: whoever waits for
 * an answer of the engine's goes before them.
 */
import type { Engine } from "../../../src/engine/engine.ts";
import type {
  Generation,
  GenerationRequest,
  SamplingParams,
  ServedCore,
  TokenLogprob,
} from "../../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING } from "../../../src/engine/request/sampling.ts";
import { LEAST_REST } from "../../../src/graph/ops.ts";
import type { Example, Teaching } from "../../../src/train/gradients/model.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import { waitFor } from "../../../src/util/time.ts";

export interface TeacherOptions {
  readonly engine: Pick<Engine, "generate" | "maxContext">;
  /** Undefined = the base itself. */
  readonly adapter: ServedCore | undefined;
  /** Whose requests these are. */
  readonly tenant: string;
  readonly vocabSize: number;
}

/** How a teacher answers prompts. */
export interface AnswerOptions {
  readonly temperature: number;
  /** Tokens of an answer at most. */
  readonly maxTokens: number;
  readonly seed: number;
}

export class Teacher {
  /** SHA-256 of its adapter, hex, or "base". */
  readonly digest: string;
  readonly #options: TeacherOptions;

  constructor(options: TeacherOptions) {
    this.digest = options.adapter?.digest ?? "base";
    this.#options = options;
  }

  /**
   * A prompt with the teacher's own answer, all of whose tokens carry loss.
   * @throws {RangeError} where the prompt leaves no room for an answer
   */
  async answered(
    { tokens, line }: Example,
    { maxTokens, ...sampling }: AnswerOptions,
    signal?: AbortSignal,
  ): Promise<Example> {
    const room = this.#options.engine.maxContext - tokens.length;
    if (room < 1) {
      throw new RangeError(
        `Cannot have line ${line} answered: its prompt has ${tokens.length} tokens, the context ` +
          `holds ${this.#options.engine.maxContext}`,
      );
    }
    const prompt = Array.from(tokens);
    const asked = { ...sampling, maxTokens: Math.min(maxTokens, room) };
    const answer: number[] = [];
    const generation = await this.#ask({ prompt }, asked, signal);
    for await (const delta of generation) answer.push(...delta.tokens);
    signal?.throwIfAborted();
    const weights = [...prompt.map(() => 0), ...answer.map(() => 1)];
    return {
      tokens: Int32Array.from([...prompt, ...answer]),
      weights: Float32Array.from(weights),
      line,
    };
  }

  /**
   * A row with what the teacher expects where its tokens carry loss: its `count` likeliest tokens, and
   * the rest.
   */
  async taught(row: Example, count: number, signal?: AbortSignal): Promise<Example> {
    const { tokens, weights } = row;
    const known = Math.min(count, this.#options.vocabSize - 1);
    const asked = { temperature: 0, maxTokens: 0 };
    const prompt = Array.from(tokens);
    const generation = await this.#ask({ prompt, promptLogprobs: known }, asked, signal);
    for await (const _ of generation);
    signal?.throwIfAborted();
    const said = generation.promptLogprobs;
    if (said === undefined) throw new TypeError("internal: the engine has not scored a row");
    const positions = said.filter((_, i) => weights[i + 1] !== 0);
    return { ...row, teaching: teachingOf(positions, known) };
  }

  /** Where the engine's queue is full it asks again. */
  async #ask(
    asked: Pick<GenerationRequest, "prompt" | "promptLogprobs">,
    sampling: Partial<SamplingParams>,
    signal: AbortSignal | undefined,
  ): Promise<Generation> {
    const { engine, adapter, tenant } = this.#options;
    const request = {
      ...{ ...asked, id: crypto.randomUUID(), tenant, adapter, n: 1, priority: 0, signal },
      sampling: { ...DEFAULT_SAMPLING, ...sampling },
      background: true,
    };
    while (true) {
      signal?.throwIfAborted();
      try {
        return engine.generate(request);
      } catch (error) {
        if (!(error instanceof OverloadedError)) throw error;
        await waitFor(error.retryAfterSeconds * 1000, signal);
      }
    }
  }
}

function teachingOf(positions: readonly TokenLogprob[], count: number): Teaching {
  const tokens = new Int32Array(positions.length * count);
  const shares = new Float32Array(positions.length * (count + 1));
  positions.forEach(({ top }, i) => {
    tokens.set(top.map(({ token }) => token), i * count);
    shares.set(sharesOf(top.map(({ logprob }) => Math.exp(logprob))), i * (count + 1));
  });
  return { count, tokens, shares };
}

/** With the rest's, summing to 1; a rest that float32 sums do not tell from 0 is none. */
function sharesOf(likeliest: readonly number[]): readonly number[] {
  const sum = likeliest.reduce((total, share) => total + share, 0);
  const rest = 1 - sum;
  if (rest < LEAST_REST) return [...likeliest.map((share) => share / sum), 0];
  return [...likeliest, rest];
}

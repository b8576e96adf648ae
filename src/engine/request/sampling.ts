/**
 * Sampling, from what a caller may ask for (defaults, and checks that name the field at fault) to a
 * sequence's side of each draw: its uniform numbers, and its penalties and biases as sparse changes to
 * the logits, updated with each token.
 */
import type { SampleRow } from "../../executor/model.ts";
import { uniformAt } from "../../executor/philox.ts";
import { ContextLengthError, FieldRangeError } from "../../util/errors.ts";
import { BARRED, BarredWords, maskOf } from "./barred.ts";
import type { ReasoningBound } from "./reasoning_bound.ts";
import type { GenerationRequest, SamplingParams, TenantStanding } from "./request.ts";

/** Alternatives that `logprobs` may ask for (OpenAI's limit). */
export const MAX_LOGPROBS = 20;
/** Stop strings of one request. */
export const MAX_STOPS = 16;
/** Token ids that end a request beside the model's own; vLLM sets no bound. */
export const MAX_STOP_TOKENS = 64;
/** Characters in one stop string: text is held back by up to so much. */
export const MAX_STOP_LENGTH = 256;
/** Entries of one `logit_bias`. */
export const MAX_LOGIT_BIAS = 1024;
/** Sequences of tokens that one request bars, and tokens of each. */
const MAX_BAD_WORDS = 1024;
const MAX_BAD_LENGTH = 64;
/** Samples of one prompt. */
export const MAX_SAMPLES = 128;

/** OpenAI's and vLLM's defaults. */
export const DEFAULT_SAMPLING: SamplingParams = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: new Map(),
  seed: undefined,
  maxTokens: undefined,
  minTokens: 0,
  stop: [],
  stopTokenIds: [],
  includeStopInOutput: false,
  ignoreEos: false,
  skipSpecialTokens: true,
  logprobs: undefined,
  grammar: undefined,
};

/** What a request is checked against. */
export interface RequestLimits {
  readonly vocabSize: number;
  /** Tokens of the longest prompt + output. */
  readonly maxContext: number;
}

/**
 * Checks a request as a whole.
 * @throws {FieldRangeError} naming the field (as the HTTP API spells it), its value and its range.
 * @throws {ContextLengthError} where the prompt, or prompt and maxTokens together, do not fit.
 */
export function validateRequest(request: GenerationRequest, limits: RequestLimits): void {
  const { prompt, sampling } = request;
  validateSampling(sampling, limits.vocabSize);
  integer("n", request.n, 1, MAX_SAMPLES);
  if (request.standing !== undefined) validateStanding(request.standing);
  if (!Number.isFinite(request.priority)) reject("priority", request.priority, "a finite number");
  if (prompt.length === 0) reject("prompt", "empty", "at least one token");
  for (const id of prompt) tokenId("prompt", id, limits.vocabSize);
  const wanted = prompt.length + (sampling.maxTokens ?? 1);
  if (wanted <= limits.maxContext) return;
  const asked = sampling.maxTokens === undefined ? "" : ` and max_tokens is ${sampling.maxTokens}`;
  throw new ContextLengthError(
    `Cannot fit the request into the context of ${limits.maxContext} tokens: ` +
      `the prompt has ${prompt.length}${asked}`,
  );
}

function validateStanding(standing: TenantStanding): void {
  const { weight, priority, concurrency = 1, queued = 0 } = standing;
  if (!(weight > 0 && weight < Infinity)) reject("weight", weight, "a number above 0");
  if (!Number.isFinite(priority)) reject("priority", priority, "a finite number");
  integer("concurrency", concurrency, 1, Number.MAX_SAFE_INTEGER);
  integer("queued", queued, 0, Number.MAX_SAFE_INTEGER);
}

/**
 * Checks sampling parameters against their ranges and a vocabulary.
 * @throws {FieldRangeError} naming the field (as the HTTP API spells it), its value and its range.
 */
export function validateSampling(params: SamplingParams, vocabSize: number): void {
  inRange("temperature", params.temperature, 0, 2);
  if (!(params.topP > 0 && params.topP <= 1)) reject("top_p", params.topP, "above 0 and at most 1");
  if (!Number.isInteger(params.topK) || params.topK < -1) {
    reject("top_k", params.topK, "an integer, at least 1, or 0 or -1 for all tokens");
  }
  inRange("min_p", params.minP, 0, 1);
  inRange("presence_penalty", params.presencePenalty, -2, 2);
  inRange("frequency_penalty", params.frequencyPenalty, -2, 2);
  if (!(params.repetitionPenalty > 0 && Number.isFinite(params.repetitionPenalty))) {
    reject("repetition_penalty", params.repetitionPenalty, "above 0");
  }
  const { seed = 0 } = params;
  if (!Number.isInteger(seed) || Math.abs(seed) > 2 ** 63) {
    reject("seed", seed, "an integer of at most 64 bits, signed");
  }
  if (params.logprobs !== undefined) integer("logprobs", params.logprobs, 0, MAX_LOGPROBS);
  for (const id of params.logprobTokens ?? []) tokenId("logprob_token_ids", id, vocabSize);
  validateLengths(params);
  validateStops(params, vocabSize);
  validateBarred(params, vocabSize);
  validateBias(params.logitBias, vocabSize);
}

function validateLengths(params: SamplingParams): void {
  const { maxTokens, minTokens } = params;
  if (maxTokens !== undefined) integer("max_tokens", maxTokens, 0, Number.MAX_SAFE_INTEGER);
  integer("min_tokens", minTokens, 0, maxTokens ?? Number.MAX_SAFE_INTEGER);
  if (minTokens > 0 && params.grammar !== undefined) {
    const right = "0 together with response_format or a forced tool call, which end by a grammar";
    reject("min_tokens", minTokens, right);
  }
}

function validateBarred(params: SamplingParams, vocabSize: number): void {
  const { allowedTokens, badWords = [], grammar, minTokens } = params;
  for (const id of allowedTokens ?? []) tokenId("allowed_token_ids", id, vocabSize);
  if (allowedTokens?.length === 0) reject("allowed_token_ids", "empty", "at least one token id");
  if (allowedTokens !== undefined && (grammar !== undefined || minTokens > 0)) {
    reject("allowed_token_ids", "set", "left out beside a grammar and beside min_tokens");
  }
  if (badWords.length > MAX_BAD_WORDS) {
    reject("bad_words", badWords.length, `at most ${MAX_BAD_WORDS} sequences of tokens`);
  }
  for (const word of badWords) {
    if (word.length > MAX_BAD_LENGTH) {
      reject("bad_words", `${word.length} tokens`, `words of at most ${MAX_BAD_LENGTH} tokens`);
    }
    for (const id of word) tokenId("bad_words", id, vocabSize);
  }
}

function validateStops(params: SamplingParams, vocabSize: number): void {
  const { stop, stopTokenIds } = params;
  if (stop.length > MAX_STOPS) reject("stop", stop.length, `at most ${MAX_STOPS} strings`);
  for (const text of stop) {
    if (text.length === 0) reject("stop", '""', "non-empty strings");
    if (text.length > MAX_STOP_LENGTH) {
      reject("stop", `${text.length} characters`, `strings of at most ${MAX_STOP_LENGTH}`);
    }
  }
  if (stopTokenIds.length > MAX_STOP_TOKENS) {
    reject("stop_token_ids", stopTokenIds.length, `at most ${MAX_STOP_TOKENS} ids`);
  }
  for (const id of stopTokenIds) tokenId("stop_token_ids", id, vocabSize);
}

function validateBias(bias: ReadonlyMap<number, number>, vocabSize: number): void {
  if (bias.size > MAX_LOGIT_BIAS) {
    reject("logit_bias", bias.size, `at most ${MAX_LOGIT_BIAS} entries`);
  }
  for (const [id, value] of bias) {
    tokenId("logit_bias", id, vocabSize);
    inRange(`logit_bias[${id}]`, value, -100, 100);
  }
}

function tokenId(field: string, id: number, vocabSize: number): void {
  if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
    reject(field, id, `token ids below the vocabulary's size, ${vocabSize}`);
  }
}

function inRange(field: string, value: number, low: number, high: number): void {
  if (!(value >= low && value <= high)) reject(field, value, `between ${low} and ${high}`);
}

function integer(field: string, value: number, low: number, high: number): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  const range = high === Number.MAX_SAFE_INTEGER ? `at least ${low}` : `${low} to ${high}`;
  reject(field, value, `an integer, ${range}`);
}

function reject(field: string, value: number | string, right: string): never {
  const text = `Cannot use ${field}: current value is ${value}, it must be ${right}`;
  throw new FieldRangeError(field, text);
}

/** Sparse logit changes of one sequence: entry i concerns `ids[i]`. */
class LogitAdjustments {
  ids = new Int32Array(16);
  delta = new Float32Array(16);
  repetition = new Float32Array(16);
  size = 0;
  readonly #entries = new Map<number, number>();

  /** The entry of a token, made neutral where it is new. */
  entry(token: number): number {
    const known = this.#entries.get(token);
    if (known !== undefined) return known;
    if (this.size === this.ids.length) this.#grow();
    const at = this.size++;
    this.#entries.set(token, at);
    this.ids[at] = token;
    this.repetition[at] = 1;
    return at;
  }

  add(token: number, delta: number): void {
    const at = this.entry(token);
    this.delta[at] = (this.delta[at] ?? 0) + delta;
  }

  view(): NonNullable<SampleRow["adjust"]> {
    return {
      ids: this.ids.subarray(0, this.size),
      delta: this.delta.subarray(0, this.size),
      repetition: this.repetition.subarray(0, this.size),
    };
  }

  #grow(): void {
    const capacity = 2 * this.ids.length;
    this.ids = copyInto(new Int32Array(capacity), this.ids);
    this.delta = copyInto(new Float32Array(capacity), this.delta);
    this.repetition = copyInto(new Float32Array(capacity), this.repetition);
  }
}

/**
 * The one row object of a sequence, rewritten for each step; the model reads it during `sample`.
 */
interface MutableRow extends SampleRow {
  row: number;
  uniform: number;
  adjust?: NonNullable<SampleRow["adjust"]>;
  mask?: Int32Array;
}

export interface SampleStateOptions {
  readonly params: SamplingParams;
  readonly seed: number;
  /** Which of the request's n samples. */
  readonly sample: number;
  readonly prompt: ArrayLike<number>;
  /** Tokens that end the text; they cannot be drawn before `minTokens` tokens are out. */
  readonly stopTokens: Iterable<number>;
  /** The model's: the length of masks. */
  readonly vocabSize: number;
  /** What bounds its reasoning; undefined = nothing. */
  readonly bound?: ReasoningBound | undefined;
}

/** Builds one sequence's `SampleRow` for each step. */
export class SampleState {
  readonly #params: SamplingParams;
  readonly #seed: number;
  readonly #sample: number;
  readonly #row: MutableRow;
  readonly #adjust = new LogitAdjustments();
  readonly #counted = new Set<number>();
  readonly #barred: readonly number[];
  readonly #allowed: Int32Array | undefined;
  readonly #words: BarredWords | undefined;
  readonly #bound: ReasoningBound | undefined;
  readonly #vocabSize: number;
  /** Changes of tokens that are barred for the next draw alone, as they were before. */
  readonly #before = new Map<number, number>();
  #outputs = 0;

  constructor(options: SampleStateOptions) {
    const { params } = options;
    this.#params = params;
    this.#seed = options.seed;
    this.#sample = options.sample;
    this.#row = {
      row: 0,
      temperature: params.temperature,
      uniform: 0,
      ...(params.topK > 0 ? { topK: params.topK } : {}),
      ...(params.topP < 1 ? { topP: params.topP } : {}),
      ...(params.minP > 0 ? { minP: params.minP } : {}),
      ...(params.logprobs === undefined ? {} : { logprobs: params.logprobs }),
      ...(params.logprobTokens === undefined ? {} : { given: params.logprobTokens }),
    };
    for (const [token, bias] of params.logitBias) this.#adjust.add(token, bias);
    if (params.repetitionPenalty !== 1) this.#penalizePrompt(options.prompt);
    this.#barred = params.minTokens > 0 ? [...new Set(options.stopTokens)] : [];
    for (const token of this.#barred) this.#adjust.add(token, -Infinity);
    const { allowedTokens, badWords = [] } = params;
    this.#allowed = allowedTokens && maskOf(allowedTokens, options.vocabSize);
    this.#words = badWords.length === 0 ? undefined : new BarredWords(badWords);
    this.#bound = options.bound;
    this.#vocabSize = options.vocabSize;
  }

  /** Output tokens seen so far. */
  get outputs(): number {
    return this.#outputs;
  }

  /** Whether the next draw may depend on tokens drawn before, beyond their logits. */
  get looksBack(): boolean {
    const { presencePenalty, frequencyPenalty, repetitionPenalty, minTokens } = this.#params;
    return this.#words !== undefined || this.#outputs < minTokens || this.#bound?.over === false ||
      presencePenalty !== 0 || frequencyPenalty !== 0 || repetitionPenalty !== 1;
  }

  /** The number in [0, 1) of the next draw, or of a draw some tokens later. */
  uniform(later = 0): number {
    return uniformAt(this.#seed, this.#sample, this.#outputs + later);
  }

  /** The row for logits row `row`; valid until the next call. */
  row(row: number, mask: Int32Array | undefined): SampleRow {
    this.#row.row = row;
    this.#row.uniform = this.uniform();
    if (this.#words !== undefined && this.#before.size === 0) this.#bar(this.#words);
    if (this.#adjust.size > 0) this.#row.adjust = this.#adjust.view();
    const forced = this.#bound?.forced;
    const allowed = forced === undefined
      ? mask ?? this.#allowed
      : maskOf([forced], this.#vocabSize);
    if (allowed !== undefined) this.#row.mask = allowed;
    else delete this.#row.mask;
    return this.#row;
  }

  /** Counts a drawn token into the penalties. */
  push(token: number): void {
    const { presencePenalty, frequencyPenalty, repetitionPenalty, minTokens } = this.#params;
    this.#outputs++;
    this.#admit();
    this.#words?.push(token);
    this.#bound?.push(token);
    if (this.#outputs === minTokens) this.#admitStops();
    if (frequencyPenalty !== 0) this.#adjust.add(token, -frequencyPenalty);
    if (presencePenalty === 0 && repetitionPenalty === 1) return;
    if (this.#counted.has(token)) return;
    this.#counted.add(token);
    if (presencePenalty !== 0) this.#adjust.add(token, -presencePenalty);
    if (repetitionPenalty !== 1) this.#repeat(token);
  }

  #bar(words: BarredWords): void {
    for (const token of words.next()) {
      const at = this.#adjust.entry(token);
      this.#before.set(at, this.#adjust.delta[at] ?? 0);
      this.#adjust.delta[at] = BARRED;
    }
  }

  #admit(): void {
    for (const [at, delta] of this.#before) this.#adjust.delta[at] = delta;
    this.#before.clear();
  }

  #penalizePrompt(prompt: ArrayLike<number>): void {
    for (let i = 0; i < prompt.length; i++) this.#repeat(prompt[i] ?? 0);
  }

  #repeat(token: number): void {
    const at = this.#adjust.entry(token);
    this.#adjust.repetition[at] = this.#params.repetitionPenalty;
  }

  /** Barred tokens were never drawn, so no penalty applies to them: only their bias. */
  #admitStops(): void {
    for (const token of this.#barred) {
      const at = this.#adjust.entry(token);
      this.#adjust.delta[at] = this.#params.logitBias.get(token) ?? 0;
    }
  }
}

function copyInto<T extends Int32Array | Float32Array>(target: T, source: T): T {
  target.set(source);
  return target;
}

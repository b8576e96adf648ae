/**
 * What the engine needs of a loaded model: rows of a KV cache, a step over them, and tokens drawn
 * from its logits. `executor.ts` implements it on the runtime, `tests/fakes/model.ts` without weights.
 *
 * A **slot** is a row of the KV cache. The slots in use are always 0 … count-1: a decode step is
 * one run over all of them. When a sequence leaves, the engine moves the last slot into the hole.
 */

import type { ResidentLora } from "../models/lora.ts";

/** A core as the model wants it: full factor rank, scale folded in, zero padded. */
export interface ResidentCore {
  /** SHA-256 of the core, hex. */
  readonly digest: string;
  /** [layers][rank][modules × rank], row major: `u · [G_q | G_k | …]`, s folded in. */
  readonly data: Float32Array;
}

/** What a slot's row has beside the base. */
export type ResidentAdapter = ResidentCore | ResidentLora;

/** Whether it brings its own A and B. */
export function isLora(adapter: ResidentAdapter | undefined): adapter is ResidentLora {
  return adapter !== undefined && "modules" in adapter;
}

export interface PrefillRow {
  readonly slot: number;
  /** The chunk's tokens, at positions past … past + tokens.length - 1. */
  readonly tokens: ArrayLike<number>;
  /** Tokens already in the slot. */
  readonly past: number;
  /** Whether this chunk ends the prompt, so that its last position's logits are wanted. */
  readonly last: boolean;
}

/** How one row's next token is drawn. Defaults (undefined) switch a transform off. */
export interface SampleRow {
  /** Which row of the last step's logits (decode: slot; prefill: index into its rows). */
  readonly row: number;
  /** 0 = greedy. */
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  /** The uniform number in [0, 1) with which this token is drawn, from the row's own seed. */
  readonly uniform: number;
  /**
   * Sparse changes: `logits[ids[i]]` is divided by `repetition[i]` where it is positive and
   * multiplied where it is not (as transformers does), then `delta[i]` is added.
   */
  readonly adjust?: {
    readonly ids: Int32Array;
    /** logit_bias - presence penalty - frequency penalty × count. */
    readonly delta: Float32Array;
    /** 1 = none. */
    readonly repetition: Float32Array;
  };
  /** Allowed tokens as a bit mask, 32 a word (xgrammar's layout); undefined = all. */
  readonly mask?: Int32Array;
  /** How many most likely tokens to report; 0 = the drawn one's logprob alone, undefined = none. */
  readonly logprobs?: number;
  /** Tokens to report besides, whatever is drawn; only with `logprobs`. */
  readonly given?: readonly number[];
}

export interface Sampled {
  readonly token: number;
  /**
   * Natural log of the model's own probability (temperature 1, no mask, no penalties); if asked
   * for.
   */
  readonly logprob?: number;
  readonly top?: readonly { readonly token: number; readonly logprob: number }[];
  /** Of the tokens that were given, in their order. */
  readonly given?: readonly GivenLogprob[];
}

export interface GivenLogprob {
  readonly token: number;
  readonly logprob: number;
  /** 1 = the most likely: how many tokens are more likely, and one. */
  readonly rank: number;
}

/** A saved part of a row's keys and values, on the host or the device. */
export interface KvBlock {
  readonly length: number;
  readonly byteLength: number;
  release(): void;
}

/** Decode steps that a device does one after the other, each of the tokens that the last one drew. */
export interface StepsAhead {
  /** How many of them for rows that are drawn so, slot by slot; 1 where the host is needed between. */
  most(rows: readonly SampleRow[]): number;
  /**
   * A `decode` and a `sample` of `rows` for each of `uniforms`, which has every row's uniform number
   * of that step. It may do fewer, at least one.
   * @returns the tokens of each step, slot by slot
   */
  run(
    tokens: ArrayLike<number>,
    lengths: ArrayLike<number>,
    rows: readonly SampleRow[],
    uniforms: readonly (readonly number[])[],
  ): Promise<readonly (readonly number[])[]>;
}

/** One lane: a base model joined with one factor set (or none), and its own KV slots. */
export interface BatchModel {
  readonly vocabSize: number;
  readonly maxBatch: number;
  readonly maxContext: number;
  /** Bytes of one token's keys and values. */
  readonly kvBytesPerToken: number;
  /** Most tokens that a prefill run should have. */
  readonly prefillTokens: number;
  /** Most tokens of a row's chunk behind `past` others, so that its memory stays bounded. */
  chunkTokens(past: number): number;

  /** Makes ready what rows of an adapter need; undefined where that is there. */
  prepare(adapter: ResidentAdapter): Promise<void> | undefined;
  /** Gives a slot its prepared adapter (undefined = base) before its first prefill. */
  setAdapter(slot: number, adapter: ResidentAdapter | undefined): void;
  /**
   * Runs chunks. Several rows in one run only where all have past = 0; a row with past > 0 goes
   * alone. Logits of each row's last position become rows 0 … rows.length-1 for `sample`.
   */
  prefill(rows: readonly PrefillRow[]): Promise<void>;
  /** Tokens that `score` takes at most: it holds the logits of each. */
  readonly scoredTokens: number;
  /**
   * Computes a row's chunk like `prefill` alone, but for logits to sample from, and tells of each
   * token how likely `next`, the one after it, was, with the `top` most likely ones; the last token
   * of a prompt has no next one.
   */
  score(row: PrefillRow, next: ArrayLike<number>, top: number): Promise<readonly Sampled[]>;
  /**
   * One token for each of the slots 0 … tokens.length-1. lengths[i] = tokens already in slot i
   * (the new one is written at that position). Logits become rows 0 … n-1 for `sample`.
   */
  decode(tokens: ArrayLike<number>, lengths: ArrayLike<number>): Promise<void>;
  /** Tokens that `draft` takes at most; 0 where it is of no use. */
  readonly draftTokens: number;
  /** Computes a row's chunk like `prefill` alone; its tokens' logits are rows for `sampleDraft`. */
  draft(row: PrefillRow): Promise<void>;
  /** Draws as `sample` does, from the last draft's logits. */
  sampleDraft(rows: readonly SampleRow[]): Promise<readonly Sampled[]>;
  /** Undefined where the host is in every step. */
  readonly ahead?: StepsAhead | undefined;
  /** Draws tokens from the last step's logits, in the order of `rows`. */
  sample(rows: readonly SampleRow[]): Promise<readonly Sampled[]>;

  /** Moves a slot's keys, values (the first `length` tokens) and core into another slot. */
  move(from: number, to: number, length: number): void;
  /** The slot's row has left. Pages may stay for its next row; `residentBytes` counts them. */
  free(slot: number): void;
  /** Bytes of a slot's keys and values in memory, those that a former row left included. */
  residentBytes(slot: number): number;
  /** Gives a slot's memory behind its first `tokens` tokens back to the system. */
  trim(slot: number, tokens: number): void;
  /** Copies positions start … end-1 out of a slot. */
  save(slot: number, start: number, end: number): KvBlock;
  /** Copies a saved block into a slot at `start`. */
  load(slot: number, start: number, block: KvBlock): void;
  /** @throws {Error} `internal: …` where its own books do not balance. */
  checkIntegrity(): void;
}

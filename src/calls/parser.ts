/**
 * Tool calls in a model's text, read as it grows: what a parser gives. It sees every character once
 * and decides by the characters alone, so that a text gives the same however it is cut.
 */

/** What text turned out to be. */
export type CallEvent =
  | { readonly type: "text"; readonly text: string }
  /** A call of a function that there is begins. Calls are counted from 0, broken ones too. */
  | { readonly type: "call"; readonly call: number; readonly name: string }
  /** The next piece of the call's arguments, as JSON text. */
  | { readonly type: "arguments"; readonly call: number; readonly text: string }
  /** What has begun is no call after all: `text` is all of it, as the model wrote it. */
  | { readonly type: "broken"; readonly call: number; readonly text: string };

/** How a text ended: the model ended it, or it was cut off (`max_tokens`). */
export type TextEnd = "whole" | "cut";

/** Reads one sample's text. */
export interface CallParser {
  push(text: string): readonly CallEvent[];
  /** What was held back. A call that was cut off stays as far as it goes. */
  finish(end: TextEnd): readonly CallEvent[];
}

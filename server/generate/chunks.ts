// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * The events of a streamed completion, as strings. It owns what is constant over a stream and
 * written once, so that a token costs one `JSON.stringify` of its text; the two endpoints differ in
 * how they write a choice.
 */
import type { GenerationDelta } from "../../src/engine/request/request.ts";
import type { Run } from "./run.ts";
import type { UsageBody } from "../http/schema/common.ts";
import { DONE_EVENT } from "../http/sse.ts";

/** The constant fields of every chunk. */
export interface ChunkHead {
  readonly id: string;
  readonly object: "chat.completion.chunk" | "text_completion";
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export interface ChunkUsage {
  /** A last chunk with the usage, and null before it. */
  readonly last: boolean;
  /** The usage so far in every chunk. */
  readonly continuous: boolean;
}

/** Writes a choice's fields after its index, e.g. `"text":"x","logprobs":null`; no finish reason. */
export type ChoiceWriter = (delta: GenerationDelta) => string;

/** Events of a run, `[DONE]` at its end. `first` are choices to send before any delta. */
export async function* chunkEvents(
  head: ChunkHead,
  run: Run,
  usage: ChunkUsage,
  write: ChoiceWriter,
  first: readonly string[] = [],
): AsyncGenerator<string> {
  const open = `data: ${JSON.stringify(head).slice(0, -1)},"choices":[`;
  const tail = usage.last && !usage.continuous ? `],"usage":null}\n\n` : `]}\n\n`;
  const close = usage.continuous
    ? () => `],"usage":${JSON.stringify(run.usage())}}\n\n`
    : () => tail;
  for (const choice of first) yield open + choice + close();
  let running = run.plan.prompts.length * run.plan.n;
  for await (const delta of run) {
    if (delta.finishReason !== undefined && --running === 0) await run.complete();
    if (isSilent(delta)) continue;
    yield `${open}{"index":${delta.index},${write(delta)}${ending(delta)}}${close()}`;
  }
  yield usage.last ? open + usageEnd(run.usage()) + DONE_EVENT : DONE_EVENT;
}

/** A token whose text is still held back says nothing yet. */
function isSilent(delta: GenerationDelta): boolean {
  return delta.text === "" && delta.finishReason === undefined &&
    (delta.logprobs === undefined || delta.logprobs.length === 0);
}

function ending({ finishReason, stopReason }: GenerationDelta): string {
  if (finishReason === undefined) return `,"finish_reason":null`;
  return `,"finish_reason":"${finishReason}","stop_reason":${JSON.stringify(stopReason ?? null)}`;
}

function usageEnd(usage: UsageBody): string {
  return `],"usage":${JSON.stringify(usage)}}\n\n`;
}

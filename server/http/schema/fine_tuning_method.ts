// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * OpenAI's `method` of a fine-tuning job, as the command line asks for it and as a job shows it;
 * "distillation", by a teacher, is lembas' own. It needs no schema, so that a command starts fast.
 */
import type { Following } from "../../../adapters/training/distillation/taught_rows.ts";

/** Whom a job follows, and how; the seed is the job's. */
interface Followed extends Omit<Following, "seed"> {
  readonly teacher: string;
}

type MethodBody<H> =
  | { readonly type: "supervised"; readonly supervised: { readonly hyperparameters: H } }
  | {
    readonly type: "distillation";
    readonly distillation: {
      readonly teacher: string;
      readonly on: Followed["on"];
      readonly temperature: number;
      readonly hyperparameters: H;
      readonly teacher_tokens: number;
      readonly max_tokens: number;
    };
  };

export function methodBody<H>(followed: Followed | undefined, hyperparameters: H): MethodBody<H> {
  if (followed === undefined) return { type: "supervised", supervised: { hyperparameters } };
  const { teacher, on, count: teacher_tokens, temperature, maxTokens: max_tokens } = followed;
  return {
    type: "distillation",
    distillation: { teacher, on, temperature, hyperparameters, teacher_tokens, max_tokens },
  };
}

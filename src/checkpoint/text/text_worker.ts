/**
 * The thread in which long texts become tokens and long conversations texts: seconds that would hold
 * up the event loop. It opens the checkpoint for the first of them (the weights stay on disk), and
 * keeps its tables for a while.
 */
import { Once } from "../../util/memo.ts";
import { Moved, serve } from "../../util/worker_serve.ts";
import type { Checkpoint, TemplateChoice } from "../checkpoint.ts";
import { openCheckpoint } from "../open.ts";
import { type Prompt, type PromptOptions, promptTokens } from "./prompt.ts";

interface Asked {
  /** Of the checkpoint, as `openCheckpoint` takes it: the same each time. */
  readonly path: string;
  readonly template: TemplateChoice | undefined;
  readonly prompt: Prompt;
  readonly options: PromptOptions;
}

/** Milliseconds without a text after which the tables go. */
const IDLE_MS = 60_000;

function textWork() {
  let checkpoint: Once<Checkpoint> | undefined;
  let idle: ReturnType<typeof setTimeout> | undefined;
  return {
    async read({ path, template, prompt, options }: Asked) {
      clearTimeout(idle);
      idle = setTimeout(() => checkpoint = undefined, IDLE_MS);
      checkpoint ??= new Once(() => openCheckpoint(path, template));
      const tokens = promptTokens(await checkpoint.get(), prompt, options);
      if (tokens.type !== "ids") return tokens;
      const ids = Int32Array.from(tokens.ids);
      return new Moved({ type: "ids" as const, ids }, [ids.buffer]);
    },
  };
}

export type TextWork = ReturnType<typeof textWork>;

serve(textWork());

/**
 * The thread that turns one training file into examples: megabytes of text on one line would hold up
 * the event loop. The stream that it is handed waits for it, so no more than a piece or two are here.
 */
import type { TemplateChoice } from "../../checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../checkpoint/open.ts";
import { serve } from "../../util/worker_serve.ts";
import { readDatasetInTurns } from "./dataset.ts";
import type { Answers } from "./messages.ts";

interface Asked {
  readonly file: ReadableStream<Uint8Array>;
  /** Of the checkpoint, as `openCheckpoint` takes it. */
  readonly path: string;
  readonly template: TemplateChoice | undefined;
  readonly maxContext: number;
  readonly answers: Answers | undefined;
}

const work = {
  async read({ file, path, template, ...options }: Asked) {
    using source = await openCheckpoint(path, template);
    return await readDatasetInTurns(file, { source, ...options });
  },
};

export type DatasetWork = typeof work;

serve(work);

/** When work that waits in a store is looked for: at news of it, and from time to time. */
import type { Store } from "../../adapters/store/store.ts";

/** Milliseconds between looks into a queue: another process's lease ends without a notice. */
export const LOOK_MS = { postgres: 1000, sqlite: 5000 } as const;
/** Milliseconds between looks for what lies in no queue because a process died before. */
const SWEEP_MS = 60_000;

/** What is done on each occasion. */
export interface Occasions {
  /** One changed; undefined = any may have. */
  readonly hear: (id: string | undefined) => void;
  readonly look: () => void;
  readonly sweep: () => void;
}

/** @returns what ends it */
export function listenFor(
  { changes, kind }: Pick<Store, "changes" | "kind">,
  work: "job" | "batch",
  { hear, look, sweep }: Occasions,
): Disposable {
  using ends = new DisposableStack();
  ends.use(changes.on(work, ({ id }) => hear(id)));
  ends.use(changes.on("resync", () => hear(undefined)));
  ends.adopt(setInterval(look, LOOK_MS[kind]), clearInterval);
  ends.adopt(setInterval(sweep, SWEEP_MS), clearInterval);
  return ends.move();
}

/**
 * Where the programs of this room begin, and the workers, whose URLs Deno does not follow by itself.
 * `deno task packages` installs what these modules import; nothing runs this one.
 */
export const BEGINNINGS = [
  () => import("./main.ts"),
  () => import("./train.ts"),
  () => import("./admin.ts"),
  () => import("./factors.ts"),
  () => import("./json_worker.ts"),
  () => import("../adapters/database/pglite_worker.ts"),
  () => import("../adapters/factors_worker.ts"),
  () => import("../src/checkpoint/text_worker.ts"),
  () => import("../src/engine/grammar/worker.ts"),
  () => import("../src/runtime/run_worker.ts"),
  () => import("../src/train/dataset_worker.ts"),
] as const;

/** The queues of jobs on the store's database, whichever it is. */
import type { Database } from "../../adapters/store/database/database.ts";
import { TableQueues } from "./table_queue.ts";
import type { WorkQueues } from "./work_queue.ts";

/** Opens the queues on a database; `onError` hears what their upkeep could not do. */
export async function openQueues(
  database: Database,
  onError: (error: Error) => void,
): Promise<WorkQueues> {
  if (database.kind === "sqlite") return new TableQueues(database);
  // pg-boss takes a tenth of a second to load
  const { BossQueues } = await import("./boss_queue.ts");
  return await BossQueues.open(database, onError);
}

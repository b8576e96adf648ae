/** The queues of jobs on the store's database, whichever it is. */
import type { Database } from "../../adapters/store/database/database.ts";
import { BossQueues } from "./boss_queue.ts";
import { TableQueues } from "./table_queue.ts";
import type { WorkQueues } from "./work_queue.ts";

/** Opens the queues on a database; `onError` hears what their upkeep could not do. */
export function openQueues(
  database: Database,
  onError: (error: Error) => void,
): Promise<WorkQueues> {
  return database.kind === "postgres"
    ? BossQueues.open(database, onError)
    : Promise.resolve(new TableQueues(database));
}

/** placeholder */
import type { PgliteDatabase } from "../database/pglite_database.ts";
export function backupPglite(
  _d: PgliteDatabase,
  _p: string,
  _f: string,
): Promise<{ bytes: number }> {
  return Promise.reject(new Error("not yet"));
}

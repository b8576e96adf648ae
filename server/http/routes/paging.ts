/** Pages as routes ask for them. It owns the answer to a cursor that names nothing. */
import { invalid } from "../errors.ts";
import { GoneError } from "../../../adapters/store/gone_error.ts";
import type { Page } from "../../../adapters/store/store.ts";

/** @throws {ApiError} 400 where `after` names nothing that is listed. */
export async function pageIn<T>(read: () => Promise<Page<T>>): Promise<Page<T>> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof GoneError) throw error;
    if (error instanceof RangeError) throw invalid("after", error.message);
    throw error;
  }
}

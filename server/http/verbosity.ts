/** OpenAI's `verbosity`, which has no effect here. */
import type { AppContext } from "../context.ts";

/**
 * Names a verbosity that a request asks for in vain, as other arguments that are left out.
 * @throws {ApiError} 400 where the server is strict
 */
export function noteVerbosity(
  c: AppContext,
  name: "verbosity" | "text.verbosity",
  value: string | null | undefined,
): void {
  if (!value || value === "medium") return;
  c.get("unknown").leaveOut(c.get("notes"), name, "medium");
}

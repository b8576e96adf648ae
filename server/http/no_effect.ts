/** Arguments of OpenAI's that have no effect here, or none with the model: named, or refused. */
import type { AppContext, ServedModel } from "../context.ts";
import { heedsEffort } from "../generate/conversation.ts";
import type { Effort } from "./schema/common.ts";

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

/**
 * The same of an effort that the model's chat template does not read.
 * @throws {ApiError} 400 where the server is strict
 */
export function noteEffort(
  c: AppContext,
  model: ServedModel,
  name: "reasoning_effort" | "reasoning.effort" | "output_config.effort",
  effort: Effort | null | undefined,
): void {
  if (!effort || heedsEffort(model, effort)) return;
  c.get("unknown").leaveOut(c.get("notes"), name, effort === "none" ? undefined : "none");
}

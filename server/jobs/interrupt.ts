/** Why a job's work is broken off. What that means for the job is the phases'. */

/**
 * "cancel" and "pause": its record says so already. "stop": this process ends. "lost": another process
 * has the job now.
 */
export type InterruptKind = "cancel" | "pause" | "stop" | "lost";

/** Why a job's signal was aborted. */
export class Interrupt extends Error {
  override readonly name = "AbortError";
  constructor(readonly kind: InterruptKind) {
    super(`the job was interrupted: ${kind}`);
  }
}

/**
 * The text on which int8's channel scales are calibrated: general prose, questions and answers,
 * chats and lists of our own, in `calibration.txt` beside this file.
 */

/** The whole text. Read on each call: it is wanted once in a process at most. */
export function calibrationText(): string {
  return Deno.readTextFileSync(new URL("calibration.txt", import.meta.url));
}

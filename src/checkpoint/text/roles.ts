/** Whose a message is: the roles of requests and of training data alike. */

export const ROLES = ["system", "developer", "user", "assistant", "tool", "function"] as const;
export type Role = typeof ROLES[number];

/** The role as templates know it: a developer's message is the system's. */
export function templateRole<R extends string>(role: R): Exclude<R, "developer"> | "system" {
  return role === "developer" ? "system" : role as Exclude<R, "developer">;
}

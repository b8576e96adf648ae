/**
 * News of changes, from this process and from others on the same database: told within a second by
 * NOTIFY. A notice is a hint to look again, never the truth itself; one may be lost where the
 * connection breaks, so listeners also look from time to time ("resync" says that it was).
 */

export const CHANGE_KINDS = ["core", "key", "tenant", "factors", "model", "job"] as const;
export type ChangeKind = typeof CHANGE_KINDS[number];

export interface ChangeDetail {
  readonly tenant?: string;
  /** core: its name; key, tenant, model, job: the id; factors: the digest. */
  readonly id?: string;
}

export interface Changes {
  /** Listeners are called without waiting; what they throw is logged. */
  on(kind: ChangeKind | "resync", listener: (detail: ChangeDetail) => void): Disposable;
  /** Tells every process, this one too. The stores call it for what they change. */
  tell(kind: ChangeKind, detail: ChangeDetail): Promise<void>;
}

/**
 * Cores that jobs made, under their `ft:` names: records and interface. The core itself lies in the
 * core store, under the tenant's name and version that the record says.
 */

/** A core that a job made, served by name. */
export interface PublishedModel {
  /** `ft:BASE:TENANT:SUFFIX:ID`. */
  readonly id: string;
  readonly jobId: string;
  readonly tenant: string;
  /** Its adapter's name within the tenant. */
  readonly name: string;
  readonly version: number;
  readonly createdAt: number;
  /** Digests of the base, of the core, and of the factor set that it names. */
  readonly base: string;
  readonly core: string;
  readonly factors: string;
  /** What its job says once this is published: a crash in between loses nothing. */
  readonly trainedTokens: number;
  readonly resultFiles: readonly string[];
}

/** A model to publish; the store gives it its version. */
export type NewModel = Omit<PublishedModel, "version" | "tenant">;

/** Of one tenant. */
export interface ModelStore {
  /**
   * Keeps the core as its name's next version, makes that current, and writes the model down: one
   * transaction, the moment at which it is published. One of the same id is replaced.
   * @throws {TypeError} for what is no core file; {RangeError} where the tenant is not there;
   *   {QuotaError} where it may store no more
   */
  publish(model: NewModel, core: Uint8Array): Promise<PublishedModel>;
  /** Oldest first. */
  all(): Promise<readonly PublishedModel[]>;
  find(id: string): Promise<PublishedModel | undefined>;
  /** Removes the model and its core's version. Whether there was one. */
  remove(id: string): Promise<boolean>;
}

/** Published models of all tenants. */
export interface ModelDirectory {
  /** Oldest first. */
  all(): Promise<readonly PublishedModel[]>;
}

/** That a tenant may store no more. */

export class QuotaError extends Error {
  override readonly name = "QuotaError";
  constructor(
    readonly tenant: string,
    /** Bytes: what the tenant may store, what it stores, and what was to be added. */
    readonly quota: { readonly limit: number; readonly used: number; readonly asked: number },
  ) {
    const { limit, used, asked } = quota;
    super(
      `Cannot store ${asked} bytes for tenant '${tenant}': it stores ${used}, its limit is ` +
        `${limit}. Delete files or cores, or raise the limit 'storedBytes'.`,
    );
  }
}

/** What callers of the store tell apart. */

/** That content is not what was stored: whoever owns it sets it aside. */
export class DamagedError extends TypeError {
  override readonly name = "DamagedError";
}

/** That what is asked for, or what it would belong to, is not there, or not any more. */
export class GoneError extends RangeError {
  override readonly name = "GoneError";
}

export function noTenant(tenant: string): GoneError {
  return new GoneError(`Cannot find tenant '${tenant.slice(0, 80)}': there is none`);
}

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
        `${limit}. Delete files, cores, stored responses or chats, or raise the limit 'storedBytes'.`,
    );
  }
}

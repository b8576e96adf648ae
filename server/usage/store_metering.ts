/**
 * Metering over a store: limits read from it and usage written to it. It owns what listens to the
 * store and what is not written yet, until disposed; it knows no request.
 */
import type { Store } from "../../adapters/store/store.ts";
import type { Access } from "../access/auth.ts";
import { RateLimits } from "../limits/rate_limits.ts";
import { TenantLimitsReader } from "../limits/tenant_limits.ts";
import type { Log } from "../telemetry/log.ts";
import { Metering } from "./metering.ts";
import { UsageRecorder } from "./recorder.ts";

export interface StoreMeteringOptions {
  /** How many processes share the limits; default: this one alone. */
  readonly replicas?: () => number;
  /** The tenant that a request is counted under (`Access.admit`); default: where it is there. */
  readonly admit?: Access["admit"];
}

export class StoreMetering extends Metering implements AsyncDisposable {
  /** Takes records of work that is not a request's. */
  readonly recorder: UsageRecorder;
  readonly #readers: readonly TenantLimitsReader[];

  constructor(
    { tenants, changes, usage }: Pick<Store, "tenants" | "changes" | "usage">,
    log: Log,
    { replicas, admit = (id) => tenants.find(id) }: StoreMeteringOptions = {},
  ) {
    const limits = new TenantLimitsReader({ tenants: { find: admit }, changes });
    const known = new TenantLimitsReader({ tenants, changes });
    const recorder = new UsageRecorder({ store: usage, log });
    super({ limits, known, rates: new RateLimits({ replicas: replicas ?? (() => 1) }), recorder });
    this.recorder = recorder;
    this.#readers = [limits, known];
  }

  /** Writes what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const reader of this.#readers) reader[Symbol.dispose]();
    await this.recorder[Symbol.asyncDispose]();
  }
}

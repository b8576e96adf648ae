/**
 * Metering over a store: limits read from it and usage written to it. It owns what listens to the
 * store and what is not written yet, until disposed; it knows no request.
 */
import type { Store } from "../../adapters/store/store.ts";
import { RateLimits } from "../limits/rate_limits.ts";
import { TenantLimitsReader } from "../limits/tenant_limits.ts";
import type { Log } from "../log.ts";
import { Metering } from "./metering.ts";
import { UsageRecorder } from "./recorder.ts";

export class StoreMetering extends Metering implements AsyncDisposable {
  /** Takes records of work that is not a request's. */
  readonly recorder: UsageRecorder;
  readonly #limits: TenantLimitsReader;

  /** @param replicas how many processes share the limits; default: this one alone */
  constructor(
    store: Pick<Store, "tenants" | "changes" | "usage">,
    log: Log,
    replicas: () => number = () => 1,
  ) {
    const limits = new TenantLimitsReader(store);
    const recorder = new UsageRecorder({ store: store.usage, log });
    super({ limits, rates: new RateLimits({ replicas }), recorder });
    this.recorder = recorder;
    this.#limits = limits;
  }

  /** Writes what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#limits[Symbol.dispose]();
    await this.recorder[Symbol.asyncDispose]();
  }
}

/**
 * A token bucket: so many a minute, all of them at once after a quiet minute. It owns one level and
 * how it rises; what a token stands for is its holder's. Times are milliseconds of a monotonic clock.
 */
const MINUTE = 60_000;

export class TokenBucket {
  #perMinute: number;
  #level: number;
  #at: number;

  /** Full. @param perMinute above 0 */
  constructor(perMinute: number, now: number) {
    this.#perMinute = perMinute;
    this.#level = perMinute;
    this.#at = now;
  }

  /** What it holds at most, which is what a minute brings. */
  get perMinute(): number {
    return this.#perMinute;
  }

  /** Another rate from now on; what was taken stays taken. */
  resize(perMinute: number, now: number): void {
    const taken = this.#perMinute - this.level(now);
    this.#perMinute = perMinute;
    this.#level = perMinute - taken;
  }

  /** What may be taken; below 0 where more was used than there was. */
  level(now: number): number {
    const gained = (now - this.#at) * this.#perMinute / MINUTE;
    this.#level = Math.min(this.#perMinute, this.#level + gained);
    this.#at = now;
    return this.#level;
  }

  /** Takes an amount whether it is there or not; a negative one is given back. */
  take(amount: number, now: number): void {
    this.#level = Math.min(this.#perMinute, this.level(now) - amount);
  }

  /** Milliseconds until it holds `amount`, at most a whole bucket. */
  waitFor(amount: number, now: number): number {
    const missing = Math.min(amount, this.#perMinute) - this.level(now);
    return Math.max(0, missing) * MINUTE / this.#perMinute;
  }
}

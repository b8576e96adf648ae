/**
 * What a load test asks for: which adapter, which prompt, how many tokens, and when. Pure and
 * seeded: the same options give the same requests.
 *
 * Popularity follows Punica's four cases (arXiv 2310.18547): identical, distinct, uniform, skewed.
 */

/** Which adapter a request wants. */
export type Popularity =
  /** The base alone. */
  | { readonly type: "base" }
  /** Adapter 0, always. */
  | { readonly type: "identical" }
  /** Each adapter in turn: any `adapters` requests in a row are all different. */
  | { readonly type: "distinct"; readonly adapters: number }
  /** Each adapter equally likely. */
  | { readonly type: "uniform"; readonly adapters: number }
  /** Adapter k with a probability in proportion to (k + 1)^-s. */
  | { readonly type: "zipf"; readonly adapters: number; readonly s: number };

/** How many tokens. */
export type Lengths =
  | { readonly type: "fixed"; readonly tokens: number }
  /** Each count from min to max equally likely. */
  | { readonly type: "uniform"; readonly min: number; readonly max: number }
  /** exp(N(ln median, sigma²)), cut at 1 and max: the long tail of real prompts. */
  | {
    readonly type: "lognormal";
    readonly median: number;
    readonly sigma: number;
    readonly max: number;
  };

/** When requests come. */
export type Arrivals =
  /** Each of so many clients sends its next request when its last one is answered. */
  | { readonly type: "closed"; readonly clients: number }
  /** A Poisson process of so many requests a second, whatever the server does. */
  | { readonly type: "open"; readonly rate: number };

export interface WorkloadOptions {
  readonly seed: number;
  readonly requests: number;
  readonly popularity: Popularity;
  readonly prompt: Lengths;
  readonly output: Lengths;
  readonly arrivals: Arrivals;
  /** Prompt tokens are drawn from these ids, the upper one excluded. */
  readonly tokens: readonly [from: number, to: number];
}

export interface PlannedRequest {
  /** Undefined = the base. */
  readonly adapter: number | undefined;
  /** Random tokens, so that no two prompts share a prefix. */
  readonly prompt: readonly number[];
  readonly outputTokens: number;
  /** Seconds after the start at which it is sent; 0 in a closed loop. */
  readonly at: number;
}

/** Uniform numbers in [0, 1). */
export type Random = () => number;

/** A small seeded generator (mulberry32): good enough to draw a workload, not to sign one. */
export function seededRandom(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6D2B79F5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * The requests in the order in which they are sent.
 * @throws {RangeError} for a count, rate or length that cannot be.
 */
export function planWorkload(options: WorkloadOptions): readonly PlannedRequest[] {
  check(options);
  const random = seededRandom(options.seed);
  const adapterOf = adapterDrawer(options.popularity, random);
  const [from, to] = options.tokens;
  let at = 0;
  return Array.from({ length: options.requests }, (_, index) => {
    const length = drawLength(options.prompt, random);
    if (options.arrivals.type === "open") at -= Math.log(1 - random()) / options.arrivals.rate;
    return {
      adapter: adapterOf(index),
      prompt: Array.from({ length }, () => from + Math.floor(random() * (to - from))),
      outputTokens: drawLength(options.output, random),
      at,
    };
  });
}

/** How many adapters a popularity may name: how many must be loaded. */
export function adapterCount(popularity: Popularity): number {
  if (popularity.type === "base") return 0;
  return popularity.type === "identical" ? 1 : popularity.adapters;
}

function adapterDrawer(
  popularity: Popularity,
  random: Random,
): (index: number) => number | undefined {
  switch (popularity.type) {
    case "base":
      return () => undefined;
    case "identical":
      return () => 0;
    case "distinct":
      return (index) => index % popularity.adapters;
    case "uniform":
      return () => Math.floor(random() * popularity.adapters);
    case "zipf":
      return zipfDrawer(popularity.adapters, popularity.s, random);
  }
}

/** Draws by binary search in the cumulative weights. */
function zipfDrawer(adapters: number, s: number, random: Random): () => number {
  const cumulative = new Float64Array(adapters);
  let sum = 0;
  for (let k = 0; k < adapters; k++) cumulative[k] = sum += (k + 1) ** -s;
  return () => {
    const wanted = random() * sum;
    let [low, high] = [0, adapters - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulative[middle] ?? sum) > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}

function drawLength(lengths: Lengths, random: Random): number {
  switch (lengths.type) {
    case "fixed":
      return lengths.tokens;
    case "uniform":
      return lengths.min + Math.floor(random() * (lengths.max - lengths.min + 1));
    case "lognormal": {
      const tokens = Math.round(lengths.median * Math.exp(lengths.sigma * drawNormal(random)));
      return Math.min(lengths.max, Math.max(1, tokens));
    }
  }
}

/** Box and Muller's transform. */
function drawNormal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function check({ requests, popularity, prompt, output, arrivals, tokens }: WorkloadOptions): void {
  atLeast("requests", requests, 0);
  if (popularity.type !== "base" && popularity.type !== "identical") {
    atLeast("adapters", popularity.adapters, 1);
  }
  for (const [name, lengths] of [["prompt", prompt], ["output", output]] as const) {
    checkLengths(name, lengths);
  }
  if (arrivals.type === "closed") atLeast("clients", arrivals.clients, 1);
  else if (!(arrivals.rate > 0)) reject("rate", arrivals.rate, "more than 0 requests a second");
  if (!(tokens[1] > tokens[0])) reject("tokens", tokens.join(" to "), "a range that is not empty");
}

function checkLengths(name: string, lengths: Lengths): void {
  if (lengths.type === "fixed") return atLeast(name, lengths.tokens, 1);
  if (lengths.type === "uniform") {
    atLeast(`${name} minimum`, lengths.min, 1);
    return atLeast(`${name} maximum`, lengths.max, lengths.min);
  }
  if (!(lengths.median > 0)) reject(`${name} median`, lengths.median, "more than 0 tokens");
  if (!(lengths.sigma >= 0)) reject(`${name} sigma`, lengths.sigma, "0 or more");
  atLeast(`${name} maximum`, lengths.max, 1);
}

function atLeast(name: string, value: number, least: number): void {
  if (!(Number.isInteger(value) && value >= least)) {
    reject(name, value, `a whole number of at least ${least}`);
  }
}

function reject(name: string, value: unknown, right: string): never {
  throw new RangeError(`Cannot plan a workload: ${name} is ${value}, must be ${right}`);
}

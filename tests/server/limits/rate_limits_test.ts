/** Requests and tokens a minute, on a clock of the test's own. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { NO_LIMITS, type TenantLimits } from "../../../adapters/store/store.ts";
import { ApiError } from "../../../server/errors.ts";
import { durationText, RateLimits, TokenBucket } from "../../../server/limits/tenant_limits.ts";

function limits(more: Partial<TenantLimits>): TenantLimits {
  return { ...NO_LIMITS, ...more };
}

function refusal(run: () => unknown): ApiError {
  const error = assertThrows(run, ApiError);
  assertEquals([error.status, error.details.code], [429, "rate_limit_exceeded"]);
  return error;
}

Deno.test("a bucket fills by its rate, to its brim, and may owe", () => {
  const bucket = new TokenBucket(60, 0);
  bucket.take(50, 0);
  assertEquals([bucket.level(0), bucket.level(5000)], [10, 15]);
  bucket.take(40, 5000);
  assertEquals([bucket.level(5000), bucket.waitFor(10, 5000)], [-25, 35_000]);
  assertEquals(bucket.waitFor(1000, 5000), 85_000);
  bucket.take(-1000, 5000);
  assertEquals(bucket.level(1e9), 60);
});

Deno.test("a bucket of another size keeps what was taken", () => {
  const bucket = new TokenBucket(60, 0);
  bucket.take(50, 0);
  bucket.resize(100, 0);
  assertEquals([bucket.perMinute, bucket.level(0)], [100, 50]);
  bucket.resize(10, 0);
  assertEquals(bucket.level(0), -40);
});

Deno.test("requests a minute: OpenAI's headers while there are some, then 429 with a time", () => {
  let now = 0;
  const rates = new RateLimits({ now: () => now });
  const own = limits({ requestsPerMinute: 3 });
  const seen = [1, 2, 3].map(() => rates.begin("acme", own).headers());
  assertEquals(seen.map((each) => each["x-ratelimit-remaining-requests"]), ["2", "1", "0"]);
  assertEquals(seen[2], {
    "x-ratelimit-limit-requests": "3",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m0s",
  });
  const error = refusal(() => rates.begin("acme", own));
  assertEquals(
    error.message,
    "Rate limit reached for tenant 'acme' on requests per min (RPM): " +
      "Limit 3, Used 3, Requested 1. Please try again in 20s.",
  );
  assertEquals(error.body().error.type, "requests");
  const { headers } = error.details;
  assertEquals([headers?.["retry-after"], headers?.["retry-after-ms"]], ["20", "20000"]);
  now = 19_999;
  refusal(() => rates.begin("acme", own));
  now = 20_000;
  rates.begin("acme", own);
  rates.begin("globex", own);
});

Deno.test("tokens a minute: what was asked for counts, what was not used comes back", () => {
  const rates = new RateLimits({ now: () => 0 });
  const own = limits({ tokensPerMinute: 1000 });
  const first = rates.begin("acme", own);
  first.reserve(900);
  assertEquals(first.headers()["x-ratelimit-remaining-tokens"], "100");
  const error = refusal(() => rates.begin("acme", own).reserve(101));
  assertStringIncludes(
    error.message,
    "(TPM): Limit 1000, Used 900, Requested 101. Please try again in 60ms.",
  );
  first.settle(300);
  first.settle(0);
  const second = rates.begin("acme", own);
  second.reserve(700);
  assertEquals(second.headers()["x-ratelimit-remaining-tokens"], "0");
});

Deno.test("what a request used beyond what it asked for is owed", () => {
  let now = 0;
  const rates = new RateLimits({ now: () => now });
  const own = limits({ tokensPerMinute: 600 });
  const ticket = rates.begin("acme", own);
  ticket.reserve(10);
  ticket.settle(1200);
  assertStringIncludes(refusal(() => rates.begin("acme", own)).message, "try again in 1m0s");
  now = 60_000;
  rates.begin("acme", own).reserve(0);
});

Deno.test("a request larger than the limit is told so, without a time to come back", () => {
  const rates = new RateLimits({ now: () => 0 });
  const error = refusal(() => rates.begin("acme", limits({ tokensPerMinute: 50 })).reserve(51));
  assertStringIncludes(error.message, "Request too large for tenant 'acme'");
  assertEquals(error.details.headers?.["retry-after"], undefined);
});

Deno.test("limits that change hold at once, and where there are none there are no headers", () => {
  const rates = new RateLimits({ now: () => 0 });
  rates.begin("acme", limits({ requestsPerMinute: 1 }));
  refusal(() => rates.begin("acme", limits({ requestsPerMinute: 1 })));
  rates.begin("acme", limits({ requestsPerMinute: 2 }));
  const free = rates.begin("acme", NO_LIMITS);
  free.reserve(1e9);
  assertEquals(free.headers(), {});
});

Deno.test("times are written as OpenAI writes them", () => {
  const times = [0, 19.2, 999, 1000, 8640, 60_000, 360_000, 61_500];
  assertEquals(times.map(durationText), [
    "0ms",
    "20ms",
    "999ms",
    "1s",
    "8.64s",
    "1m0s",
    "6m0s",
    "1m1.5s",
  ]);
});

Deno.test("replicas give a share of a limit each, and large requests owe what is beyond it", () => {
  let now = 0;
  const replicas = { count: 2 };
  const rates = new RateLimits({ now: () => now, replicas });
  const own = limits({ requestsPerMinute: 4, tokensPerMinute: 100 });
  assertEquals(rates.begin("acme", own).headers()["x-ratelimit-remaining-requests"], "2");
  const second = rates.begin("acme", own);
  assertEquals(second.headers()["x-ratelimit-limit-requests"], "4");
  refusal(() => rates.begin("acme", own));
  second.reserve(80);
  assertStringIncludes(refusal(() => second.reserve(101)).message, "Request too large");
  now = 30_000;
  assertStringIncludes(refusal(() => rates.begin("acme", own)).message, "Limit 100");
  now = 36_000;
  replicas.count = 1;
  const alone = rates.begin("acme", own);
  assertEquals(alone.headers()["x-ratelimit-remaining-tokens"], "50");
});

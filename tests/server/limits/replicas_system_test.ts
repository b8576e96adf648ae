// deno-lint-ignore-file camelcase -- names of the wire format
/** Servers in processes of their own beside one PostgreSQL: together they give a limit once. */
import { assert, assertEquals } from "@std/assert";
import { onPostgres } from "../../programs/postgres.ts";
import { ask, Replicas, untilHolds } from "../replicas.ts";

const LIMIT = 40;
const BODY = { model: "tiny", prompt: "hello", max_tokens: 1 };

Deno.test({
  ...onPostgres(
    "two servers give a tenant its requests a minute once, one that is left gives them all",
  ),
  fn: async () => {
    await using replicas = await Replicas.open();
    const pair = [await replicas.start(), await replicas.start()];
    const [first, second] = pair;
    assert(first !== undefined && second !== undefined);
    const limits = { requests_per_minute: LIMIT };
    const set = await ask(first, "POST", "/v1/admin/tenants/default", { limits });
    assertEquals(set.status, 200, JSON.stringify(set.json));
    // a copy of the limits is read anew within a second
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const started = performance.now();
    let taken = 0;
    for (let i = 0; i < 2 * LIMIT; i++) {
      const { status } = await ask(i % 2 === 0 ? first : second, "POST", "/v1/completions", BODY);
      if (status === 200) taken++;
      else assertEquals(status, 429);
    }
    // what the minute brought meanwhile, and the part of a request that each has left
    const brought = LIMIT * (performance.now() - started) / 60_000 + 2;
    assert(taken >= LIMIT && taken <= LIMIT + brought, `${taken} of ${LIMIT}`);
    await replicas.end(second, "SIGTERM");
    const left = async () => {
      const response = await fetch(`${first.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(BODY),
      });
      await response.body?.cancel();
      return seconds(response.headers.get("x-ratelimit-reset-requests") ?? "");
    };
    // its half is taken, and the other half is its own now: full again in 30 s, not in 60 s
    await untilHolds(async () => await left() < 45, 5000);
  },
});

/** `1m2.5s`, `30s`, `20ms` in seconds. */
function seconds(text: string): number {
  const [, minutes = "0", rest = "0", unit] = /^(?:(\d+)m(?=\d))?([\d.]+)(s|ms)$/.exec(text) ?? [];
  return 60 * Number(minutes) + Number(rest) / (unit === "ms" ? 1000 : 1);
}

/** Addresses as they may be shown: whatever a password holds, none of it is there. */
import { assertEquals } from "@std/assert";
import { withoutSecret, withoutSecrets } from "../../../src/checkpoint/fetch/secrets.ts";

Deno.test("an address is shown without user, password and tokens", () => {
  const cases: Readonly<Record<string, string>> = {
    "postgres://me:pass@db.lan:5432/lembas": "postgres://db.lan:5432/lembas",
    "postgresql://u@localhost/t?host=%2Frun&sslmode=require":
      "postgresql://localhost/t?host=%2Frun&sslmode=require",
    "postgres:///t?host=/run": "postgres:///t?host=%2Frun",
    "postgres://h/x?password=a&b=c": "postgres://h/x?password=…&b=c",
    "postgres://h/x?p%61ssword=a&sslkey=b": "postgres://h/x?password=…&sslkey=…",
    "https://me:pass@hub.lan/api?token=t&recursive=false":
      "https://hub.lan/api?token=…&recursive=false",
    "http://127.0.0.1:8000": "http://127.0.0.1:8000",
  };
  for (const [url, shown] of Object.entries(cases)) assertEquals(withoutSecret(url), shown);
});

Deno.test("nothing of a password is shown, whatever it holds unescaped, and wherever it stands", () => {
  const passwords = ["s3cret", "s3@cret", "s3/cret", "s3#cret", "s3?cret", "s3:cret", "12/s3cret"];
  passwords.push(
    "1@s3cret/2",
    "1?s3cret",
    "1#s3cret",
    "s3 cret",
    "%zz/s3cret",
    "@s3cret",
    "/s3cret",
  );
  for (const password of passwords) {
    for (
      const url of [
        `postgres://me:${password}@db.lan:5432/lembas`,
        `postgres://me:${password}@/lembas?host=/run`,
        `postgres://h/x?password=${password}`,
        `me:${password}@db.lan/lembas`,
        `postgres:me:${password}@db.lan`,
      ]
    ) {
      const shown = withoutSecret(url);
      assertEquals(/s3|cret/.test(shown), false, `${url} is shown as ${shown}`);
    }
  }
});

Deno.test("addresses within a sentence are shown so, too", () => {
  assertEquals(
    withoutSecrets("no answer: http://me:pass@hub.lan/x?a=1, nor 'https://a:b@c.lan'"),
    "no answer: http://hub.lan/x?a=1, nor 'https://c.lan'",
  );
});

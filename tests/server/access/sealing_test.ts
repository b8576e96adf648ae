/** Sealed texts open for whom they were sealed, whole, and for nobody else. */
import { assertEquals, assertNotEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { Sealer } from "../../../server/access/sealing.ts";

const SECRET = "a secret of the test, long enough";

Deno.test("a text opens for its tenant under the same secret, and never looks the same", () => {
  const sealer = new Sealer(SECRET);
  for (const text of ["", "ä\u0000\u2028", "x".repeat(100_000)]) {
    const sealed = sealer.seal("acme", text);
    assertNotEquals(sealed, sealer.seal("acme", text));
    assertEquals(new Sealer(SECRET).open("acme", sealed), text);
    assertEquals(sealer.open("globex", sealed), undefined);
    assertEquals(new Sealer(`${SECRET}.`).open("acme", sealed), undefined);
  }
});

Deno.test("what was changed or cut off does not open", () => {
  const sealer = new Sealer(SECRET);
  const bytes = Buffer.from(sealer.seal("acme", "secret"), "base64url");
  for (const at of bytes.keys()) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assertEquals(sealer.open("acme", changed.toString("base64url")), undefined);
    assertEquals(sealer.open("acme", bytes.subarray(0, at).toString("base64url")), undefined);
  }
});

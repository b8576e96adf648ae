/**
 * Schemathesis (PyPI) against the application's own description: whatever it makes up, no answer is a
 * 5xx, and every answer is one that `/openapi.json` describes. Where the program is not on the path
 * the test is ignored; LEMBAS_TEST_SCHEMATHESIS says where it is, and then it must be there.
 * LEMBAS_TEST_EXAMPLES says how many requests to make up for an operation.
 */
import { assertEquals } from "@std/assert";
import { newKeyText } from "../../server/keys/key_text.ts";
import { listen } from "../../server/serve.ts";
import { openKeyedApp } from "./keyed_app.ts";
import { makeVictim } from "./isolation_victim.ts";

const NAMED = Deno.env.get("LEMBAS_TEST_SCHEMATHESIS");
const PROGRAM = NAMED ?? "schemathesis";
const EXAMPLES = Deno.env.get("LEMBAS_TEST_EXAMPLES") ?? "8";

const CHECKS = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_headers_conformance",
  "response_schema_conformance",
  "negative_data_rejection",
  "unsupported_method",
  "allow_header_conformance",
  "ignored_auth",
];

function isMissing(): boolean {
  if (NAMED !== undefined) return false;
  try {
    return !new Deno.Command(PROGRAM, { args: ["--version"], stdout: "null", stderr: "null" })
      .outputSync().success;
  } catch {
    return true;
  }
}

Deno.test({
  name: "nothing that schemathesis makes up gets a 5xx, or an answer that is not described",
  ignore: isMissing(),
  fn: async () => {
    const apiKey = newKeyText();
    await using served = await openKeyedApp({ apiKey });
    await makeVictim(served);
    const { app, context } = served;
    const where = { host: "127.0.0.1", port: 0, fetch: app.fetch };
    const server = await listen(where, context.lifecycle);
    try {
      const { code, stdout } = await new Deno.Command(PROGRAM, {
        args: [
          "run",
          `${server.url}/openapi.json`,
          ...["--header", `Authorization: Bearer ${apiKey}`],
          ...["--checks", CHECKS.join(",")],
          ...["--max-examples", EXAMPLES, "--seed", "1", "--no-color"],
          ...["--suppress-health-check", "all", "--generation-database", "none"],
        ],
        stderr: "inherit",
      }).output();
      assertEquals(code, 0, new TextDecoder().decode(stdout));
    } finally {
      await server.stop(1, () => Promise.resolve());
    }
  },
});

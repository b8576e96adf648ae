/**
 * Schemathesis (PyPI) against the application's own description: whatever it makes up, no answer is a
 * 5xx, and every answer is one that `/openapi.json` describes. Where the program is not on the path
 * the test is ignored; LEMBAS_TEST_SCHEMATHESIS says where it is, and then it must be there.
 * LEMBAS_TEST_EXAMPLES says how many requests to make up for an operation.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { newKeyText } from "../../server/access/keys.ts";
import { listen } from "../../server/serve.ts";
import { DEFAULT_TENANT } from "../../adapters/catalog/name.ts";
import { needing } from "../programs/needing.ts";
import { CORE, makeVictim } from "./isolation_victim.ts";
import { coreText, type KeyedApp, openKeyedApp } from "./keyed_app.ts";

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

/** What there is to be asked for, so that requests reach further than a 404. */
async function realNames(served: KeyedApp, key: string): Promise<string> {
  const made = await makeVictim(served, key, DEFAULT_TENANT);
  const names: Readonly<Record<string, readonly string[]>> = {
    "body.model": ["tiny", CORE, made.model],
    "path.model": ["tiny", CORE, made.model],
    "body.training_file": [made.file],
    "path.response_id": [made.response],
    "path.completion_id": [made.chat],
    "body.previous_response_id": [made.response],
    "path.file_id": [made.file, made.result],
    "path.upload_id": [made.upload],
    "path.batch_id": [made.batch],
    "body.input_file_id": [made.requests],
    "path.fine_tuning_job_id": [made.job],
    "path.name": [CORE, "blimp"],
    "path.version": ["1", "2"],
    "body.cores": [coreText(served.loaded, 1)],
    "path.tenant": ["acme", "globex", DEFAULT_TENANT],
    "path.key_id": [made.key],
  };
  const lines = Object.entries(names).map(([key, values], i) => ({
    dictionary: `[dictionaries.d${i}]\nvalues = ${JSON.stringify(values)}`,
    binding: `"${key}" = { dictionary = "d${i}", probability = 0.7 }`,
  }));
  const dictionaries = lines.map(({ dictionary }) => dictionary);
  return [...dictionaries, "[parameters]", ...lines.map(({ binding }) => binding), ""].join("\n");
}

Deno.test({
  ...needing(
    "nothing that schemathesis makes up gets a 5xx, or an answer that is not described",
    isMissing() ? "schemathesis (PyPI) is not on the path" : undefined,
    "LEMBAS_TEST_SCHEMATHESIS",
  ),
  fn: async () => {
    const apiKey = newKeyText();
    await using served = await openKeyedApp({ apiKey });
    const directory = await Deno.makeTempDir();
    await Deno.writeTextFile(`${directory}/names.toml`, await realNames(served, apiKey));
    const { app, context } = served;
    const where = { host: "127.0.0.1", port: 0, fetch: app.fetch };
    const server = await listen(where, context.lifecycle);
    try {
      const { code, stdout } = await new Deno.Command(PROGRAM, {
        args: [
          ...["--config-file", "names.toml", "run"],
          `${server.url}/openapi.json`,
          ...["--header", `Authorization: Bearer ${apiKey}`],
          ...["--checks", CHECKS.join(",")],
          ...["--max-examples", EXAMPLES, "--seed", "1", "--no-color"],
          ...["--suppress-health-check", "all", "--generation-database", "none"],
        ],
        cwd: directory,
        stderr: "inherit",
      }).output();
      assertEquals(code, 0, new TextDecoder().decode(stdout));
      // it has to have reached what there is
      const done = served.lines.filter((line) => line.includes("status=200")).join("\n");
      for (
        const reached of [
          ...["/v1/fine_tuning/jobs", "/v1/files", "/v1/batches", `/v1/cores/${CORE}`],
          "/v1/responses",
        ]
      ) {
        assertStringIncludes(done, `POST ${reached} `);
      }
    } finally {
      await server.stop(1, () => Promise.resolve());
      await Deno.remove(directory, { recursive: true });
    }
  },
});

/** The command against a real server over a model without weights. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readCore } from "../../../../adapters/lotr/format.ts";
import { createApp } from "../../../../server/http/app.ts";
import { keyAccess, openAccess } from "../../../../server/access/access.ts";
import { createLog } from "../../../../server/telemetry/log.ts";
import { createMetrics } from "../../../../server/telemetry/metrics.ts";
import { startTuning, toContext } from "../../../../server/loaded.ts";
import { listen } from "../../../../server/serve.ts";
import { openStore } from "../../../../adapters/store/open_store.ts";
import { runTrain } from "../../../../server/cli/train/command.ts";
import { waitFor } from "../../../../src/util/time.ts";
import {
  FAKE_ROWS,
  fakeBase,
  FakeTrainer,
  type FakeTrainerOptions,
} from "../../../fakes/trainer.ts";
import { fakeLoad } from "../../engine_context.ts";

interface Serving {
  readonly url: string;
  readonly root: string;
  readonly key: string | undefined;
}

async function serving(
  options: FakeTrainerOptions & { readonly apiKey?: string },
  test: (serving: Serving) => Promise<void>,
): Promise<void> {
  const root = await Deno.makeTempDir();
  const log = createLog("silent");
  const metrics = createMetrics();
  const store = await openStore({ type: "directory", path: `${root}/data` }, log);
  const loaded = await fakeLoad({
    training: {
      trainer: new FakeTrainer(options),
      maxContext: 64,
      defaultFactors: () => Promise.resolve(loaded.factors),
    },
  });
  const limits = { trainJobs: 2, maxFile: 1 << 20 };
  const tuning = await startTuning(loaded, store, limits, { log, metrics });
  const { apiKey } = options;
  const { tenants } = store;
  await tenants.ensure("acme");
  const context = await toContext(loaded, {
    metrics,
    log,
    tuning,
    access: apiKey === undefined ? openAccess(tenants) : keyAccess({ apiKey, tenants }),
    options: { apiKey, maxBody: 1 << 20, version: "0" },
  });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  try {
    await Deno.writeTextFile(`${root}/d.jsonl`, FAKE_ROWS);
    await test({ url: server.url, root, key: apiKey });
  } finally {
    await tuning.stop();
    await server.stop(0, () => Promise.resolve());
    await loaded.close();
    await store[Symbol.asyncDispose]();
    await Deno.remove(root, { recursive: true });
  }
}

function flagsFor({ url, root }: Serving): string[] {
  return `--server ${url} --data ${root}/d.jsonl --tenant acme --name shelf --out ${root}/out`
    .split(" ");
}

async function train(
  at: Serving,
  more: readonly string[] = [],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const code = await runTrain({
    args: [...flagsFor(at), ...more],
    env: (name) => name === "LEMBAS_API_KEY" ? at.key : undefined,
    version: "1.2.3",
    load: () => Promise.resolve(fakeBase()),
    screen: { isTerminal: false, columns: () => 80, write: (text) => void err.push(text) },
    print: (text) => void out.push(`${text}\n`),
    marks: "brackets",
    now: () => 0,
    wait: (_milliseconds, signal) => waitFor(5, signal),
  });
  return { code, stdout: out.join(""), stderr: err.join("") };
}

function served(at: Serving): Promise<{ data: readonly { id: string }[] }> {
  const headers = { authorization: `Bearer ${at.key}` };
  return fetch(`${at.url}/v1/models`, { headers }).then((response) => response.json());
}

Deno.test("a file that is larger than the server takes is refused in its words", () =>
  serving({}, async (at) => {
    await Deno.writeTextFile(`${at.root}/d.jsonl`, FAKE_ROWS.repeat(50_000));
    const { code, stderr } = await train(at);
    assertEquals(code, 1);
    assertMatch(stderr, /413 .*larger than the limit of 1048576 bytes/);
  }));

Deno.test("a server trains, serves the core at once, and its files come down", () =>
  serving({ apiKey: "secret" }, async (at) => {
    const { code, stdout, stderr } = await train(at, [
      "--rank",
      "2",
      "--valid",
      `${at.root}/d.jsonl`,
    ]);
    assertEquals(code, 0, stderr);
    const model = /^model +(ft:tiny:acme:shelf:\w+), also acme\/shelf$/m.exec(stdout)?.[1];
    assert(model !== undefined, stdout);
    const ids = (await served(at)).data.map(({ id }) => id);
    assert(ids.some((id) => id.startsWith("acme/shelf")), ids.join());
    const core = readCore(await Deno.readFile(`${at.root}/out/acme/shelf.safetensors`));
    assertEquals(core.rank, 2);
    for (const file of ["shelf.step_metrics.csv", "shelf.curve.svg", "shelf.report.json"]) {
      assertStringIncludes(stdout, `${at.root}/out/acme/${file}`);
      await Deno.stat(`${at.root}/out/acme/${file}`);
    }
    assertMatch(stderr, /step 6\/6 {2}loss 1\.372 {2}accuracy 60\.8% {2}ETA/);
    assertMatch(stderr, /step 6: validation loss 1\.4220, accuracy 55\.8%/);
    const [line = ""] = /curl (?:.*\\\n)?.*$/m.exec(stdout) ?? [];
    assertStringIncludes(line, "$LEMBAS_API_KEY");
    assertEquals(stdout.includes("secret"), false);
    const answer = await new Deno.Command("sh", {
      args: ["-c", line],
      env: { LEMBAS_API_KEY: "secret" },
      stderr: "null",
    }).output();
    const { model: answering } = JSON.parse(new TextDecoder().decode(answer.stdout));
    assertEquals(answering, model);
  }));

Deno.test("--json passes a server's events on and ends with the job", () =>
  serving({}, async (at) => {
    const { code, stdout } = await train(at, ["--json"]);
    assertEquals(code, 0);
    const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.filter(({ type }) => type === "event.metrics").length >= 6, true);
    assertEquals([lines.at(-1).type, lines.at(-1).job.status], ["result", "succeeded"]);
  }));

Deno.test("what a server refuses is one line with its reason, and code 1", async () => {
  await serving({ apiKey: "secret" }, async (at) => {
    const { code, stderr } = await train({ ...at, key: "wrong" });
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot GET \S+\/v1\/models: 401 Incorrect API key/);
  });
  await serving({}, async (at) => {
    await Deno.writeTextFile(`${at.root}/d.jsonl`, `${FAKE_ROWS}{"prompt": 1}\n`);
    const broken = await train(at);
    assertEquals(broken.code, 1);
    assertMatch(broken.stderr, /Job ftjob-\w+ failed: .*1 of its 6 lines is broken\nline 6: /);
    const tooMuch = await train(at, ["--data", `${at.root}/none.jsonl`]);
    assertMatch(tooMuch.stderr, /^Cannot use --data \S+: there is no '\S+none\.jsonl'\n$/);
    const gone = await train(at, ["--server", "http://127.0.0.1:9"]);
    assertMatch(gone.stderr, /^Cannot reach http:\/\/127\.0\.0\.1:9: .*\n$/);
  });
});

Deno.test("a core that a server's gate refuses comes down aside, and fails the command", () =>
  serving({ refuses: () => "its loss is not below the base's" }, async (at) => {
    const { code, stderr } = await train(at);
    assertEquals(code, 1);
    assertMatch(
      stderr,
      /failed: The core was not published: its loss .*shelf\.refused\.safetensors/,
    );
    await Deno.stat(`${at.root}/out/acme/shelf.refused.safetensors`);
  }));

Deno.test("Ctrl-C leaves a server's job running and says how to cancel it", async () => {
  const pace = (step: number, signal?: AbortSignal) => waitFor(step < 3 ? 0 : 1e6, signal);
  await serving({ pace }, async (at) => {
    const child = new URL("./train_child.ts", import.meta.url).pathname;
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", child, ...flagsFor(at)],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    let text = "";
    for await (const piece of process.stderr.pipeThrough(new TextDecoderStream())) {
      if (!text.includes("step 2: ") && (text + piece).includes("step 2: ")) process.kill("SIGINT");
      text += piece;
    }
    assertEquals((await process.status).code, 130, text);
    const [, cancel = ""] = /to cancel it: (curl -X POST \S+\/cancel .*)\n/.exec(text) ?? [];
    const id = /ftjob-\w+/.exec(cancel)?.[0];
    const ask = { headers: { "lembas-tenant": "acme" } };
    const job = await fetch(`${at.url}/v1/fine_tuning/jobs/${id}`, ask).then((r) => r.json());
    assertEquals(job.status, "running");
    await new Deno.Command("sh", { args: ["-c", cancel], stdout: "null", stderr: "null" }).output();
    const after = await fetch(`${at.url}/v1/fine_tuning/jobs/${id}`, ask).then((r) => r.json());
    assertEquals(after.status, "cancelled");
  });
});

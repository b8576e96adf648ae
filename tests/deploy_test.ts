/**
 * What deploy/ says, against what is published and what is true: Kubernetes' and the Inference
 * Extension's schemas, the server's flags, its metrics and its files. Nothing is deployed.
 */
import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { Ajv2020 } from "ajv/dist/2020.js";
import { parse, parseAllDocuments } from "yaml";
import { createApp } from "../server/http/app.ts";
import { parseFlags } from "../server/cli/serve_flags.ts";
import { createMetrics } from "../server/telemetry/metrics.ts";
import { fakeContext } from "./server/fake_context.ts";
import inferencePool from "./fixtures/deploy/inference_pool.json" with { type: "json" };
import kubernetes from "./fixtures/deploy/kubernetes.json" with { type: "json" };

const DEPLOY = new URL("../deploy/", import.meta.url);
const FOLDERS = ["kubernetes/", "kubernetes/gateway/"];

type Labels = Readonly<Record<string, string>>;

interface Probe {
  readonly httpGet: { readonly path: string };
}

interface Variable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly secretKeyRef?: { readonly name: string; readonly key: string } };
}

interface Container {
  readonly env: readonly Variable[];
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly lifecycle: { readonly preStop: { readonly sleep: { readonly seconds: number } } };
  readonly startupProbe: Probe;
  readonly readinessProbe: Probe;
  readonly livenessProbe: Probe;
}

/** What the tests read of all kinds' specs; which kind has what, its schema says. */
interface Spec {
  readonly selector: unknown;
  readonly template: {
    readonly metadata: { readonly labels: Labels };
    readonly spec: {
      readonly terminationGracePeriodSeconds: number;
      readonly containers: readonly [Container];
    };
  };
  readonly ports: readonly [{ readonly port: number; readonly targetPort: string }];
  readonly targetPorts: readonly { readonly number: number }[];
  readonly scaleTargetRef: { readonly name: string };
  readonly endpointPickerRef: { readonly name: string; readonly port: { readonly number: number } };
}

/** One object of a manifest. */
interface Manifest {
  readonly file: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Spec;
  readonly stringData: Labels;
  readonly data: Labels;
}

async function manifests(): Promise<Manifest[]> {
  const found: Manifest[] = [];
  for (const folder of FOLDERS) {
    for await (const { name } of Deno.readDir(new URL(folder, DEPLOY))) {
      if (!name.endsWith(".yaml") || name === "kustomization.yaml") continue;
      const text = await Deno.readTextFile(new URL(folder + name, DEPLOY));
      for (const document of parseAllDocuments(text, { strict: true })) {
        assertEquals([document.errors, document.warnings], [[], []], name);
        found.push({ file: folder + name, ...document.toJS() });
      }
    }
  }
  return found;
}

async function one(kind: string, name = "lembas"): Promise<Manifest> {
  const found = (await manifests()).filter((each) =>
    each.kind === kind && each.metadata.name === name
  );
  const [manifest] = found;
  assert(manifest !== undefined && found.length === 1, `${found.length} times ${kind} ${name}`);
  return manifest;
}

/** What a schema says against an object; empty = nothing. */
function faults(manifest: Record<string, unknown>): string[] {
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
  const kind = `${manifest["apiVersion"]} ${manifest["kind"]}`;
  const validate = ajv.compile(
    kind === "inference.networking.k8s.io/v1 InferencePool"
      ? inferencePool.schema
      : { $ref: Object(kubernetes.kinds)[kind] ?? "#/unknown", $defs: kubernetes.$defs },
  );
  if (validate(manifest)) return [];
  return (validate.errors ?? []).map(({ instancePath, message, params }) =>
    `${instancePath} ${message} ${JSON.stringify(params)}`
  );
}

Deno.test("every manifest satisfies its published schema, which knows no other fields", async () => {
  const all = await manifests();
  assertGreater(all.length, 10);
  for (const { file, ...manifest } of all) assertEquals(faults(manifest), [], file);
});

Deno.test("the schemas refuse a misspelt field, a wrong type and a missing part", async () => {
  const { file: _, ...deployment } = await one("Deployment");
  const spec = deployment.spec;
  assertEquals(faults({ ...deployment, spec: { ...spec, replica: 2 } }).length, 1);
  assertEquals(faults({ ...deployment, spec: { ...spec, replicas: "two" } }).length, 1);
  const { selector: _selector, ...without } = spec;
  assertEquals(faults({ ...deployment, spec: without }).length, 1);
  const { file: __, ...pool } = await one("InferencePool");
  assertEquals(faults({ ...pool, spec: { ...pool.spec, targetPorts: [] } }).length, 1);
});

Deno.test("a kustomization names every manifest of its folder but the example", async () => {
  for (const folder of FOLDERS) {
    const text = await Deno.readTextFile(new URL(`${folder}kustomization.yaml`, DEPLOY));
    const files = [...Deno.readDirSync(new URL(folder, DEPLOY))].map(({ name }) => name);
    const expected = files.filter((name) =>
      name.endsWith(".yaml") && !/^kustomization|\.example\./.test(name)
    );
    assertEquals([...parse(text).resources].sort(), expected.sort());
  }
});

async function container() {
  const deployment = await one("Deployment");
  return { deployment, container: deployment.spec.template.spec.containers[0] };
}

Deno.test("the container's environment is what the server reads, and starts it with keys", async () => {
  const { deployment, container: { env } } = await container();
  const variables = new Map(env.map(({ name, value }) => [name, value]));
  const asked = new Set<string>();
  const parsed = parseFlags([], (name) => {
    asked.add(name);
    return name === "DATABASE_URL" ? "postgres://db/lembas" : variables.get(name);
  });
  assert(parsed.type === "serve");
  const { flags } = parsed;
  assertEquals([flags.host, flags.port, flags.logFormat], ["0.0.0.0", 8000, "json"]);
  const flagNames = [...variables.keys()].filter((name) => name.startsWith("LEMBAS_"));
  const others = new Set(["LEMBAS_KEY_SECRET"]);
  assertEquals(flagNames.filter((name) => !asked.has(name) && !others.has(name)), []);
  const grace = deployment.spec.template.spec.terminationGracePeriodSeconds;
  const preStop = (await container()).container.lifecycle.preStop.sleep.seconds;
  assertGreater(grace, flags.grace + preStop, "Kubernetes kills it before it has drained");
});

Deno.test("no manifest holds a secret: what is secret is named, and the example has each name", async () => {
  const { container: { env } } = await container();
  const secret = await one("Secret");
  const references = env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef ?? []);
  assertEquals(references.map(({ name }) => name), ["lembas", "lembas"]);
  assertEquals(references.map(({ key }) => key).sort(), Object.keys(secret.stringData).sort());
  for (const { name, value } of env) {
    assert(
      value === undefined || !/SECRET|KEY|PASSWORD|DATABASE/.test(name),
      `${name} is written out`,
    );
  }
});

Deno.test("probes, ports and selectors lead to the server that there is", async () => {
  const { deployment, container: { ports, ...probes } } = await container();
  const app = createApp(fakeContext({ metricsAccess: "open", apiKey: "s3cret" }));
  const paths = [probes.startupProbe, probes.readinessProbe, probes.livenessProbe]
    .map(({ httpGet }) => httpGet.path);
  assertEquals(paths, ["/ready", "/ready", "/health"]);
  for (const path of [...paths, "/metrics"]) assertEquals((await app.request(path)).status, 200);
  const port = ports.find(({ name }) => name === "http")?.containerPort;
  const labels = deployment.spec.template.metadata.labels;
  const [service, pool, budget, scaler] = await Promise.all(
    ["Service", "InferencePool", "PodDisruptionBudget", "HorizontalPodAutoscaler"].map((kind) =>
      one(kind)
    ),
  );
  assertEquals(service?.spec.selector, labels);
  assertEquals(service?.spec.ports[0].targetPort, "http");
  assertEquals(pool?.spec.selector, { matchLabels: labels });
  assertEquals(pool?.spec.targetPorts.map(({ number }) => number), [port]);
  assertEquals(budget?.spec.selector, { matchLabels: labels });
  assertEquals(scaler?.spec.scaleTargetRef.name, deployment.metadata.name);
});

Deno.test("the pool's picker is there, and asks for metrics that the server gives", async () => {
  const pool = await one("InferencePool");
  const { name, port } = pool.spec.endpointPickerRef;
  const service = await one("Service", name);
  assertEquals(service.spec.ports[0].port, port.number);
  const picker = await one("Deployment", name);
  assertEquals(service.spec.selector, picker.spec.template.metadata.labels);
  const { args } = picker.spec.template.spec.containers[0];
  assert(args.includes(`--pool-name=${pool.metadata.name}`));
  const config = parse((await one("ConfigMap", name)).data["plugins.yaml"] ?? "");
  const extractor = config.plugins.find(({ type }: { type: string }) =>
    type === "core-metrics-extractor"
  );
  const [engine] = extractor.parameters.engineConfigs;
  assertEquals(extractor.parameters.defaultEngine, engine.name);
  const asked = Object.entries(engine).filter(([field]) => field.endsWith("Spec"));
  assertEquals(asked.length, 5);
  const text = await exposed();
  for (const [, metric] of asked) assertStringIncludes(text, `\n${metric}{`);
  for (const label of ["max_lora", "running_lora_adapters", "waiting_lora_adapters"]) {
    assertStringIncludes(text, `${label}="`);
  }
  assertStringIncludes(
    text,
    'block_size="32",num_gpu_blocks="64",kv_cache_size_tokens="2048",kv_cache_max_concurrency="4.00"',
  );
});

/** The metrics of a server with its whole engine attached. */
async function exposed(): Promise<string> {
  const { engine } = fakeContext();
  const metrics = createMetrics();
  metrics.attach({
    model: "tiny",
    stats: () => engine.stats(),
    maxAdapters: 32,
    kvBlocks: 64,
    maxContext: 512,
  });
  return (await metrics.expose()).text;
}

Deno.test("the image takes in files that exist, runs what exists, and not as root", async () => {
  const text = await Deno.readTextFile(new URL("Containerfile", DEPLOY));
  const lines = text.replaceAll("\\\n", "").split("\n").filter((line) => !/^\s*(#|$)/.test(line));
  const sources = lines.flatMap((line) =>
    /^COPY (?!--from)(.+) \S+$/.exec(line)?.[1]?.split(" ") ?? []
  );
  assertGreater(sources.length, 5);
  for (const source of sources) await Deno.stat(new URL(`../${source}`, DEPLOY));
  const entry = lines.find((line) => line.startsWith("ENTRYPOINT")) ?? "";
  const command: string[] = JSON.parse(entry.replace("ENTRYPOINT ", ""));
  await Deno.stat(new URL(`../${command.at(-1)}`, DEPLOY));
  assertEquals(lines.filter((line) => line.startsWith("USER")), ["USER deno"]);
  for (const [, name = ""] of text.matchAll(/(LEMBAS_[A-Z_]+)=\S+ \\$/gm)) {
    const asked: string[] = [];
    parseFlags([], (one) => void asked.push(one));
    assert(asked.includes(name), `${name} is no variable of the server`);
  }
});

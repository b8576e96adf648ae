/** Models from the hub, fetched from a hub on this machine that speaks its protocol. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import {
  resolveHubAdapter,
  resolveModel,
  type ResolveOptions,
} from "../../../src/checkpoint/fetch/resolve.ts";
import { fixture, withDirectory } from "../fixtures.ts";

/** A hub of one repository and its commits, as far as @huggingface/hub asks it. */
class LocalHub {
  #server: Deno.HttpServer<Deno.NetAddr> | undefined;
  readonly #port: number;
  readonly #commits = new Map<string, ReadonlyMap<string, Uint8Array<ArrayBuffer>>>();
  #main = "";
  /** Ranges asked for beyond the first byte, by file. */
  readonly ranges: [string, string][] = [];
  /** Paths asked for, without what they are asked with. */
  readonly asked: string[] = [];
  /** Ends answers after this many bytes. */
  limit = Infinity;

  constructor() {
    this.#server = this.#listen(0);
    this.#port = this.#server.addr.port;
  }

  /** What `main` is from now on; returns the commit. */
  commit(files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>): string {
    this.#main = createHash("sha1").update(String(this.#commits.size)).digest("hex");
    this.#commits.set(this.#main, new Map(Object.entries(files)));
    return this.#main;
  }

  options(cache: string, user = ""): ResolveOptions & { readonly notices: readonly string[] } {
    const endpoint = `http://${user}127.0.0.1:${this.#port}`;
    const env = (name: string): string | undefined => name === "HF_ENDPOINT" ? endpoint : undefined;
    const notices: string[] = [];
    return { cache, env, progress: () => {}, notice: (text) => void notices.push(text), notices };
  }

  async close(): Promise<void> {
    await this.#server?.shutdown();
    this.#server = undefined;
  }

  #listen(port: number): Deno.HttpServer<Deno.NetAddr> {
    return Deno.serve({ port, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      const { pathname } = new URL(request.url);
      this.asked.push(pathname);
      return this.#answer(pathname, request.headers.get("range"));
    });
  }

  #answer(path: string, range: string | null): Response {
    const [, revision = "", name] =
      /^\/(?:api\/models\/)?some\/model\/(?:tree|revision|resolve)\/(\w+)(?:\/(.+))?$/.exec(path) ??
        [];
    const sha = revision === "main" ? this.#main : revision;
    const files = this.#commits.get(sha);
    if (files === undefined) return Response.json({ error: "not found" }, { status: 404 });
    if (path.includes("/revision/")) return Response.json({ _id: "1", id: "some/model", sha });
    if (name === undefined) return Response.json(listing(files));
    const bytes = files.get(name);
    return bytes === undefined
      ? Response.json({ error: "not found" }, { status: 404 })
      : this.#part(name, bytes, range);
  }

  #part(name: string, bytes: Uint8Array<ArrayBuffer>, range: string | null): Response {
    const [, from = "0", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
    if (range !== null && range !== "bytes=0-0") this.ranges.push([name, range]);
    const end = to === "" ? bytes.length : Number(to) + 1;
    const body = bytes.slice(Number(from), Math.min(end, Number(from) + this.limit));
    return new Response(body, {
      status: range === null ? 200 : 206,
      headers: { etag: `"x"`, "content-range": `bytes ${from}-${end - 1}/${bytes.length}` },
    });
  }
}

function listing(files: ReadonlyMap<string, Uint8Array>): unknown {
  return [...files].map(([path, bytes]) => {
    const oid = createHash("sha256").update(bytes).digest("hex");
    const small = { type: "file", path, size: bytes.length, oid: "0" };
    const lfs = { oid, size: bytes.length, pointerSize: 130 };
    return path.endsWith(".json") ? small : { ...small, lfs };
  });
}

async function withHub(body: (hub: LocalHub, cache: string) => Promise<void>): Promise<void> {
  const hub = new LocalHub();
  try {
    await withDirectory((cache) => body(hub, cache));
  } finally {
    await hub.close();
  }
}

// The hub's client leaves answers to its one-byte questions unread.
const LOOSE = { sanitizeResources: false, sanitizeOps: false };
const GGUF = Deno.readFileSync(fixture("llama.gguf"));

/** A repository's files: a tiny model, and what no decoder needs. */
function someFiles(): Record<string, Uint8Array<ArrayBuffer>> {
  const names = ["config.json", "tokenizer.json", "model.safetensors"];
  const read = (name: string) => Deno.readFileSync(`${fixture("mistral")}/${name}`);
  return {
    ...Object.fromEntries(names.map((name) => [name, read(name)])),
    "pytorch_model.bin": new Uint8Array(10),
    "README.md": new Uint8Array(10),
  };
}

Deno.test("only a model's own files are fetched, once for each commit", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    const commit = hub.commit(someFiles());
    const path = await resolveModel("hf:some/model", hub.options(cache));
    assertEquals(path, `${cache}/models/hf/some/${commit}/model`);
    const names = Array.from(Deno.readDirSync(path), ({ name }) => name).sort();
    assertEquals(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    hub.asked.length = 0;
    assertEquals(await resolveModel("hf:some/model", hub.options(cache)), path);
    assertEquals(await resolveModel(`hf:some/model@${commit}`, hub.options(cache)), path);
    // whether there is a new one; a commit stays what it is
    assertEquals(hub.asked, ["/api/models/some/model/revision/main"]);
  });
});

Deno.test("a branch is what it is now, and offline what it was last", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    const options = hub.options(cache);
    hub.commit({ "tiny.gguf": GGUF });
    const before = await resolveModel("hf:some/model", options);
    hub.commit(someFiles());
    const after = await resolveModel("hf:some/model", options);
    assertEquals(await Deno.readFile(`${after}/config.json`), someFiles()["config.json"]);
    assertEquals(await Deno.readFile(before), GGUF);
    await hub.close();
    assertEquals(await resolveModel("hf:some/model", options), after);
    assertMatch(options.notices.join(), /some\/model.* as of commit \w{8}.*fetch failed/);
    await assertRejects(
      () => resolveModel("hf:some/model@dev", options),
      TypeError,
      "fetch failed",
    );
  });
});

Deno.test("what a stopped download has left is not mixed with another commit", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    const old = someFiles();
    const changed: typeof old = {
      ...old,
      "tokenizer.json": old["tokenizer.json"]?.toReversed() ?? GGUF,
    };
    hub.commit(old);
    hub.limit = 1000;
    await assertRejects(() => resolveModel("hf:some/model", hub.options(cache)), TypeError);
    hub.limit = Infinity;
    hub.commit(changed);
    const path = await resolveModel("hf:some/model", hub.options(cache));
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"] as const) {
      assertEquals(await Deno.readFile(`${path}/${name}`), changed[name], name);
    }
  });
});

Deno.test("the hub's password is in no error", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    const options = hub.options(cache, "me:s3cret@");
    const { message } = await assertRejects(() => resolveModel("hf:no/model", options), TypeError);
    assertMatch(message, /not found/);
    assertEquals(message.includes("s3cret"), false, message);
  });
});

Deno.test("a download that stopped goes on where it stopped", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    hub.commit({ "tiny.gguf": GGUF });
    hub.limit = 1000;
    await assertRejects(
      () => resolveModel("hf:some/model", hub.options(cache)),
      TypeError,
      `stopped after 1000 of ${GGUF.length} bytes`,
    );
    hub.limit = Infinity;
    const path = await resolveModel("hf:some/model", hub.options(cache));
    assertEquals(await Deno.readFile(path), GGUF);
    assertEquals(hub.ranges.at(-1)?.[1].startsWith("bytes=1000-"), true);
  });
});

Deno.test("a damaged file is refused, and the next try starts afresh", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    const commit = hub.commit({ "tiny.gguf": GGUF });
    const partial = `${cache}/models/hf/some/${commit}/model.partial`;
    await Deno.mkdir(partial, { recursive: true });
    await Deno.writeFile(`${partial}/tiny.gguf`, new Uint8Array(500));
    await assertRejects(
      () => resolveModel("hf:some/model", hub.options(cache)),
      TypeError,
      "is damaged",
    );
    const path = await resolveModel("hf:some/model", hub.options(cache));
    assertEquals(await Deno.readFile(path), GGUF);
  });
});

Deno.test("a repository that is not there, or has two models, is refused", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    const missing = await assertRejects(
      () => resolveModel("hf:no/model", hub.options(cache)),
      TypeError,
      "Cannot fetch no/model from the hub",
    );
    assert(missing.message.includes("not found"), missing.message);
    hub.commit({ "a.gguf": GGUF, "b.gguf": GGUF });
    await assertRejects(
      () => resolveModel("hf:some/model", hub.options(cache)),
      TypeError,
      "a.gguf, b.gguf",
    );
  });
});

Deno.test(
  "of a LoRA its two files are fetched, and offline it says what to do",
  LOOSE,
  async () => {
    await withHub(async (hub, cache) => {
      const options = hub.options(cache);
      const pickle = {
        "adapter_config.json": GGUF.slice(0, 9),
        "adapter_model.bin": GGUF.slice(0, 9),
      };
      hub.commit(pickle);
      await assertRejects(
        () => resolveHubAdapter("some/model", options),
        TypeError,
        "no adapter_model.safetensors; its adapter_model.bin is a pickle",
      );
      const lora = { ...pickle, "adapter_model.safetensors": GGUF.slice(0, 99), ...someFiles() };
      const commit = hub.commit(lora);
      const path = await resolveHubAdapter("some/model", options);
      assertEquals(path, `${cache}/adapters/hf/some/${commit}/model`);
      const names = Array.from(Deno.readDirSync(path), ({ name }) => name).sort();
      assertEquals(names, ["adapter_config.json", "adapter_model.safetensors"]);
      await hub.close();
      assertEquals(await resolveHubAdapter("some/model", options), path);
      const offline = await assertRejects(() => resolveHubAdapter("no/lora", options), TypeError);
      assertMatch(offline.message, /Cannot fetch no\/lora.*hf download no\/lora --local-dir DIR/);
    });
  },
);

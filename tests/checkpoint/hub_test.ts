/** Models from the hub, fetched from a hub on this machine that speaks its protocol. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { resolveModel, type ResolveOptions } from "../../src/checkpoint/resolve.ts";
import { fixture, withDirectory } from "./fixtures.ts";

/** A hub of one repository, as far as @huggingface/hub asks it. */
class LocalHub {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Ranges asked for beyond the first byte, by file. */
  readonly ranges: [string, string][] = [];
  /** Ends answers after this many bytes. */
  limit = Infinity;

  constructor() {
    this.#server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/api/models/some/model/tree/main") return Response.json(this.#listing());
      const name = /^\/some\/model\/resolve\/main\/(.+)$/.exec(pathname)?.[1] ?? "";
      const bytes = this.files.get(name);
      return bytes === undefined
        ? Response.json({ error: "Repository not found" }, { status: 404 })
        : this.#part(name, bytes, request.headers.get("range"));
    });
  }

  options(cache: string): ResolveOptions {
    const endpoint = `http://127.0.0.1:${this.#server.addr.port}`;
    const env = (name: string): string | undefined => name === "HF_ENDPOINT" ? endpoint : undefined;
    return { cache, env, progress: () => {} };
  }

  async close(): Promise<void> {
    await this.#server.shutdown();
  }

  #listing(): unknown {
    return [...this.files].map(([path, bytes]) => {
      const oid = createHash("sha256").update(bytes).digest("hex");
      const small = { type: "file", path, size: bytes.length, oid: "0" };
      const lfs = { oid, size: bytes.length, pointerSize: 130 };
      return path.endsWith(".json") ? small : { ...small, lfs };
    });
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

Deno.test("only a model's own files are fetched, and only once", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) {
      hub.files.set(name, Deno.readFileSync(`${fixture("mistral")}/${name}`));
    }
    hub.files.set("pytorch_model.bin", new Uint8Array(10));
    hub.files.set("README.md", new Uint8Array(10));
    const path = await resolveModel("hf:some/model", hub.options(cache));
    assertEquals(path, `${cache}/models/hf/some/main/model`);
    const names = Array.from(Deno.readDirSync(path), ({ name }) => name).sort();
    assertEquals(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    hub.files.clear();
    assertEquals(await resolveModel("hf:some/model", hub.options(cache)), path);
  });
});

Deno.test("a download that stopped goes on where it stopped", LOOSE, async () => {
  await withHub(async (hub, cache) => {
    hub.files.set("tiny.gguf", GGUF);
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
    hub.files.set("tiny.gguf", GGUF);
    const partial = `${cache}/models/hf/some/main/model.partial`;
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
    hub.files.set("a.gguf", GGUF);
    hub.files.set("b.gguf", GGUF);
    await assertRejects(
      () => resolveModel("hf:some/model", hub.options(cache)),
      TypeError,
      "a.gguf, b.gguf",
    );
  });
});

// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * LoRAs on a whole server over the tiny model: at the start, by path, from the command line, by LoRAX's
 * names, kept for the next start; each says what PEFT's merged weights say next.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { decode } from "../../adapters/lotr/format.ts";
import { runAdmin } from "../../server/cli/admin/command.ts";
import {
  float32Tensor,
  parseSafetensors,
  writeSafetensors,
} from "../../src/checkpoint/formats/safetensors.ts";
import { folderOf } from "../engine/tiny.ts";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import { ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("../../server/cli/serve.ts", import.meta.url);
const LORAS = new URL("../fixtures/loras/", import.meta.url).pathname;
const CASES = ["plain", "every", "regex", "layers"] as const;

function tensorIn(path: string, name: string) {
  const tensor = parseSafetensors(Deno.readFileSync(path)).tensors.get(name);
  if (tensor === undefined) throw new Error(`${path} has no ${name}`);
  return tensor;
}

const IDS = Array.from(
  new BigInt64Array(
    tensorIn(`${folderOf("llama")}expected.safetensors`, "ids").data.slice().buffer,
  ),
  Number,
);

/** The likeliest token behind the fixture's ids, by what PEFT merged, or by the base. */
function wanted(name: string | undefined): number {
  const path = name === undefined ? folderOf("llama") : `${LORAS}${name}/`;
  const logits = decode("logits", tensorIn(`${path}expected.safetensors`, "logits"));
  const last = logits.subarray(-logits.length / IDS.length);
  return last.indexOf(Math.max(...last));
}

async function served(
  data: string,
  more: readonly string[],
  body: (ask: (path: string, json?: unknown) => Promise<Response>, url: string) => Promise<void>,
): Promise<void> {
  const args = ["--model", folderOf("llama"), "--port", "0", "--dtype", "fp32", "--device", "cpu"];
  const server = new ServerProcess(SCRIPT, { args: [...args, ...more], data });
  try {
    const url = await server.url();
    await body((path, json) =>
      fetch(
        `${url}${path}`,
        json === undefined ? {} : {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(json),
        },
      ), url);
  } finally {
    server.kill("SIGTERM");
    await server.ended();
  }
}

type Ask = (path: string, json?: unknown) => Promise<Response>;

/** The first token of a completion of the fixture's ids. */
async function next(ask: Ask, fields: object): Promise<unknown> {
  const asked = { prompt: IDS, max_tokens: 1, temperature: 0, return_token_ids: true, ...fields };
  const body = await (await ask("/v1/completions", asked)).json();
  return body.choices?.[0].token_ids?.[0] ?? body;
}

/** A LoRA file with a q_proj of rank 17 alone, base64. */
function wider(file: Uint8Array): string {
  const { metadata } = parseSafetensors(file);
  const zeros = (rows: number, columns: number) =>
    float32Tensor([rows, columns], new Float32Array(rows * columns));
  const name = "layers.0.q_proj";
  const fields = { ...Object.fromEntries(metadata), scales: JSON.stringify({ [name]: 1 }) };
  const tensors = [[`${name}.lora_A`, zeros(17, 64)], [`${name}.lora_B`, zeros(64, 17)]] as const;
  return writeSafetensors(tensors, Object.entries(fields)).toBase64();
}

async function admin(line: string): Promise<string> {
  const out: string[] = [];
  const print = (text: string) => void out.push(text);
  const code = await runAdmin({
    args: line.split(" "),
    env: () => undefined,
    print,
    complain: print,
  });
  assertEquals(code, 0, out.join("\n"));
  return out.join("\n");
}

Deno.test("LoRAs are served from the command line, paths, the store and LoRAX's names", async () => {
  const data = await newDataDirectory();
  const flags = ["--enable-lora", "--max-loras", "4", "--max-lora-rank", "16"];
  const modules = ["--lora-modules", `one=${LORAS}plain`, `{"name":"two","path":"${LORAS}every"}`];
  try {
    await served(data, ["--adapters", LORAS, ...flags, ...modules], async (ask, url) => {
      for (const name of CASES) assertEquals(await next(ask, { model: name }), wanted(name), name);
      assertEquals(await next(ask, {}), wanted(undefined));
      assertEquals(await next(ask, { model: "one" }), wanted("plain"));
      assertEquals(await next(ask, { model: "two" }), wanted("every"));
      const models = await (await ask("/v1/models")).json();
      const one = models.data.find(({ id }: { id: string }) => id === "one");
      assertEquals([one.root, one.parent], [`${LORAS}plain`, "llama"]);

      const loading = { lora_name: "acme/x", lora_path: "plain" };
      const loaded = await ask("/v1/load_lora_adapter", loading);
      assertEquals(await loaded.text(), "Success: LoRA adapter 'acme/x' added successfully.");
      for (const path of ["every", "plain", "every"]) {
        const again = { ...loading, lora_path: path, load_inplace: true };
        assertEquals((await ask("/v1/load_lora_adapter", again)).status, 200);
        assertEquals(await next(ask, { model: "acme/x" }), wanted(path), path);
      }
      const projected = await ask("/v1/load_lora_adapter", {
        ...{ lora_name: "acme/y", lora_path: "plain", project: true },
      });
      assertStringIncludes(await projected.text(), "no factor set is loaded");

      const put = await admin(`cores put acme/z ${LORAS}regex --server ${url}`);
      assertMatch(put, /acme\/z@1 .*lora/);
      assertEquals(await next(ask, { model: "acme/z" }), wanted("regex"));

      const file = `${data}/regex.safetensors`;
      await admin(`cores get acme/z@1 ${file} --server ${url}`);
      await admin(`cores put acme/w ${file} --server ${url}`);
      assertEquals(await next(ask, { model: "acme/w" }), wanted("regex"));
      const wide = await ask("/v1/cores/w", { cores: wider(await Deno.readFile(file)) });
      assertEquals(wide.status, 400);
      assertMatch(await wide.text(), /the rank of q_proj in layer 0 is 17, at most 16/);

      const lorax = await ask("/generate", {
        inputs: "the road",
        parameters: {
          adapter_id: "layers",
          adapter_source: "local",
          max_new_tokens: 3,
          details: true,
        },
      });
      const { details } = await lorax.json();
      assertEquals([details.generated_tokens, details.finish_reason], [3, "length"]);
      assertEquals(
        await next(ask, { adapter_id: "./layers", adapter_source: "local" }),
        wanted("layers"),
      );
      const outside = await ask("/generate", {
        inputs: "a",
        parameters: { adapter_id: "../models/llama", adapter_source: "local" },
      });
      assertEquals(outside.status, 400);
      assertMatch(await outside.text(), /nothing by this path/);
    });
    await served(data, ["--max-lora-rank", "8"], async (ask) => {
      assertEquals(await next(ask, { model: "acme/x" }), wanted("every"));
      assertEquals(await next(ask, { model: "acme/z" }), wanted("regex"));
      assertEquals((await ask("/v1/unload_lora_adapter", { lora_name: "acme/x" })).status, 200);
      assertEquals((await ask("/v1/completions", { model: "acme/x", prompt: "a" })).status, 404);
    });
  } finally {
    await Deno.remove(data, { recursive: true });
  }
});

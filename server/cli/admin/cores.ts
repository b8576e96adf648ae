/** `admin cores …`: cores with their versions, of any tenant. */
import {
  type AdapterName,
  DEFAULT_TENANT,
  parseAdapterName,
} from "../../../adapters/catalog/name.ts";
import { readPeftDirectory, WEIGHTS_FILE } from "../../../adapters/lora/peft_files.ts";
import { writeAtomically } from "../../../src/checkpoint/fetch/cache.ts";
import { FlagError, textFlag } from "../flags.ts";
import { formBody, type Shown } from "../client.ts";
import {
  type AdminCommand,
  allOf,
  bytes,
  type Call,
  checkWords,
  type Column,
  field,
  named,
  type Output,
  table,
  time,
} from "./output.ts";

const COLUMNS: readonly Column[] = [
  field("id"),
  ["current", ({ current }) => current === true ? "yes" : "no"],
  field("state"),
  field("rank"),
  bytes("bytes"),
  ["digest", ({ digest }) => String(digest).slice(0, 12)],
  field("kind"),
  ["factors", ({ factors }) => String(factors ?? "-").slice(0, 12)],
  time("created_at"),
  field("source"),
];

export const CORE_COMMANDS: readonly AdminCommand[] = [
  {
    name: "cores list",
    words: ["[TENANT]"],
    help: "Lists the cores of all tenants, or of one.",
    flags: {},
    run: async ({ api, words: [tenant] }) => {
      const query = tenant === undefined ? "" : `?tenant=${encodeURIComponent(tenant)}`;
      const cursor = (item: Shown) => `${item["tenant"]}/${item["name"]}`;
      const items = await allOf(api, `/v1/admin/cores${query}`, cursor);
      return { json: items, text: table(items, COLUMNS) };
    },
  },
  {
    name: "cores versions",
    words: ["TENANT/NAME"],
    help: "Lists the versions of a core, newest first.",
    flags: {},
    run: async (call) => {
      const { tenant, path } = coreOf(call);
      const { data } = await call.api.json(path, { tenant });
      return { json: data, text: table(data as Shown[], COLUMNS) };
    },
  },
  {
    name: "cores put",
    words: ["TENANT/NAME", "FILE|DIR"],
    help: "Keeps a core or LoRA file, or a PEFT directory, as the name's next version, and " +
      "publishes it.",
    flags: {
      publish: textFlag("now|later", "whether the name stands for it at once (default: now)"),
    },
    run: async (call) => {
      const { tenant, path } = coreOf(call);
      const publish = call.value("publish") ?? "now";
      checkWords("publish", publish, ["now", "later"]);
      const from = call.words[1] ?? "";
      if ((await named(from, (path) => Deno.stat(path))).isDirectory) {
        const { config, weights } = await readPeftDirectory(from);
        const fields = { config: JSON.stringify(config), publish };
        const stream = formBody(fields, WEIGHTS_FILE, ReadableStream.from([weights]));
        return one(await call.api.json(`${path}/lora`, { tenant, stream }));
      }
      const cores = (await named(from, (path) => Deno.readFile(path))).toBase64();
      return one(await call.api.json(path, { tenant, body: { cores, publish } }));
    },
  },
  {
    name: "cores get",
    words: ["TENANT/NAME@VERSION", "FILE"],
    help: "Writes a version's core file.",
    flags: {},
    run: async (call) => {
      const { tenant, path } = coreOf(call);
      const response = await call.api.response(`${path}${versionPath(call)}/content`, { tenant });
      const file = call.words[1] ?? "";
      await writeAtomically(file, new Uint8Array(await response.arrayBuffer()));
      return { json: { file }, text: `wrote ${file}` };
    },
  },
  {
    name: "cores publish",
    words: ["TENANT/NAME@VERSION"],
    help: "Makes a version what the name stands for.",
    flags: {},
    run: async (call) => {
      const { tenant, path } = coreOf(call);
      const body = { version: versionOf(call) };
      return one(await call.api.json(`${path}/publish`, { tenant, body }));
    },
  },
  {
    name: "cores rollback",
    words: ["TENANT/NAME"],
    help: "Makes the version before the current one what the name stands for.",
    flags: {},
    run: async (call) => {
      const { tenant, path } = coreOf(call);
      return one(await call.api.json(`${path}/rollback`, { tenant, method: "POST" }));
    },
  },
  {
    name: "cores remove",
    words: ["TENANT/NAME[@VERSION]"],
    help: "Removes a version, or a core with all of them; it stops serving at once.",
    flags: {},
    run: async (call) => {
      const { tenant, path, name } = coreOf(call);
      const rest = name.version.type === "latest" ? "" : versionPath(call);
      const json = await call.api.json(`${path}${rest}`, { tenant, method: "DELETE" });
      return { json, text: `removed ${json["deleted"]} version(s) of ${call.words[0]}` };
    },
  },
];

/** @throws {FlagError} for what is no core's name */
function coreOf({ words: [text = ""] }: Call) {
  const name = parsed(text);
  const path = `/v1/cores/${encodeURIComponent(name.name)}`;
  return { name, tenant: name.tenant ?? DEFAULT_TENANT, path };
}

function parsed(text: string): AdapterName {
  try {
    return parseAdapterName(text);
  } catch (error) {
    if (error instanceof TypeError) throw new FlagError(error.message);
    throw error;
  }
}

function versionPath(call: Call): string {
  return `/versions/${versionOf(call)}`;
}

function versionOf({ words: [text = ""] }: Call): number {
  const { version } = parsed(text);
  if (version.type === "number") return version.number;
  throw new FlagError(`Cannot use '${text}': say which version, e.g. '${text.split("@")[0]}@1'.`);
}

function one(item: Shown): Output {
  return { json: item, text: table([item], COLUMNS) };
}

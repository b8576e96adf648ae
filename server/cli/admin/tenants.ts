/** `admin tenants …`: who is served, and within which limits. */
import { FlagError, textFlag } from "../flags.ts";
import { parseBytes } from "../../../src/util/bytes.ts";
import type { Shown } from "../client.ts";
import {
  type AdminCommand,
  allOf,
  bytes,
  type Call,
  type Column,
  field,
  type Output,
  table,
  time,
} from "./output.ts";

const TENANTS = "/v1/admin/tenants";

/** Flags of limits, by the field they set. */
const LIMITS = {
  "requests-per-minute": textFlag("N|none", "requests in any minute"),
  "tokens-per-minute": textFlag("N|none", "tokens in any minute, prompts and answers"),
  concurrency: textFlag("N|none", "requests that run at once"),
  queued: textFlag("N|none", "requests that wait"),
  "stored-bytes": textFlag(
    "BYTES|none",
    "files, cores, checkpoints and stored responses together, e.g. 2GiB",
  ),
  weight: textFlag("F", "share of the device beside others'"),
  priority: textFlag("N", "lower is served sooner"),
} as const;

/** Of `requests-per-minute` and the others that count. */
const COUNT = {
  read: (text: string) => /^\d+$/.test(text) ? Number(text) : undefined,
  right: "a whole number or none",
};
const KINDS = {
  "stored-bytes": {
    read: parseBytes,
    right: "a number of bytes such as 1048576, 512MiB or 1.5GiB, or none",
  },
  weight: {
    read: (text: string) => /^\d*\.?\d+$/.test(text) ? Number(text) || undefined : undefined,
    right: "a number above 0",
  },
  priority: {
    read: (text: string) => /^-?\d+$/.test(text) ? Number(text) : undefined,
    right: "a whole number",
  },
};

const COLUMNS: readonly Column[] = [
  field("id"),
  time("created_at"),
  ...Object.keys(LIMITS).map((flag): Column => {
    const [heading] = [flag.replaceAll("-", " ")];
    return [heading, (item) => String(limitsOf(item)[flag.replaceAll("-", "_")] ?? "none")];
  }),
];

export const TENANT_COMMANDS: readonly AdminCommand[] = [
  {
    name: "tenants list",
    words: [],
    help: "Lists all tenants.",
    flags: {},
    run: async ({ api }) => {
      const items = await allOf(api, TENANTS, ({ id }) => String(id));
      return { json: items, text: table(items, COLUMNS) };
    },
  },
  {
    name: "tenants show",
    words: ["TENANT"],
    help: "Shows a tenant's limits, and how much it stores.",
    flags: {},
    run: async (call) => {
      const item = await call.api.json(pathOf(call));
      return { json: item, text: table([item], [...COLUMNS, bytes("stored_bytes")]) };
    },
  },
  {
    name: "tenants create",
    words: ["TENANT"],
    help: "Adds a tenant; without flags it has no limits.",
    flags: LIMITS,
    run: async (call) => {
      const body = { id: call.words[0], limits: limits(call) };
      return one(await call.api.json(TENANTS, { body }));
    },
  },
  {
    name: "tenants limit",
    words: ["TENANT"],
    help: "Changes the limits that are given; the others stay.",
    flags: LIMITS,
    run: async (call) => one(await call.api.json(pathOf(call), { body: { limits: limits(call) } })),
  },
  {
    name: "tenants remove",
    words: ["TENANT"],
    help: "Removes a tenant with its keys, files, jobs and cores; its usage stays.",
    flags: { confirm: textFlag("TENANT", "the tenant's name again, as it cannot be undone") },
    run: async (call) => {
      const [tenant] = call.words;
      if (call.value("confirm") !== tenant) {
        throw new FlagError(`Cannot remove '${tenant}' unasked: add --confirm ${tenant}.`);
      }
      const json = await call.api.json(pathOf(call), { method: "DELETE" });
      return { json, text: `removed ${tenant}` };
    },
  },
];

function pathOf({ words }: Call): string {
  return `${TENANTS}/${encodeURIComponent(words[0] ?? "")}`;
}

function one(item: Shown): Output {
  return { json: item, text: table([item], COLUMNS) };
}

function limitsOf({ limits }: Shown): Shown {
  return typeof limits === "object" && limits !== null ? limits as Shown : {};
}

function limits({ value }: Call): Record<string, number | null> {
  const given: Record<string, number | null> = {};
  for (const flag of Object.keys(LIMITS)) {
    const text = value(flag);
    if (text !== undefined) given[flag.replaceAll("-", "_")] = limit(flag, text);
  }
  return given;
}

function limit(flag: string, text: string): number | null {
  if (text === "none") return null;
  const { read, right } = flag in KINDS ? KINDS[flag as keyof typeof KINDS] : COUNT;
  const number = read(text);
  if (number !== undefined) return number;
  throw new FlagError(`Cannot use --${flag}: current value is '${text}', it must be ${right}.`);
}

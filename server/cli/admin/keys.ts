/** `admin keys …`: making keys, listing and revoking them. */
import { FlagError, textFlag } from "../flags.ts";
import {
  type AdminCommand,
  allOf,
  type Call,
  checkWords,
  type Column,
  field,
  table,
  time,
} from "./output.ts";

const COLUMNS: readonly Column[] = [
  field("id"),
  field("name"),
  field("hint"),
  field("scopes"),
  time("created_at"),
  time("expires_at"),
  time("revoked_at"),
];

const UNITS: Readonly<Record<string, number>> = { h: 3600, d: 86_400, w: 7 * 86_400 };

export const KEY_COMMANDS: readonly AdminCommand[] = [
  {
    name: "keys list",
    words: ["TENANT"],
    help: "Lists a tenant's keys, the revoked ones too; a key itself is never shown again.",
    flags: {},
    run: async (call) => {
      const items = await allOf(call.api, pathOf(call), ({ id }) => String(id));
      return { json: items, text: table(items, COLUMNS) };
    },
  },
  {
    name: "keys create",
    words: ["TENANT"],
    help: "Makes a key and prints it, this once.",
    flags: {
      name: textFlag("TEXT", "what people call it"),
      scopes: textFlag("LIST", "infer, train, admin; several with commas (default: infer)"),
      expires: textFlag(
        "WHEN",
        "after 12h, 30d or 8w, or a date such as 2030-01-31 (default: never)",
      ),
    },
    run: async (call) => {
      const [name, scopes, expires] = ["name", "scopes", "expires"].map(call.value);
      if (scopes !== undefined) checkWords("scopes", scopes, ["infer", "train", "admin"]);
      const body = {
        ...(name !== undefined && { name }),
        ...(scopes !== undefined && { scopes: scopes.split(",").map((scope) => scope.trim()) }),
        ...(expires !== undefined && { expires_at: momentOf("--expires", expires, Date.now()) }),
      };
      const item = await call.api.json(pathOf(call), { body });
      return { json: item, text: `${table([item], COLUMNS)}\n\n${item["key"]}` };
    },
  },
  {
    name: "keys revoke",
    words: ["TENANT", "KEY_ID"],
    help: "Revokes a key, on every server within a second.",
    flags: {},
    run: async (call) => {
      const path = `${pathOf(call)}/${encodeURIComponent(call.words[1] ?? "")}`;
      const item = await call.api.json(path, { method: "DELETE" });
      return { json: item, text: table([item], COLUMNS) };
    },
  },
];

function pathOf({ words }: Call): string {
  return `/v1/admin/tenants/${encodeURIComponent(words[0] ?? "")}/keys`;
}

/**
 * Unix seconds of `30d` from now, or of a date's beginning (UTC).
 * @throws {FlagError} for anything else
 */
export function momentOf(flag: string, text: string, now: number): number {
  const [, count, unit = ""] = /^(\d{1,5})([hdw])$/.exec(text) ?? [];
  if (count !== undefined) return Math.floor(now / 1000) + Number(count) * (UNITS[unit] ?? 0);
  const date = /^\d{4}-\d{2}-\d{2}(T[\d:.]+Z)?$/.test(text) ? Date.parse(text) : NaN;
  if (!Number.isNaN(date)) return Math.floor(date / 1000);
  throw new FlagError(
    `Cannot use ${flag}: current value is '${text}', it must be 12h, 30d, 8w, or a date such as 2030-01-31.`,
  );
}

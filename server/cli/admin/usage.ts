/** `admin usage`: sums of what was used. */
import { textFlag } from "../flags.ts";
import type { Shown } from "../client.ts";
import { type AdminCommand, checkWords, field, table } from "./output.ts";
import { momentOf } from "./keys.ts";

export const USAGE_COMMANDS: readonly AdminCommand[] = [
  {
    name: "usage",
    words: ["[TENANT]"],
    help: "Adds up requests and tokens, of all tenants or of one.",
    flags: {
      by: textFlag("tenant|model|day", "what the sums are of (default: tenant)"),
      from: textFlag("DATE", "the first day, e.g. 2030-01-01"),
      to: textFlag("DATE", "the day after the last"),
    },
    run: async ({ api, words: [tenant], value }) => {
      const [from, to, by = "tenant"] = [value("from"), value("to"), value("by")];
      checkWords("by", by, ["tenant", "model", "day"]);
      const query = new URLSearchParams({
        by,
        ...(tenant !== undefined && { tenant }),
        ...(from !== undefined && { from: String(momentOf("--from", from, Date.now())) }),
        ...(to !== undefined && { to: String(momentOf("--to", to, Date.now())) }),
      });
      const { data } = await api.json(`/v1/admin/usage?${query}`);
      const columns = [
        [by, ({ key }: Shown) => String(key)] as const,
        ...["requests", "prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens"]
          .map(field),
      ];
      return { json: data, text: table(data as Shown[], columns) };
    },
  },
];

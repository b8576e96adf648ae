/** `admin factors …`: factor sets that cores of any tenant may name. */
import { basename } from "node:path";
import { FlagError } from "../flags.ts";
import { formBody, type Shown } from "../client.ts";
import { type AdminCommand, bytes, field, named, table, time } from "./output.ts";

const FACTORS = "/v1/admin/factors";
const COLUMNS = [field("digest"), bytes("bytes"), time("created_at")];
/** Fewest characters of a digest that name a set. */
const LEAST = 6;

export const FACTOR_COMMANDS: readonly AdminCommand[] = [
  {
    name: "factors list",
    words: [],
    help: "Lists the factor sets that are kept.",
    flags: {},
    run: async ({ api }) => {
      const { data } = await api.json(FACTORS);
      return { json: data, text: table(data as Shown[], COLUMNS) };
    },
  },
  {
    name: "factors put",
    words: ["FILE"],
    help: "Keeps a factor file, so that cores which name its set can be stored and served.",
    flags: {},
    run: async ({ api, words: [path = ""] }) => {
      using file = await named(path, (path) => Deno.open(path));
      const stream = formBody({}, basename(path), file.readable);
      const item = await api.json(FACTORS, { stream });
      return { json: item, text: table([item], COLUMNS) };
    },
  },
  {
    name: "factors remove",
    words: ["DIGEST"],
    help: "Removes a set that no core needs; how its digest begins will do.",
    flags: {},
    run: async ({ api, words: [text = ""] }) => {
      const { data } = await api.json(FACTORS);
      const found = (data as Shown[]).map(({ digest }) => String(digest))
        .filter((digest) => text.length >= LEAST && digest.startsWith(text));
      const [digest = text] = found;
      if (found.length > 1) {
        throw new FlagError(`Cannot remove '${text}': ${found.length} digests begin so.`);
      }
      const path = `${FACTORS}/${encodeURIComponent(digest)}`;
      const json = await api.json(path, { method: "DELETE" });
      return { json, text: `removed ${digest}` };
    },
  },
];

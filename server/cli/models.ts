/**
 * The entry point of `deno task models`: which bases have their weights prepared on disk, and how to
 * have the room again.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import {
  listPrepared,
  type PreparedWeights,
  removePrepared,
} from "../../adapters/prepared_weights.ts";
import { cacheDirectory } from "../../src/util/cache_directory.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { formatBytes } from "../../src/util/bytes.ts";
import { table } from "./admin/output.ts";
import { type Asked, FlagError, flagsHelp, readCommandLine, type ToldTable } from "./flags.ts";

const FLAGS = {
  stale: { help: "remove: those that this version, on this processor, cannot use" },
  all: { help: "remove: every one" },
  json: { help: "list: as JSON" },
} as const satisfies ToldTable;

export const MODELS_HELP = `deno task models COMMAND

The first start of a base keeps its weights on disk as kernels read them, about twice their size;
later starts map them. They lie under LEMBAS_HOME (default: lembas in the user's cache directory).

Commands:
  list
      prepared weights: model, base, key, size, when they were made, whether they are stale
  remove NAME...
      removes prepared weights: a model's name, or how its base's digest or a key begins. The next
      start of that base makes them again

Flags:
${flagsHelp(FLAGS)}
`;

/** @throws {FlagError} for a command line that cannot be followed */
export function parseModels(args: readonly string[]): Asked<typeof FLAGS> {
  const line = {
    command: "deno task models",
    flags: FLAGS,
    asks: ["help"],
    words: "taken",
  } as const;
  return readCommandLine(line, args, () => undefined);
}

/** Runs the command; what it prints. */
export async function runModels(args: readonly string[]): Promise<string> {
  const asked = parseModels(args);
  if (asked.type !== "run") return MODELS_HELP;
  const [command, ...names] = asked.words;
  using device = openDevice("cpu");
  const prepared = await listPrepared(device);
  switch (command) {
    case "list":
      return asked.values.json ? JSON.stringify(prepared, null, 2) : listText(prepared);
    case "remove":
      return await remove(chosen(prepared, names, asked.values));
    default:
      throw new FlagError(
        `Cannot run '${command ?? ""}': the commands are list and remove; see --help.`,
      );
  }
}

function listText(prepared: readonly PreparedWeights[]): string {
  const rows = prepared.map(({ base, made, bytes, stale, ...rest }) => ({
    ...rest,
    base: base.slice(0, 12),
    size: formatBytes(bytes),
    made: made?.toISOString().slice(0, 16).replace("T", " "),
    stale: stale ? "stale" : "",
  }));
  const columns = ["model", "base", "key", "size", "made", "stale"] as const;
  const text = (row: typeof rows[number], name: typeof columns[number]) => row[name] || "-";
  const shown = rows.map((row) =>
    Object.fromEntries(columns.map((name) => [name, text(row, name)]))
  );
  const total = formatBytes(prepared.reduce((sum, { bytes }) => sum + bytes, 0));
  const listed = table(shown, columns.map((name) => [name, (item) => String(item[name])]));
  return `${listed}\n${total} in ${cacheDirectory()}/weights`;
}

function chosen(
  prepared: readonly PreparedWeights[],
  names: readonly string[],
  { stale, all }: { readonly stale: boolean; readonly all: boolean },
): readonly PreparedWeights[] {
  if (all) return prepared;
  if (names.length === 0 && !stale) {
    throw new FlagError("Cannot remove: name a model, a base or a key, or pass --stale or --all.");
  }
  const named = names.flatMap((name) => {
    const found = prepared.filter(({ model, base, key }) =>
      model === name || (name.length >= 4 && (base.startsWith(name) || key.startsWith(name)))
    );
    if (found.length > 0) return found;
    throw new FlagError(
      `Cannot remove '${name}': no prepared weights have it as model, base or key.`,
    );
  });
  return [...new Set([...named, ...(stale ? prepared.filter((one) => one.stale) : [])])];
}

async function remove(prepared: readonly PreparedWeights[]): Promise<string> {
  for (const one of prepared) await removePrepared(one);
  const total = formatBytes(prepared.reduce((sum, { bytes }) => sum + bytes, 0));
  return `removed ${prepared.length} prepared weights, ${total}`;
}

if (import.meta.main) {
  try {
    console.log(await runModels(Deno.args));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(error instanceof FlagError ? 2 : 1);
  }
}
